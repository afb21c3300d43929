// Whether a walk over rows should end: asks the stop token now and then, as asking at every row would cost.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <utility>

#include "common/base/result.h"

namespace sheaf {

class StopCheck {
 public:
  explicit StopCheck(std::stop_token stop) : stop_(std::move(stop)) {}

  // Call once a row.
  Status AtRow(const std::string& path) {
    if (++rows_ % kRowsBetween != 0 || !stop_.stop_requested()) return {};
    return Fail(ErrorCode::kCancelled, "stopped reading ", path);
  }

 private:
  static constexpr uint64_t kRowsBetween = 1024;
  std::stop_token stop_;
  uint64_t rows_ = 0;
};

}  // namespace sheaf
