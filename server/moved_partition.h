// A partition on its way from one shard's hands into another's, within a process: all that there is of it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/seq_window.h"
#include "proto/control.pb.h"
#include "server/partition_state.h"
#include "server/row_store.h"

namespace sheaf {

struct MovedPartition {
  uint32_t partition = 0;
  // Not empty: the pieces of its image, which stand for all below.
  std::vector<Buffer> image;
  std::unique_ptr<PartitionState> state;
  Lsn lsn;
  std::map<uint32_t, std::unique_ptr<RowStore>> rows;      // by table
  std::vector<std::pair<SessionId, SeqWindow>> sessions;   // what they have pushed to it
};

// Gives a partition that the configuration makes ours, if somebody in the process has a later copy of it than we.
using Adopter = std::function<std::optional<MovedPartition>(const pb::ClusterConfig& config, uint32_t partition)>;

}  // namespace sheaf
