// A scheduler's --data_dir: what lies where, and that one process at a time uses it.
//
//   DIR/LOCK      locked while a scheduler runs
//   DIR/CLUSTER   the cluster's id, in hexadecimal: from then on there must be a store
//   DIR/meta/     the store (RocksMetaStore); which key holds what: saved_state.h
//
// Thread-safety: none; the shell owns it.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/storage/folder_lock.h"
#include "common/storage/rocks_meta_store.h"
#include "scheduler/saved_state.h"

namespace sheaf {

class SchedulerFolder {
 public:
  // Makes it if there is none, or an empty folder, and takes over what is saved in it. kAlreadyExists: another process
  // uses it; kInvalidArgument: it is not a scheduler's, or of another number of partitions; kVersionMismatch;
  // kDataLoss: damaged.
  static Result<std::unique_ptr<SchedulerFolder>> Open(const std::string& path, uint32_t partition_count);

  MetaStore& store() { return *store_; }
  SavedState TakeSaved() { return std::move(saved_); }

 private:
  SchedulerFolder() = default;
  Status OpenStore(const std::string& path, uint32_t partition_count);

  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<RocksMetaStore> store_;
  SavedState saved_;
};

}  // namespace sheaf
