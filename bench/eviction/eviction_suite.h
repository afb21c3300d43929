// A table ten times as large as the memory that its server may use, trained with keys by Zipf's law: against the same
// server with all of it in memory, and beside RocksDB's own MultiGet for the same keys.
#pragma once

#include <cstdint>

#include "bench/harness.h"

namespace sheaf::bench {

struct EvictionSuite {
  uint64_t rows = 500'000;  // of dim 128 with Adagrad; eight times as many of dim 16
  double seconds = 1;         // of one sample
};
Status RunEviction(const EvictionSuite& options, Suite& suite);

}  // namespace sheaf::bench
