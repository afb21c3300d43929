// Key lists that clients sent once and then name by signature (XXH3-128 of their bytes).
//
// Bounded in bytes; the list used longest ago is forgotten first, and its client sends it again. A list that somebody
// still holds lives on in its Buffer. All lists in it are strictly ascending. With a list goes where the rows of its
// keys are, so that they are looked up once, however often the list is named. Thread-safety: none.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"

namespace sheaf {

struct KeySignature {
  uint64_t high = 0;
  uint64_t low = 0;
  friend auto operator<=>(const KeySignature&, const KeySignature&) = default;
};
KeySignature SignatureOf(std::span<const std::byte> keys);

// The slots of a list's rows in one table (see TableRows).
struct KnownSlots {
  uint64_t version = 0;          // of the shard's stores: for those of another version the slots mean nothing
  bool complete = false;         // every slot is known
  uint64_t placement = 0;        // the shard's, when all keys of the list were last found to be its own
  std::vector<uint32_t> slots;   // by place in the list; kNoSlot: no row was found yet
};

class KeyListCache {
 public:
  explicit KeyListCache(size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // nullptr if it is not here (any more). Valid until the next Put.
  const Buffer* Get(const KeySignature& signature);
  // Of a list that is here. nullptr if they would take the room of other lists.
  std::shared_ptr<KnownSlots> SlotsOf(const KeySignature& signature, uint32_t table);
  // The table is gone: gives the room of its slots back.
  void ForgetTable(uint32_t table);
  // Keeps a copy of `keys`, which are those of the signature. A list larger than the budget is not kept.
  void Put(const KeySignature& signature, std::span<const std::byte> keys);

  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  static constexpr size_t kEntryOverhead = 192;  // of the two nodes and the buffer's owner
  static constexpr size_t kSlotsOverhead = 128;  // of a table's slots, their owner and their place
  // With the slots of so many tables; those of the first are paid for in any case.
  static size_t Cost(size_t key_bytes, size_t tables) {
    const size_t slot_bytes = key_bytes / sizeof(HashedKey) * sizeof(uint32_t) + kSlotsOverhead;
    return key_bytes + kEntryOverhead + std::max<size_t>(tables, 1) * slot_bytes;
  }
  struct Entry {
    Buffer keys;
    std::list<KeySignature>::iterator use;
    std::vector<std::pair<uint32_t, std::shared_ptr<KnownSlots>>> slots;  // by table; rarely more than one

    size_t cost() const { return Cost(keys.size(), slots.size()); }
  };

  const size_t budget_bytes_;
  size_t bytes_ = 0;
  std::map<KeySignature, Entry> entries_;
  std::list<KeySignature> uses_;  // latest first
};

}  // namespace sheaf
