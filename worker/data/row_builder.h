// Builds a RowBlock row by row: hashes and folds keys, keeps keys unique within a row, and can take a bad row back.
//
// `values` stays empty until the first value other than 1. Ownership: owns the block until Take(). Thread-safety: none.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "compute/batch.h"

namespace sheaf {

// Finds a key among the keys of the current row: open addressing, emptied in O(1) by a new stamp. Slots hold positions
// in the block's key list, not keys, so that a document's table fits the first-level cache; few are in use for a short
// row.
class KeyIndex {
 public:
  KeyIndex() : slots_(kFewest) {}

  // Forgets all keys. A row of about `expected` keys will not make the table grow.
  void Clear(size_t expected);

  // The position of `key` in `keys`. If it is not there: keys.size(), where the caller appends it now.
  uint32_t FindOrInsert(HashedKey key, const std::vector<HashedKey>& keys) {
    if (count_ * 2 > mask_) [[unlikely]] Grow(keys);
    for (size_t i = key & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.stamp != stamp_) {
        slot = {stamp_, static_cast<uint32_t>(keys.size())};
        ++count_;
        return slot.position;
      }
      if (keys[slot.position] == key) return slot.position;
    }
  }

 private:
  struct Slot {
    uint32_t stamp = 0;
    uint32_t position = 0;
  };
  static constexpr size_t kFewest = 256;
  static constexpr size_t kMostExpected = 1 << 16;   // a guess may cost this much memory, not more

  void NextStamp();
  void UseSlots(size_t count);
  void Grow(const std::vector<HashedKey>& keys);

  std::vector<Slot> slots_;
  size_t mask_ = kFewest - 1;
  size_t count_ = 0;
  uint32_t stamp_ = 1;
};

// The distinct ones of a row's keys: open addressing again, but keys lie in the table itself, so that asking whether
// one is there touches one word and whether it was there decides no branch. Emptied by clearing it: worth it for rows
// given as a whole.
class DistinctKeys {
 public:
  // Writes the distinct keys to `out`, in the order of their first appearance; returns how many. `out` may be `keys`.
  size_t Find(std::span<const HashedKey> keys, HashedKey* out);

 private:
  std::vector<HashedKey> table_;         // 0: empty
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

  // A row is Begin, one of the two first Adds or any number of the third, then Commit or Abandon. Between rows there is
  // no other state. `expected_features` is a guess that saves AddSum work in long rows.
  void BeginRow(size_t expected_features = 0) { index_.Clear(expected_features); }
  // All of a row at once: raw keys that are distinct, and their values; no values: all are 1.
  void AddDistinct(std::span<const uint64_t> raw_keys, std::span<const float> values);
  // All of a row at once: a key that is there twice keeps value 1.
  void AddOnce(std::span<const uint64_t> raw_keys);
  // A key that is there already has the value added.
  void AddSum(uint64_t raw_key, float value) {
    const HashedKey key = KeyOf(raw_key);
    const uint32_t position = index_.FindOrInsert(key, block_.keys);
    if (position == block_.keys.size()) return Append(key, value);
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
  KeyIndex index_;
  DistinctKeys distinct_;
  bool has_values_ = false;
};

}  // namespace sheaf
