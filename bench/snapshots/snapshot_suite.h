// What rounds of snapshots cost a shard, and how fast a process comes back from them: two shards on two threads, real
// files, no sockets.
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace sheaf::bench {

struct SnapshotSuite {
  uint64_t rows = 10'000'000;  // of both shards, dim 16 with Adagrad
};
// Prints what it measures.
Status RunSnapshots(const SnapshotSuite& suite);

}  // namespace sheaf::bench
