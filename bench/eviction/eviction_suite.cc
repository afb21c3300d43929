#include "bench/eviction/eviction_suite.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <memory>
#include <vector>

#include "bench/child.h"
#include "bench/kv/sheaf_endpoint.h"
#include "common/runtime/temp_folder.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/storage/rocks_store.h"
#include "server/memory_shares.h"

namespace sheaf::bench {
namespace {

constexpr uint32_t kTable = 1;
constexpr double kExponent = 1.05;
constexpr size_t kDraws = 1'000;      // of one batch; it asks once for what was drawn more often
constexpr size_t kBatches = 2'000;    // that are drawn before, and used in turns
constexpr size_t kFillBatch = 20'000;
constexpr uint32_t kWindow = 8;       // operations in flight
constexpr size_t kPushedBehind = 3;   // a batch is pushed when so many more were pulled
constexpr uint64_t kTimesOver = 10;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Rank r is drawn with a probability proportional to r^-s.
class Zipf {
 public:
  Zipf(uint64_t ranks, double exponent) : sums_(ranks) {
    double sum = 0;
    for (uint64_t i = 0; i < ranks; ++i) sums_[i] = sum += std::pow(static_cast<double>(i + 1), -exponent);
  }
  uint64_t Draw(Random& random) const {
    return static_cast<uint64_t>(std::ranges::upper_bound(sums_, random.NextDouble() * sums_.back()) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

std::vector<KeyVector> DrawBatches(uint64_t rows) {
  const Zipf zipf(rows, kExponent);
  Random random(17);
  std::vector<KeyVector> batches;
  for (size_t b = 0; b < kBatches; ++b) {
    std::vector<HashedKey> keys(kDraws);
    for (HashedKey& key : keys) key = MixKey(std::min(zipf.Draw(random), rows - 1));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    batches.push_back(std::make_shared<const std::vector<HashedKey>>(std::move(keys)));
  }
  return batches;
}

// One server and the client that trains with it.
class Trainer {
 public:
  // Forks: before any thread runs.
  Status Start(const std::string& name, const ServerSpec& spec) {
    dim_ = spec.tables[0].dim();
    SHEAF_ASSIGN_OR_RETURN(server_, Child::Fork(name, [&](const Announce& announce) { ServeSheaf(spec, announce); }));
    return {};
  }
  Status Connect() {
    ClientOptions options;
    options.min_keys_to_remember = SIZE_MAX;  // no two batches have the same keys
    SHEAF_ASSIGN_OR_RETURN(client_, SheafClient::Connect(server_->announced(), SheafClient::Way::kOfOneHost, options));
    return {};
  }
  Status Fill(uint64_t rows) {
    uint64_t next = 0;
    while (next < rows) {
      const auto push = [&](PsClient& client, TimePoint now, Outbox& out) {
        std::vector<HashedKey> keys;
        for (size_t i = 0; i < kFillBatch && next < rows; ++i) keys.push_back(MixKey(next++));
        std::ranges::sort(keys);
        return Push(std::make_shared<const std::vector<HashedKey>>(std::move(keys)), client, now, out);
      };
      SHEAF_RETURN_IF_ERROR(client_->Drive(/*window=*/1, /*seconds=*/0, push));
    }
    return {};
  }
  // Rows a second that were pulled and pushed.
  Result<double> Train(const std::vector<KeyVector>& batches, double seconds) {
    size_t rows = 0;
    std::deque<KeyVector> pulled;
    bool pull = true;
    const auto start = [&](PsClient& client, TimePoint now, Outbox& out) {
      const bool push = !pull && pulled.size() > kPushedBehind;
      pull = !pull;
      if (push) {
        const KeyVector keys = std::move(pulled.front());
        pulled.pop_front();
        rows += keys->size();
        return Push(keys, client, now, out);
      }
      const KeyVector& keys = batches[next_++ % batches.size()];
      pulled.push_back(keys);
      return client.Pull({{TableId(kTable), keys}}, {}, now, out);
    };
    SHEAF_ASSIGN_OR_RETURN(const DriveResult driven, client_->Drive(kWindow, seconds, start));
    return static_cast<double>(rows) / driven.seconds;
  }
  const Child& server() const { return *server_; }

 private:
  OperationId Push(const KeyVector& keys, PsClient& client, TimePoint now, Outbox& out) {
    const auto numbers = std::make_shared<const std::vector<float>>(keys->size() * dim_, 1e-3F);
    PushOptions options;
    options.identity = client_->NextIdentity();
    return client.Push({{TableId(kTable), keys, Floats(numbers, std::span(*numbers))}}, std::move(options), now, out);
  }

  std::unique_ptr<Child> server_;
  std::unique_ptr<SheafClient> client_;
  uint32_t dim_ = 0;
  size_t next_ = 0;
};

// The same rows in RocksDB alone, which has the same memory.
class Beneath {
 public:
  Status Fill(const std::string& folder, uint64_t rows, size_t row_bytes, uint64_t memory) {
    RocksStoreOptions options;
    options.memory = std::make_shared<const RocksMemory>(memory / 8, memory - memory / 8);
    options.write_buffer_bytes = memory / 16;
    options.point_reads = true;
    SHEAF_ASSIGN_OR_RETURN(store_, OpenRocksStore(folder, options));
    std::vector<HashedKey> keys(rows);
    for (uint64_t i = 0; i < rows; ++i) keys[i] = MixKey(i);
    std::ranges::sort(keys);
    const std::string row(row_bytes, 'r');
    KvBatch batch;
    for (const HashedKey key : keys) {
      batch.Put(NameOf(key), row);
      if (batch.bytes() < (size_t{1} << 20)) continue;
      SHEAF_RETURN_IF_ERROR(store_->Write(batch));
      batch.Clear();
    }
    SHEAF_RETURN_IF_ERROR(store_->Write(batch));
    return store_->Flush();
  }
  Result<double> Read(const std::vector<KeyVector>& batches, double seconds) {
    const double begin = Now();
    size_t rows = 0;
    std::vector<float> floats;
    const auto take = [&](size_t, std::string_view value) {
      floats.resize(value.size() / sizeof(float));
      std::memcpy(floats.data(), value.data(), floats.size() * sizeof(float));
      return Status();
    };
    while (Now() - begin < seconds) {
      const KeyVector& keys = batches[next_++ % batches.size()];
      std::vector<std::string> names;
      for (const HashedKey key : *keys) names.push_back(NameOf(key));
      const std::vector<std::string_view> views(names.begin(), names.end());
      SHEAF_RETURN_IF_ERROR(store_->MultiGet(views, take));
      rows += keys->size();
    }
    return static_cast<double>(rows) / (Now() - begin);
  }

 private:
  static std::string NameOf(HashedKey key) {
    const HashedKey big_endian = __builtin_bswap64(key);
    return std::string(reinterpret_cast<const char*>(&big_endian), sizeof(big_endian));
  }

  std::unique_ptr<KvStore> store_;
  size_t next_ = 0;
};

}  // namespace

namespace {

Status RunCase(const EvictionSuite& options, uint32_t dim, Bar bar, Suite& suite) {
  const std::string params = StrCat(options.rows / 1000, "k rows, dim ", dim, ", 10x");
  const size_t row_bytes = 2 * dim * sizeof(float);  // weights, and Adagrad's state
  if (!suite.Wanted("zipf train", params)) return {};
  const TempFolder folder;
  ServerSpec spec;
  spec.tables = {TableOf(kTable, dim, pb::OptimizerSpec::ADAGRAD)};
  spec.data_dir = folder.path() + "/memory";
  Trainer in_memory, limited;
  SHEAF_RETURN_IF_ERROR(in_memory.Start("all in memory", spec));
  spec.data_dir = folder.path() + "/limited";
  // With their keys, and where they are.
  spec.memory_limit = options.rows * (row_bytes + 24) / kTimesOver;
  SHEAF_RETURN_IF_ERROR(limited.Start("limited", spec));
  const std::vector<KeyVector> batches = DrawBatches(options.rows);
  SHEAF_RETURN_IF_ERROR(in_memory.Connect());
  SHEAF_RETURN_IF_ERROR(limited.Connect());
  SHEAF_RETURN_IF_ERROR(in_memory.Fill(options.rows));
  SHEAF_RETURN_IF_ERROR(limited.Fill(options.rows));
  Beneath beneath;
  SHEAF_RETURN_IF_ERROR(beneath.Fill(folder.path() + "/rocksdb", options.rows, row_bytes, spec.memory_limit));
  // What is used often has to come to memory, and the rest to leave it: one sample does not do that.
  for (int i = 0; i < 5; ++i) SHEAF_RETURN_IF_ERROR(limited.Train(batches, options.seconds));

  Case made;
  made.name = "zipf train";
  made.params = params;
  made.unit = "rows/s";
  made.ours = [&] { return limited.Train(batches, options.seconds); };
  made.limit_name = "all in memory";
  made.limit = [&] { return in_memory.Train(batches, options.seconds); };
  made.bar = bar;
  made.beside_name = "RocksDB MultiGet";
  made.beside = [&] { return beneath.Read(batches, options.seconds); };
  made.remark = [&] {
    return StrCat("limit ", FormatBytes(spec.memory_limit), ", resident ",
                  FormatBytes(limited.server().ResidentBytes()), "; all in memory ",
                  FormatBytes(in_memory.server().ResidentBytes()));
  };
  return suite.Run(made);
}

}  // namespace

// Long rows are the ones that outgrow memory. Of short ones a row in memory costs so little that RocksDB's time for the
// others is all that counts: shown, not judged.
Status RunEviction(const EvictionSuite& options, Suite& suite) {
  SHEAF_RETURN_IF_ERROR(RunCase(options, 128, Bar::AtLeast(0.35), suite));
  return RunCase({.rows = options.rows * 8, .seconds = options.seconds}, 16, {}, suite);
}

}  // namespace sheaf::bench
