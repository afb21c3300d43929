// Rounds of snapshots: when a shard saves its partitions, one after the other, so that its log can be cut.
//
//   idle --log has grown--> copying --last partition--> writing --all is written and flushed--> idle, log is cut
//     ^                         |                          |
//     +---- after a pause ------+------- an error ---------+
//
// A round begins at the index R of a record in the log (no record from R on needs one before, but for the configuration
// in force, which goes with the round). Each partition is copied at an index of its own, later than R, on the shard's
// thread, in bounded steps between which requests are served; only what changed meanwhile and the state beside rows are
// copied at once at the end. Its owner writes it on another thread, in one batch. When all are written, a batch that
// says R completes the round and the store is flushed; only then is the log cut before R. A process that starts anew
// reads images, and the log from R on (server/recovery.h). A round that fails (a full disk) leaves all as it was, but
// for images that are newer; the next writes whole partitions where it is not known what the store has.
//
// A round is also begun when rows take too much memory: those that the store then has, flushed, may leave it.
//
// A core: its owner calls Step when all that the shard has taken is committed, carries out the work in order, and says
// when it is done. Thread-safety: none; it belongs to the shard's thread. Core and log are lent.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "common/runtime/clock.h"
#include "common/storage/kv_store.h"
#include "server/partition_snapshot.h"
#include "server/shard_core.h"

namespace sheaf {

struct SnapshotterOptions {
  uint64_t min_log_bytes = uint64_t{256} << 20;  // no round before so many, nor before half of what rows take
  size_t rows_a_step = 2048;
  Duration retry_after = std::chrono::seconds(10);
};

// What is to be written, in order: a partition, or a round's end.
struct SnapshotWork {
  uint64_t round = 0;  // number
  std::optional<PartitionSnapshot> partition;
  pb::SnapshotRound end;                 // if not a partition
  std::vector<uint32_t> kept_partitions;  // of the end: those whose images stay,
  pb::ConfigRecord config = {};           // and what is in force, if that is newer than what the images say
};
// Blocks. After an error the store is to be opened anew, before the next round's first work.
Status CarryOut(KvStore& store, const SnapshotWork& work);

struct SnapshotStats {
  uint64_t rounds = 0;   // completed
  uint64_t failures = 0;
  uint64_t bytes = 0;    // of rows, written
  uint64_t last_bytes = 0;
  Duration last{};       // how long the last took
};

class Snapshotter {
 public:
  Snapshotter(ShardCore& core, RedoLog& log, SnapshotterOptions options)
      : core_(core), log_(log), options_(options) {}

  // Does a bounded piece of what there is to do.
  void Step(TimePoint now);
  // There is more to do at once.
  bool eager() const { return evicting_ || (phase_ == Phase::kCopying && under_way_ < kMostUnderWay); }
  bool idle() const { return phase_ == Phase::kIdle; }
  // The next to be written; nothing: there is none now.
  std::optional<SnapshotWork> TakeWork();
  // The first of the work that was taken and not done is. An error ends the round.
  void OnDone(const Status& status, TimePoint now);
  // The next step begins a round, whatever the log has.
  void RequestRound() { requested_ = true; }

  // Bytes of the log since the last round began.
  uint64_t log_since_round() const { return core_.logged_bytes() - logged_at_begin_; }
  const SnapshotStats& stats() const { return stats_; }

 private:
  enum class Phase { kIdle, kCopying, kWriting, kFailing };
  static constexpr size_t kMostUnderWay = 2;  // partitions in memory beside the one that is copied

  void Begin(TimePoint now);
  void Copy();
  void EndRound();

  ShardCore& core_;
  RedoLog& log_;
  const SnapshotterOptions options_;
  Phase phase_ = Phase::kIdle;
  bool requested_ = false;
  bool evicting_ = false;        // after a round, before another
  TimePoint not_before_{};
  TimePoint not_for_room_before_{};
  uint64_t logged_at_begin_ = 0;
  TimePoint begun_at_{};
  uint64_t round_ = 0;
  RoundBegin begin_;
  size_t next_ = 0;              // of begin_.partitions
  uint64_t config_written_ = 0;  // its generation
  uint64_t bytes_of_round_ = 0;
  PartitionSnapshot current_;    // which is being copied
  std::deque<SnapshotWork> ready_;
  size_t under_way_ = 0;         // taken, or ready to be
  SnapshotStats stats_;
};

}  // namespace sheaf
