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
  if (work.leaving) {
    uint64_t needed = 0;
    for (const auto& piece : work.leaving->pieces) needed = std::max(needed, piece.index);
    if (work.log != nullptr && !Planted(Bug::kLeaveBeforeLog)) SHEAF_RETURN_IF_ERROR(work.log->SyncTo(needed));
    return WriteLeaving(store, *work.leaving);
  }
  if (work.flush_only) return store.Flush();
  SHEAF_RETURN_IF_ERROR(WriteRound(store, work.end, work.kept_partitions, work.config));
  if (Planted(Bug::kTrimmedBeforeFlush)) return {};
  SHEAF_RETURN_IF_ERROR(store.Flush());
  if (work.log != nullptr) work.log->TrimTo(work.end.begin());
  return {};
}

void Snapshotter::Step(TimePoint now) {
  if (phase_ != Phase::kFailing && !leaves_ && on_disk_.empty()) Begin(now);
  for (size_t rows = 0; eager() && rows < options_.rows_a_step; rows += kRowsAPartition) {
    rows += !on_disk_.empty() ? EvictNext() : leaves_ ? CopyLeaving(now) : Copy();
  }
}

void Snapshotter::Begin(TimePoint now) {
  if (phase_ != Phase::kIdle) {
    const bool copies = phase_ == Phase::kCopying && copies_first_ && !waits_;
    if (!copies && now >= not_for_room_before_ && core_.IsShortOfMemory(LeavingBytes())) BeginTurns();
    return;
  }
  bool due = requested_;
  if (!due && (now < not_before_ || core_.generation() == 0)) return;
  if (const uint64_t grown = log_since_round(); !due && grown >= options_.min_log_bytes && now >= not_by_log_before_) {
    due = grown >= core_.stats().memory_bytes / 2;
    if (!due) not_by_log_before_ = now + kLookAgain;
  }
  if (!due && now >= not_for_room_before_ && core_.IsShortOfMemory(LeavingBytes())) {
    if (!in_vain_) return BeginTurns();
    due = true;
  }
  if (!due) return;
  if (auto begun = core_.BeginRound()) BeginRound(std::move(*begun), now);
}

void Snapshotter::BeginRound(RoundBegin begin, TimePoint now) {
  requested_ = in_vain_ = false;
  begin_ = std::move(begin);
  logged_at_begin_ = core_.logged_bytes();
  begun_at_ = now;
  config_written_ = 0;
  bytes_of_round_ = 0;
  to_copy_.assign(begin_.partitions.begin(), begin_.partitions.end());
  current_ = {};
  phase_ = Phase::kCopying;
}

size_t Snapshotter::EvictNext() {
  const uint32_t partition = on_disk_.back();
  const size_t rows = core_.Evict(partition);
  on_disk_.pop_back();
  pending_.erase(partition);
  if (on_disk_.empty() && (all_had_turns_ || (pending_.empty() && !leaves_))) {
    all_had_turns_ = false;
    core_.EndEviction(LeavingBytes());
  }
  return rows;
}

// ---- rows that leave between rounds

size_t Snapshotter::LeavingBytes() const {
  size_t bytes = 0;
  for (const auto& [partition, leaving] : pending_) bytes += leaving;
  return bytes;
}

void Snapshotter::BeginTurns() {
  leaves_ = true;
  for (const uint32_t p : core_.StoredPartitions()) {
    if (!pending_.contains(p) && !(current_.begun && current_.partition == p)) turns_.push_back(p);
  }
  std::ranges::rotate(turns_, std::ranges::lower_bound(turns_, next_turn_));
}

size_t Snapshotter::CopyLeaving(TimePoint now) {
  if (!turn_goes_on_ && (turns_.empty() || core_.HasRoomEnough(LeavingBytes()))) {
    EndTurns(now);
    return 0;
  }
  leaving_.partition = turns_.front();
  const auto copied = core_.CopyLeaving(leaving_, options_.rows_a_step, log_.next_index());
  turn_goes_on_ = copied == ShardCore::Copied::kMore;
  if (const size_t bytes = std::exchange(leaving_.leaving_bytes, 0); bytes > 0) {
    pending_[leaving_.partition] += bytes;
  }
  const size_t rows = leaving_.rows();
  if (!turn_goes_on_ || leaving_.bytes >= FewBytes()) PutLeaving();
  if (turn_goes_on_) return rows;
  turns_.pop_front();
  all_had_turns_ |= leaving_.partition < next_turn_;  // it goes round
  next_turn_ = leaving_.partition + 1;
  if (pending_.contains(leaving_.partition)) not_flushed_.push_back(leaving_.partition);
  leaving_ = {};
  if (Planted(Bug::kLeaveBeforeFlush)) on_disk_ = std::exchange(not_flushed_, {});
  if (options_.flush_bytes > 0 && bytes_not_flushed_ >= options_.flush_bytes) FlushWhatIsWritten();
  return rows;
}

// What was copied until now of the partition whose turn it is.
void Snapshotter::PutLeaving() {
  LeavingRows rows;
  rows.partition = leaving_.partition;
  rows.pieces = std::exchange(leaving_.pieces, {});
  rows.bytes = std::exchange(leaving_.bytes, 0);
  if (rows.pieces.empty()) return;
  stats_.bytes += rows.bytes;
  bytes_not_flushed_ += rows.bytes;
  under_way_.push_back({{}, rows.bytes});
  bytes_under_way_ += rows.bytes;
  ready_.push_back({.attempt = attempt_, .leaving = std::move(rows), .log = log_.disk()});
}

