#include "bench/durability/durability_suite.h"

#include <algorithm>
#include <filesystem>

#include "bench/durability/rocks_wal.h"
#include "bench/kv/sheaf_endpoint.h"
#include "common/runtime/temp_folder.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/runtime/memory.h"

namespace sheaf::bench {
namespace {

constexpr uint32_t kWindow = 4;
constexpr uint32_t kDense = 1, kSparse = 2;
constexpr uint32_t kDenseDim = 1024, kSparseDim = 8;
constexpr size_t kDenseBytes = 256 << 10;
constexpr size_t kSparseKeys = 10'000, kSparseRows = 1'000'000;
constexpr size_t kSparseLists = 64;  // so many rows are pushed to, all in all, that they are not all in the caches
constexpr size_t kRoundTrips = 300;
constexpr double kLogBar = 0.8, kCopyBar = 0.4, kCopyDelayBar = 2.2;

KeyVector SomeKeys(Random& random, size_t below, size_t count) {
  std::vector<HashedKey> keys;
  while (keys.size() < count) {
    for (size_t i = keys.size(); i < count; ++i) keys.push_back(MixKey(random.Below(below)));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

// A server, or two, and a client of it.
struct Endpoint {
  std::unique_ptr<Child> backup, server;  // backup: nullptr if nobody has copies
  std::unique_ptr<SheafClient> client;
};

class DurabilitySuite {
 public:
  DurabilitySuite(const DurabilityOptions& options, Suite& suite) : options_(options), suite_(suite) {}

  Status Run() {
    SHEAF_RETURN_IF_ERROR(Fork(memory_, "memory", "", pb::JobSpec::MEMORY, /*copied=*/false));
    SHEAF_RETURN_IF_ERROR(Fork(log_, "log", folder_.path() + "/log", pb::JobSpec::LOG, /*copied=*/false));
    SHEAF_RETURN_IF_ERROR(Fork(fsync_, "fsync", folder_.path() + "/fsync", pb::JobSpec::FSYNC, /*copied=*/false));
    SHEAF_RETURN_IF_ERROR(Fork(copied_, "k=2", "", pb::JobSpec::MEMORY, /*copied=*/true));
    KeepFreedMemory();
    for (Endpoint* endpoint : {&memory_, &log_, &fsync_, &copied_}) {
      SHEAF_ASSIGN_OR_RETURN(endpoint->client,
                             SheafClient::Connect(endpoint->server->announced(), SheafClient::Way::kOfOneHost));
    }
    Random random(1);
    std::vector<KeyVector> dense{SomeKeys(random, 1 << 20, kDenseBytes / kDenseDim / sizeof(float))}, sparse;
    for (size_t i = 0; i < kSparseLists; ++i) sparse.push_back(SomeKeys(random, kSparseRows, kSparseKeys));
    SHEAF_RETURN_IF_ERROR(Measure({"dense push", "256 KiB w4", kDense, kDenseDim, std::move(dense)}));
    return Measure({"sparse push", "10k keys, dim 8 w4", kSparse, kSparseDim, std::move(sparse)});
  }

 private:
  struct Load {
    std::string name, params;
    uint32_t table, dim;
    std::vector<KeyVector> lists;  // taken in turn

    size_t bytes() const { return lists[0]->size() * (dim * sizeof(float) + sizeof(HashedKey)); }
  };

  Status Fork(Endpoint& endpoint, const std::string& name, const std::string& folder, pb::JobSpec::Durability level,
              bool copied) {
    ServerSpec spec;
    spec.data_dir = folder;
    if (!folder.empty()) std::filesystem::create_directories(folder);
    for (const auto& [table, dim] : {std::pair(kDense, kDenseDim), std::pair(kSparse, kSparseDim)}) {
      spec.tables.push_back(TableOf(table, dim, pb::OptimizerSpec::SGD));
      spec.tables.back().set_durability(level);
    }
    if (copied) {
      SHEAF_ASSIGN_OR_RETURN(endpoint.backup, Child::Fork("the backup of " + name, ServeBackup));
      spec.backup = endpoint.backup->announced();
    }
    SHEAF_ASSIGN_OR_RETURN(endpoint.server,
                           Child::Fork("the server " + name, [&](const Announce& say) { ServeSheaf(spec, say); }));
    return {};
  }

  SheafClient::Start Starter(Endpoint& endpoint, const Load& load) {
    return [this, &endpoint, &load](PsClient& ps, TimePoint now, Outbox& out) {
      const KeyVector& keys = load.lists[next_++ % load.lists.size()];
      std::vector<TableGradients> tables;
      tables.push_back({TableId(load.table), keys, std::vector<float>(keys->size() * load.dim, 1e-3f)});
      PushOptions options;
      options.identity = endpoint.client->NextIdentity();
      return ps.Push(std::move(tables), std::move(options), now, out);
    };
  }

  // MB a second.
  Result<double> Rate(Endpoint& endpoint, const Load& load) {
    const double before = endpoint.backup == nullptr ? 0 : endpoint.backup->CpuSeconds();
    SHEAF_ASSIGN_OR_RETURN(const DriveResult run,
                           endpoint.client->Drive(kWindow, options_.seconds, Starter(endpoint, load)));
    if (endpoint.backup != nullptr) {
      copy_cpu_ = (endpoint.backup->CpuSeconds() - before) / static_cast<double>(run.operations);
    }
    return static_cast<double>(run.operations * load.bytes()) * 1e-6 / run.seconds;
  }

  // Of a push, microseconds.
  Result<double> MedianDelay(Endpoint& endpoint, const Load& load) {
    SHEAF_ASSIGN_OR_RETURN(auto seconds, endpoint.client->RoundTrips(kRoundTrips, Starter(endpoint, load)));
    std::ranges::sort(seconds);
    return 1e6 * seconds[seconds.size() / 2];
  }

  Status Measure(const Load& load) {
    const auto case_of = [&](const std::string& how, const std::string& unit) {
      Case made;
      made.name = StrCat(load.name, ", ", how);
      made.params = load.params;
      made.unit = unit;
      return made;
    };
    const auto rate_of = [this, &load](Endpoint& endpoint) -> Sample {
      return [this, &load, &endpoint] { return Rate(endpoint, load); };
    };
    Case logged = case_of("log", "MB/s");
    logged.ours = rate_of(log_);
    logged.limit_name = "memory or RocksDB's WAL";
    logged.limit = [this, &load]() -> Result<double> {
      SHEAF_ASSIGN_OR_RETURN(memory_rate_, Rate(memory_, load));
      SHEAF_ASSIGN_OR_RETURN(const double wal, WriteRocksWal(folder_.path() + "/wal", load.bytes(), options_.seconds));
      wal_rate_ = wal * 1e-6;
      return std::min(memory_rate_, wal_rate_);
    };
    logged.bar = Bar::AtLeast(kLogBar);
    logged.remark = [this] {
      return StrCat("memory ", FormatFixed(memory_rate_, 0), ", RocksDB's WAL ", FormatFixed(wal_rate_, 0));
    };
    SHEAF_RETURN_IF_ERROR(suite_.Run(logged));
    Case synced = case_of("fsync", "MB/s");
    synced.ours = rate_of(fsync_);
    synced.limit_name = "memory";
    synced.limit = rate_of(memory_);
    SHEAF_RETURN_IF_ERROR(suite_.Run(synced));
    Case copied = case_of("k=2", "MB/s");
    copied.ours = rate_of(copied_);
    copied.limit_name = "k=1";
    copied.limit = rate_of(memory_);
    copied.bar = Bar::AtLeast(kCopyBar);
    copied.remark = [this] { return StrCat("us of the backup's CPU a push: ", FormatFixed(copy_cpu_ * 1e6, 1)); };
    SHEAF_RETURN_IF_ERROR(suite_.Run(copied));
    Case delayed = case_of("k=2, one at a time, p50", "us");
    delayed.ours = [this, &load] { return MedianDelay(copied_, load); };
    delayed.limit_name = "k=1";
    delayed.limit = [this, &load] { return MedianDelay(memory_, load); };
    delayed.bar = Bar::AtMost(kCopyDelayBar);
    return suite_.Run(delayed);
  }

  const DurabilityOptions options_;
  Suite& suite_;
  const TempFolder folder_;
  Endpoint memory_, log_, fsync_, copied_;
  size_t next_ = 0;
  double wal_rate_ = 0, memory_rate_ = 0, copy_cpu_ = 0;  // of the latest samples
};

}  // namespace

Status RunDurability(const DurabilityOptions& options, Suite& suite) { return DurabilitySuite(options, suite).Run(); }

}  // namespace sheaf::bench
