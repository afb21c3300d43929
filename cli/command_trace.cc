// sheaf trace: who does what when, in a running cluster, as a file for Perfetto or chrome://tracing.
#include <cstdio>

#include "cli/commands.h"
#include "cli/export_model.h"
#include "cli/trace_collector.h"
#include "cli/watch.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

constexpr Duration kPollEvery = Milliseconds(200);

// Until the time is over, the job is, or somebody interrupts, which ends the trace but does not lose it.
Status Collect(const Args& args, BlockingClient& client, JobId job, const Watch& watch, TraceCollector& trace) {
  const SystemClock clock;
  const TimePoint end =
      clock.Now() + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(args.Number("seconds")));
  SHEAF_RETURN_IF_ERROR(trace.Poll(client));
  std::fprintf(stderr, "recording for %s s at most; Ctrl-C ends it and keeps what there is\n",
               args.Text("seconds").c_str());
  while (clock.Now() < end) {
    SHEAF_RETURN_IF_ERROR(trace.Poll(client));
    if (job.value != 0) {
      SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, client.GetStatus(job));
      for (const pb::JobStatus& each : status.job()) {
        if (each.job() == job.value && each.phase() >= pb::FINISHED) return trace.Finish(client, watch);
      }
    }
    SHEAF_RETURN_IF_ERROR(watch.Sleep(std::min<Duration>(kPollEvery, end - clock.Now())));
  }
  return trace.Finish(client, watch);
}

int Trace(const Args& args) {
  if (const Status writable = CheckOutputPath(args.Text("output")); !writable) return Complain(writable.error());
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const Watch watch = WatchSignals(**signals);
  JobId job;
  if (args.Given("job")) {
    const auto id = ParseJobId(args.Text("job"));
    if (!id) return Complain(kExitUsage, id.error().message);
    job = *id;
  }
  ZmqContext context;
  auto client = ConnectTo(context, SchedulerAddress(args), Timeout(args), watch);
  if (!client) return Complain(client.error());
  TraceCollector trace;
  const Status collected = Collect(args, **client, job, watch, trace);
  if (!collected && collected.error().code != ErrorCode::kCancelled) return Complain(collected.error());
  if (const Status written = trace.Write(args.Text("output")); !written) return Complain(written.error());
  std::fputs(trace.Summary().c_str(), stdout);
  return collected ? kExitOk : kExitInterrupted;
}

}  // namespace

Command TraceCommand() {
  return {{.name = "sheaf trace",
           .summary = "records who does what when, for Perfetto",
           .options = {{.name = "output",
                        .value_name = "FILE",
                        .fallback = "trace.json",
                        .help = "where the trace goes: Chrome trace JSON",
                        .letter = 'o'},
                       {.name = "seconds",
                        .kind = Option::kNumber,
                        .value_name = "N",
                        .fallback = "5",
                        .help = "for how long, at most",
                        .least = 0.1,
                        .most = 3600},
                       {.name = "job", .value_name = "JOB", .help = "ends with this job"},
                       SchedulerOption(),
                       TimeoutOption()},
           .notes = "Ctrl-C ends the trace and writes what there is.\n"},
          Trace};
}

}  // namespace sheaf::cli
