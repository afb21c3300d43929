// Floats: immutable numbers with a shared owner; copying one copies a pointer, never the numbers.
//
// A vector that a caller gave up, or a stretch of a received frame. What is pulled and pushed travels in these, so
// that a frame's values are computed on where they arrived, and gradients are sent from where they were computed.
// Thread-safe as shared_ptr is: the numbers must not change once they are in a Floats.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/base/buffer.h"

namespace sheaf {

class Floats {
 public:
  Floats() = default;
  // Takes the vector over. Implicit: whoever hands a vector to Push means this.
  Floats(std::vector<float> values) {
    auto owner = std::make_shared<const std::vector<float>>(std::move(values));
    values_ = *owner;
    owner_ = std::move(owner);
  }
  // Views `values` for as long as `owner` lives.
  Floats(std::shared_ptr<const void> owner, std::span<const float> values)
      : owner_(std::move(owner)), values_(values) {}

  const float* data() const { return values_.data(); }
  size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  float operator[](size_t i) const { return values_[i]; }
  const float* begin() const { return values_.data(); }
  const float* end() const { return values_.data() + values_.size(); }

  // The same bytes, for the wire.
  Buffer AsBuffer() const { return Buffer(owner_, std::as_bytes(values_)); }

  friend bool operator==(const Floats& a, const Floats& b) { return std::ranges::equal(a.values_, b.values_); }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const float> values_;
};

}  // namespace sheaf
