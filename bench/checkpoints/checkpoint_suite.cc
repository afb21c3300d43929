#include "bench/checkpoints/checkpoint_suite.h"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bench/snapshots/pushed_shard.h"
#include "common/runtime/temp_folder.h"
#include "common/checkpoint/disk_space.h"
#include "common/runtime/memory.h"
#include "server/checkpoint_thread.h"
#include "server/checkpointer.h"
#include "server/shard_checkpoints.h"

namespace sheaf::bench {
namespace {

constexpr size_t kLoadBatch = 10'000, kPushBatch = 1'000;

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Made {
  double frozen = 0;      // seconds that the shard stood still
  double seconds = 0;     // from then until all is synced
  uint64_t bytes = 0;
  double pushes_a_second = 0;
};

class Bench {
 public:
  Bench(const CheckpointSuite& suite, FileSpace& space)
      : suite_(suite), space_(space), shard_(0, nullptr, pb::JobSpec::MEMORY, /*checkpoints=*/true),
        files_(0, &space), checkpointer_(shard_.core(), ShardCheckpoints::kRowsAStep) {}

  Status Load() {
    SHEAF_RETURN_IF_ERROR(shard_.Install());
    for (uint64_t first = 0; first < suite_.rows; first += kLoadBatch) {
      SHEAF_RETURN_IF_ERROR(shard_.Push(shard_.MakePush(shard_.Keys(first, kLoadBatch))));
    }
    return {};
  }
  // Random rows, so many of them.
  Status Change(uint64_t rows) {
    for (uint64_t done = 0; done < rows; done += kPushBatch) SHEAF_RETURN_IF_ERROR(PushSome());
    return {};
  }
  Result<double> PushFor(double seconds) {
    const double begin = Now();
    uint64_t pushes = 0;
    for (; Now() < begin + seconds; ++pushes) SHEAF_RETURN_IF_ERROR(PushSome());
    return static_cast<double>(pushes) / (Now() - begin);
  }

  // `pushing`: in turns with pushes, as on a shard's thread.
  Result<Made> Make(uint64_t base, bool pushing) {
    pb::CheckpointOrder order;
    order.set_id(++id_);
    order.set_folder("c" + std::to_string(id_));
    order.set_job(1);  // TableOf's
    order.set_base(base);
    SHEAF_RETURN_IF_ERROR(space_.MakeFolder(order.folder()));
    Made made;
    const double begin = Now();
    checkpointer_.OnOrder(order);
    checkpointer_.Step();
    made.frozen = Now() - begin;
    uint64_t pushes = 0;
    while (checkpointer_.state().phase() == pb::CheckpointState::PREPARED) {
      while (auto done = files_.TakeDone()) checkpointer_.OnDone(std::get<PartDone>(*done));
      checkpointer_.Step();
      while (auto work = checkpointer_.TakeWork()) files_.Put(std::move(*work));
      if (pushing) {
        SHEAF_RETURN_IF_ERROR(PushSome());
        ++pushes;
      } else if (!checkpointer_.eager()) {
        pollfd done{files_.done_fd(), POLLIN, 0};
        poll(&done, 1, 100);
      }
    }
    made.seconds = Now() - begin;
    made.pushes_a_second = static_cast<double>(pushes) / made.seconds;
    const pb::CheckpointState state = checkpointer_.state();
    checkpointer_.OnOrder({});
    if (state.phase() != pb::CheckpointState::WRITTEN) return Fail(ErrorCode::kIo, state.error());
    for (const pb::CheckpointPart& part : state.part()) made.bytes += part.bytes();
    return made;
  }
  // The same bytes, in pieces of 1 MiB into files of the same size, synced.
  Result<double> WriteRaw(uint64_t bytes) {
    const std::vector<std::byte> piece(size_t{1} << 20, std::byte{7});
    SHEAF_RETURN_IF_ERROR(space_.MakeFolder("raw"));
    const double begin = Now();
    const uint64_t a_file = bytes / (kBenchPartitions / kBenchShards);
    for (uint64_t file = 0, done = 0; done < bytes; ++file) {
      SHEAF_ASSIGN_OR_RETURN(const auto sink, space_.Create("raw", std::to_string(file)));
      for (uint64_t in_file = 0; in_file < a_file && done < bytes; in_file += piece.size(), done += piece.size()) {
        SHEAF_RETURN_IF_ERROR(sink->Append(piece));
      }
      SHEAF_RETURN_IF_ERROR(sink->Finish());
    }
    const double seconds = Now() - begin;
    SHEAF_RETURN_IF_ERROR(space_.RemoveFolder("raw"));
    return seconds;
  }
  uint64_t last() const { return id_; }
  Status Forget() { return space_.RemoveFolder("c" + std::to_string(id_)); }

