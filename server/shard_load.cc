// How much there is in each partition, and how often it is asked for: for the scheduler, which evens it out.
#include <algorithm>

#include "common/base/partition.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

// One request stands for so many. A prime: what clients do in turn should not fall on the same one each time.
constexpr uint64_t kOneOf = 61;

}  // namespace

void ShardCore::Impl::NoteLoad(const RequestPart& part) {
  if (++requests_seen % kOneOf != 0) return;
  keys_served.resize(partitions.size());
  const auto count = static_cast<uint32_t>(partitions.size());
  for (const RequestBlock& block : part.blocks) {
    const auto keys = block.keys();
    for (auto at = keys.begin(); at != keys.end();) {
      const PartitionId partition = PartitionOf(*at, count);
      const auto next = std::partition_point(at, keys.end(), [&](HashedKey key) {
        return PartitionOf(key, count).value <= partition.value;
      });
      keys_served[partition.value] += static_cast<uint64_t>(next - at) * kOneOf;
      at = next;
    }
  }
}

PartitionLoad ShardCore::Impl::LoadOf(uint32_t partition) const {
  PartitionLoad load{.partition = partition};
  for (const auto& [id, table] : tables) {
    const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store != nullptr) load.bytes += store->memory_bytes();
  }
  if (partition < keys_served.size()) load.keys = keys_served[partition];
  return load;
}

}  // namespace sheaf
