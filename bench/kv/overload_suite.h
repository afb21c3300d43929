// What a server holds when far more comes than it can take: its memory with a small budget and more and more clients,
// each of which pushes as much as it may without a pause; and what it gets done meanwhile.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct OverloadOptions {
  double seconds = 3;  // of each number of clients
};
Status RunOverload(const OverloadOptions& options, Suite& suite);

}  // namespace sheaf::bench
