#include "cli/trace_collector.h"

#include <algorithm>
#include <cstdio>

#include "cli/atomic_file.h"
#include "cli/terminal.h"
#include "cli/trace_shares.h"
#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

constexpr Duration kAnswerDeadline = std::chrono::seconds(10);
constexpr Duration kLastReports = Milliseconds(500);  // members report every 200 ms
constexpr size_t kWriteBytes = 1 << 20;

struct KindText {
  const char* name;
  const char* a;  // what the numbers are
  const char* b;
  enum { kSlice, kAsync, kInstant } form;  // async: several of them may be under way at once
};
KindText TextOf(pb::SpanKind kind) {
  switch (kind) {
    case pb::READ:
      return {"read", "range", "rows", KindText::kSlice};
    case pb::BATCHES:
      return {"make batches", "range", "batches", KindText::kSlice};
    case pb::PULL:
      return {"pull", "range", "batch", KindText::kAsync};
    case pb::COMPUTE:
      return {"compute", "range", "batch", KindText::kSlice};
    case pb::PUSH:
      return {"push", "range", "batch", KindText::kAsync};
    case pb::WAIT:
      return {"wait", "cause", nullptr, KindText::kSlice};
    case pb::SERVE_PULL:
      return {"pull", "lane", "clock", KindText::kSlice};
    case pb::SERVE_PUSH:
      return {"push", "lane", "clock", KindText::kSlice};
    case pb::PARKED:
      return {"parked pull", "lane", "clock", KindText::kAsync};
    case pb::LEASE:
      return {"lease", "range", "node", KindText::kInstant};
    case pb::PASS:
      return {"pass", "kind", "number", KindText::kInstant};
    case pb::SPAN_UNKNOWN:
      break;
  }
  return {"unknown", "a", "b", KindText::kSlice};
}

const char* CauseName(uint64_t cause) {
  switch (cause) {
    case pb::FOR_LEASE:
      return "wait for a lease";
    case pb::FOR_DATA:
      return "wait for data";
    case pb::FOR_PULL:
      return "wait for a pull";
    case pb::FOR_PUSH:
      return "wait for pushes";
    default:
      return "wait";
  }
}

std::string NameOf(const Span& span) {
  if (span.kind == pb::WAIT) return CauseName(span.a);
  if (span.kind == pb::PASS && pb::PassKind_IsValid(static_cast<int>(span.a))) {
    return "pass: " + ToLower(pb::PassKind_Name(static_cast<pb::PassKind>(span.a)));
  }
  return TextOf(span.kind).name;
}

std::string TrackName(pb::Role role, uint32_t track) {
  if (role == pb::WORKER) return track == 0 ? "loop" : "reader";
  if (role == pb::SERVER && track > 0) return StrCat("shard ", track - 1);
  return "control";
}

// Microseconds, as the format wants them, to the nanosecond.
std::string Microseconds(Duration time) { return FormatFixed(static_cast<double>(time.count()) / 1000, 3); }

// The events of one span; `id` tells apart those that overlap.
std::string EventsOf(const Span& span, size_t process, size_t id, Duration since_start) {
  const KindText text = TextOf(span.kind);
  const std::string common = StrCat("\"name\":\"", NameOf(span), "\",\"cat\":\"", text.name, "\",\"pid\":", process,
                                    ",\"tid\":", span.track, ",\"ts\":");
  std::string args = StrCat(",\"args\":{\"", text.a, "\":", span.a);
  if (text.b != nullptr) args += StrCat(",\"", text.b, "\":", span.b);
  args += "}";
  switch (text.form) {
    case KindText::kInstant:
      return StrCat("{\"ph\":\"i\",\"s\":\"g\",", common, Microseconds(since_start), args, "}");
    case KindText::kAsync:
      return StrCat("{\"ph\":\"b\",\"id\":", id, ",", common, Microseconds(since_start), args,
                    "},\n{\"ph\":\"e\",\"id\":", id, ",", common, Microseconds(since_start + span.length), "}");
    case KindText::kSlice:
      break;
  }
  return StrCat("{\"ph\":\"X\",", common, Microseconds(since_start), ",\"dur\":", Microseconds(span.length), args, "}");
}

std::string Share(double part, double whole) { return whole > 0 ? FormatFixed(100 * part / whole, 1) + " %" : "-"; }

}  // namespace

