// A MetaStore in a folder of one process: a small RocksDB, of which every transaction is synced.
//
// After any failure of a transaction nothing more is written through the database as it was (RocksDB may hold what is
// not on the disk): the next call opens it anew, from what is there.
// Thread-safety: none. Errors name the folder: kDataLoss: it is damaged; kResourceExhausted, kPermissionDenied, kIo.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/storage/meta_store.h"

namespace sheaf {

class RocksMetaStore final : public MetaStore {
 public:
  enum class Mode {
    kCreate,     // make it if there is none
    kMustExist,  // that there is none is kDataLoss
  };
  // The caller sees to it that one process at a time has it.
  static Result<std::unique_ptr<RocksMetaStore>> Open(const std::string& folder, Mode mode);
  ~RocksMetaStore() override;

  Result<std::optional<std::string>> Get(const std::string& key) override;
  Result<std::vector<MetaEntry>> List(const std::string& prefix) override;
  Result<bool> Txn(const MetaTxn& txn) override;

 private:
  struct Impl;
  explicit RocksMetaStore(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
