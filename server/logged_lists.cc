#include "server/logged_lists.h"

#include <utility>

namespace sheaf {

const Buffer* LoggedLists::Use(const KeySignature& signature) {
  const auto found = by_signature_.find(signature);
  if (found == by_signature_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return &found->second->keys;
}

void LoggedLists::Add(const KeySignature& signature, size_t bytes, Buffer keys) {
  const size_t cost = bytes + kEntryOverhead;
  if (cost > budget_bytes_ || by_signature_.contains(signature)) return;
  while (bytes_ + cost > budget_bytes_) {
    bytes_ -= entries_.back().bytes + kEntryOverhead;
    by_signature_.erase(entries_.back().signature);
    entries_.pop_back();
  }
  bytes_ += cost;
  entries_.push_front({signature, bytes, std::move(keys)});
  by_signature_[signature] = entries_.begin();
}

void LoggedLists::Begin(size_t budget_bytes) {
  budget_bytes_ = budget_bytes;
  entries_.clear();
  by_signature_.clear();
  bytes_ = 0;
}

void LoggedLists::DropKeys() {
  for (Entry& entry : entries_) entry.keys = {};
}

}  // namespace sheaf
