// Where the spans of all processes come together while somebody traces the cluster.
//
// Asking is what keeps a trace going: each GetTrace prolongs it by a few seconds, so a tracer that is killed leaves
// nothing switched on. What was handed out is kept until the next question shows that it has arrived, so a lost answer
// costs nothing.
// Bounded in bytes; what finds no room is dropped and counted. A state machine without I/O, owned by SchedulerCore.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/trace/trace_log.h"
#include "proto/control.pb.h"

namespace sheaf {

struct TraceHubOptions {
  Duration goes_on = std::chrono::seconds(3);  // after the last question
  size_t most_bytes = size_t{64} << 20;        // held for the tracer
  size_t answer_bytes = size_t{2} << 20;       // of one answer, unless one part alone is larger
};

class TraceHub {
 public:
  explicit TraceHub(TraceHubOptions options = {}) : options_(options) {}

  // kAlreadyExists: somebody else is tracing.
  Result<pb::TraceReply> OnGetTrace(const pb::GetTrace& request, TimePoint now);
  bool on(TimePoint now) const { return now < until_; }
  // For the orders of members: how long to trace from now on; 0: not.
  uint32_t LeftMs(TimePoint now) const;

  // What a process reported.
  void Take(const std::string& process, pb::Role role, pb::TraceSpans spans, TimePoint now);
  // What the scheduler did, at this instant.
  void Mark(pb::SpanKind kind, uint64_t a, uint64_t b, TimePoint now);

 private:
  struct Held {
    uint64_t number;
    size_t bytes;
    pb::TraceReply::Part part;
  };
  void TakeMarks(TimePoint now);

  const TraceHubOptions options_;
  uint64_t token_ = 0;
  TimePoint until_{};
  uint64_t next_number_ = 1;
  std::deque<Held> held_;
  size_t bytes_ = 0;
  uint64_t dropped_ = 0;
  std::vector<Span> marks_;
};

}  // namespace sheaf
