#include "server/snapshotter.h"

#include <algorithm>
#include <utility>

#include "common/base/planted_bug.h"
#include "server/snapshot_store.h"

namespace sheaf {

namespace {

constexpr Duration kLookAgain = Milliseconds(100);  // at what rows take: it has to be counted
constexpr Duration kBetweenRoundsForRoom = Milliseconds(20);  // if nothing can leave, rounds are of no use

}  // namespace

Status CarryOut(KvStore& store, const SnapshotWork& work) {
  if (work.partition) return WriteSnapshot(store, *work.partition);
  SHEAF_RETURN_IF_ERROR(WriteRound(store, work.end, work.kept_partitions, work.config));
  if (Planted(Bug::kTrimmedBeforeFlush)) return {};
  return store.Flush();
}

void Snapshotter::Step(TimePoint now) {
  if (phase_ == Phase::kIdle && evicting_) {
    evicting_ = core_.EvictSome();
    return;
  }
  if (phase_ == Phase::kIdle) return Begin(now);
  if (eager()) Copy();
}

void Snapshotter::Begin(TimePoint now) {
  const bool for_room = now >= not_before_ && now >= not_for_room_before_ && core_.generation() != 0 &&
                        core_.WantsRound();
  if (!requested_ && !for_room) {
    const uint64_t grown = log_since_round();
    if (now < not_before_ || grown < options_.min_log_bytes || core_.generation() == 0) return;
    if (grown < core_.stats().memory_bytes / 2) {
      not_before_ = now + kLookAgain;
      return;
    }
  }
  auto begun = core_.BeginRound();
  if (!begun) return;
  requested_ = false;
  begin_ = std::move(*begun);
  logged_at_begin_ = core_.logged_bytes();
  begun_at_ = now;
  ++round_;
  config_written_ = 0;
  bytes_of_round_ = 0;
  next_ = 0;
  current_ = {};
  phase_ = Phase::kCopying;
}

void Snapshotter::Copy() {
  if (next_ == begin_.partitions.size()) return EndRound();
  current_.partition = begin_.partitions[next_];
  auto copied = core_.CopyChanged(current_, options_.rows_a_step);
  if (copied == ShardCore::Copied::kMore) return;
  // Of this moment: all records before the next are in.
  const uint64_t index = log_.next_index() - (Planted(Bug::kStateAfterMark) ? 1 : 0);
  if (copied == ShardCore::Copied::kAll) copied = core_.FinishSnapshot(current_, index);
  ++next_;
  PartitionSnapshot done = std::exchange(current_, {});
  if (copied == ShardCore::Copied::kGone) return;
  if (core_.last_config().config().generation() != config_written_) {
    done.config = core_.last_config();
    config_written_ = done.config.config().generation();
  }
  stats_.bytes += done.bytes;
  bytes_of_round_ += done.bytes;
  ready_.push_back({round_, std::move(done), {}, {}});
  ++under_way_;
}

void Snapshotter::EndRound() {
  SnapshotWork end{round_, std::nullopt, {}, core_.StoredPartitions()};
  // A partition that has gone since its turn is in none of the images: should the log lose the record of that with the
  // power, the round must know.
  if (core_.last_config().config().generation() != config_written_) end.config = core_.last_config();
  end.end.set_end(log_.next_index());
  end.end.set_begin(begin_.index);
  *end.end.mutable_config() = begin_.config;
  ready_.push_back(std::move(end));
  ++under_way_;
  phase_ = Phase::kWriting;
  if (!Planted(Bug::kLeaveBeforeFlush)) return;
  if (core_.BeginEviction()) {
    while (core_.EvictSome()) continue;
  }
}

std::optional<SnapshotWork> Snapshotter::TakeWork() {
  if (ready_.empty()) return std::nullopt;
  SnapshotWork work = std::move(ready_.front());
  ready_.pop_front();
  return work;
}

void Snapshotter::OnDone(const Status& status, TimePoint now) {
  --under_way_;
  if (!status && phase_ != Phase::kFailing) {
    ++stats_.failures;
    phase_ = Phase::kFailing;
    under_way_ -= ready_.size();
    ready_.clear();
    current_ = {};
    // What of it is in the store, nobody knows.
    for (const uint32_t p : begin_.partitions) core_.SetStored(p, false);
  }
  if (phase_ == Phase::kFailing) {
    if (under_way_ > 0) return;
    phase_ = Phase::kIdle;
    not_before_ = now + options_.retry_after;
    logged_at_begin_ = 0;  // it is as overdue as it was
    return;
  }
  if (phase_ != Phase::kWriting || under_way_ > 0) return;
  phase_ = Phase::kIdle;
  ++stats_.rounds;
  stats_.last = now - begun_at_;
  stats_.last_bytes = bytes_of_round_;
  evicting_ = core_.BeginEviction();
  not_for_room_before_ = now + kBetweenRoundsForRoom;
  // What cannot be removed now can be after the next round.
  (void)log_.TrimTo(begin_.index);
}

}  // namespace sheaf
