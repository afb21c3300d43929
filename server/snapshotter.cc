#include "server/snapshotter.h"

#include <algorithm>
#include <utility>

#include "common/base/planted_bug.h"
#include "server/snapshot_store.h"

namespace sheaf {

namespace {

constexpr Duration kLookAgain = Milliseconds(100);  // at what rows take: it has to be counted
constexpr size_t kRowsAPartition = 64;  // what there is to do for one takes as long as so many rows
constexpr Duration kBetweenRoundsForRoom = Milliseconds(20);  // if nothing can leave, rounds are of no use

}  // namespace

Status CarryOut(KvStore& store, const SnapshotWork& work) {
  if (work.partition) return WriteSnapshot(store, *work.partition);
  if (work.flush_only) return store.Flush();
  SHEAF_RETURN_IF_ERROR(WriteRound(store, work.end, work.kept_partitions, work.config));
  if (Planted(Bug::kTrimmedBeforeFlush)) return {};
  return store.Flush();
}

void Snapshotter::Step(TimePoint now) {
  if (idle() && on_disk_.empty()) return Begin(now);
  rests_ = false;
  for (size_t rows = 0; eager() && rows < options_.rows_a_step; rows += kRowsAPartition) {
    rows += on_disk_.empty() ? Copy() : EvictNext();
  }
}

void Snapshotter::Begin(TimePoint now) {
  const bool for_room = now >= not_before_ && now >= not_for_room_before_ && core_.generation() != 0 &&
                        core_.IsShortOfMemory();
  for_room_ = for_room && !requested_;
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

size_t Snapshotter::EvictNext() {
  const size_t rows = core_.Evict(on_disk_.back());
  on_disk_.pop_back();
  if (on_disk_.empty() && idle()) core_.EndEviction();
  return rows;
}

bool Snapshotter::MayRest() const {
  return for_room_ && !requested_ && log_since_round() < options_.min_log_bytes && !core_.IsShortOfMemory();
}

size_t Snapshotter::Copy() {
  rests_ = !current_.begun && MayRest();
  if (rests_) return 0;
  if (next_ == begin_.partitions.size()) {
    EndRound();
    return 0;
  }
  current_.partition = begin_.partitions[next_];
  auto copied = core_.CopyChanged(current_, options_.rows_a_step);
  if (copied == ShardCore::Copied::kMore) return options_.rows_a_step;
  // Of this moment: all records before the next are in.
  const uint64_t index = log_.next_index() - (Planted(Bug::kStateAfterMark) ? 1 : 0);
  if (copied == ShardCore::Copied::kAll) copied = core_.FinishSnapshot(current_, index);
  ++next_;
  PartitionSnapshot done = std::exchange(current_, {});
  if (copied == ShardCore::Copied::kGone) return 0;
  if (core_.last_config().config().generation() != config_written_) {
    done.config = core_.last_config();
    config_written_ = done.config.config().generation();
  }
  stats_.bytes += done.bytes;
  bytes_of_round_ += done.bytes;
  bytes_not_flushed_ += done.bytes;
  not_flushed_.push_back(done.partition);
  size_t rows = 0;
  for (const ChangedRows& changed : done.rows) rows += changed.keys.size();
  under_way_.push_back({{}, done.bytes});
  bytes_under_way_ += done.bytes;
  ready_.push_back({.round = round_, .partition = std::move(done)});
  if (Planted(Bug::kLeaveBeforeFlush) && core_.evicting()) on_disk_ = std::exchange(not_flushed_, {});
  if (options_.flush_bytes > 0 && bytes_not_flushed_ >= options_.flush_bytes) FlushWhatIsWritten();
  return rows;
}

void Snapshotter::FlushWhatIsWritten() {
  ready_.push_back({.round = round_, .flush_only = true});
  under_way_.push_back({std::exchange(not_flushed_, {}), 0});
  bytes_not_flushed_ = 0;
}

void Snapshotter::EndRound() {
  SnapshotWork end{.round = round_, .kept_partitions = core_.StoredPartitions()};
  // A partition that has gone since its turn is in none of the images: should the log lose the record of that with the
  // power, the round must know.
  if (core_.last_config().config().generation() != config_written_) end.config = core_.last_config();
  end.end.set_end(log_.next_index());
  end.end.set_begin(begin_.index);
  *end.end.mutable_config() = begin_.config;
  ready_.push_back(std::move(end));
  under_way_.push_back({std::exchange(not_flushed_, {}), 0});
  bytes_not_flushed_ = 0;
  phase_ = Phase::kWriting;
}

std::optional<SnapshotWork> Snapshotter::TakeWork() {
  if (ready_.empty()) return std::nullopt;
  SnapshotWork work = std::move(ready_.front());
  ready_.pop_front();
  return work;
}

void Snapshotter::OnDone(const Status& status, TimePoint now) {
  const UnderWay done = std::move(under_way_.front());
  under_way_.pop_front();
  bytes_under_way_ -= done.bytes;
  if (!status && phase_ != Phase::kFailing) {
    ++stats_.failures;
    phase_ = Phase::kFailing;
    for (; !ready_.empty(); ready_.pop_back(), under_way_.pop_back()) bytes_under_way_ -= under_way_.back().bytes;
    current_ = {};
    not_flushed_.clear();
    bytes_not_flushed_ = 0;
    on_disk_.clear();
    // What of it is in the store, nobody knows.
    for (const uint32_t p : begin_.partitions) core_.SetStored(p, false);
  }
  if (phase_ == Phase::kFailing) {
    if (!under_way_.empty()) return;
    phase_ = Phase::kIdle;
    not_before_ = now + options_.retry_after;
    logged_at_begin_ = 0;  // it is as overdue as it was
    return;
  }
  if (core_.evicting()) on_disk_.insert(on_disk_.end(), done.flushes.begin(), done.flushes.end());
  if (phase_ != Phase::kWriting || !under_way_.empty()) return;
  phase_ = Phase::kIdle;
  ++stats_.rounds;
  stats_.last = now - begun_at_;
  stats_.last_bytes = bytes_of_round_;
  if (on_disk_.empty()) core_.EndEviction();
  not_for_room_before_ = now + kBetweenRoundsForRoom;
  // What cannot be removed now can be after the next round.
  (void)log_.TrimTo(begin_.index);
}

}  // namespace sheaf