void Snapshotter::EndTurns(TimePoint now) {
  leaves_ = false;
  copies_first_ = true;
  if (!not_flushed_.empty()) FlushWhatIsWritten();
  const bool all = turns_.empty();
  turns_.clear();
  if (!all || !core_.IsShortOfMemory(LeavingBytes())) return;
  // What takes the room cannot leave so.
  in_vain_ = phase_ == Phase::kIdle;
  not_for_room_before_ = now + kBetweenRoundsForRoom;
}

// ---- rounds

size_t Snapshotter::Copy() {
  if (to_copy_.empty()) {
    EndRound();
    return 0;
  }
  if (!current_.begun && !ChooseNext()) return 0;
  current_.partition = to_copy_.front();
  auto copied = core_.CopyChanged(current_, options_.rows_a_step);
  if (copied == ShardCore::Copied::kMore) return options_.rows_a_step;
  // Of this moment: all records before the next are in.
  const uint64_t index = log_.next_index() - (Planted(Bug::kStateAfterMark) ? 1 : 0);
  if (copied == ShardCore::Copied::kAll) copied = core_.FinishSnapshot(current_, index);
  to_copy_.pop_front();
  copies_first_ = false;
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
  if (core_.evicting()) pending_[done.partition] = done.bytes / 2;  // about as many rows leave
  size_t rows = 0;
  for (const ChangedRows& changed : done.rows) rows += changed.keys.size();
  under_way_.push_back({{}, done.bytes});
  bytes_under_way_ += done.bytes;
  ready_.push_back({.attempt = attempt_, .partition = std::move(done)});
  if (Planted(Bug::kLeaveBeforeFlush) && core_.evicting()) on_disk_ = std::exchange(not_flushed_, {});
  if (options_.flush_bytes > 0 && bytes_not_flushed_ >= options_.flush_bytes) FlushWhatIsWritten();
  return rows;
}

// Of those that are not on their way to the disk already: what is there when their rows leave must be all of them.
bool Snapshotter::ChooseNext() {
  const auto next = std::ranges::find_if(to_copy_, [this](uint32_t p) { return !pending_.contains(p); });
  waits_ = next == to_copy_.end();
  if (waits_ && !not_flushed_.empty()) FlushWhatIsWritten();
  if (!waits_) std::swap(*next, to_copy_.front());
  return !waits_;
}

void Snapshotter::FlushWhatIsWritten() {
  ready_.push_back({.attempt = attempt_, .flush_only = true});
  under_way_.push_back({std::exchange(not_flushed_, {}), 0});
  bytes_not_flushed_ = 0;
}

void Snapshotter::EndRound() {
  SnapshotWork end{.attempt = attempt_, .log = log_.disk(), .kept_partitions = core_.StoredPartitions()};
  // A partition that has gone since its turn is in none of the images: should the log lose the record of that with the
  // power, the round must know.
  if (core_.last_config().config().generation() != config_written_) end.config = core_.last_config();
  end.end.set_end(log_.next_index());
  end.end.set_begin(begin_.index);
  *end.end.mutable_config() = begin_.config;
  ready_.push_back(std::move(end));
  under_way_.push_back({std::exchange(not_flushed_, {}), 0, /*ends_round=*/true});
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
  waits_ = false;
  const UnderWay done = std::move(under_way_.front());
  under_way_.pop_front();
  bytes_under_way_ -= done.bytes;
  if (!status && phase_ != Phase::kFailing) {
    ++stats_.failures;
    phase_ = Phase::kFailing;
    for (; !ready_.empty(); ready_.pop_back(), under_way_.pop_back()) bytes_under_way_ -= under_way_.back().bytes;
    current_ = {};
    to_copy_.clear();
    not_flushed_.clear();
    bytes_not_flushed_ = 0;
    on_disk_.clear();
    leaves_ = turn_goes_on_ = false;
    turns_.clear();
    leaving_ = {};
    pending_.clear();
    // What of them is in the store, nobody knows.
    for (const uint32_t p : core_.StoredPartitions()) core_.SetStored(p, false);
  }
  if (phase_ == Phase::kFailing) {
    if (!under_way_.empty()) return;
    phase_ = Phase::kIdle;
    ++attempt_;
    not_before_ = now + options_.retry_after;
    logged_at_begin_ = 0;  // it is as overdue as it was
    return;
  }
  if (core_.evicting()) on_disk_.insert(on_disk_.end(), done.flushes.begin(), done.flushes.end());
  if (!done.ends_round) return;  // what leaves may be under way behind it
  phase_ = Phase::kIdle;
  ++stats_.rounds;
  stats_.last = now - begun_at_;
  stats_.last_bytes = bytes_of_round_;
  if (on_disk_.empty()) core_.EndEviction(LeavingBytes());
  not_for_room_before_ = now + kBetweenRoundsForRoom;
  // What cannot be removed now can be after the next round.
  (void)log_.TrimTo(begin_.index);
}

}  // namespace sheaf
