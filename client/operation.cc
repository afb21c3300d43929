#include "client/operation.h"

#include <algorithm>

namespace sheaf {

std::vector<RequestPlan> CutRequests(std::vector<BlockPlan> blocks, const std::vector<size_t>& row_bytes,
                                     size_t max_bytes, size_t max_blocks) {
  std::vector<RequestPlan> plans(1);
  const auto add = [&](BlockPlan block, size_t bytes) {
    plans.back().bytes += bytes;
    plans.back().blocks.push_back(std::move(block));
  };
  for (BlockPlan& block : blocks) {
    const size_t row = row_bytes[block.table];
    const uint32_t rows = block.part->size();
    const uint32_t rows_of_message = static_cast<uint32_t>(std::clamp<size_t>(max_bytes / row, 1, UINT32_MAX));
    if (!plans.back().blocks.empty() && (plans.back().blocks.size() == max_blocks ||
                                         plans.back().bytes + std::min(rows, rows_of_message) * row > max_bytes)) {
      plans.emplace_back();
    }
    if (rows <= rows_of_message) {
      add(std::move(block), rows * row);
      continue;
    }
    for (uint32_t first = 0; first < rows; first += rows_of_message) {
      if (first > 0) plans.emplace_back();
      const uint32_t count = std::min(rows_of_message, rows - first);
      add({block.table, block.part->Slice(first, count)}, count * row);
    }
  }
  return plans;
}

size_t MaxBlocks(size_t partition_count) {
  constexpr size_t kHeaderBytes = 120 << 10;
  const size_t common = 64 + 20 * partition_count;       // id, epoch and lsn of each partition
  const size_t block = 48 + 4 * partition_count;         // the key counts
  return common + block >= kHeaderBytes ? 1 : (kHeaderBytes - common) / block;
}

}  // namespace sheaf
