#include "common/runtime/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {  // glibc 2.36's header does not say so itself
#include <sys/pidfd.h>
}

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

#include "common/base/strings.h"

extern char** environ;

namespace sheaf {
namespace {

// What went wrong in the child before it became the program; it travels to the parent through a pipe.
struct ChildTrouble {
  enum Step : int { kParentGone, kFolder, kLog, kProgram } step;
  int error;
};

[[noreturn]] void Report(int pipe, ChildTrouble::Step step) {
  const ChildTrouble trouble{step, errno};
  (void)!write(pipe, &trouble, sizeof(trouble));
  _exit(127);
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Our environment with `added` in place of variables of the same name.
std::vector<std::string> MergedEnvironment(const std::vector<std::pair<std::string, std::string>>& added) {
  std::vector<std::string> merged;
  for (const auto& [name, value] : added) merged.push_back(StrCat(name, "=", value));
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    const bool replaced = std::any_of(added.begin(), added.end(), [name](const auto& a) { return a.first == name; });
    if (!replaced) merged.emplace_back(text);
  }
  return merged;
}

// Runs in the child, after fork: only calls that are safe there (no allocation, no locks).
[[noreturn]] void BecomeProgram(const ProcessSpec& spec, char* const* argv, char* const* environment,
                                int trouble_pipe) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  if (!spec.log_path.empty()) {
    const int log = open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0 || dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
      Report(trouble_pipe, ChildTrouble::kLog);
  }
  if (!spec.working_directory.empty() && chdir(spec.working_directory.c_str()) != 0) {
    Report(trouble_pipe, ChildTrouble::kFolder);
  }
  execvpe(argv[0], argv, environment);
  Report(trouble_pipe, ChildTrouble::kProgram);
}

Failure SpawnFailure(const ProcessSpec& spec, const ChildTrouble& trouble) {
  const char* const why = std::strerror(trouble.error);
  switch (trouble.step) {
    case ChildTrouble::kLog: return Fail(ErrorCode::kIo, "opening the log ", spec.log_path, ": ", why);
    case ChildTrouble::kFolder: return Fail(ErrorCode::kIo, "entering ", spec.working_directory, ": ", why);
    case ChildTrouble::kParentGone: return Fail(ErrorCode::kCancelled, "starting ", spec.argv[0], ": the parent ended");
    case ChildTrouble::kProgram: break;
  }
  const bool missing = trouble.error == ENOENT || trouble.error == ENOTDIR;
  return Fail(missing ? ErrorCode::kNotFound : ErrorCode::kIo, "starting ", spec.argv[0], ": ", why);
}

ProcessExit ExitOf(int status) {
  if (WIFSIGNALED(status)) return {.code = 0, .signal = WTERMSIG(status)};
  return {.code = WEXITSTATUS(status), .signal = 0};
}

// How a child is tied to us before it becomes the program; it runs in the child.
using Tie = void (*)(pid_t parent, int trouble_pipe);

void DieWithParent(pid_t parent, int trouble_pipe) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) Report(trouble_pipe, ChildTrouble::kParentGone);  // it ended before the line above
}

void Leave(pid_t /*parent*/, int trouble_pipe) {
  setsid();
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0) Report(trouble_pipe, ChildTrouble::kLog);
}

Result<pid_t> Start(const ProcessSpec& spec, Tie tie) {
  if (spec.argv.empty()) return Fail(ErrorCode::kInvalidArgument, "no program named to start");
  std::vector<std::string> arguments = spec.argv;
  std::vector<std::string> environment = MergedEnvironment(spec.environment);
  const std::vector<char*> argv = Pointers(arguments);
  const std::vector<char*> envp = Pointers(environment);

  std::array<int, 2> trouble_pipe;
  if (pipe2(trouble_pipe.data(), O_CLOEXEC) != 0)
    return Fail(ErrorCode::kIo, "starting ", spec.argv[0], ": ", std::strerror(errno));
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    tie(parent, trouble_pipe[1]);
    BecomeProgram(spec, argv.data(), envp.data(), trouble_pipe[1]);
  }
  const int fork_error = errno;
  close(trouble_pipe[1]);
  if (pid < 0) {
    close(trouble_pipe[0]);
    return Fail(ErrorCode::kIo, "starting ", spec.argv[0], ": ", std::strerror(fork_error));
  }

  // Ends when the child reports or, having become the program, closes the pipe.
  ChildTrouble trouble;
  ssize_t size;
  do {
    size = read(trouble_pipe[0], &trouble, sizeof(trouble));
  } while (size < 0 && errno == EINTR);
  close(trouble_pipe[0]);
  if (size == static_cast<ssize_t>(sizeof(trouble))) {
    waitpid(pid, nullptr, 0);
    return SpawnFailure(spec, trouble);
  }
  return pid;
}

}  // namespace

std::string ProcessExit::Text() const {
  if (signal != 0) return StrCat("killed by signal ", signal, " (", strsignal(signal), ")");
  return StrCat("exit code ", code);
}

Result<pid_t> SpawnDetached(const ProcessSpec& spec) { return Start(spec, Leave); }

Result<std::unique_ptr<ChildProcess>> ChildProcess::Spawn(const ProcessSpec& spec) {
  SHEAF_ASSIGN_OR_RETURN(const pid_t pid, Start(spec, DieWithParent));
  const int pidfd = pidfd_open(pid, 0);
  if (pidfd < 0) {
    const int error = errno;
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return Fail(ErrorCode::kIo, "watching ", spec.argv[0], ": ", std::strerror(error));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, pidfd));
}

ChildProcess::~ChildProcess() {
  Signal(SIGKILL);
  if (!exit_) waitpid(pid_, nullptr, 0);
  close(pidfd_);
}

std::optional<ProcessExit> ChildProcess::Wait(Duration timeout) {
  if (exit_) return exit_;
  const SystemClock clock;
  const TimePoint end = clock.Now() + timeout;
  for (;;) {
    const Duration left = std::max(end - clock.Now(), Duration::zero());
    const auto left_ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
    pollfd ended{pidfd_, POLLIN, 0};
    const int ready = poll(&ended, 1, static_cast<int>(std::min<int64_t>(left_ms, INT_MAX)));
    if (ready > 0) break;
    if (left <= Duration::zero()) return std::nullopt;
  }
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  exit_ = ExitOf(status);
  return exit_;
}

void ChildProcess::Signal(int signal) {
  if (!exit_) pidfd_send_signal(pidfd_, signal, nullptr, 0);
}

ProcessExit ChildProcess::Stop(Duration grace) {
  Signal(SIGTERM);
  if (const auto exit = Wait(grace)) return *exit;
  Signal(SIGKILL);
  for (;;) {
    if (const auto exit = Wait(std::chrono::seconds(1))) return *exit;
  }
}

Result<std::string> ProgramFolder() {
  std::array<char, PATH_MAX> path;
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  if (size <= 0) return Fail(ErrorCode::kIo, "reading /proc/self/exe: ", std::strerror(errno));
  const std::string_view text(path.data(), static_cast<size_t>(size));
  return std::string(text.substr(0, text.rfind('/')));
}

}  // namespace sheaf
