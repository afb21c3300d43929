// How long a shard's disk takes, told by the shard's thread and read by others; and whether that is too long.
//
// DiskWatch: thread-safe. DiskHealth: a state machine without I/O or clock, not thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "common/runtime/clock.h"
#include "common/storage/redo_log.h"

namespace sheaf {

class DiskWatch {
 public:
  // By the thread that writes.
  void Begin(TimePoint now) { began_.store(now.time_since_epoch().count(), std::memory_order_release); }
  void End(TimePoint now);

  // How long the write that is under way takes already; zero: there is none.
  Duration Waiting(TimePoint now) const;
  Duration average() const { return Duration(average_.load(std::memory_order_relaxed)); }  // of the latest writes
  uint64_t writes() const { return writes_.load(std::memory_order_relaxed); }

 private:
  static constexpr int64_t kIdle = -1;
  std::atomic<int64_t> began_ = kIdle;
  std::atomic<int64_t> average_ = 0;
  std::atomic<uint64_t> writes_ = 0;
};

// A disk is slow when its writes take too long for a while, and sound again when they do not, or when nothing was
// written for a while: who is asked for nothing any more cannot show that it is better. That while doubles each time it
// turns out to be slow again, so that partitions do not go to and fro.
class DiskHealth {
 public:
  static constexpr Duration kTooLong = Milliseconds(100);
  static constexpr Duration kShortAgain = Milliseconds(50);
  static constexpr Duration kFor = std::chrono::seconds(5);
  static constexpr Duration kQuietFor = std::chrono::seconds(20);
  static constexpr Duration kLongestQuiet = std::chrono::minutes(10);

  // `average`: of the latest of so many `writes`; `waiting`: that the one under way has taken.
  void OnTick(Duration average, Duration waiting, uint64_t writes, TimePoint now);
  bool slow() const { return slow_; }

 private:
  bool slow_ = false;
  TimePoint since_{};            // it has been so as it is now, but for the other way round
  bool has_since_ = false;
  uint64_t writes_ = 0;
  TimePoint last_write_{};
  Duration quiet_for_ = kQuietFor;
};

// A log whose commits are watched.
std::unique_ptr<RedoLog> WatchLog(std::unique_ptr<RedoLog> log, const Clock& clock, DiskWatch& watch);

}  // namespace sheaf
