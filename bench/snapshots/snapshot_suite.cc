#include "bench/snapshots/snapshot_suite.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/snapshots/pushed_shard.h"
#include "common/runtime/temp_folder.h"
#include "common/base/partition.h"
#include "common/base/random.h"
#include "common/runtime/memory.h"
#include "common/runtime/thread.h"
#include "common/storage/file_log.h"
#include "common/storage/rocks_store.h"
#include "server/recovery.h"
#include "server/snapshotter.h"

namespace sheaf::bench {
namespace {

constexpr uint32_t kShards = 2;
constexpr size_t kBatch = 10'000;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Of this thread, seconds.
double ProcessorTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// A log that nobody reads.
class NoLog final : public RedoLog {
 public:
  uint64_t Append(std::vector<Buffer> /*pieces*/) override { return next_++; }
  Status Commit(Durability /*level*/) override { return {}; }
  Status Replay(uint64_t /*from*/, const Taker& /*take*/) override { return {}; }
  std::shared_ptr<RedoLogDisk> disk() override { return nullptr; }  // no rows leave memory
  void BeginAnew() override {}
  Status TrimTo(uint64_t /*index*/) override { return {}; }
  uint64_t first_index() const override { return 1; }
  uint64_t next_index() const override { return next_; }
  uint64_t bytes() const override { return 0; }

