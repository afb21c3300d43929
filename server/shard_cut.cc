// Checkpoints of partitions: how all of one is frozen, told, and made what a checkpoint says.
#include <algorithm>
#include <utility>

#include "server/shard_impl.h"

namespace sheaf {

std::optional<PartitionCut> ShardCore::Impl::BeginCut(uint32_t partition, uint64_t job, uint64_t id, uint64_t base) {
  if (partition >= partitions.size() || partitions[partition] == nullptr) return std::nullopt;
  PartitionState& state = *partitions[partition];
  PartitionCut cut;
  cut.partition = partition;
  cut.job = job;
  cut.whole = base == 0 || state.cut != base;
  cut.lsn = lsns[partition];
  cut.store_version = store_version;
  state.cut = id;
  std::vector<ImageTable> with_rows;
  for (auto& [table_id, table] : tables) {
    RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store == nullptr || store->size() == 0 || table.job != job) continue;
    table.rows->BeginCut(partition, cut.whole ? RowStore::Cut::kAll : RowStore::Cut::kChanged);
    cut.rows += store->cut_rows();
    with_rows.push_back({table_id, table.layout.stride, store->size()});
  }
  cut.state = ExportState(partition, /*index=*/0, std::move(with_rows), job);
  return cut;
}

ShardCore::Copied ShardCore::Impl::CopyCut(PartitionCut& cut, size_t max_rows, std::vector<ImagePiece>& pieces) {
  if (cut.store_version != store_version) return Copied::kGone;
  // Rows of before the cut that come back now are in it; while it lasts none leave.
  if (cut.whole && !Thaw(cut.partition)) return Copied::kMore;
  for (auto& [id, table] : tables) {
    RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(cut.partition);
    if (id < cut.table || table.job != cut.job || store == nullptr || !store->cutting()) continue;
    std::vector<HashedKey> keys;
    std::vector<float> rows;
    const size_t most = std::min(max_rows, ImageRowsIn(kImagePieceBytes, table.layout.stride));
    keys.reserve(std::min(most, store->cut_rows()));
    rows.reserve(keys.capacity() * table.layout.stride);
    const HashedKey from = id == cut.table ? cut.key : 0;
    const auto next = store->CopyCut(from, most, keys, rows);
    if (!keys.empty()) {
      pieces.push_back(EncodeImageRows(cut.partition, /*index=*/0, id, table.layout.stride,
                                       Buffer::FromVector(std::move(keys)), Buffer::FromVector(std::move(rows))));
    }
    cut.table = next ? id : id + 1;
    cut.key = next.value_or(0);
    return Copied::kMore;
  }
  return Copied::kAll;
}

void ShardCore::Impl::EndCuts() {
  for (auto& [id, table] : tables) {
    if (table.rows == nullptr) continue;
    for (uint32_t p = 0; p < partitions.size(); ++p) {
      const RowStore* const store = table.rows->store(p);
      if (store != nullptr && store->cutting()) table.rows->EndCut(p);
    }
  }
}

void ShardCore::Impl::EndCut(const PartitionCut& cut) {
  for (auto& [id, table] : tables) {
    const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(cut.partition);
    if (store != nullptr && store->cutting()) table.rows->EndCut(cut.partition);
  }
}

// The log, and who has a copy of it already, have nothing of what an image has brought.
void ShardCore::Impl::TellRestored(uint32_t partition) {
  for (RedoWriter* const writer : WritersOf(DurabilityOfTables())) {
    if (!writer->holds || std::ranges::binary_search(*writer->holds, partition)) WriteImage(*writer, partition);
  }
}

}  // namespace sheaf
