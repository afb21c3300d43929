// How fast text becomes rows: one reader thread, file in the page cache, beside a loop that does the least that any
// reader must.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct ReaderOptions {
  double seconds = 0.25;  // of one sample
};

// Runs the reader's cases. Writes samples of some 50 MB each into a temporary folder, which it removes.
Status RunReaders(const ReaderOptions& options, Suite& suite);

}  // namespace sheaf::bench
