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
// When rows take too much memory, some leave, in a round or not. Partitions take turns: of one after the other the rows
// that were used least are copied, each as of the index of that moment, until there will be room enough; written,
// flushed, and dropped from memory unless they have changed meanwhile. The log is synced before they are written, so
// that no row is ever of a moment that the log knows nothing of. The rows that stay are not written: those of them that
// are used again and again only once a round. Rows also leave after their partition's part of a round is flushed.
// A partition is copied again only when what was copied before is on the disk: until then it is pending. If nothing can
// leave (new tables, partitions that came from elsewhere), a round is begun at once.
//
// A core: its owner calls Step when all that the shard has taken is committed, carries out the work in order, and says
// when it is done. Thread-safety: none; it belongs to the shard's thread. Core and log are lent.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/runtime/clock.h"
#include "common/storage/kv_store.h"
#include "common/storage/redo_log.h"
#include "server/partition_snapshot.h"
#include "server/shard_core.h"

namespace sheaf {

struct SnapshotterOptions {
  uint64_t min_log_bytes = uint64_t{256} << 20;  // no round before so many, nor before half of what rows take
  size_t rows_a_step = 2048;
  uint64_t flush_bytes = 0;  // after so many of rows; 0: at the end of a round, or when enough of them can leave
  Duration retry_after = std::chrono::seconds(10);
};

// What is to be done, in order: a partition or rows that leave are written, what was written is flushed, or a round
// ends with both.
struct SnapshotWork {
  uint64_t attempt = 0;  // rises after an error: until then nothing that was to come after it may be done
  std::optional<PartitionSnapshot> partition = {};
  std::optional<LeavingRows> leaving = {};
  std::shared_ptr<RedoLogDisk> log = {};       // to be synced before rows that leave, or cut at a round's end
  bool flush_only = false;
  pb::SnapshotRound end = {};                  // if none of these
  std::vector<uint32_t> kept_partitions = {};  // of the end: those whose images stay,
  pb::ConfigRecord config = {};                // and what is in force, if that is newer than what the images say
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
  bool eager() const {
    const bool copies = (phase_ == Phase::kCopying && !waits_) || leaves_;
    const size_t most = bytes_under_way_ < FewBytes() ? kMostSmallUnderWay : kMostUnderWay;
    return !on_disk_.empty() || (copies && under_way_.size() < most);
  }
  bool idle() const { return phase_ == Phase::kIdle && !leaves_ && under_way_.empty(); }
  bool in_round() const { return phase_ == Phase::kCopying || phase_ == Phase::kWriting; }
  // The next to be written; nothing: there is none now.
  std::optional<SnapshotWork> TakeWork();
  // The first of the work that was taken and not done is. An error ends the round, and all that leaves.
  void OnDone(const Status& status, TimePoint now);
  // The next step begins a round, whatever the log has.
  void RequestRound() { requested_ = true; }

  // Bytes of the log since the last round began.
  uint64_t log_since_round() const { return core_.logged_bytes() - logged_at_begin_; }
  const SnapshotStats& stats() const { return stats_; }

 private:
  enum class Phase { kIdle, kCopying, kWriting, kFailing };
  // Of work in memory, beside the partition that is copied; the second while it is little: what can be written while
  // the store is flushed, so that the one need not wait for the other.
  static constexpr size_t kMostUnderWay = 2, kMostSmallUnderWay = 12;
  uint64_t FewBytes() const { return std::max(options_.flush_bytes, uint64_t{1} << 20); }
  struct UnderWay {
    std::vector<uint32_t> flushes;  // partitions that are on the disk when it is done
    uint64_t bytes = 0;             // of rows
    bool ends_round = false;
  };

  void Begin(TimePoint now);
  void BeginRound(RoundBegin begin, TimePoint now);
  void BeginTurns();
  size_t Copy();         // answers how many rows
  size_t CopyLeaving(TimePoint now);  // likewise
  void PutLeaving();
  bool ChooseNext();  // of to_copy_ the first; false: it has to wait
  void EndTurns(TimePoint now);
  void FlushWhatIsWritten();
  size_t LeavingBytes() const;
  void EndRound();
  size_t EvictNext();  // answers how many rows were looked at

  ShardCore& core_;
  RedoLog& log_;
  const SnapshotterOptions options_;
  Phase phase_ = Phase::kIdle;
  bool requested_ = false;
  TimePoint not_before_{};
  TimePoint not_for_room_before_{}, not_by_log_before_{};
  uint64_t logged_at_begin_ = 0;
  TimePoint begun_at_{};
  uint64_t attempt_ = 1;
  RoundBegin begin_;
  std::deque<uint32_t> to_copy_;
  bool waits_ = false;           // all of them are on their way to the disk already
  uint64_t config_written_ = 0;  // its generation
  uint64_t bytes_of_round_ = 0;
  PartitionSnapshot current_;    // which is being copied
  std::deque<SnapshotWork> ready_;
  std::deque<UnderWay> under_way_;     // work that is ready or was taken
  uint64_t bytes_under_way_ = 0;
  std::vector<uint32_t> not_flushed_;  // partitions that were copied, after the last flush that is under way
  uint64_t bytes_not_flushed_ = 0;
  std::vector<uint32_t> on_disk_;      // partitions whose rows may leave memory
  bool leaves_ = false;                // partitions take turns
  bool turn_goes_on_ = false;          // of the first of them more is to be copied
  bool copies_first_ = false;          // in a round: one partition of it, before others take turns again
  bool all_had_turns_ = false;         // since rows were last said to have left (EndEviction)
  bool in_vain_ = false;               // nothing could leave so: a round is due
  std::deque<uint32_t> turns_;         // partitions whose turn comes
  uint32_t next_turn_ = 0;             // who is first the next time
  LeavingRows leaving_;                // of the partition whose turn it is
  // Partitions that were copied, as a whole or what leaves of them, and have not lost rows for it yet: how many bytes
  // of rows will leave. None of them is copied again before.
  std::map<uint32_t, size_t> pending_;
  SnapshotStats stats_;
};

}  // namespace sheaf
