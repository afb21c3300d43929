#include "common/storage/rocks_meta_store.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <utility>

#include "common/storage/rocks_no_log.h"

namespace sheaf {
namespace {

// RocksDB keeps errno only as text.
ErrorCode CodeOf(const rocksdb::Status& status, const std::string& text) {
  const auto says = [&text](const char* what) { return text.find(what) != std::string::npos; };
  if (status.IsNoSpace() || says("No space left") || says("quota exceeded") || says("File too large")) {
    return ErrorCode::kResourceExhausted;
  }
  if (status.IsCorruption()) return ErrorCode::kDataLoss;
  if (says("Permission denied") || says("Read-only file system")) return ErrorCode::kPermissionDenied;
  return ErrorCode::kIo;
}

Failure MetaError(const char* act, const std::string& folder, const rocksdb::Status& status) {
  const std::string text = status.ToString();
  return Fail(CodeOf(status, text), act, " ", folder, ": ", text);
}

// What later versions of RocksDB mended is left alone: no run-time options, no WAL compression, no WAL recycling, no
// tracking of WALs in the manifest.
rocksdb::Options MetaOptions() {
  rocksdb::Options options;
  options.paranoid_checks = true;
  // A last record that is torn was never acknowledged; a bad one before it is damage. The default would silently end at
  // the first bad one.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.recycle_log_file_num = 0;
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = size_t{4} << 20;
  options.max_write_buffer_number = 2;
  options.max_open_files = 64;
  options.max_background_jobs = 2;
  options.info_log = MakeRocksNoLog();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  return options;
}

}  // namespace

struct RocksMetaStore::Impl {
  std::string folder;
  std::unique_ptr<rocksdb::DB> db;  // nullptr: a transaction has failed

  Status Open(Mode mode = Mode::kMustExist) {
    if (db != nullptr) return {};
    rocksdb::Options options = MetaOptions();
    options.create_if_missing = mode == Mode::kCreate;
    rocksdb::DB* opened = nullptr;
    const rocksdb::Status status = rocksdb::DB::Open(options, folder, &opened);
    if (status.IsInvalidArgument()) return Fail(ErrorCode::kDataLoss, "the store ", folder, " is lost, or parts of it");
    if (!status.ok()) return MetaError("cannot open the store", folder, status);
    db.reset(opened);
    return {};
  }
};

Result<std::unique_ptr<RocksMetaStore>> RocksMetaStore::Open(const std::string& folder, Mode mode) {
  auto impl = std::make_unique<Impl>();
  impl->folder = folder;
  SHEAF_RETURN_IF_ERROR(impl->Open(mode));
  return std::unique_ptr<RocksMetaStore>(new RocksMetaStore(std::move(impl)));
}

RocksMetaStore::RocksMetaStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RocksMetaStore::~RocksMetaStore() = default;

Result<std::optional<std::string>> RocksMetaStore::Get(const std::string& key) {
  SHEAF_RETURN_IF_ERROR(impl_->Open());
  std::string value;
  const rocksdb::Status status = impl_->db->Get(rocksdb::ReadOptions(), key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  if (!status.ok()) return MetaError("cannot read from", impl_->folder, status);
  return std::optional(std::move(value));
}

Result<std::vector<MetaEntry>> RocksMetaStore::List(const std::string& prefix) {
  SHEAF_RETURN_IF_ERROR(impl_->Open());
  std::vector<MetaEntry> listed;
  const std::unique_ptr<rocksdb::Iterator> at(impl_->db->NewIterator(rocksdb::ReadOptions()));
  for (at->Seek(prefix); at->Valid() && at->key().starts_with(prefix); at->Next()) {
    listed.push_back({at->key().ToString(), at->value().ToString()});
  }
  if (!at->status().ok()) return MetaError("cannot read from", impl_->folder, at->status());
  return listed;
}

Result<bool> RocksMetaStore::Txn(const MetaTxn& txn) {
  SHEAF_RETURN_IF_ERROR(impl_->Open());
  for (const MetaCompare& compare : txn.compares) {
    SHEAF_ASSIGN_OR_RETURN(const auto value, Get(compare.key));
    if (value != compare.value) return false;
  }
  rocksdb::WriteBatch batch;
  for (const MetaEntry& put : txn.puts) batch.Put(put.key, put.value);
  for (const std::string& key : txn.deletes) batch.Delete(key);
  rocksdb::WriteOptions synced;
  synced.sync = true;
  const rocksdb::Status status = impl_->db->Write(synced, &batch);
  if (status.ok()) return true;
  impl_->db.reset();
  return MetaError("cannot write to", impl_->folder, status);
}

}  // namespace sheaf
