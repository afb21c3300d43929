// Ranges a worker has read before: parsed rows waiting for their weights, or finished batches. Bounded: when it is
// full, other jobs' ranges go first, and then nothing more is kept. Lives on the loader's thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <tuple>

#include "worker/range_loader.h"

namespace sheaf {

class BatchCache {
 public:
  using Key = std::tuple<uint64_t, uint32_t, uint32_t>;  // job, split, range
  struct Entry {
    std::shared_ptr<const RowBlock> rows;                // not weighted yet; nullptr once batches are made
    LoadedBatches batches;
    uint64_t bad_rows = 0;
  };

  explicit BatchCache(size_t budget_bytes) : budget_(budget_bytes) {}

  const Entry* Find(const Key& key);                     // valid until the next call
  void Put(const Key& key, Entry entry);
  size_t bytes() const { return bytes_; }

 private:
  struct Node {
    Key key;
    Entry entry;
    size_t bytes;
  };
  std::list<Node> recent_;                               // most recently used first
  std::map<Key, std::list<Node>::iterator> by_key_;
  size_t bytes_ = 0;
  const size_t budget_;
};

}  // namespace sheaf
