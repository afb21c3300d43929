#include "worker/batch_cache.h"

namespace sheaf {
namespace {

size_t BytesOf(const BatchCache::Entry& entry) {
  size_t bytes = sizeof(entry) + (entry.rows == nullptr ? 0 : entry.rows->ByteSize());
  for (const auto& batch : entry.batches) bytes += sizeof(Batch) + batch->ByteSize();
  return bytes;
}

}  // namespace

const BatchCache::Entry* BatchCache::Find(const Key& key) {
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return nullptr;
  recent_.splice(recent_.begin(), recent_, it->second);
  return &it->second->entry;
}

void BatchCache::Put(const Key& key, Entry entry) {
  if (const auto it = by_key_.find(key); it != by_key_.end()) {
    bytes_ -= it->second->bytes;
    recent_.erase(it->second);
    by_key_.erase(it);
  }
  const size_t bytes = BytesOf(entry);
  if (bytes > budget_) return;
  // A walk over more data than fits would throw out each range just before it is needed again. What is in stays in,
  // unless it is of another job.
  while (bytes_ + bytes > budget_) {
    const Node& oldest = recent_.back();
    if (std::get<0>(oldest.key) == std::get<0>(key)) return;
    bytes_ -= oldest.bytes;
    by_key_.erase(oldest.key);
    recent_.pop_back();
  }
  recent_.push_front({key, std::move(entry), bytes});
  by_key_[key] = recent_.begin();
  bytes_ += bytes;
}

}  // namespace sheaf