 private:
  Status PushSome() {
    std::vector<HashedKey> keys;
    for (size_t k = 0; k < kPushBatch; ++k) keys.push_back(shard_.Key(random_.Below(suite_.rows)));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return shard_.Push(shard_.MakePush(std::move(keys)));
  }

  const CheckpointSuite suite_;
  FileSpace& space_;
  PushedShard shard_;
  CheckpointThread files_;
  Checkpointer checkpointer_;
  Random random_{5};
  uint64_t id_ = 0;
};

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

Status RunCheckpoints(const CheckpointSuite& suite) {
  KeepFreedMemory();
  const TempFolder folder;
  SHEAF_ASSIGN_OR_RETURN(const auto space, OpenDiskSpace(folder.path(), IfAbsent::kMake));
  Bench bench(suite, *space);
  SHEAF_RETURN_IF_ERROR(bench.Load());
  std::vector<double> frozen, ratios, slowdowns;
  for (int round = 0; round < suite.rounds; ++round) {
    SHEAF_ASSIGN_OR_RETURN(const Made quiet, bench.Make(0, /*pushing=*/false));
    SHEAF_RETURN_IF_ERROR(bench.Forget());
    SHEAF_ASSIGN_OR_RETURN(const double raw, bench.WriteRaw(quiet.bytes));
    SHEAF_ASSIGN_OR_RETURN(const double before, bench.PushFor(2));
    SHEAF_ASSIGN_OR_RETURN(const Made busy, bench.Make(0, /*pushing=*/true));
    SHEAF_ASSIGN_OR_RETURN(const double after, bench.PushFor(2));
    SHEAF_RETURN_IF_ERROR(bench.Forget());
    const double bytes = static_cast<double>(quiet.bytes);
    frozen.insert(frozen.end(), {quiet.frozen, busy.frozen});
    ratios.push_back(raw / quiet.seconds);
    slowdowns.push_back(1 - busy.pushes_a_second / ((before + after) / 2));
    std::printf("%.0f MB: %.2f s, %.0f MB/s; the same bytes raw %.2f s, %.0f MB/s; with pushes beside %.2f s\n",
                bytes / 1e6, quiet.seconds, bytes / 1e6 / quiet.seconds, raw, bytes / 1e6 / raw, busy.seconds);
    std::printf("  frozen in %.2f and %.2f ms; pushes of 1,000 rows: %.0f/s before, %.0f/s meanwhile, %.0f/s after\n",
                quiet.frozen * 1e3, busy.frozen * 1e3, before, busy.pushes_a_second, after);
    std::fflush(stdout);
  }
  SHEAF_ASSIGN_OR_RETURN(const Made whole, bench.Make(0, /*pushing=*/false));
  SHEAF_RETURN_IF_ERROR(bench.Change(suite.rows / 20));
  SHEAF_ASSIGN_OR_RETURN(const Made changed, bench.Make(bench.last(), /*pushing=*/false));
  const double share = static_cast<double>(changed.bytes) / static_cast<double>(whole.bytes);
  std::printf("longest freeze %.2f ms; write speed %.0f %% of raw; pushes lose %.0f %% meanwhile (medians of %d)\n",
              *std::ranges::max_element(frozen) * 1e3, Median(ratios) * 100, Median(slowdowns) * 100, suite.rounds);
  std::printf("after 5 %% of the rows have changed: %.1f MB of %.1f MB, %.1f %%, in %.2f s\n",
              static_cast<double>(changed.bytes) / 1e6, static_cast<double>(whole.bytes) / 1e6, share * 100,
              changed.seconds);
  if (Median(ratios) >= 0.8 && share <= 0.15) return {};
  return Fail(ErrorCode::kInternal, "under the bars: 80 % of the raw speed, and 15 % of the bytes");
}

}  // namespace sheaf::bench
