// How long nobody can push to a server's partitions after it has died, under load.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct FailoverOptions {
  int kills = 30;    // SIGKILL
  int stops = 10;    // SIGTERM
};

// A cluster of real processes (3 servers, 2 copies of each partition in memory, 2 workers that train) whose servers are
// killed in turn. A gap is the time from the signal to the acknowledgement of a push, sent right after it, to all
// partitions that the server was the primary of. Rows "kill" and "stop": median, least and greatest; the bar is on the
// median, and on the 99th percentile in a row of its own.
Status RunFailover(const FailoverOptions& options, Suite& suite);

}  // namespace sheaf::bench
