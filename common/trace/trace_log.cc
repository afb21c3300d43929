#include "common/trace/trace_log.h"

#include <utility>

#include "common/runtime/host_id.h"

namespace sheaf {

void TraceLog::Add(const Span& span) {
  const std::lock_guard lock(mutex_);
  if (spans_.size() < most_spans_) {
    spans_.push_back(span);
  } else {
    ++dropped_;
  }
}

void TraceLog::Follow(uint32_t trace_ms, uint64_t scheduler_ns, TimePoint sent, TimePoint now) {
  if (trace_ms == 0) {
    on_.store(false, std::memory_order_relaxed);
    return;
  }
  until_ = now + Milliseconds(trace_ms);
  on_.store(true, std::memory_order_relaxed);
  // Cristian's algorithm: the scheduler's clock was read somewhere between `sent` and `now`, at best in the middle.
  if (scheduler_ns == 0 || now < sent || (now - sent) / 2 >= error_) return;
  error_ = (now - sent) / 2;
  offset_ = Duration(static_cast<int64_t>(scheduler_ns)) - (sent + error_).time_since_epoch();
}

void TraceLog::OnTick(TimePoint now) {
  if (on() && now >= until_) on_.store(false, std::memory_order_relaxed);
}

bool TraceLog::Drain(pb::TraceSpans& out) {
  std::vector<Span> spans;
  {
    const std::lock_guard lock(mutex_);
    spans.swap(spans_);
    out.set_dropped(std::exchange(dropped_, 0));
  }
  if (spans.empty() && out.dropped() == 0) return false;
  AppendSpans(spans, out);
  out.set_boot(BootId());
  if (error_ != Duration::max()) {
    out.set_clock_offset_ns(offset_.count());
    out.set_clock_error_ns(static_cast<uint64_t>(error_.count()));
  }
  return true;
}

void AppendSpans(const std::vector<Span>& spans, pb::TraceSpans& out) {
  int64_t before = 0;
  for (const Span& span : spans) {
    const int64_t begin = span.begin.time_since_epoch().count();
    out.add_kind(span.kind);
    out.add_track(span.track);
    out.add_begin_ns(begin - before);
    out.add_length_ns(static_cast<uint64_t>(span.length.count()));
    out.add_a(span.a);
    out.add_b(span.b);
    before = begin;
  }
}

bool TakeSpans(const pb::TraceSpans& in, std::vector<Span>& out) {
  const int count = in.kind_size();
  if (in.track_size() != count || in.begin_ns_size() != count || in.length_ns_size() != count || in.a_size() != count ||
      in.b_size() != count) {
    return false;
  }
  uint64_t begin = 0;  // wraps round instead of overflowing: the bytes may say anything
  for (int i = 0; i < count; ++i) {
    begin += static_cast<uint64_t>(in.begin_ns(i));
    out.push_back({in.kind(i), in.track(i), TimePoint(Duration(static_cast<int64_t>(begin))),
                   Duration(static_cast<int64_t>(in.length_ns(i))), in.a(i), in.b(i)});
  }
  return true;
}

}  // namespace sheaf
