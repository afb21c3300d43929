// What is felt of partitions that change servers while there is full load: a server is added, others are drained.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct MovesOptions {
  int drains = 10;
};

// A cluster of real processes (2 servers, 2 copies of each partition in memory, 2 workers that train) gets a third
// server; then servers are drained and kept in turn. A client pushes to all partitions meanwhile, one push after the
// other: the longest push of each drain is the gap that the move of a partition makes. A push that fails ends the suite
// with its error.
Status RunMoves(const MovesOptions& options, Suite& suite);

}  // namespace sheaf::bench
