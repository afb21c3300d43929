// Which partition owns a hashed key: contiguous ranges of the hashed key space, in order.
#pragma once

#include <cstdint>

#include "common/base/ids.h"

namespace sheaf {

inline constexpr uint32_t kMaxPartitions = 4096;
inline constexpr uint32_t kDefaultPartitions = 64;

constexpr PartitionId PartitionOf(HashedKey key, uint32_t partition_count) {
  return PartitionId(static_cast<uint32_t>((static_cast<unsigned __int128>(key) * partition_count) >> 64));
}

// The smallest hashed key of a partition. PartitionBegin(partition_count) would be 2^64: not representable, so ask
// for the last key instead.
constexpr HashedKey PartitionFirstKey(PartitionId partition, uint32_t partition_count) {
  // ceil(partition * 2^64 / partition_count)
  const unsigned __int128 numerator = static_cast<unsigned __int128>(partition.value) << 64;
  return static_cast<HashedKey>((numerator + partition_count - 1) / partition_count);
}
constexpr HashedKey PartitionLastKey(PartitionId partition, uint32_t partition_count) {
  return partition.value + 1 == partition_count
             ? ~HashedKey{0}
             : PartitionFirstKey(PartitionId(partition.value + 1), partition_count) - 1;
}

}  // namespace sheaf
