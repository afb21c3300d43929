#include "compute/codec/gradient_check.h"

#include <cmath>

#include "common/base/strings.h"
#include "compute/codec/value_codec.h"

namespace sheaf {
namespace {

// In double: the square of no float overflows, nor does the sum of as many as a push may have. Eight sums, so that one
// addition does not wait for the one before.
double SumOfSquares(std::span<const float> values) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double sum = 0;
  for (; i < values.size(); ++i) sum += double{values[i]} * values[i];
  for (const double each : sums) sum += each;
  return sum;
}

}  // namespace

void GradientCheck::Add(std::span<const float> values, Norm norm) {
  if (!finite_) return;
  finite_ = AllFinite(values);
  if (finite_ && max_norm_ > 0 && norm == Norm::kCount) squares_ += SumOfSquares(values);
}

std::optional<std::string> GradientCheck::Wrong() const {
  if (!finite_) {
    return "the gradient has NaN or infinite values: training diverges, or the data has numbers that are too large; "
           "lower optimizer.learning_rate, look at these rows";
  }
  const double norm = std::sqrt(squares_);
  if (max_norm_ <= 0 || norm <= max_norm_) return std::nullopt;
  return StrCat("the gradient has a norm of ", norm, ", over optimizer.max_gradient_norm: ", max_norm_,
                "; lower optimizer.learning_rate, look at these rows, or raise the limit");
}

}  // namespace sheaf
