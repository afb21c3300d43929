// One who is told what a shard does: its log, or the stream to a copy of some of its partitions.
//
// Plain data that ShardCore's rules work on. Thread-safety: none.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/base/buffer.h"
#include "server/logged_lists.h"

namespace sheaf {

struct RedoWriter {
  // Takes the next record, in pieces.
  using Take = std::function<void(std::vector<Buffer> pieces)>;

  RedoWriter(size_t list_budget_bytes, Take its_take) : take(std::move(its_take)), lists(list_budget_bytes) {}

  Take take;
  LoggedLists lists;                            // that its reader has
  std::optional<std::vector<uint32_t>> holds;   // of a copy: the partitions it has, ascending; the log has all
};

}  // namespace sheaf
