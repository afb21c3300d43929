// Time as cores see it: durations since an arbitrary start, never the wall clock.
#pragma once

#include <chrono>
#include <cstdint>

namespace sheaf {

using Duration = std::chrono::nanoseconds;
struct ClockTag {
  using duration = Duration;
};
using TimePoint = std::chrono::time_point<ClockTag, Duration>;

// Constant within one turn of an event loop: a core asks its caller, not the machine.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
};

// CLOCK_BOOTTIME: goes on while the machine is suspended, never jumps with the wall clock.
class SystemClock final : public Clock {
 public:
  TimePoint Now() const override;
};

// Moves only when told to; for tests and the simulator.
class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return now_; }
  void Advance(Duration by) { now_ += by; }
  void Set(TimePoint now) { now_ = now; }

 private:
  TimePoint now_{};
};

inline double ToSeconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
constexpr Duration Milliseconds(int64_t ms) { return std::chrono::milliseconds(ms); }

}  // namespace sheaf
