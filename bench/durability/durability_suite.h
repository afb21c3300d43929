// What it costs that pushes outlive the process that took them, or the server that has them.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct DurabilityOptions {
  double seconds = 0.25;  // of one sample
};

// Pushes of 256 KiB to a dense table and of 10,000 keys to a sparse one, to one server: in memory only, beside the same
// with a log (limit: the smaller of that and of how fast RocksDB's own log takes as many bytes), with a log that is
// synced, and with a copy on a second server. Forks its servers: call it before anything starts a thread.
Status RunDurability(const DurabilityOptions& options, Suite& suite);

}  // namespace sheaf::bench
