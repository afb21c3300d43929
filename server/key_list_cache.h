// Key lists that clients sent once and then name by signature (XXH3-128 of their bytes).
//
// Bounded in bytes; the list used longest ago is forgotten first, and its client sends it again. A list that somebody
// still holds lives on in its Buffer. All lists in it are strictly ascending. Thread-safety: none.
#pragma once

#include <compare>
#include <cstdint>
#include <list>
#include <map>

#include "common/base/buffer.h"

namespace sheaf {

struct KeySignature {
  uint64_t high = 0;
  uint64_t low = 0;
  friend auto operator<=>(const KeySignature&, const KeySignature&) = default;
};
KeySignature SignatureOf(std::span<const std::byte> keys);

class KeyListCache {
 public:
  explicit KeyListCache(size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // nullptr if it is not here (any more). Valid until the next Put.
  const Buffer* Get(const KeySignature& signature);
  // Keeps a copy of `keys`, which are those of the signature. A list larger than the budget is not kept.
  void Put(const KeySignature& signature, std::span<const std::byte> keys);

  size_t bytes() const { return bytes_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    Buffer keys;
    std::list<KeySignature>::iterator use;
  };
  static constexpr size_t kEntryOverhead = 192;  // of the two nodes and the buffer's owner

  const size_t budget_bytes_;
  size_t bytes_ = 0;
  std::map<KeySignature, Entry> entries_;
  std::list<KeySignature> uses_;  // latest first
};

}  // namespace sheaf
