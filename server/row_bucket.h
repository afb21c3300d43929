// One cache line of a row store's index: five keys in order, and the slots of their rows beside them.
//
// The inside of RowStore, which fills the buckets, and TableRows, which looks keys up in those of many stores at once.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/base/ids.h"

namespace sheaf {

inline constexpr uint32_t kNoSlot = ~uint32_t{0};
inline constexpr size_t kCacheLine = 64;

// Keys ascending; those of empty cells are the greatest there is, and behind.
struct alignas(kCacheLine) RowBucket {
  static constexpr size_t kCells = 5;
  HashedKey keys[kCells];
  uint32_t slots[kCells];

  bool empty(size_t cell) const { return slots[cell] == kNoSlot; }
  bool full() const { return !empty(kCells - 1); }
  // Without a branch, as which cell it is is hard to predict.
  size_t CountBelow(HashedKey key) const {
    size_t below = 0;
#pragma GCC unroll 5
    for (size_t cell = 0; cell < kCells; ++cell) below += keys[cell] < key;
    return below;
  }
  // The slot of `key`, whose home this is, or kNoSlot.
  static uint32_t SlotOf(HashedKey key, const RowBucket* home) {
    size_t below = home->CountBelow(key);
    while (below == kCells) [[unlikely]] below = (++home)->CountBelow(key);
    return home->keys[below] == key ? home->slots[below] : kNoSlot;
  }
  void Insert(size_t cell, HashedKey key, uint32_t slot) {
    std::copy_backward(keys + cell, keys + kCells - 1, keys + kCells);
    std::copy_backward(slots + cell, slots + kCells - 1, slots + kCells);
    keys[cell] = key;
    slots[cell] = slot;
  }
};

// Where everything is looked for that has no index.
inline constexpr RowBucket kNowhere = {.keys = {~0ULL, ~0ULL, ~0ULL, ~0ULL, ~0ULL},
                                       .slots = {kNoSlot, kNoSlot, kNoSlot, kNoSlot, kNoSlot}};

}  // namespace sheaf
