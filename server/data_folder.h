// A server's --data_dir: what lies where, and that one process at a time uses it.
//
//   DIR/LOCK            locked while a server runs
//   DIR/STORE           the store's name and number of shards (pb::StoreFile), and DIR/STORE.copy the same
//   DIR/shard-I/log/    the redo log of shard I
//   DIR/shard-I/rows/   its store of snapshots
//   DIR/shard-I/reserve room that is given up when the disk is full
//   DIR/damaged-N/      all of this, of a store that was put aside
//
// Thread-safety: none; main owns it, and keeps it for as long as anybody uses the files.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "common/base/result.h"
#include "common/storage/folder_lock.h"
#include "proto/storage.pb.h"

namespace sheaf {

class DataFolder {
 public:
  // Makes it if there is none, or an empty folder. kAlreadyExists: another process uses it; kInvalidArgument: it is of
  // another number of shards, or not a server's.
  static Result<std::unique_ptr<DataFolder>> Open(const std::string& path, uint32_t shards);

  // Puts all that is in it into a folder within, which it answers, so that a new store can be made. Nobody uses it.
  static Result<std::string> SetAside(const std::string& path);

  // The same for as long as there is the folder; never 0.
  uint64_t store() const { return store_; }
  // How often a server was started with the folder, this time included.
  uint64_t starts() const { return starts_; }
  // The system has been running since it was started with the folder before: it still has all that was written.
  bool same_boot() const { return same_boot_; }
  std::string LogOf(uint32_t shard) const;
  std::string RowsOf(uint32_t shard) const;
  std::string ReserveOf(uint32_t shard) const;

 private:
  DataFolder(std::string path, std::unique_ptr<FolderLock> lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  Status OpenStore(uint32_t shards);
  Status MakeShards(const std::string& path, pb::StoreFile& file);
  Status CountStart(const std::string& path, pb::StoreFile& file);

  const std::string path_;
  const std::unique_ptr<FolderLock> lock_;
  uint64_t store_ = 0;
  uint64_t starts_ = 0;
  bool same_boot_ = false;
};

}  // namespace sheaf
