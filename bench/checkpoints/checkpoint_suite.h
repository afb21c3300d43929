// What a checkpoint costs a shard: how long it stands still, how fast its files are written beside what the disk does,
// and what pushes lose meanwhile. One shard, real files, no sockets.
#pragma once

#include <cstdint>

#include "bench/harness.h"
#include "common/base/result.h"

namespace sheaf::bench {

struct CheckpointSuite {
  uint64_t rows = 7'500'000;  // dim 16 with Adagrad: 1 GiB
  int rounds = 5;
};
// Prints what it measures; kInternal: a bar was missed.
Status RunCheckpoints(const CheckpointSuite& suite);

}  // namespace sheaf::bench
