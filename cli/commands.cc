#include "cli/commands.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>

#include "cli/nearest.h"
#include "common/base/build_info.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

constexpr char kDefaultScheduler[] = "tcp://127.0.0.1:7070";

std::string Overview() {
  std::string text = "sheaf - trains models on a parameter server\n\nusage: sheaf COMMAND [options]\n\n";
  for (const Command& command : AllCommands()) {
    const std::string word = command.word();
    text += "  " + word + std::string(word.size() < 10 ? 10 - word.size() : 1, ' ') + command.line.summary + "\n";
  }
  text += "  help      this text, or `sheaf help COMMAND`\n\n";
  text += "The cluster: --scheduler ADDRESS, else SHEAF_SCHEDULER, else " + std::string(kDefaultScheduler) + "\n";
  text +=
      "Exit status: 0 ok, 1 failed, 2 usage, 3 not found, 5 timeout, 6 nobody answers, 7 no permission, 70 a bug of\n"
      "             ours, 78 wrong job file or configuration, 130 interrupted\n";
  return text;
}

int UnknownCommand(const std::string& word) {
  std::vector<std::string> words{"help"};
  for (const Command& command : AllCommands()) words.push_back(command.word());
  return Complain(kExitUsage, "no command \"" + word + "\"" + Suggestion(word, words));
}

int Help(const std::vector<std::string>& words) {
  if (words.empty()) {
    std::fputs(Overview().c_str(), stdout);
    return kExitOk;
  }
  for (const Command& command : AllCommands()) {
    if (command.word() != words[0]) continue;
    std::fputs(HelpText(command.line).c_str(), stdout);
    return kExitOk;
  }
  return UnknownCommand(words[0]);
}

int Dispatch(std::vector<std::string> words) {
  if (words.empty()) {
    std::fputs(Overview().c_str(), stderr);
    return kExitUsage;
  }
  const std::string word = words.front();
  words.erase(words.begin());
  if (word == "help" || word == "--help" || word == "-h") return Help(words);
  for (const Command& command : AllCommands()) {
    if (command.word() != word && !(word == "--version" && command.word() == "version")) continue;
    const auto args = Args::Parse(command.line, words);
    if (!args) return Complain(kExitUsage, args.error().message + " (sheaf help " + command.word() + ")");
    if (args->help()) return Help({command.word()});
    const int exit_code = command.run(*args);
    // What went wrong with stdout (a full disk) is only known now.
    if (std::fflush(stdout) != 0 && exit_code == kExitOk)
      return Complain(kExitFailed, "cannot write to standard output");
    return exit_code;
  }
  return UnknownCommand(word);
}

}  // namespace

std::vector<Command> AllCommands() {
  return {RunCommand(),        SubmitCommand(), StatusCommand(), JobsCommand(),    CancelCommand(),
          CheckpointCommand(), NodeCommand(),   ExportCommand(), TraceCommand(),   PredictCommand(),
          ValidateCommand(),   DatagenCommand(), BenchCommand(), ChaosCommand(),   VersionCommand()};
}

int RunCommandLine(int argc, const char* const* argv) {
  try {
    return Dispatch(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::bad_alloc&) {
    return Complain(kExitFailed, "out of memory");
  } catch (const std::exception& error) {
    return Complain(kExitBug, StrCat("a bug of ours, please report it: ", error.what(), " in ", BuildText()));
  }
}

Option SchedulerOption() {
  return {.name = "scheduler",
          .value_name = "ADDRESS",
          .help = "the cluster; of several schedulers all, with commas (SHEAF_SCHEDULER, else " +
                  std::string(kDefaultScheduler) + ")"};
}
Option TimeoutOption() {
  return {.name = "timeout",
          .kind = Option::kNumber,
          .value_name = "SECONDS",
          .fallback = "10",
          .help = "how long to wait for an answer",
          .least = 0.1,
          .most = 86400};
}
Option OutputOption(std::vector<std::string> formats) {
  return {.name = "output",
          .value_name = "FORMAT",
          .fallback = formats[0],
          .help = Join(formats, " | "),
          .choices = formats,
          .letter = 'o'};
}
Option SetOption() {
  return {.name = "set",
          .kind = Option::kList,
          .value_name = "FIELD=VALUE",
          .help = "replaces a field of the job, as train.epochs=3"};
}

std::string SchedulerAddress(const Args& args) {
  if (args.Given("scheduler")) return args.Text("scheduler");
  const char* variable = std::getenv("SHEAF_SCHEDULER");
  return variable != nullptr && *variable != 0 ? variable : kDefaultScheduler;
}

Duration Timeout(const Args& args) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(args.Number("timeout")));
}

Result<std::unique_ptr<BlockingClient>> ConnectTo(ZmqContext& context, const std::string& address, Duration timeout,
                                                  const Watch& watch) {
  BlockingClientOptions options;
  options.scheduler_deadline = timeout;
  options.client.deadline = std::max<Duration>(timeout, std::chrono::seconds(10));
  options.check = watch.check;
  options.on_news = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  return BlockingClient::Connect(context, address, std::move(options));
}

Result<JobId> ParseJobId(const std::string& text) {
  const auto number = ParseUint(text.starts_with("job-") ? std::string_view(text).substr(4) : std::string_view(text));
  if (!number || *number == 0)
    return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is no job number (sheaf jobs lists them)");
  return JobId(*number);
}

std::string DataFolder(const Args& args, const std::string& job_path) {
  namespace fs = std::filesystem;
  const char* variable = std::getenv("SHEAF_DATA");
  std::error_code ignored;
  fs::path folder = fs::path(job_path).parent_path();
  if (args.Given("data"))
    folder = args.Text("data");
  else if (variable != nullptr && *variable != 0)
    folder = variable;
  else if (fs::is_directory(folder / "data", ignored))
    folder /= "data";
  const fs::path absolute = fs::absolute(folder.empty() ? fs::path(".") : folder, ignored);
  return ignored ? folder.string() : absolute.lexically_normal().string();
}

int ComplainOfJob(const Error& error) {
  return Complain(error.code == ErrorCode::kInvalidArgument ? kExitConfig : ExitCodeOf(error.code), error.message);
}

}  // namespace sheaf::cli
