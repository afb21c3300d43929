// Builds a RowBlock row by row: hashes and folds keys, keeps keys unique within a row, and can take a bad row back.
//
// `values` stays empty until the first value other than 1. Ownership: owns the block until Take(). Thread-safety: none.
#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "compute/batch.h"

namespace sheaf {

// Finds a key's position among the keys of the current row: open addressing, emptied in O(1) by a new stamp.
// Few slots are in use for a short row, so that they stay in the cache after a long one.
class KeySet {
 public:
  KeySet() : slots_(kFewest) {}

  void Clear() {
    mask_ = kFewest - 1;
    count_ = 0;
    NextStamp();
  }

  // The position stored for `key`, after storing `position` if the key is new.
  uint32_t FindOrInsert(HashedKey key, uint32_t position) {
    if (count_ * 2 > mask_) [[unlikely]] Grow();
    for (size_t i = key & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.stamp != stamp_) {
        slot = {key, stamp_, position};
        ++count_;
        return position;
      }
      if (slot.key == key) return slot.position;
    }
  }

 private:
  struct Slot {
    HashedKey key = 0;
    uint32_t stamp = 0;
    uint32_t position = 0;
  };
  static constexpr size_t kFewest = 1024;

  void NextStamp() {
    if (++stamp_ != 0) return;
    for (Slot& slot : slots_) slot.stamp = 0;
    stamp_ = 1;
  }
  void Grow();

  std::vector<Slot> slots_;
  std::vector<Slot> moving_;  // scratch of Grow()
  size_t mask_ = kFewest - 1;
  size_t count_ = 0;
  uint32_t stamp_ = 1;
};

class RowBuilder {
 public:
  // `max_features`: raw keys are taken modulo it; 0 keeps them whole.
  explicit RowBuilder(uint64_t max_features) : max_features_(max_features) { block_.row_begin.push_back(0); }

  void Reserve(size_t rows, size_t features) {
    block_.labels.reserve(rows);
    block_.row_begin.reserve(rows + 1);
    block_.keys.reserve(features);
  }

  // A row is Begin, any number of the three Adds, then Commit or Abandon. Between rows there is no other state.
  void BeginRow() { present_.Clear(); }
  // For raw keys that are distinct within the row.
  void AddDistinct(uint64_t raw_key, float value) {
    if (max_features_ != 0) return AddSum(raw_key, value);  // folding may make them equal
    Append(MixKey(raw_key), value);
  }
  // A key that is there already keeps value 1.
  void AddOnce(uint64_t raw_key) {
    const HashedKey key = KeyOf(raw_key);
    const auto next = static_cast<uint32_t>(block_.keys.size());
    if (present_.FindOrInsert(key, next) == next) Append(key, 1.0f);
  }
  // A key that is there already has the value added.
  void AddSum(uint64_t raw_key, float value) {
    const HashedKey key = KeyOf(raw_key);
    const auto next = static_cast<uint32_t>(block_.keys.size());
    const uint32_t position = present_.FindOrInsert(key, next);
    if (position == next) return Append(key, value);
    NeedValues();
    block_.values[position] += value;
  }
  void CommitRow(float label) {
    block_.labels.push_back(label);
    block_.row_begin.push_back(static_cast<uint32_t>(block_.keys.size()));
  }
  void AbandonRow() {
    block_.keys.resize(block_.row_begin.back());
    if (has_values_) block_.values.resize(block_.row_begin.back());
  }

  size_t row_count() const { return block_.labels.size(); }
  size_t feature_count() const { return block_.keys.size(); }
  RowBlock Take() { return std::move(block_); }

 private:
  HashedKey KeyOf(uint64_t raw_key) const { return MixKey(max_features_ == 0 ? raw_key : raw_key % max_features_); }
  void Append(HashedKey key, float value) {
    if (value != 1.0f) NeedValues();
    block_.keys.push_back(key);
    if (has_values_) block_.values.push_back(value);
  }
  void NeedValues() {
    if (has_values_) return;
    has_values_ = true;
    block_.values.reserve(block_.keys.capacity());
    block_.values.assign(block_.keys.size(), 1.0f);
  }

  uint64_t max_features_;
  RowBlock block_;
  KeySet present_;
  bool has_values_ = false;
};

}  // namespace sheaf
