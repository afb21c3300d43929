// Whether a gradient may be applied: poison in one push would spoil every row that it meets, for good.
//
// Thread-safety: pure functions.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace sheaf {

// Looks at one gradient, in as many parts as it has. `max_norm`: greatest L2 norm of all parts together; 0: any.
class GradientCheck {
 public:
  explicit GradientCheck(double max_norm) : max_norm_(max_norm) {}

  // kLeaveOut: sums that are no gradient, which have no norm to speak of.
  enum class Norm { kCount, kLeaveOut };
  void Add(std::span<const float> values, Norm norm = Norm::kCount);
  // Of what was added so far. Nothing: it may be applied. Else what is wrong, and what helps.
  std::optional<std::string> Wrong() const;
  bool finite() const { return finite_; }

 private:
  const double max_norm_;
  bool finite_ = true;
  double squares_ = 0;  // only with a limit
};

}  // namespace sheaf
