#include "worker/data/row_builder.h"

#include <algorithm>
#include <bit>

namespace sheaf {

void KeyIndex::Clear(size_t expected) {
  UseSlots(std::bit_ceil(2 * std::min(expected, kMostExpected) + 1));
  count_ = 0;
  NextStamp();
}

void KeyIndex::UseSlots(size_t count) {
  mask_ = std::max(count, kFewest) - 1;
  if (mask_ >= slots_.size()) slots_.resize(mask_ + 1);
}

void KeyIndex::NextStamp() {
  if (++stamp_ != 0) return;
  std::fill(slots_.begin(), slots_.end(), Slot{});
  stamp_ = 1;
}

// The row's keys are the last count_ of the list.
void KeyIndex::Grow(const std::vector<HashedKey>& keys) {
  UseSlots(2 * (mask_ + 1));
  NextStamp();
  for (size_t position = keys.size() - count_; position < keys.size(); ++position) {
    size_t i = keys[position] & mask_;
    while (slots_[i].stamp == stamp_) i = (i + 1) & mask_;
    slots_[i] = {stamp_, static_cast<uint32_t>(position)};
  }
}

}  // namespace sheaf
