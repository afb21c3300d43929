// sheaf submit: gives a job to a running cluster.
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/export_model.h"
#include "cli/follow.h"
#include "cli/job_file.h"
#include "cli/report.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

int Submit(const Args& args) {
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const bool follow = args.Flag("follow") || args.Given("report");
  if (args.Given("report")) {
    if (const Status writable = CheckOutputPath(args.Text("report")); !writable) return Complain(writable.error());
  }
  auto job = LoadJobFile(args.operands()[0], JobEnvironment(environ), args.List("set"));
  if (!job) return ComplainOfJob(job.error());

  const SystemClock clock;
  const TimePoint began = clock.Now();
  const Watch watch = WatchSignals(**signals);
  ZmqContext context;
  auto client = ConnectTo(context, SchedulerAddress(args), Timeout(args), watch);
  if (!client) return Complain(client.error());
  const auto id = (*client)->SubmitJob(job->spec);
  if (!id) return Complain(id.error());
  if (!follow) {
    std::printf("%llu\n", static_cast<unsigned long long>(id->value));
    return kExitOk;
  }
  std::fprintf(stderr, "job %llu\n", static_cast<unsigned long long>(id->value));
  const auto last = Follow(**client, *id, watch, {});
  if (!last && last.error().code == ErrorCode::kCancelled) {
    return Complain(kExitInterrupted, "no longer following; job " + std::to_string(id->value) +
                                          " goes on (sheaf cancel " + std::to_string(id->value) + " ends it)");
  }
  if (!last) return Complain(last.error());
  RunFacts facts;
  facts.wall_seconds = ToSeconds(clock.Now() - began);
  if (const auto status = (*client)->GetStatus(JobId(0))) {
    for (const pb::NodeStatus& node : status->node()) {
      facts.servers += node.role() == pb::SERVER && node.state() == "alive";
      facts.workers += node.role() == pb::WORKER && node.state() == "alive";
    }
  }
  std::fputs(args.Text("output") == "json" ? ReportJson(*last, facts).c_str() : ReportTable(*last, facts).c_str(),
             stdout);
  if (args.Given("report")) {
    if (const Status written = WriteReport(args.Text("report"), *last, facts); !written)
      return Complain(written.error());
  }
  if (last->phase() == pb::FINISHED) return kExitOk;
  return Complain(kExitFailed,
                  "job " + std::to_string(id->value) + " " + PhaseName(last->phase()) + ": " + last->detail());
}

}  // namespace

Command SubmitCommand() {
  CommandLine line{.name = "sheaf submit",
                   .operands = "JOB.textproto",
                   .summary = "gives a job to a running cluster",
                   .least_operands = 1,
                   .most_operands = 1};
  line.options = {SetOption(),
                  {.name = "follow", .kind = Option::kFlag, .help = "shows progress until the job ends"},
                  {.name = "report", .value_name = "FILE", .help = "follows, and writes the outcome as JSON"},
                  SchedulerOption(),
                  TimeoutOption(),
                  OutputOption()};
  line.notes = "Prints the job's number. Data paths are relative to the workers' --data.\n";
  return {std::move(line), Submit};
}

}  // namespace sheaf::cli
