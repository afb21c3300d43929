// A whole cluster on this machine, for as long as one command runs: scheduler, servers and workers as processes.
//
// The processes listen on loopback only and die with this one, however it dies. Workers that die are started again, as
// they may at any time, and so are servers and the scheduler if they keep a store, and servers of whose partitions
// others have copies; else their end ends the run.
// Thread-safety: none; use it on the main thread (the system ties the children to the thread that started them).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/process.h"

namespace sheaf::cli {

struct LocalClusterOptions {
  uint32_t servers = 2;
  uint32_t workers = 2;
  uint32_t replicas = 1;  // of each partition; with more than one servers that die are started again, too
  std::string data_dir;   // where workers look for relative paths
  std::string store_dir;  // not empty: server i keeps what it acknowledges in server-i of this folder, and so on
  std::string checkpoint_dir;  // not empty: where checkpoints lie
  uint32_t partitions = 0;     // 0: as many as a cluster has by default
  bool await_servers = false;  // jobs begin when all servers are in
  std::string log_dir;    // empty: a temporary one, removed if all went well
  uint32_t cache_mb = 0;  // of each worker; 0: its default
  bool restart_workers = true;
  uint32_t max_restarts = 1000;
  Duration start_timeout = std::chrono::seconds(30);
};

class LocalCluster {
 public:
  // Starts everything. `interrupted` is asked while waiting; an error from it ends the start.
  static Result<std::unique_ptr<LocalCluster>> Start(LocalClusterOptions options,
                                                     const std::function<Status()>& interrupted);
  ~LocalCluster();
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  const std::string& scheduler_address() const { return scheduler_address_; }
  // Readable when a process has ended. Changes with every restart.
  std::vector<int> fds() const;
  // Looks after the processes: starts workers again, and answers an error if the run cannot go on.
  Status Check();
  // What there is to tell people since the last call: "worker-1 was killed by signal 9 (Killed); started again".
  std::vector<std::string> TakeNews();

  uint32_t worker_restarts() const { return worker_restarts_; }
  uint32_t server_restarts() const { return server_restarts_; }
  uint32_t scheduler_restarts() const { return scheduler_restarts_; }
  const std::string& log_dir() const { return options_.log_dir; }
  // Keeps a temporary log folder.
  void KeepLogs() { keep_logs_ = true; }
  // The end of a process's log, for an error's text.
  std::string LogTail(const std::string& name) const;

  // Ends all processes: politely, then by force. Called by the destructor.
  void Stop();

 private:
  struct Member {
    std::string name;  // server-0: as in the log's name
    std::vector<std::string> argv;
    std::unique_ptr<ChildProcess> process;  // null: ended for good, or waiting to be started again
    TimePoint started;
    TimePoint start_again;
    uint32_t quick_failures = 0;  // in a row, soon after the start
  };

  explicit LocalCluster(LocalClusterOptions options) : options_(std::move(options)) {}
  Status PrepareLogs();
  Status StartScheduler(const std::function<Status()>& interrupted);
  Status StartMember(Member& member);
  Status OnEnd(Member& member, const ProcessExit& exit);
  Failure EndOfRun(const Member& member, const ProcessExit& exit);
  Status StartAgain(Member& member, const ProcessExit& exit, uint32_t& restarts, const char* kind);
  std::string LogPath(const std::string& name) const { return options_.log_dir + "/" + name + ".log"; }

  LocalClusterOptions options_;
  SystemClock clock_;
  std::string program_dir_;
  std::string scheduler_address_;
  bool own_log_dir_ = false;
  bool keep_logs_ = false;
  bool stopping_ = false;
  uint32_t worker_restarts_ = 0, server_restarts_ = 0, scheduler_restarts_ = 0;
  std::vector<Member> members_;  // [0] is the scheduler, then servers, then workers
  std::vector<std::string> news_;
};

}  // namespace sheaf::cli
