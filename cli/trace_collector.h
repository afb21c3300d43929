// Gathers a trace from a running cluster and writes it as a Chrome trace (trace event JSON: Perfetto,
// chrome://tracing).
//
// Times are of the scheduler's clock. Processes of one host share a clock; that of another host is set right by the
// offset it
// has measured, off by half its shortest round trip at most. Bounded in spans. Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/watch.h"
#include "client/blocking_client.h"
#include "common/trace/trace_log.h"

namespace sheaf::cli {

class TraceCollector {
 public:
  static constexpr size_t kMostSpans = 4 << 20;  // 200 MB here, about 500 MB of JSON

  explicit TraceCollector(size_t most_spans = kMostSpans) : token_(EntropySeed() | 1), most_spans_(most_spans) {}

  // Fetches what there is and keeps the trace going. kAlreadyExists or the like: somebody else traces.
  Status Poll(BlockingClient& client) { return Ask(client, /*end=*/false); }
  // Waits until all have told what they had, then ends the trace.
  Status Finish(BlockingClient& client, const Watch& watch);

  void Take(const pb::TraceReply& reply);
  bool empty() const { return span_count_ == 0; }
  // The file is there whole or not at all.
  Status Write(const std::string& path) const;
  // What the workers' time went into, a line each, and what was dropped.
  std::string Summary() const;

 private:
  struct Process {
    pb::Role role = pb::ROLE_UNKNOWN;
    std::vector<Span> spans;
    uint64_t boot = 0;
    int64_t offset_ns = 0;
    uint64_t error_ns = ~uint64_t{0};
  };
  Status Ask(BlockingClient& client, bool end);
  Duration OffsetOf(const Process& process) const;

  const uint64_t token_;
  const size_t most_spans_;
  uint64_t after_ = 0;
  uint64_t boot_ = 0;  // of the scheduler
  std::map<std::string, Process> processes_;
  size_t span_count_ = 0;
  uint64_t dropped_ = 0, dropped_parts_ = 0;
};

}  // namespace sheaf::cli
