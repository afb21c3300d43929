// Which key lists a shard's log has: a list that clients name again and again is written once, and named from then on.
//
// Bounded in bytes, the list used longest ago goes first. Writer and reader keep the same, as they see the same lists
// in the same order: what the writer names the reader has.
// Thread-safety: none.
#pragma once

#include <cstddef>
#include <list>
#include <map>

#include "common/base/buffer.h"
#include "server/key_list_cache.h"

namespace sheaf {

class LoggedLists {
 public:
  explicit LoggedLists(size_t budget_bytes) : budget_bytes_(budget_bytes) {}

  // nullptr: the log does not have it (any more). A reader finds the keys in it, a writer needs none. Valid until the
  // next call.
  const Buffer* Use(const KeySignature& signature);
  // It is in the log now: `bytes` of keys. A list larger than the budget is not kept.
  void Add(const KeySignature& signature, size_t bytes, Buffer keys);
  // Forgets all, and keeps to that budget from now on: where the log says so.
  void Begin(size_t budget_bytes);
  // What was read is kept to be named, but not the keys.
  void DropKeys();

  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    KeySignature signature;
    size_t bytes = 0;
    Buffer keys;
  };
  static constexpr size_t kEntryOverhead = 192;  // of the nodes of list and map

  size_t budget_bytes_;
  size_t bytes_ = 0;
  std::list<Entry> entries_;  // latest use first
  std::map<KeySignature, std::list<Entry>::iterator> by_signature_;
};

}  // namespace sheaf
