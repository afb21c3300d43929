#include "cli/local_cluster.h"

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

namespace fs = std::filesystem;

constexpr Duration kQuick = std::chrono::seconds(10);  // an end this soon after the start says that starting fails
constexpr uint32_t kMaxQuickFailures = 5;
constexpr Duration kRestartPause = Milliseconds(100);
constexpr Duration kGrace = std::chrono::seconds(3);
constexpr int64_t kTailBytes = 2000;
constexpr uintmax_t kLeastSpace = 64 << 10;  // below it a process may have ended because it could not write

bool IsWorker(const std::string& name) { return name.starts_with("worker"); }
bool IsServer(const std::string& name) { return name.starts_with("server"); }

std::string ReadAddress(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return std::string(Trim(line));
}

}  // namespace

Result<std::unique_ptr<LocalCluster>> LocalCluster::Start(LocalClusterOptions options,
                                                          const std::function<Status()>& interrupted) {
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(std::move(options)));
  SHEAF_ASSIGN_OR_RETURN(cluster->program_dir_, ProgramFolder());
  std::error_code error;
  const std::string& store = cluster->options_.store_dir;
  if (!store.empty()) fs::create_directories(store, error);
  if (error) return Fail(ErrorCode::kIo, "cannot make the folder --store_dir ", store, ": ", error.message());
  SHEAF_RETURN_IF_ERROR(cluster->PrepareLogs());
  SHEAF_RETURN_IF_ERROR(cluster->StartScheduler(interrupted));
  const LocalClusterOptions& with = cluster->options_;
  for (uint32_t i = 0; i < with.servers; ++i) {
    Member server{.name = StrCat("server-", i), .argv = {}, .process = nullptr, .started = {}, .start_again = {}};
    server.argv = {cluster->program_dir_ + "/sheaf-server", "--scheduler=" + cluster->scheduler_address_,
                   "--listen=127.0.0.1", "--port=0"};
    if (!with.store_dir.empty()) server.argv.push_back(StrCat("--data_dir=", with.store_dir, "/", server.name));
    if (!with.checkpoint_dir.empty()) server.argv.push_back("--checkpoint_dir=" + with.checkpoint_dir);
    cluster->members_.push_back(std::move(server));
  }
  for (uint32_t i = 0; i < with.workers; ++i) {
    Member worker{.name = StrCat("worker-", i), .argv = {}, .process = nullptr, .started = {}, .start_again = {}};
    worker.argv = {cluster->program_dir_ + "/sheaf-worker", "--scheduler=" + cluster->scheduler_address_,
                   "--data=" + with.data_dir};
    if (with.cache_mb > 0) worker.argv.push_back(StrCat("--cache_mb=", with.cache_mb));
    cluster->members_.push_back(std::move(worker));
  }
  for (size_t i = 1; i < cluster->members_.size(); ++i) {
    if (const Status started = cluster->StartMember(cluster->members_[i]); !started) {
      cluster->KeepLogs();
      return Failure{started.error()};
    }
  }
  return cluster;
}

LocalCluster::~LocalCluster() {
  Stop();
  std::error_code ignored;
  if (own_log_dir_ && !keep_logs_) fs::remove_all(options_.log_dir, ignored);
}

Status LocalCluster::PrepareLogs() {
  if (options_.log_dir.empty()) {
    const char* base = getenv("TMPDIR");
    std::string pattern = StrCat(base != nullptr && *base != 0 ? base : "/tmp", "/sheaf-XXXXXX");
    if (mkdtemp(pattern.data()) == nullptr) {
      return Fail(ErrorCode::kIo, "cannot make a folder for logs (", pattern, "): ", std::strerror(errno),
                  "; name one with --log_dir");
    }
    options_.log_dir = pattern;
    own_log_dir_ = true;
    return {};
  }
  std::error_code error;
  fs::create_directories(options_.log_dir, error);
  if (error) return Fail(ErrorCode::kIo, "cannot make the folder --log_dir ", options_.log_dir, ": ", error.message());
  return {};
}

Status LocalCluster::StartScheduler(const std::function<Status()>& interrupted) {
  const std::string address_file = options_.log_dir + "/scheduler.address";
  std::error_code ignored;
  fs::remove(address_file, ignored);
  Member scheduler{.name = "scheduler", .argv = {}, .process = nullptr, .started = {}, .start_again = {}};
  scheduler.argv = {program_dir_ + "/sheaf-scheduler", "--listen=127.0.0.1", "--port=0",
                    "--address_file=" + address_file, StrCat("--replicas=", options_.replicas)};
  if (!options_.store_dir.empty()) scheduler.argv.push_back(StrCat("--data_dir=", options_.store_dir, "/scheduler"));
  if (!options_.checkpoint_dir.empty()) scheduler.argv.push_back("--checkpoint_dir=" + options_.checkpoint_dir);
  if (options_.partitions > 0) scheduler.argv.push_back(StrCat("--partitions=", options_.partitions));
  if (options_.await_servers) scheduler.argv.push_back(StrCat("--min_servers=", options_.servers));
  members_.push_back(std::move(scheduler));
  if (const Status started = StartMember(members_[0]); !started) return started;
  const TimePoint end = clock_.Now() + options_.start_timeout;
  while (clock_.Now() < end) {
    // The file is renamed into place, so that it is there whole or not at all.
    if (scheduler_address_ = ReadAddress(address_file); !scheduler_address_.empty()) {
      // If it is started again, then where its members look for it.
      std::ranges::replace(members_[0].argv, "--port=0",
                           "--port=" + scheduler_address_.substr(scheduler_address_.rfind(':') + 1));
      return {};
    }
    if (const auto exit = members_[0].process->Wait(Milliseconds(10))) return EndOfRun(members_[0], *exit);
    SHEAF_RETURN_IF_ERROR(interrupted());
  }
  KeepLogs();
  return Fail(ErrorCode::kTimeout, "the scheduler did not start within ", FormatSeconds(options_.start_timeout),
              LogTail("scheduler"));
}

