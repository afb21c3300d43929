// A KvStore in RocksDB: one column family, without RocksDB's own log.
//
// More than its contract: Get, MultiGet and Scan may be called from other threads while one writes.
// The only source that includes RocksDB's headers is rocks_store.cc. Options are set once, when it is opened; an error
// in the background ends it (nothing is resumed: what was in memory is written anew by whoever has it).
#pragma once

#include <memory>
#include <string>

#include "common/storage/kv_store.h"

namespace sheaf {

// What all stores of a process share: how much memory they take for what is not flushed, and for what was read.
class RocksMemory {
 public:
  RocksMemory(size_t write_bytes, size_t cache_bytes);
  ~RocksMemory();
  RocksMemory(const RocksMemory&) = delete;
  RocksMemory& operator=(const RocksMemory&) = delete;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  const std::unique_ptr<const Impl> impl_;
};

struct RocksStoreOptions {
  size_t write_buffer_bytes = size_t{32} << 20;  // what is not flushed is flushed when it has grown to so much
  std::shared_ptr<const RocksMemory> memory;     // or nullptr: its own
  // Keys are also read one by one, all over the place, and nearly always found: small blocks, and filters for what was
  // written of late.
  bool point_reads = false;
  bool cache_point_reads = true;  // else what is read so does not stay in the cache
};

// Makes the folder if there is none. kDataLoss: it is damaged; nothing of it is changed.
Result<std::unique_ptr<KvStore>> OpenRocksStore(const std::string& folder, const RocksStoreOptions& options);

}  // namespace sheaf
