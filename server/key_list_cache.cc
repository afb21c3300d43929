#include "server/key_list_cache.h"

#include <xxhash.h>

#include "server/row_store.h"

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

std::shared_ptr<KnownSlots> KeyListCache::SlotsOf(const KeySignature& signature, uint32_t table) {
  const auto found = entries_.find(signature);
  if (found == entries_.end()) return nullptr;
  Entry& entry = found->second;
  for (const auto& [of, slots] : entry.slots) {
    if (of == table) return slots;
  }
  const size_t grown = bytes_ - entry.cost() + Cost(entry.keys.size(), entry.slots.size() + 1);
  if (grown > budget_bytes_) return nullptr;
  bytes_ = grown;
  const auto made = std::make_shared<KnownSlots>();
  made->slots.assign(entry.keys.size() / sizeof(HashedKey), kNoSlot);
  entry.slots.emplace_back(table, made);
  return made;
}

void KeyListCache::ForgetTable(uint32_t table) {
  for (auto& [signature, entry] : entries_) {
    bytes_ -= entry.cost();
    std::erase_if(entry.slots, [table](const auto& of) { return of.first == table; });
    bytes_ += entry.cost();
  }
}

void KeyListCache::Put(const KeySignature& signature, std::span<const std::byte> keys) {
  if (Cost(keys.size(), 1) > budget_bytes_ || Get(signature) != nullptr) return;
  while (bytes_ + Cost(keys.size(), 1) > budget_bytes_) {
    const auto oldest = entries_.find(uses_.back());
    bytes_ -= oldest->second.cost();
    entries_.erase(oldest);
    uses_.pop_back();
  }
  uses_.push_front(signature);
  bytes_ += entries_.emplace(signature, Entry{Buffer::CopyOf(keys), uses_.begin(), {}}).first->second.cost();
}

}  // namespace sheaf
