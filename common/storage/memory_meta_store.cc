#include "common/storage/memory_meta_store.h"

#include <algorithm>

namespace sheaf {

Result<std::optional<std::string>> MemoryMetaStore::Get(const std::string& key) {
  const auto found = entries_.find(key);
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

Result<std::vector<MetaEntry>> MemoryMetaStore::List(const std::string& prefix) {
  std::vector<MetaEntry> listed;
  for (auto at = entries_.lower_bound(prefix); at != entries_.end() && at->first.starts_with(prefix); ++at) {
    listed.push_back({at->first, at->second});
  }
  return listed;
}

Result<bool> MemoryMetaStore::Txn(const MetaTxn& txn) {
  const auto failed = [this] { return Fail(trouble_code_, "the store in memory was told to fail"); };
  if (trouble_ == Trouble::kNotDone) return failed();
  const bool holds = std::ranges::all_of(txn.compares, [this](const MetaCompare& compare) {
    const auto found = entries_.find(compare.key);
    return compare.value ? found != entries_.end() && found->second == *compare.value : found == entries_.end();
  });
  if (!holds) return false;
  for (const MetaEntry& put : txn.puts) entries_[put.key] = put.value;
  for (const std::string& key : txn.deletes) entries_.erase(key);
  ++txns_;
  if (trouble_ == Trouble::kDone) return failed();
  return true;
}

}  // namespace sheaf
