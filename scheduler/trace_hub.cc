#include "scheduler/trace_hub.h"

#include <algorithm>
#include <utility>

#include "common/runtime/host_id.h"

namespace sheaf {

Result<pb::TraceReply> TraceHub::OnGetTrace(const pb::GetTrace& request, TimePoint now) {
  if (on(now) && request.token() != token_) {
    return Fail(ErrorCode::kAlreadyExists, "somebody else traces this cluster: wait until that trace is over");
  }
  if (!on(now) || request.after() == 0) {
    // A new trace begins with nothing of an old one. (Asked twice for the first part: neither has told anything yet.)
    if (request.token() != token_) {
      held_.clear();
      marks_.clear();
      bytes_ = dropped_ = 0;
    }
    token_ = request.token();
  }
  until_ = request.end() ? now : now + options_.goes_on;
  while (!held_.empty() && held_.front().number <= request.after()) {
    bytes_ -= held_.front().bytes;
    held_.pop_front();
  }
  TakeMarks(now);
  pb::TraceReply reply;
  reply.set_last(std::max<uint64_t>(request.after(), 1));
  reply.set_dropped_parts(dropped_);
  reply.set_boot(BootId());
  size_t bytes = 0;
  for (const Held& held : held_) {
    if (bytes > 0 && bytes + held.bytes > options_.answer_bytes) {
      reply.set_more(true);
      break;
    }
    bytes += held.bytes;
    *reply.add_part() = held.part;
    reply.set_last(held.number);
  }
  return reply;
}

uint32_t TraceHub::LeftMs(TimePoint now) const {
  return on(now) ? static_cast<uint32_t>((until_ - now + Milliseconds(1)) / Milliseconds(1)) : 0;
}

void TraceHub::Take(const std::string& process, pb::Role role, pb::TraceSpans spans, TimePoint now) {
  // What was recorded before the end may come after it; the tracer asks once more.
  if (token_ == 0 || now >= until_ + options_.goes_on) return;
  const size_t bytes = spans.ByteSizeLong() + process.size();
  if (bytes_ + bytes > options_.most_bytes) {
    ++dropped_;
    return;
  }
  bytes_ += bytes;
  Held& held = held_.emplace_back(Held{++next_number_, bytes, {}});
  held.part.set_process(process);
  held.part.set_role(role);
  held.part.mutable_spans()->Swap(&spans);
}

void TraceHub::Mark(pb::SpanKind kind, uint64_t a, uint64_t b, TimePoint now) {
  constexpr size_t kMostMarks = 1 << 14;
  if (!on(now)) return;
  if (marks_.size() == kMostMarks) TakeMarks(now);
  marks_.push_back({kind, 0, now, Duration::zero(), a, b});
}

void TraceHub::TakeMarks(TimePoint now) {
  if (marks_.empty()) return;
  pb::TraceSpans spans;
  AppendSpans(marks_, spans);
  marks_.clear();
  spans.set_boot(BootId());
  spans.set_clock_offset_ns(0);
  spans.set_clock_error_ns(0);
  Take("scheduler", pb::SCHEDULER, std::move(spans), now);
}

}  // namespace sheaf
