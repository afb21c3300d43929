#include "compute/key_index.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "common/base/check.h"

namespace sheaf {
namespace {

constexpr size_t kSlack = 512;          // slots after the last home slot: probing never wraps around
constexpr size_t kPrefetchAhead = 16;

struct Scratch {
  std::vector<HashedKey> table;         // 0 is an empty slot; all zero between calls
  std::vector<uint32_t> rank;           // of the key in a slot; valid where the table was occupied
  std::vector<HashedKey> keys;          // of occupied slots, in slot order, then sorted
  std::vector<uint32_t> slots;          // where they are
};

// Puts keys into slots and notes the slots; false if the keys crowd together so much that sorting is better.
// Slot 0 is kept for key 0, which would look like an empty slot; `home` slots begin at 1.
bool Insert(std::span<const HashedKey> keys, int shift, HashedKey* table, size_t slot_count, uint32_t* slot_of,
            bool* saw_zero) {
  const size_t count = keys.size();
  size_t probe_budget = 16 * count + 1024;
  for (size_t j = 0; j < count; ++j) {
    __builtin_prefetch(&table[1 + (keys[std::min(j + kPrefetchAhead, count - 1)] >> shift)], 1);
    const HashedKey key = keys[j];
    if (key == 0) [[unlikely]] {
      *saw_zero = true;
      slot_of[j] = 0;
      continue;
    }
    size_t slot = 1 + (key >> shift);
    // One test for "ours" and "empty": which of them it is cannot be predicted, whether it is either mostly can.
    while ((table[slot] != 0) & (table[slot] != key)) {
      ++slot;
      if (slot == slot_count || --probe_budget == 0) return false;
    }
    table[slot] = key;
    slot_of[j] = static_cast<uint32_t>(slot);
  }
  return true;
}

// Moves the occupied slots out in order and empties the table.
size_t Collect(Scratch& scratch, size_t slot_count) {
  HashedKey* table = scratch.table.data();
  HashedKey* keys = scratch.keys.data();
  uint32_t* slots = scratch.slots.data();
  size_t count = 0;
  for (size_t slot = 1; slot < slot_count; ++slot) {
    const HashedKey key = table[slot];
    table[slot] = 0;
    keys[count] = key;
    slots[count] = static_cast<uint32_t>(slot);
    count += key != 0;  // without a branch: occupancy is a coin toss
  }
  return count;
}

void InsertionSort(HashedKey* keys, uint32_t* slots, size_t count) {
  for (size_t i = 1; i < count; ++i) {
    const HashedKey key = keys[i];
    if (keys[i - 1] <= key) continue;
    const uint32_t slot = slots[i];
    size_t j = i;
    for (; j > 0 && keys[j - 1] > key; --j) {
      keys[j] = keys[j - 1];
      slots[j] = slots[j - 1];
    }
    keys[j] = key;
    slots[j] = slot;
  }
}

void IndexBySorting(std::span<const HashedKey> keys, std::span<uint32_t> index, std::vector<HashedKey>& distinct) {
  std::vector<uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return keys[a] < keys[b]; });
  distinct.clear();
  for (const uint32_t j : order) {
    if (distinct.empty() || distinct.back() != keys[j]) distinct.push_back(keys[j]);
    index[j] = static_cast<uint32_t>(distinct.size() - 1);
  }
}

}  // namespace

void IndexKeys(std::span<const HashedKey> keys, std::span<uint32_t> index, std::vector<HashedKey>& distinct) {
  SHEAF_CHECK(index.size() == keys.size(), "an index of ", index.size(), " for ", keys.size(), " keys");
  SHEAF_CHECK(keys.size() < (size_t{1} << 30), "a batch of ", keys.size(), " keys");
  distinct.clear();
  if (keys.empty()) return;

  thread_local Scratch scratch;
  const size_t home_count = std::bit_ceil(std::max<size_t>(keys.size() * 2, 64));  // at most half full
  const size_t slot_count = 1 + home_count + kSlack;
  if (scratch.table.size() < slot_count) {
    scratch.table.resize(slot_count);
    scratch.rank.resize(slot_count);
  }
  if (scratch.keys.size() <= keys.size()) {
    scratch.keys.resize(keys.size() + 1);  // one more: Collect writes before it knows
    scratch.slots.resize(keys.size() + 1);
  }

  const int shift = 64 - std::countr_zero(home_count);
  bool saw_zero = false;
  if (!Insert(keys, shift, scratch.table.data(), slot_count, index.data(), &saw_zero)) {
    std::fill_n(scratch.table.begin(), slot_count, 0);
    IndexBySorting(keys, index, distinct);
    return;
  }
  const size_t count = Collect(scratch, slot_count);
  InsertionSort(scratch.keys.data(), scratch.slots.data(), count);

  uint32_t* rank = scratch.rank.data();
  rank[0] = 0;
  for (size_t i = 0; i < count; ++i) rank[scratch.slots[i]] = static_cast<uint32_t>(i + saw_zero);
  for (uint32_t& entry : index) entry = rank[entry];
  distinct.reserve(count + saw_zero);
  if (saw_zero) distinct.push_back(0);
  distinct.insert(distinct.end(), scratch.keys.begin(), scratch.keys.begin() + static_cast<ptrdiff_t>(count));
}

}  // namespace sheaf
