// How a shard's limit of memory is shared out: what the store beneath the rows takes counts as well, else rows that
// leave memory would only go from one place in it to another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace sheaf {

struct MemoryShares {
  size_t rows = 0;       // 0: all stay
  size_t unflushed = 0;  // of snapshots that are being written
  size_t cache = 0;      // of what was read of the store: mostly its indexes
};

inline constexpr uint64_t kLeastMemoryLimit = uint64_t{32} << 20;  // of a shard

// `limit`: of one shard; 0: none.
inline MemoryShares ShareMemory(uint64_t limit) {
  constexpr size_t kMegabyte = size_t{1} << 20;
  if (limit == 0) return {.rows = 0, .unflushed = 64 * kMegabyte, .cache = 8 * kMegabyte};
  MemoryShares shares;
  shares.unflushed = std::clamp<size_t>(limit / 8, 4 * kMegabyte, 64 * kMegabyte);
  shares.cache = std::max<size_t>(limit / 8, 4 * kMegabyte);
  shares.rows = limit - shares.unflushed - shares.cache;
  return shares;
}

}  // namespace sheaf
