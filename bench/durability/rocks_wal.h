// RocksDB's write-ahead log, alone: how fast it takes bytes that go nowhere else.
#pragma once

#include <cstddef>
#include <string>

#include "common/base/result.h"

namespace sheaf::bench {

// Bytes a second, in records of `bytes` each, for about so many seconds, into a new log in `folder`. Written, not
// synced.
Result<double> WriteRocksWal(const std::string& folder, size_t bytes, double seconds);

}  // namespace sheaf::bench
