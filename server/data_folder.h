// A server's --data_dir: what lies where, and that one process at a time uses it.
//
//   DIR/LOCK            locked while a server runs
//   DIR/STORE           the store's name and number of shards (pb::StoreFile)
//   DIR/shard-I/log/    the redo log of shard I
//   DIR/shard-I/rows/   its store of snapshots
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

  // The same for as long as there is the folder; never 0.
  uint64_t store() const { return store_; }
  // How often a server was started with the folder, this time included.
  uint64_t starts() const { return starts_; }
  std::string LogOf(uint32_t shard) const;
  std::string RowsOf(uint32_t shard) const;

 private:
  DataFolder(std::string path, std::unique_ptr<FolderLock> lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  Status OpenStore(uint32_t shards);
  Status MakeShards(const std::string& path, pb::StoreFile& file);
  Status CountStart(const std::string& path, pb::StoreFile& file);

  const std::string path_;
  const std::unique_ptr<FolderLock> lock_;
  uint64_t store_ = 0;
  uint64_t starts_ = 0;
};

}  // namespace sheaf
