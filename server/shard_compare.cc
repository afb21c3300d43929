// Copies are compared with what they are copies of: the primary tells them, in the stream of what it does, what some of
// its rows are at that moment; a copy that has other ones is of no use and is made anew.
//
// In turn all rows, some at a time, by key: so it costs the same whatever a partition has, and rows that are not in
// memory need not come for it.
#include <algorithm>

#include "common/base/digest.h"
#include "common/base/strings.h"
#include "server/redo_record.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kRowsAtOnce = 4096;

uint64_t DigestOfRows(std::span<const float* const> rows, size_t width) {
  Digester digester;
  for (const float* const row : rows) digester.Add(std::as_bytes(std::span(row, width)));
  return digester.Result().low;
}

}  // namespace

void ShardCore::CompareCopies() { impl_->CompareCopies(); }

bool ShardCore::Impl::HasCopyElsewhere(uint32_t partition) const {
  return std::ranges::any_of(copies, [&](const auto& copy) {
    return copy.second.holds && std::ranges::binary_search(*copy.second.holds, partition);
  });
}

// The next ones behind those of the last time; at the end it begins anew.
void ShardCore::Impl::CompareCopies() {
  if (copies.empty()) return;
  for (; compare_partition < partitions.size(); ++compare_partition, compare_table = 0, compare_from = 0) {
    const uint32_t p = compare_partition;
    if (partitions[p] == nullptr || !is_owned[p] || !HasCopyElsewhere(p)) continue;
    for (auto at = tables.lower_bound(compare_table); at != tables.end(); ++at, compare_from = 0) {
      compare_table = at->first;
      const RowStore* const store = at->second.rows == nullptr ? nullptr : at->second.rows->store(p);
      if (store == nullptr) continue;
      std::vector<HashedKey> keys;
      std::vector<const float*> found;
      const bool all = store->Scan(compare_from, kRowsAtOnce, keys, found);
      if (keys.empty()) continue;
      WriteCompare(p, at->second, *store, keys, found);
      compare_from = keys.back() + 1;
      if (all || compare_from == 0) {
        compare_from = 0;
        ++compare_table;
      }
      return;
    }
  }
  compare_partition = 0;
}

void ShardCore::Impl::WriteCompare(uint32_t partition, const Table& table, const RowStore& store,
                                   const std::vector<HashedKey>& keys, std::span<const float* const> found) {
  pb::RedoHeader header;
  pb::CompareRecord& record = *header.mutable_compare();
  record.set_partition(partition);
  record.set_lsn(lsns[partition].value);
  record.set_table(table.id);
  record.set_rows(store.size());
  record.set_digest(DigestOfRows(found, table.layout.stride));
  for (auto& [name, copy] : copies) {
    if (!copy.holds || !std::ranges::binary_search(*copy.holds, partition)) continue;
    copy.take(EncodeRedo(header, {Buffer::FromVector(std::vector<HashedKey>(keys))}, {}));
  }
}

// Of a copy. What of it the shard has taken over, or let go, is compared by nobody.
Status ShardCore::Impl::RedoCompare(const pb::CompareRecord& record, const Buffer& bytes) {
  const uint32_t p = record.partition();
  if (!options.is_copy || p >= partitions.size() || partitions[p] == nullptr || !is_owned[p]) return {};
  const std::span<const HashedKey> keys(reinterpret_cast<const HashedKey*>(bytes.data()),
                                        bytes.size() / sizeof(HashedKey));
  const auto differs = [&](const std::string& how) {
    ++counters.copies_differed;
    counters.differed_text =
        StrCat("the copy of partition ", p, " is not what its primary has, and is made anew: ", how);
    return Fail(ErrorCode::kDataLoss, counters.differed_text);
  };
  if (lsns[p].value != record.lsn()) return differs(StrCat("it is at LSN ", lsns[p].value, ", not ", record.lsn()));
  const Table* const table = FindTable(record.table());
  const RowStore* const store = table == nullptr || table->rows == nullptr ? nullptr : table->rows->store(p);
  const uint64_t has = store == nullptr ? 0 : store->size();
  if (has != record.rows()) {
    return differs(StrCat("table ", record.table(), " has ", has, " rows, not ", record.rows()));
  }
  std::vector<const float*> found;
  for (const HashedKey key : keys) {
    const float* const row = store->Find(key);
    if (row == nullptr) return differs(StrCat("table ", record.table(), " lacks the row ", key));
    found.push_back(row);
  }
  if (DigestOfRows(found, table->layout.stride) != record.digest()) {
    return differs(StrCat("table ", record.table(), " has other numbers in some of ", keys.size(), " rows"));
  }
  counters.compared_rows += keys.size();
  return {};
}

}  // namespace sheaf
