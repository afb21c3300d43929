// sheaf validate: checks a job file without running it.
#include <google/protobuf/text_format.h>
#include <unistd.h>

#include <cstdio>

#include "cli/commands.h"
#include "cli/job_file.h"

namespace sheaf::cli {
namespace {

int Validate(const Args& args) {
  const auto job = LoadJobFile(args.operands()[0], JobEnvironment(environ), args.List("set"));
  if (!job) return ComplainOfJob(job.error());
  if (!args.Flag("print")) {
    std::printf("%s: job \"%s\" is well formed\n", args.operands()[0].c_str(), job->spec.name().c_str());
    return kExitOk;
  }
  std::string text;
  if (!google::protobuf::TextFormat::PrintToString(job->spec, &text))
    return Complain(kExitBug, "the job cannot be printed");
  std::fputs(text.c_str(), stdout);
  return kExitOk;
}

}  // namespace

Command ValidateCommand() {
  return {
      {.name = "sheaf validate",
       .operands = "JOB.textproto",
       .summary = "checks a job file",
       .least_operands = 1,
       .most_operands = 1,
       .options = {SetOption(), {.name = "print", .kind = Option::kFlag, .help = "prints the job as it would be run"}}},
      Validate};
}

}  // namespace sheaf::cli
