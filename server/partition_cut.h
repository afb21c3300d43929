// A partition as of one moment, on its way into a checkpoint: its state, and its rows piece by piece while they go on
// changing. See server/checkpointer.h.
//
// Plain data; the shard fills it (ShardCore::BeginCut, CopyCut).
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "server/partition_image.h"

namespace sheaf {

struct PartitionCut {
  uint32_t partition = 0;
  uint64_t job = 0;                // whose tables and passes are in it
  bool whole = true;               // else only rows that have changed since the cut before
  Lsn lsn;
  uint64_t rows = 0;               // in all
  std::vector<ImagePiece> state;

  // Where the copying has come to.
  uint64_t store_version = 0;      // of the shard: with another one, it is lost
  uint32_t table = 0;
  HashedKey key = 0;
};

}  // namespace sheaf