Status TraceCollector::Ask(BlockingClient& client, bool end) {
  for (bool more = true; more;) {
    Message request;
    request.header.mutable_get_trace()->set_after(after_);
    request.header.mutable_get_trace()->set_token(token_);
    request.header.mutable_get_trace()->set_end(end);
    SHEAF_ASSIGN_OR_RETURN(const Message answer, client.Ask(std::move(request), kAnswerDeadline));
    if (!answer.header.has_trace())
      return Fail(ErrorCode::kDataLoss, "the scheduler answered something else than a trace");
    Take(answer.header.trace());
    more = answer.header.trace().more();
  }
  return {};
}

Status TraceCollector::Finish(BlockingClient& client, const Watch& watch) {
  SHEAF_RETURN_IF_ERROR(watch.Sleep(kLastReports));
  return Ask(client, /*end=*/true);
}

void TraceCollector::Take(const pb::TraceReply& reply) {
  after_ = reply.last();
  boot_ = reply.boot();
  dropped_parts_ = reply.dropped_parts();
  for (const pb::TraceReply::Part& part : reply.part()) {
    Process& process = processes_[part.process()];
    process.role = part.role();
    process.boot = part.spans().boot();
    if (part.spans().has_clock_error_ns() && part.spans().clock_error_ns() <= process.error_ns) {
      process.error_ns = part.spans().clock_error_ns();
      process.offset_ns = part.spans().clock_offset_ns();
    }
    dropped_ += part.spans().dropped();
    const auto count = static_cast<size_t>(part.spans().kind_size());
    if (span_count_ + count > most_spans_ || !TakeSpans(part.spans(), process.spans)) {
      dropped_ += count;
      continue;
    }
    span_count_ += count;
  }
}

Duration TraceCollector::OffsetOf(const Process& process) const {
  return process.boot == boot_ || process.error_ns == ~uint64_t{0} ? Duration::zero() : Duration(process.offset_ns);
}

Status TraceCollector::Write(const std::string& path) const {
  SHEAF_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  TimePoint start = TimePoint::max();
  for (const auto& [name, process] : processes_) {
    for (const Span& span : process.spans) start = std::min(start, span.begin + OffsetOf(process));
  }
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* comma = "\n";
  const auto add = [&](const std::string& event) {
    text += std::exchange(comma, ",\n");
    text += event;
  };
  size_t number = 0, id = 0;
  for (const auto& [name, process] : processes_) {
    ++number;
    add(StrCat("{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":", number, ",\"args\":{\"name\":\"", name, "\"}}"));
    std::vector<uint32_t> tracks;
    for (const Span& span : process.spans) {
      if (std::find(tracks.begin(), tracks.end(), span.track) == tracks.end()) tracks.push_back(span.track);
    }
    for (const uint32_t track : tracks) {
      add(StrCat("{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":", number, ",\"tid\":", track,
                 ",\"args\":{\"name\":\"", TrackName(process.role, track), "\"}}"));
    }
    for (const Span& span : process.spans) {
      add(EventsOf(span, number, ++id, span.begin + OffsetOf(process) - start));
      if (text.size() < kWriteBytes) continue;
      SHEAF_RETURN_IF_ERROR(file.Write(std::string_view(text)));
      text.clear();
    }
  }
  text += StrCat("\n],\"otherData\":{\"dropped_spans\":", dropped_, ",\"dropped_parts\":", dropped_parts_, "}}\n");
  SHEAF_RETURN_IF_ERROR(file.Write(std::string_view(text)));
  return file.Commit();
}

std::string TraceCollector::Summary() const {
  std::vector<std::vector<std::string>> rows = {
      {"WORKER", "SECONDS", "COMPUTE", "IDLE", "LEASE", "DATA", "PULL", "PUSH", "PULLS HIDDEN", "PUSHES HIDDEN"}};
  for (const auto& [name, process] : processes_) {
    if (process.role != pb::WORKER) continue;
    const WorkerShares shares = SharesOf(process.spans);
    std::vector<std::string> row{name, FormatFixed(shares.total, 2), Share(shares.compute, shares.total),
                                 Share(shares.idle(), shares.total)};
    for (const pb::WaitCause cause : {pb::FOR_LEASE, pb::FOR_DATA, pb::FOR_PULL, pb::FOR_PUSH}) {
      row.push_back(Share(shares.wait[static_cast<size_t>(cause)], shares.total));
    }
    row.push_back(Share(shares.pulls_hidden, shares.pulls));
    row.push_back(Share(shares.pushes_hidden, shares.pushes));
    rows.push_back(std::move(row));
  }
  std::string text = AlignedTable(rows);
  if (dropped_ + dropped_parts_ > 0) {
    text += StrCat("not in the trace: ", dropped_, " spans and ", dropped_parts_, " reports that found no room\n");
  }
  return text;
}

}  // namespace sheaf::cli
