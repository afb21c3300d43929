#include "common/storage/rocks_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/perf_level.h>
#include <rocksdb/sst_file_manager.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>
#include <rocksdb/write_buffer_manager.h>

#include <algorithm>
#include <utility>

#include "common/storage/files.h"
#include "common/storage/rocks_no_log.h"

namespace sheaf {

struct RocksMemory::Impl {
  std::shared_ptr<rocksdb::Cache> cache;
  std::shared_ptr<rocksdb::WriteBufferManager> writes;
};

namespace {

constexpr size_t kDefaultWriteBytes = size_t{128} << 20;
constexpr size_t kDefaultCacheBytes = size_t{16} << 20;
constexpr size_t kReadAhead = size_t{2} << 20;
constexpr size_t kMergeReadAhead = size_t{64} << 10;  // of each of the files that are merged at once
constexpr int kOpenFiles = 256;
constexpr int kOpenFilesOfPointReads = 1024;  // a quarter of so many is found without a look into a table of open files
constexpr double kFilterBitsAKey = 14;  // a key is looked for in a dozen files, and is in one
constexpr int kFilesBeforeMerge = 128;
constexpr uint64_t kBaseLevelBuffers = 512;
constexpr int64_t kRemovedASecond = int64_t{1} << 30;

rocksdb::Slice SliceOf(std::string_view text) { return {text.data(), text.size()}; }
std::string_view ViewOf(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

Failure StoreError(const char* act, const std::string& folder, const rocksdb::Status& status) {
  const ErrorCode code = status.IsNoSpace()      ? ErrorCode::kResourceExhausted
                         : status.IsCorruption() ? ErrorCode::kDataLoss
                                                 : ErrorCode::kIo;
  return Fail(code, "cannot ", act, " ", folder, ": ", status.ToString());
}

rocksdb::Options OptionsOf(const RocksStoreOptions& options, const RocksMemory::Impl& memory) {
  rocksdb::Options set;
  set.create_if_missing = true;
  set.paranoid_checks = true;
  set.write_buffer_size = options.write_buffer_bytes;
  set.write_buffer_manager = memory.writes;
  set.max_write_buffer_number = 3;
  // No memtable_insert_with_hint_prefix_extractor: hints of keys and of deleted ranges are mixed up (it aborts).
  set.allow_concurrent_memtable_write = false;  // one thread writes
  set.max_background_jobs = 2;
  set.max_open_files = options.point_reads ? kOpenFilesOfPointReads : kOpenFiles;
  set.level_compaction_dynamic_level_bytes = true;
  set.compression = rocksdb::kNoCompression;  // floats: little would come of it
  set.bytes_per_sync = 1 << 20;               // so that the end of a file does not wait for all of it
  set.avoid_flush_during_shutdown = true;     // who wants it flushed says so
  set.max_bgerror_resume_count = 0;
  set.info_log = MakeRocksNoLog();
  // Files that were merged are removed by a thread of their own: to free hundreds of megabytes takes as many
  // milliseconds, for which whoever waits for a flush would have to wait, too.
  set.sst_file_manager.reset(rocksdb::NewSstFileManager(set.env, set.info_log, /*trash_dir=*/"", kRemovedASecond,
                                                        /*delete_existing_trash=*/true, /*status=*/nullptr,
                                                        /*max_trash_db_ratio=*/1));
  set.stats_dump_period_sec = 0;
  set.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = memory.cache;
  // Within the cache's bound, too. But not if each read asks for them: an index is one block of half a megabyte, and
  // to read it time and again, as a small cache has to, costs a hundred times what is found by it. Then they take
  // about a hundredth of what is stored.
  table.cache_index_and_filter_blocks = !options.point_reads;
  table.block_size = 16 << 10;
  table.format_version = 5;
  table.checksum = rocksdb::kXXH3;
  if (options.point_reads) {
    // A write buffer has the rows of a few partitions, of one round: files of a round have nothing in common, and a key
    // is looked for in one of each. So there may be many before they are merged into the rest, which costs a rewriting
    // of all of it.
    set.compaction_readahead_size = kMergeReadAhead;
    set.level0_file_num_compaction_trigger = kFilesBeforeMerge;
    set.level0_slowdown_writes_trigger = 2 * kFilesBeforeMerge;
    set.level0_stop_writes_trigger = 3 * kFilesBeforeMerge;
    set.max_bytes_for_level_base =
        std::max<uint64_t>(set.max_bytes_for_level_base, kBaseLevelBuffers * options.write_buffer_bytes);
    table.block_size = 4 << 10;
    // A cache that nothing is put into is only looked into.
    table.no_block_cache = !options.cache_point_reads;
    if (table.no_block_cache) table.block_cache = nullptr;
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kFilterBitsAKey));
    set.optimize_filters_for_hits = true;  // none for the last level, where most keys are
  }
  set.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return set;
}

class RocksStore final : public KvStore {
 public:
  RocksStore(std::string folder, std::shared_ptr<const RocksMemory> memory, std::unique_ptr<rocksdb::DB> db,
             bool cache_point_reads)
      : folder_(std::move(folder)), memory_(std::move(memory)), db_(std::move(db)) {
    write_.disableWAL = true;
    read_.verify_checksums = true;
    point_read_ = read_;
    point_read_.fill_cache = cache_point_reads;
  }

