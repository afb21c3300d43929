#include "client/key_list.h"

#include <algorithm>
#include <cstring>

#include "common/base/partition.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sheaf {

Signature SignatureOf(std::span<const HashedKey> keys) {
  const XXH128_hash_t hash = XXH3_128bits(keys.data(), keys.size_bytes());
  return {hash.high64, hash.low64};
}

namespace {

void Append(Run run, std::vector<Run>& runs) {
  if (!runs.empty() && runs.back().begin + runs.back().count == run.begin) {
    runs.back().count += run.count;
  } else {
    runs.push_back(run);
  }
}

}  // namespace

KeyPart::KeyPart(std::vector<Run> runs) : runs_(std::move(runs)) {
  for (const Run& run : runs_) size_ += run.count;
}

std::shared_ptr<KeyPart> KeyPart::Of(std::span<const Segment> segments) {
  std::vector<Run> runs;
  for (const Segment& segment : segments) Append({segment.begin, segment.count}, runs);
  return std::make_shared<KeyPart>(std::move(runs));
}

std::vector<Segment> KeyPart::Segments(const KeyVector& list, uint32_t partition_count) const {
  std::vector<Segment> segments;
  for (const Run& run : runs_) {
    const uint32_t end = run.begin + run.count;
    for (uint32_t at = run.begin; at < end;) {
      const PartitionId partition = PartitionOf((*list)[at], partition_count);
      const auto from = list->begin() + at;
      const HashedKey last = PartitionLastKey(partition, partition_count);
      const auto next = static_cast<uint32_t>(std::upper_bound(from, list->begin() + end, last) - list->begin());
      segments.push_back({partition.value, at, next - at});
      at = next;
    }
  }
  return segments;
}

Buffer KeyPart::Keys(const KeyVector& list) const {
  if (empty()) return {};
  // Not kept: it would hold the list, whose end is what ends this part's place in the cache.
  if (contiguous()) return Buffer(list, std::as_bytes(std::span(*list).subspan(runs_.front().begin, size_)));
  auto gathered = std::make_shared_for_overwrite<HashedKey[]>(size_);
  HashedKey* to = gathered.get();
  for (const Run& run : runs_) {
    std::memcpy(to, list->data() + run.begin, run.count * sizeof(HashedKey));
    to += run.count;
  }
  return Buffer(gathered, std::as_bytes(std::span(gathered.get(), size_)));
}

const Signature& KeyPart::SignatureIn(const KeyVector& list) {
  if (signature_) return *signature_;
  if (contiguous()) {
    signature_ = SignatureOf(empty() ? std::span<const HashedKey>()
                                     : std::span(*list).subspan(runs_.front().begin, size_));
    return *signature_;
  }
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_128bits_reset(&state);
  for (const Run& run : runs_) XXH3_128bits_update(&state, list->data() + run.begin, run.count * sizeof(HashedKey));
  const XXH128_hash_t hash = XXH3_128bits_digest(&state);
  signature_ = Signature{hash.high64, hash.low64};
  return *signature_;
}

std::shared_ptr<KeyPart> KeyPart::Slice(uint32_t first, uint32_t count) const {
  std::vector<Run> cut;
  for (const Run& run : runs_) {
    if (count == 0) break;
    if (first >= run.count) {
      first -= run.count;
      continue;
    }
    const uint32_t taken = std::min(count, run.count - first);
    cut.push_back({run.begin + first, taken});
    count -= taken;
    first = 0;
  }
  return std::make_shared<KeyPart>(std::move(cut));
}

ShardParts PartsByShard(const Router& router, std::span<const HashedKey> keys, std::vector<uint32_t>& bounds) {
  ShardParts parts;
  parts.reserve(router.shards().size());
  if (router.shards().size() == 1) {  // whatever the keys are
    std::vector<Run> all;
    if (!keys.empty()) all.push_back({0, static_cast<uint32_t>(keys.size())});
    parts.push_back(std::make_shared<KeyPart>(std::move(all)));
    return parts;
  }
  router.FindBounds(keys, bounds);
  for (const ShardRoute& shard : router.shards()) {
    std::vector<Run> runs;
    runs.reserve(std::min(shard.partitions->ids.size(), keys.size()));
    for (const uint32_t p : shard.partitions->ids) {
      if (bounds[p + 1] > bounds[p]) Append({bounds[p], bounds[p + 1] - bounds[p]}, runs);
    }
    parts.push_back(std::make_shared<KeyPart>(std::move(runs)));
  }
  return parts;
}

std::shared_ptr<const ShardParts> PartCache::Get(const Router& router, const KeyVector& keys) {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    // Owners too, not addresses alone: a freed list's address may belong to another list by now.
    if (entry->list == keys.get() && !entry->owner.owner_before(keys) && !keys.owner_before(entry->owner)) {
      return entry->parts;
    }
  }
  auto parts = std::make_shared<const ShardParts>(PartsByShard(router, *keys, bounds_));
  if (entries_.size() == kMaxEntries) entries_.pop_front();
  entries_.push_back({keys, keys.get(), parts});
  return parts;
}

void PartCache::DropExpired() {
  std::erase_if(entries_, [](const Entry& entry) { return entry.owner.expired(); });
}

void RememberedLists::Add(const Signature& signature) {
  if (!known_.insert(signature).second) return;
  order_.push_back(signature);
  while (order_.size() > kMaxLists) {
    known_.erase(order_.front());
    order_.pop_front();
  }
}

}  // namespace sheaf
