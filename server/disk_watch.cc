#include "server/disk_watch.h"

#include <algorithm>
#include <utility>

namespace sheaf {

void DiskWatch::End(TimePoint now) {
  const int64_t taken = now.time_since_epoch().count() - began_.exchange(kIdle, std::memory_order_acq_rel);
  const int64_t average = average_.load(std::memory_order_relaxed);
  // What takes long counts at once: ten writes of a second each are not to be waited for to know it.
  average_.store(average + (taken - average) / (taken > average ? 2 : 8), std::memory_order_relaxed);
  writes_.fetch_add(1, std::memory_order_relaxed);
}

Duration DiskWatch::Waiting(TimePoint now) const {
  const int64_t began = began_.load(std::memory_order_acquire);
  return began == kIdle ? Duration::zero() : std::max(Duration::zero(), now - TimePoint(Duration(began)));
}

void DiskHealth::OnTick(Duration average, Duration waiting, uint64_t writes, TimePoint now) {
  const bool wrote = writes != std::exchange(writes_, writes) || waiting > kTooLong;
  const Duration taken = std::max(average, waiting);
  if (wrote) last_write_ = now;
  if (slow_ && now - last_write_ >= quiet_for_) {
    slow_ = has_since_ = false;
    quiet_for_ = std::min(2 * quiet_for_, kLongestQuiet);
    return;
  }
  const bool turns = slow_ ? wrote && taken < kShortAgain : wrote && taken > kTooLong;
  if (!turns) {
    if (wrote) has_since_ = false;
    return;
  }
  if (!std::exchange(has_since_, true)) since_ = now;
  if (now - since_ < kFor) return;
  slow_ = !slow_;
  has_since_ = false;
  if (!slow_) quiet_for_ = kQuietFor;
}

namespace {

class WatchedLog final : public RedoLog {
 public:
  WatchedLog(std::unique_ptr<RedoLog> log, const Clock& clock, DiskWatch& watch)
      : log_(std::move(log)), clock_(clock), watch_(watch) {}

  uint64_t Append(std::vector<Buffer> pieces) override { return log_->Append(std::move(pieces)); }
  Status Commit(Durability level) override {
    watch_.Begin(clock_.Now());
    Status done = log_->Commit(level);
    watch_.End(clock_.Now());
    return done;
  }
  std::shared_ptr<RedoLogDisk> disk() override { return log_->disk(); }
  Status Replay(uint64_t from, const Taker& take) override { return log_->Replay(from, take); }
  void BeginAnew() override { log_->BeginAnew(); }
  Status TrimTo(uint64_t index) override { return log_->TrimTo(index); }
  uint64_t first_index() const override { return log_->first_index(); }
  uint64_t next_index() const override { return log_->next_index(); }
  uint64_t bytes() const override { return log_->bytes(); }

 private:
  const std::unique_ptr<RedoLog> log_;
  const Clock& clock_;
  DiskWatch& watch_;
};

}  // namespace

std::unique_ptr<RedoLog> WatchLog(std::unique_ptr<RedoLog> log, const Clock& clock, DiskWatch& watch) {
  if (log == nullptr) return log;
  return std::make_unique<WatchedLog>(std::move(log), clock, watch);
}

}  // namespace sheaf
