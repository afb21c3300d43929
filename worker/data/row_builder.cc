#include "worker/data/row_builder.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "compute/mix_keys.h"

namespace sheaf {
void RowBuilder::AddDistinct(std::span<const uint64_t> raw_keys, std::span<const float> values) {
  if (max_features_ != 0) {  // folding may make them equal
    for (size_t i = 0; i < raw_keys.size(); ++i) AddSum(raw_keys[i], values.empty() ? 1.0f : values[i]);
    return;
  }
  const size_t begin = block_.keys.size();
  if (!values.empty()) NeedValues();
  block_.keys.resize(begin + raw_keys.size());
  MixKeys(raw_keys, std::span(block_.keys).subspan(begin));
  if (!has_values_) return;
  if (values.empty()) {
    block_.values.resize(begin + raw_keys.size(), 1.0f);
  } else {
    block_.values.insert(block_.values.end(), values.begin(), values.end());
  }
}

void RowBuilder::AddOnce(std::span<const uint64_t> raw_keys) {
  const size_t begin = block_.keys.size();
  block_.keys.resize(begin + raw_keys.size());
  const std::span<HashedKey> keys = std::span(block_.keys).subspan(begin);
  if (max_features_ == 0) {
    MixKeys(raw_keys, keys);
  } else {
    for (size_t i = 0; i < keys.size(); ++i) keys[i] = KeyOf(raw_keys[i]);
  }
  block_.keys.resize(begin + distinct_.Find(keys, keys.data()));
  if (has_values_) block_.values.resize(block_.keys.size(), 1.0f);
}

size_t DistinctKeys::Find(std::span<const HashedKey> keys, HashedKey* out) {
  const size_t slots = std::bit_ceil(2 * keys.size() + 1);  // at most half full
  if (table_.size() < slots) table_.resize(slots);
  HashedKey* const table = table_.data();
  std::fill_n(table, slots, 0);
  const size_t mask = slots - 1;
  bool saw_zero = false;
  size_t count = 0;
  for (const HashedKey key : keys) {
    size_t slot = key & mask;
    // Whether it is ours or empty cannot be predicted, whether it is either mostly can.
    while ((table[slot] != 0) & (table[slot] != key)) slot = (slot + 1) & mask;
    bool is_new = table[slot] == 0;
    if (key == 0) [[unlikely]] is_new = !std::exchange(saw_zero, true);  // looks like an empty slot
    table[slot] = key;
    out[count] = key;
    count += is_new;
  }
  return count;
}

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