Status LocalCluster::StartMember(Member& member) {
  member.started = clock_.Now();
  auto process = ChildProcess::Spawn(
      {.argv = member.argv, .environment = {}, .working_directory = "", .log_path = LogPath(member.name)});
  if (!process) return Wrap(process.error(), "starting ", member.name);
  member.process = std::move(*process);
  return {};
}

std::vector<int> LocalCluster::fds() const {
  std::vector<int> fds;
  for (const Member& member : members_) {
    if (member.process) fds.push_back(member.process->fd());
  }
  return fds;
}

Status LocalCluster::Check() {
  for (Member& member : members_) {
    if (stopping_) return {};
    if (!member.process) {
      if (member.start_again == TimePoint{} || clock_.Now() < member.start_again) continue;
      SHEAF_RETURN_IF_ERROR(StartMember(member));
      continue;
    }
    if (const auto exit = member.process->Poll()) {
      member.process.reset();
      SHEAF_RETURN_IF_ERROR(OnEnd(member, *exit));
    }
  }
  return {};
}

Status LocalCluster::OnEnd(Member& member, const ProcessExit& exit) {
  if (!IsWorker(member.name)) {
    const bool replaced = !options_.store_dir.empty() || (IsServer(member.name) && options_.replicas > 1);
    if (!replaced && IsServer(member.name) && exit.ok()) {
      // It was told to go. If rows went with it, the job fails by itself, and says so.
      news_.push_back(StrCat(member.name, " has left"));
      return {};
    }
    if (!replaced) return EndOfRun(member, exit);
    return IsServer(member.name) ? StartAgain(member, exit, server_restarts_, "servers")
                                 : StartAgain(member, exit, scheduler_restarts_, "schedulers");
  }
  if (options_.restart_workers) return StartAgain(member, exit, worker_restarts_, "workers");
  news_.push_back(StrCat(member.name, " ended (", exit.Text(), ")"));
  const bool any = std::any_of(members_.begin(), members_.end(),
                               [](const Member& other) { return IsWorker(other.name) && other.process; });
  if (any) return {};
  KeepLogs();
  return Fail(ErrorCode::kUnavailable, "the last worker is gone, and --restart_workers is off", LogTail(member.name));
}

Failure LocalCluster::EndOfRun(const Member& member, const ProcessExit& exit) {
  KeepLogs();
  return Fail(ErrorCode::kUnavailable, member.name, " ended (", exit.Text(), "): the run cannot go on without it",
              LogTail(member.name));
}

Status LocalCluster::StartAgain(Member& member, const ProcessExit& exit, uint32_t& restarts, const char* kind) {
  // That one is killed is business as usual; that it gives up or crashes by itself, again and again, is not.
  const bool killed = exit.signal == SIGKILL || exit.signal == SIGTERM;
  const bool quick = !killed && clock_.Now() - member.started < kQuick;
  member.quick_failures = quick ? member.quick_failures + 1 : 0;
  if (member.quick_failures >= kMaxQuickFailures) {
    KeepLogs();
    return Fail(ErrorCode::kUnavailable, member.name, " ended (", exit.Text(), ") right after its start, ",
                kMaxQuickFailures, " times in a row", LogTail(member.name));
  }
  if (restarts >= options_.max_restarts) {
    KeepLogs();
    return Fail(ErrorCode::kUnavailable, kind, " were started again ", restarts, " times; giving up",
                LogTail(member.name));
  }
  ++restarts;
  member.start_again = clock_.Now() + kRestartPause * (member.quick_failures + 1);
  news_.push_back(StrCat(member.name, " ended (", exit.Text(), "); starting it again"));
  return {};
}

std::vector<std::string> LocalCluster::TakeNews() { return std::exchange(news_, {}); }

std::string LocalCluster::LogTail(const std::string& name) const {
  const std::string path = LogPath(name);
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return "";
  const int64_t size = in.tellg();
  in.seekg(std::max<int64_t>(0, size - kTailBytes));
  std::string text(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (size > kTailBytes) text.erase(0, text.find('\n') + 1);
  std::string tail = StrCat("\n  the end of its log, ", path, ":");
  std::error_code error;
  const std::filesystem::space_info space = std::filesystem::space(options_.log_dir, error);
  if (!error && space.available < kLeastSpace)
    tail = StrCat("\n  no space is left on the disk of ", options_.log_dir, ": give another --log_dir or TMPDIR", tail);
  if (Trim(text).empty()) return tail + " (empty)";
  for (const std::string_view line : Split(Trim(text), '\n')) tail += StrCat("\n  | ", line);
  return tail;
}

void LocalCluster::Stop() {
  stopping_ = true;
  // Workers first, so that they need not wait for servers that are gone.
  for (const bool workers : {true, false}) {
    for (Member& member : members_) {
      if (member.process && IsWorker(member.name) == workers) member.process->Signal(SIGTERM);
    }
    const TimePoint end = clock_.Now() + kGrace;
    for (Member& member : members_) {
      if (!member.process || IsWorker(member.name) != workers) continue;
      if (!member.process->Wait(std::max<Duration>(end - clock_.Now(), Duration::zero())))
        member.process->Signal(SIGKILL);
      member.process.reset();
    }
  }
}

}  // namespace sheaf::cli
