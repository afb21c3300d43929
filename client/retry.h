// When an unanswered request is sent again, and when its peer has been silent for too long.
//
// Thread-safety: a plain value.
#pragma once

#include <algorithm>

#include "common/base/random.h"
#include "common/runtime/clock.h"

namespace sheaf {

class RetryTimer {
 public:
  RetryTimer() = default;
  RetryTimer(Duration first, Duration longest) : first_(first), longest_(longest), delay_(first) {}

  // The request leaves (again): the next sending doubles its distance, up to the longest.
  void OnSend(TimePoint now) {
    if (!sent_) heard_ = now;   // silence counts from the first sending on
    sent_ = true;
    resend_at_ = now + delay_;
    delay_ = std::min(delay_ * 2, longest_);
  }
  // The peer is alive but has no answer yet: ask again at the first distance, so that a lost answer is soon noticed.
  void OnAlive(TimePoint now) {
    heard_ = now;
    pause_ = kFirstPause;
    delay_ = first_;
    resend_at_ = now + delay_;
  }
  // The peer refused for now. The pause doubles, as every repeat brings its payload along, but is not shorter than the
  // peer asks for; `salt` spreads those of many requests over a quarter of it.
  void OnPause(TimePoint now, Duration asked, uint64_t salt) {
    heard_ = now;
    delay_ = first_;
    const Duration pause = std::min(std::max(asked, pause_), longest_);
    resend_at_ = now + pause + pause * static_cast<int64_t>(MixKey(salt) % 256) / 1024;
    pause_ = std::min(pause_ * 2, longest_);
  }

  // Time in which nobody listened is not the peer's silence.
  void Forgive(Duration gap, TimePoint now) { heard_ = std::min(now, heard_ + gap); }

  bool sent() const { return sent_; }
  TimePoint resend_at() const { return resend_at_; }
  TimePoint heard() const { return heard_; }

 private:
  static constexpr Duration kFirstPause = Milliseconds(2);

  Duration first_{};
  Duration longest_{};
  Duration delay_{};
  Duration pause_ = kFirstPause;
  TimePoint resend_at_{};
  TimePoint heard_{};
  bool sent_ = false;
};

}  // namespace sheaf
