// What a request costs beside the wire: the client's and the shard's cores and the envelope, all on one thread.
//
// The kv suite's figures bear the noise of four threads on a few processors; these do not, so they show what a change
// of the code is worth. Times are medians of many requests, in caches that only this work uses: on a real wire the
// same code costs about twice as much.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

Status RunCores(Suite& suite);

}  // namespace sheaf::bench