  Status Write(const KvBatch& batch) override {
    if (broken_) return Failure{*broken_};
    rocksdb::WriteBatch changes(batch.bytes());
    rocksdb::Status added;
    batch.ForEach([&](KvBatch::Kind kind, std::string_view first, std::string_view second) {
      if (!added.ok()) return;
      switch (kind) {
        case KvBatch::Kind::kPut:
          added = changes.Put(SliceOf(first), SliceOf(second));
          break;
        case KvBatch::Kind::kDelete:
          added = changes.Delete(SliceOf(first));
          break;
        case KvBatch::Kind::kDeleteRange:
          added = changes.DeleteRange(db_->DefaultColumnFamily(), SliceOf(first), SliceOf(second));
          break;
      }
    });
    if (added.ok()) added = db_->Write(write_, &changes);
    return added.ok() ? Status() : Broken(StoreError("write to", folder_, added));
  }

  Status Flush() override {
    if (broken_) return Failure{*broken_};
    rocksdb::FlushOptions options;
    options.wait = true;
    const rocksdb::Status flushed = db_->Flush(options);
    return flushed.ok() ? Status() : Broken(StoreError("flush", folder_, flushed));
  }

  Result<std::optional<std::string>> Get(std::string_view key) override {
    std::string value;
    const rocksdb::Status got = db_->Get(read_, SliceOf(key), &value);
    if (got.IsNotFound()) return std::optional<std::string>();
    if (!got.ok()) return StoreError("read from", folder_, got);
    return std::optional<std::string>(std::move(value));
  }

  Status MultiGet(std::span<const std::string_view> keys, const FoundTaker& take) override {
    std::vector<rocksdb::Slice> slices;
    slices.reserve(keys.size());
    for (const std::string_view key : keys) slices.push_back(SliceOf(key));
    std::vector<rocksdb::PinnableSlice> found(keys.size());
    std::vector<rocksdb::Status> outcomes(keys.size());
    rocksdb::SetPerfLevel(rocksdb::PerfLevel::kDisable);  // of this thread: nobody asks for its counters
    db_->MultiGet(point_read_, db_->DefaultColumnFamily(), keys.size(), slices.data(), found.data(), outcomes.data(),
                  /*sorted_input=*/std::ranges::is_sorted(keys));
    for (size_t i = 0; i < keys.size(); ++i) {
      if (outcomes[i].IsNotFound()) continue;
      if (!outcomes[i].ok()) return StoreError("read from", folder_, outcomes[i]);
      SHEAF_RETURN_IF_ERROR(take(i, {found[i].data(), found[i].size()}));
    }
    return {};
  }

  Status Scan(std::string_view begin, std::string_view end, const Taker& take) override {
    rocksdb::ReadOptions options = read_;
    const rocksdb::Slice bound = SliceOf(end);
    options.iterate_upper_bound = &bound;
    options.fill_cache = false;
    options.readahead_size = kReadAhead;
    const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(options));
    for (at->Seek(SliceOf(begin)); at->Valid(); at->Next()) {
      SHEAF_RETURN_IF_ERROR(take(ViewOf(at->key()), ViewOf(at->value())));
    }
    if (!at->status().ok()) return StoreError("read from", folder_, at->status());
    return {};
  }

  uint64_t bytes() const override {
    uint64_t bytes = 0;
    db_->GetIntProperty(rocksdb::DB::Properties::kTotalSstFilesSize, &bytes);
    return bytes;
  }

 private:
  Failure Broken(Failure failure) {
    broken_ = failure.error;
    return failure;
  }

  const std::string folder_;
  const std::shared_ptr<const RocksMemory> memory_;
  const std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_;
  rocksdb::ReadOptions read_, point_read_;
  std::optional<Error> broken_;
};

}  // namespace

RocksMemory::RocksMemory(size_t write_bytes, size_t cache_bytes)
    : impl_(std::make_unique<const Impl>(Impl{rocksdb::NewLRUCache(cache_bytes),
                                              std::make_shared<rocksdb::WriteBufferManager>(write_bytes)})) {}
RocksMemory::~RocksMemory() = default;

Result<std::unique_ptr<KvStore>> OpenRocksStore(const std::string& folder, const RocksStoreOptions& options) {
  SHEAF_RETURN_IF_ERROR(MakeFolders(folder));
  std::shared_ptr<const RocksMemory> memory = options.memory;
  if (memory == nullptr) memory = std::make_shared<const RocksMemory>(kDefaultWriteBytes, kDefaultCacheBytes);
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(OptionsOf(options, memory->impl()), folder, &db);
  if (!opened.ok()) return StoreError("open", folder, opened);
  return std::unique_ptr<KvStore>(std::make_unique<RocksStore>(
      folder, std::move(memory), std::unique_ptr<rocksdb::DB>(db), options.cache_point_reads));
}

}  // namespace sheaf
