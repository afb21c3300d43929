#include "client/key_list.h"

#include <algorithm>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace sheaf {

Signature SignatureOf(std::span<const HashedKey> keys) {
  const XXH128_hash_t hash = XXH3_128bits(keys.data(), keys.size_bytes());
  return {hash.high64, hash.low64};
}

KeyPart::KeyPart(std::vector<Segment> segments) : segments_(std::move(segments)) {
  uint32_t end = segments_.empty() ? 0 : segments_.front().begin;
  const Segment* before = nullptr;
  for (const Segment& segment : segments_) {
    partition_count_ += before == nullptr || before->partition != segment.partition;
    before = &segment;
    contiguous_ = contiguous_ && segment.begin == end;
    end = segment.begin + segment.count;
    size_ += segment.count;
  }
}

Buffer KeyPart::Keys(const KeyVector& list) {
  if (!keys_.empty() || empty()) return keys_;
  // Not kept: it would hold the list, whose end is what ends this part's place in the cache.
  if (contiguous_) return Buffer(list, std::as_bytes(std::span(*list).subspan(segments_.front().begin, size_)));
  auto gathered = std::make_shared_for_overwrite<HashedKey[]>(size_);
  HashedKey* to = gathered.get();
  ForEachRun([&](uint32_t begin, uint32_t count) {
    std::memcpy(to, list->data() + begin, count * sizeof(HashedKey));
    to += count;
  });
  keys_ = Buffer(gathered, std::as_bytes(std::span(gathered.get(), size_)));
  return keys_;
}

const Signature& KeyPart::SignatureIn(const KeyVector& list) {
  if (!signature_) signature_ = SignatureOf(Keys(list).As<HashedKey>());
  return *signature_;
}

std::shared_ptr<KeyPart> KeyPart::Slice(uint32_t first, uint32_t count) const {
  std::vector<Segment> cut;
  for (const Segment& segment : segments_) {
    if (count == 0) break;
    if (first >= segment.count) {
      first -= segment.count;
      continue;
    }
    const uint32_t taken = std::min(count, segment.count - first);
    cut.push_back({segment.partition, segment.begin + first, taken});
    count -= taken;
    first = 0;
  }
  return std::make_shared<KeyPart>(std::move(cut));
}

ShardParts PartsByShard(const Router& router, std::span<const HashedKey> keys, std::vector<uint32_t>& bounds) {
  router.FindBounds(keys, bounds);
  ShardParts parts;
  parts.reserve(router.shards().size());
  for (const ShardRoute& shard : router.shards()) {
    std::vector<Segment> segments;
    segments.reserve(std::min(shard.partitions->ids.size(), keys.size()));
    for (const uint32_t p : shard.partitions->ids) {
      if (bounds[p + 1] > bounds[p]) segments.push_back({p, bounds[p], bounds[p + 1] - bounds[p]});
    }
    parts.push_back(std::make_shared<KeyPart>(std::move(segments)));
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
