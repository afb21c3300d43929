// The subcommands of `sheaf`. Each is one file, command_NAME.cc.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/args.h"
#include "cli/complain.h"
#include "cli/watch.h"
#include "client/blocking_client.h"
#include "common/runtime/clock.h"

namespace sheaf::cli {

struct Command {
  CommandLine line;                     // line.name is "sheaf run"
  std::function<int(const Args&)> run;  // answers the exit status
  std::string word() const { return line.name.substr(line.name.find(' ') + 1); }
};

Command RunCommand();
Command SubmitCommand();
Command TraceCommand();
Command StatusCommand();
Command JobsCommand();
Command CancelCommand();
Command NodeCommand();
Command CheckpointCommand();
Command ExportCommand();
Command PredictCommand();
Command BenchCommand();
Command ChaosCommand();
Command ValidateCommand();
Command DatagenCommand();
Command VersionCommand();

// In the order of the help text.
std::vector<Command> AllCommands();
// Finds the subcommand and runs it: all that main does.
int RunCommandLine(int argc, const char* const* argv);

// ---- options that several commands have ----------------------------------------------------------------------------

Option SchedulerOption();  // --scheduler ADDRESS
Option TimeoutOption();    // --timeout SECONDS: of the scheduler's silence
Option OutputOption(std::vector<std::string> formats = {"table", "json"});  // -o, --output
Option SetOption();                                                         // --set FIELD=VALUE

Option CheckpointDirOption();                                               // --checkpoint_dir DIR

// --checkpoint_dir, else SHEAF_CHECKPOINT_DIR, else empty.
std::string CheckpointFolder(const Args& args);
// --scheduler, else SHEAF_SCHEDULER, else the default.
std::string SchedulerAddress(const Args& args);
Duration Timeout(const Args& args);
// Reaches the scheduler; waits of the client look at `watch`.
Result<std::unique_ptr<BlockingClient>> ConnectTo(ZmqContext& context, const std::string& address, Duration timeout,
                                                  const Watch& watch);
// A job number as people write it: 3 or job-3.
Result<JobId> ParseJobId(const std::string& text);

// Where relative data paths start: --data, else SHEAF_DATA, else the folder `data` beside the job file, else the job
// file's own folder. Absolute.
std::string DataFolder(const Args& args, const std::string& job_path);
// Prints the wrong job file's problems; the status is 78, or 3 if there is no such file.
int ComplainOfJob(const Error& error);

}  // namespace sheaf::cli
