// What checkpoints cost a cluster of real processes that trains: how long workers stand still, how fast files are
// written beside what the disk does, what training loses, and how much one writes that builds upon another.
#pragma once

#include <cstdint>

#include "bench/harness.h"
#include "common/base/result.h"

namespace sheaf::bench {

struct ClusterCheckpointOptions {
  uint64_t rows_a_server = 7'500'000;  // of 16 floats with Adagrad: 1 GiB
  int pauses = 100;                    // checkpoints one after the other
  int rounds = 5;                      // whole ones, each beside as many bytes raw, and a minute of training
};
Status RunClusterCheckpoints(const ClusterCheckpointOptions& options, Suite& suite);

}  // namespace sheaf::bench