 private:
  uint64_t next_ = 1;
};

struct Round {
  double seconds = 0;
  std::vector<double> steps;  // seconds of processor that the shard's thread was held up
  uint64_t bytes = 0;
};

// Everything on one thread; the steps are timed by themselves.
Result<Round> MakeRound(PushedShard& shard, FileLog& log, KvStore& store) {
  Round round;
  Snapshotter snapshotter(shard.core(), log, {});
  snapshotter.RequestRound();
  const double begin = Now();
  do {
    const double before = ProcessorTime();
    snapshotter.Step({});
    round.steps.push_back(ProcessorTime() - before);
    SHEAF_RETURN_IF_ERROR(shard.Commit());
    while (const auto work = snapshotter.TakeWork()) {
      const Status done = CarryOut(store, *work);
      snapshotter.OnDone(done, {});
      SHEAF_RETURN_IF_ERROR(done);
    }
  } while (!snapshotter.idle());
  round.seconds = Now() - begin;
  round.bytes = snapshotter.stats().bytes;
  std::ranges::sort(round.steps);
  return round;
}

void Print(const char* what, const Round& round) {
  const auto at = [&](double share) {
    return round.steps[static_cast<size_t>(share * static_cast<double>(round.steps.size() - 1))] * 1e3;
  };
  std::printf("%s: %.2f s, %.0f MB of rows\n", what, round.seconds, static_cast<double>(round.bytes) / 1e6);
  std::printf("  %zu steps of the shard's thread: p50 %.3f ms, p99 %.3f ms, longest %.3f ms of processor\n",
              round.steps.size(), at(0.5), at(0.99), at(1));
  std::fflush(stdout);
}

// What it costs a push that rows are marked: the same pushes with and without, in turns.
Status RunMarks() {
  NoLog no_log;
  PushedShard plain(0, nullptr, pb::JobSpec::MEMORY), marking(0, &no_log, pb::JobSpec::MEMORY);
  SHEAF_RETURN_IF_ERROR(plain.Install());
  SHEAF_RETURN_IF_ERROR(marking.Install());
  constexpr uint64_t kRows = 1'000'000;
  std::vector<std::vector<HashedKey>> lists;
  Random random(5);
  for (int i = 0; i < 100; ++i) {
    std::vector<HashedKey> keys;
    for (size_t k = 0; k < kBatch; ++k) keys.push_back(plain.Key(random.Below(kRows)));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    lists.push_back(std::move(keys));
  }
  std::vector<double> seconds[2];
  for (int turn = 0; turn < 26; ++turn) {
    PushedShard& shard = turn % 2 == 0 ? plain : marking;
    std::vector<Message> messages;
    for (const auto& keys : lists) messages.push_back(shard.MakePush(keys));
    const double begin = ProcessorTime();
    for (const Message& message : messages) SHEAF_RETURN_IF_ERROR(shard.Push(message));
    if (turn > 3) seconds[turn % 2].push_back(ProcessorTime() - begin);
  }
  for (auto& each : seconds) std::ranges::sort(each);
  std::printf("a push of 10,000 rows of dim 16, Adagrad: %.1f us without marks, %.1f us with (medians of 11 turns)\n",
              seconds[0][5] * 1e4, seconds[1][5] * 1e4);
  return {};
}

Status RunShard(uint32_t index, uint64_t rows, const std::string& folder, bool speak) {
  SHEAF_ASSIGN_OR_RETURN(auto log, FileLog::Open(folder + "/log", {}));
  SHEAF_ASSIGN_OR_RETURN(auto store, OpenRocksStore(folder + "/rows", {}));
  PushedShard shard(index, log.get(), pb::JobSpec::LOG);
  SHEAF_RETURN_IF_ERROR(shard.Install());
  for (uint64_t first = 0; first < rows; first += kBatch) {
    SHEAF_RETURN_IF_ERROR(shard.Push(shard.MakePush(shard.Keys(first, kBatch))));
  }
  SHEAF_ASSIGN_OR_RETURN(const Round whole, MakeRound(shard, *log, *store));
  if (speak) Print("a round with all rows", whole);
  for (uint64_t first = 0; first < rows / 100; first += kBatch) {
    SHEAF_RETURN_IF_ERROR(shard.Push(shard.MakePush(shard.Keys(first, kBatch))));
  }
  SHEAF_ASSIGN_OR_RETURN(const Round changed, MakeRound(shard, *log, *store));
  if (speak) Print("a round with a hundredth of the rows changed", changed);
  return {};
}

Status RecoverOne(uint32_t index, const std::string& folder, uint64_t& rows, double& processor) {
  const double begin = ProcessorTime();
  SHEAF_ASSIGN_OR_RETURN(auto log, FileLog::Open(folder + "/log", {}));
  SHEAF_ASSIGN_OR_RETURN(auto store, OpenRocksStore(folder + "/rows", {}));
  PushedShard shard(index, log.get(), pb::JobSpec::LOG);
  const auto recovered = RecoverShard(shard.core(), *log, store.get(), {}, [](size_t) { return Status(); });
  if (!recovered) return Failure{recovered.error()};
  SHEAF_RETURN_IF_ERROR(shard.Install());
  rows = shard.core().stats().rows;
  processor = ProcessorTime() - begin;
  return {};
}

}  // namespace

Status RunSnapshots(const SnapshotSuite& suite) {
  KeepFreedMemory();
  SHEAF_RETURN_IF_ERROR(RunMarks());
  const TempFolder folder;
  Status outcomes[kShards];
  const auto both = [&](const auto& work) -> Status {
    std::vector<Thread> threads;
    for (uint32_t i = 0; i < kShards; ++i) {
      threads.emplace_back("shard", [&, i] { outcomes[i] = work(i, folder.path() + "/" + std::to_string(i)); });
    }
    threads.clear();
    for (const Status& outcome : outcomes) SHEAF_RETURN_IF_ERROR(outcome);
    return {};
  };
  SHEAF_RETURN_IF_ERROR(both([&](uint32_t i, const std::string& path) {
    return RunShard(i, suite.rows / kShards, path, i == 0);
  }));
  uint64_t rows[kShards] = {};
  double processor[kShards] = {};
  for (int turn = 0; turn < 3; ++turn) {
    const double begin = Now();
    SHEAF_RETURN_IF_ERROR(both([&](uint32_t i, const std::string& path) {
      return RecoverOne(i, path, rows[i], processor[i]);
    }));
    const double seconds = Now() - begin;
    const auto all = static_cast<double>(rows[0] + rows[1]);
    std::printf("recovery of %.1f M rows of dim 16, 2 shards: %.2f s, %.2f M rows/s a shard, %.2f of processor\n",
                all / 1e6, seconds, all / seconds / 2e6, static_cast<double>(rows[0]) / processor[0] / 1e6);
    std::fflush(stdout);
  }
  return {};
}

}  // namespace sheaf::bench
