// What a process did when, while somebody asks for it: a bounded list of spans, filled by its threads and emptied into
// reports.
//
// Off, which is nearly always, a span costs one relaxed load and a branch. On, it takes a lock that is held for a few
// instructions; what finds no room is dropped and counted. The scheduler's orders turn it on for a while at a time, so
// it ends by
// itself when nobody traces any more.
// Thread-safety: any thread may add spans; the rest belongs to the thread that talks to the scheduler.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "common/runtime/clock.h"
#include "proto/control.pb.h"

namespace sheaf {

struct Span {
  pb::SpanKind kind = pb::SPAN_UNKNOWN;
  uint32_t track = 0;
  TimePoint begin;
  Duration length{};
  uint64_t a = 0, b = 0;
};

class TraceLog {
 public:
  static constexpr size_t kMostSpans = 1 << 15;  // between two reports; 48 bytes each, only while tracing

  // The clock is read when a span begins or ends, several times a turn; it must outlive the log.
  explicit TraceLog(const Clock& clock, size_t most_spans = kMostSpans) : clock_(clock), most_spans_(most_spans) {}

  bool on() const { return on_.load(std::memory_order_relaxed); }
  TimePoint Now() const { return clock_.Now(); }
  // When something begins that may become a span; the epoch while off.
  TimePoint Begin() const { return on() ? clock_.Now() : TimePoint(); }
  // What began at `begin` ends now. Not recorded if tracing was off when it began.
  void End(pb::SpanKind kind, uint32_t track, TimePoint begin, uint64_t a, uint64_t b) {
    if (on() && begin != TimePoint()) Add({kind, track, begin, clock_.Now() - begin, a, b});
  }
  void Add(const Span& span);

  // What the scheduler's orders say: trace for so long (0: no longer). `sent` and `now`: when the report went that they
  // answer,
  // and now; `scheduler_ns`: the scheduler's clock in between.
  void Follow(uint32_t trace_ms, uint64_t scheduler_ns, TimePoint sent, TimePoint now);
  // Ends what has gone on for as long as it should.
  void OnTick(TimePoint now);
  // Moves the spans into a report's field; false if there is nothing to tell.
  bool Drain(pb::TraceSpans& out);

 private:
  const Clock& clock_;
  const size_t most_spans_;
  std::atomic<bool> on_{false};
  TimePoint until_;
  Duration offset_{}, error_ = Duration::max();  // of the scheduler's clock

  std::mutex mutex_;  // guards the two below
  std::vector<Span> spans_;
  uint64_t dropped_ = 0;
};

// Spans as the wire has them.
void AppendSpans(const std::vector<Span>& spans, pb::TraceSpans& out);
// And back; false if the lists do not fit together.
bool TakeSpans(const pb::TraceSpans& in, std::vector<Span>& out);

}  // namespace sheaf
