#include "bench/durability/rocks_wal.h"

#include <rocksdb/db.h>
#include <rocksdb/write_batch.h>

#include <chrono>
#include <filesystem>
#include <memory>

namespace sheaf::bench {
namespace {

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

Status StatusOf(const rocksdb::Status& status) {
  return status.ok() ? Status() : Fail(ErrorCode::kIo, "RocksDB: ", status.ToString());
}

}  // namespace

Result<double> WriteRocksWal(const std::string& folder, size_t bytes, double seconds) {
  std::filesystem::remove_all(folder);
  rocksdb::Options options;
  options.create_if_missing = true;
  rocksdb::DB* opened = nullptr;
  SHEAF_RETURN_IF_ERROR(StatusOf(rocksdb::DB::Open(options, folder, &opened)));
  const std::unique_ptr<rocksdb::DB> db(opened);
  const std::string record(bytes, 'x');
  size_t written = 0;
  const double begin = Now();
  while (Now() < begin + seconds) {
    rocksdb::WriteBatch batch;
    // Goes to the log and nowhere else.
    SHEAF_RETURN_IF_ERROR(StatusOf(batch.PutLogData(record)));
    SHEAF_RETURN_IF_ERROR(StatusOf(db->Write(rocksdb::WriteOptions(), &batch)));
    written += bytes;
  }
  return static_cast<double>(written) / (Now() - begin);
}

}  // namespace sheaf::bench
