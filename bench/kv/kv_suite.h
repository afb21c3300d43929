// The kv suite: pushes and pulls against one server, each beside raw request and reply doing the same work.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct KvOptions {
  size_t rows = 10'000'000;  // of the large tables
  double seconds = 0.25;     // of one sample
  bool tcp = false;          // our client goes over TCP, as from another host; the limits' always do
};

// Forks its servers: call it before anything starts a thread.
Status RunKv(const KvOptions& options, Suite& suite);

}  // namespace sheaf::bench
