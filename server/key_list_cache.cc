#include "server/key_list_cache.h"

#include <xxhash.h>

namespace sheaf {

KeySignature SignatureOf(std::span<const std::byte> keys) {
  const XXH128_hash_t hash = XXH3_128bits(keys.data(), keys.size());
  return {hash.high64, hash.low64};
}

const Buffer* KeyListCache::Get(const KeySignature& signature) {
  const auto found = entries_.find(signature);
  if (found == entries_.end()) return nullptr;
  uses_.splice(uses_.begin(), uses_, found->second.use);
  return &found->second.keys;
}

void KeyListCache::Put(const KeySignature& signature, std::span<const std::byte> keys) {
  const size_t cost = keys.size() + kEntryOverhead;
  if (cost > budget_bytes_ || Get(signature) != nullptr) return;
  while (bytes_ + cost > budget_bytes_) {
    const auto oldest = entries_.find(uses_.back());
    bytes_ -= oldest->second.keys.size() + kEntryOverhead;
    entries_.erase(oldest);
    uses_.pop_back();
  }
  uses_.push_front(signature);
  entries_.emplace(signature, Entry{Buffer::CopyOf(keys), uses_.begin()});
  bytes_ += cost;
}

}  // namespace sheaf
