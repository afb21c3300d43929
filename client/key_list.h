// Parts of sorted key lists as they travel: which keys of a list go to a shard, their bytes and their signature.
//
// Thread-safety: none. Ownership: a part does not own the list it is cut from; its owner keeps the list alive
// and passes it in. Algorithm of the signature: XXH3-128 over the part's bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "client/router.h"
#include "common/base/buffer.h"
#include "common/base/ids.h"

namespace sheaf {

struct Signature {
  uint64_t high = 0;
  uint64_t low = 0;

  friend bool operator==(const Signature&, const Signature&) = default;
};
Signature SignatureOf(std::span<const HashedKey> keys);

// list[begin] .. list[begin + count).
struct Run {
  uint32_t begin = 0;
  uint32_t count = 0;
};
// Keys of one partition.
struct Segment {
  uint32_t partition = 0;
  uint32_t begin = 0;
  uint32_t count = 0;
};

// What one block of one request carries of a key list.
class KeyPart {
 public:
  // Ascending, none empty.
  explicit KeyPart(std::vector<Run> runs);
  static std::shared_ptr<KeyPart> Of(std::span<const Segment> segments);

  uint32_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const std::vector<Run>& runs() const { return runs_; }
  // Is it one stretch of the list?
  bool contiguous() const { return runs_.size() <= 1; }
  // Cut by partition; ascending, none empty.
  std::vector<Segment> Segments(const KeyVector& list, uint32_t partition_count) const;

  // The part's keys one after the other: a view into the list if it can be, else a copy.
  Buffer Keys(const KeyVector& list) const;
  const Signature& SignatureIn(const KeyVector& list);
  // Rows [first, first + count) of this part.
  std::shared_ptr<KeyPart> Slice(uint32_t first, uint32_t count) const;

 private:
  std::vector<Run> runs_;   // with gaps between them
  uint32_t size_ = 0;
  std::optional<Signature> signature_;
};

// A key list's parts, by index of the router's shards; parts may be empty, never null.
using ShardParts = std::vector<std::shared_ptr<KeyPart>>;
// `bounds` is memory to be used again.
ShardParts PartsByShard(const Router& router, std::span<const HashedKey> keys, std::vector<uint32_t>& bounds);

// The parts of the lists used last, so that the push after a pull neither routes nor hashes again.
class PartCache {
 public:
  std::shared_ptr<const ShardParts> Get(const Router& router, const KeyVector& keys);
  void Clear() { entries_.clear(); }   // the placement has changed
  void DropExpired();

 private:
  struct Entry {
    std::weak_ptr<const std::vector<HashedKey>> owner;
    const std::vector<HashedKey>* list;
    std::shared_ptr<const ShardParts> parts;
  };
  static constexpr size_t kMaxEntries = 32;
  std::deque<Entry> entries_;   // newest last
  std::vector<uint32_t> bounds_;
};

// The signatures a shard is believed to have; the oldest are forgotten first. Being wrong costs one round trip.
class RememberedLists {
 public:
  bool Has(const Signature& signature) const { return known_.contains(signature); }
  void Add(const Signature& signature);
  void Forget(const Signature& signature) { known_.erase(signature); }

 private:
  struct Hash {
    size_t operator()(const Signature& s) const { return static_cast<size_t>(s.low); }
  };
  static constexpr size_t kMaxLists = 4096;
  std::unordered_set<Signature, Hash> known_;
  std::deque<Signature> order_;
};

}  // namespace sheaf
