// sheaf export: a job's parameters as a file.
#include <cstdio>

#include "cli/commands.h"
#include "cli/export_model.h"
#include "cli/report.h"
#include "common/base/strings.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

int Export(const Args& args) {
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const auto id = ParseJobId(args.operands()[0]);
  if (!id) return Complain(kExitUsage, id.error().message);
  const std::string& path = args.operands()[1];
  if (const Status writable = CheckOutputPath(path); !writable) return Complain(writable.error());
  const Watch watch = WatchSignals(**signals);
  ZmqContext context;
  auto client = ConnectTo(context, SchedulerAddress(args), Timeout(args), watch);
  if (!client) return Complain(client.error());
  const auto status = (*client)->GetStatus(*id);
  if (!status) return Complain(status.error());
  if (status->job().empty()) return Complain(kExitNotFound, StrCat("no job ", *id));
  const pb::JobStatus& job = status->job(0);
  if (job.phase() != pb::FINISHED && !args.Flag("unfinished")) {
    return Complain(kExitFailed, StrCat("job ", *id, " (", job.name(), ") is ", PhaseName(job.phase()),
                                        ", not finished: --unfinished exports its parameters as they are"));
  }
  const auto exported = ExportModel(**client, job.brief(), path);
  if (!exported) return Complain(exported.error());
  std::printf("%s: %s rows, %s\n", path.c_str(), FormatCount(exported->rows).c_str(),
              FormatBytes(exported->bytes).c_str());
  return kExitOk;
}

}  // namespace

Command ExportCommand() {
  CommandLine line{.name = "sheaf export",
                   .operands = "JOB FILE.safetensors",
                   .summary = "writes a job's model to a file",
                   .least_operands = 2,
                   .most_operands = 2};
  line.options = {
      {.name = "unfinished", .kind = Option::kFlag, .help = "also of a job that still runs, failed or was cancelled"},
      SchedulerOption(),
      TimeoutOption()};
  return {std::move(line), Export};
}

}  // namespace sheaf::cli
