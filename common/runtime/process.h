// A child process that cannot outlive its parent.
//
// The child is killed by the system when the *thread* that spawned it ends (PR_SET_PDEATHSIG), so spawn from the main
// thread.
// Thread-safety: none. Ownership: the destructor kills a child that still runs and waits for it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct ProcessSpec {
  std::vector<std::string> argv = {};                        // argv[0]: a path, or a name looked up in PATH
  std::vector<std::pair<std::string, std::string>> environment = {};  // added to ours
  std::string working_directory = {};                        // empty: ours
  std::string log_path = {};                                 // stdout and stderr are appended to it; empty: ours
};

struct ProcessExit {
  int code = 0;     // exit status; meaningless if killed by a signal
  int signal = 0;   // 0: it ended by itself
  bool ok() const { return code == 0 && signal == 0; }
  std::string Text() const;  // "exit code 3", "killed by signal 9 (Killed)"
};

class ChildProcess {
 public:
  // kNotFound: no such program. kIo: anything else, with the system's words.
  static Result<std::unique_ptr<ChildProcess>> Spawn(const ProcessSpec& spec);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Readable once the child has ended, for EventLoop::Watch.
  int fd() const { return pidfd_; }
  // How it ended, or nothing while it runs. Never blocks.
  std::optional<ProcessExit> Poll() { return Wait(Duration::zero()); }
  // Waits at most `timeout` for it to end.
  std::optional<ProcessExit> Wait(Duration timeout);
  // Sends a signal; no effect once it has ended.
  void Signal(int signal);
  // SIGTERM, then after `grace` SIGKILL; answers how it ended.
  ProcessExit Stop(Duration grace);

 private:
  ChildProcess(pid_t pid, int pidfd) : pid_(pid), pidfd_(pidfd) {}
  const pid_t pid_;
  const int pidfd_;
  std::optional<ProcessExit> exit_;
};

// Starts a process that outlives us: in a session of its own, without our standard input. What it says goes to
// `log_path`, which must be given. Answers its pid. Errors as Spawn's.
Result<pid_t> SpawnDetached(const ProcessSpec& spec);

// The folder of the running program, where its sister programs are: /usr/bin
Result<std::string> ProgramFolder();

}  // namespace sheaf
