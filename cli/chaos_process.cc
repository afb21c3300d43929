#include "cli/chaos_process.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "common/base/strings.h"
#include "common/net/member_info.h"

namespace sheaf::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kListening = "0A";  // in /proc/net/tcp

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::string LinkOf(const fs::path& path) {
  std::error_code ignored;
  return fs::read_symlink(path, ignored).string();
}

fs::path Folder(pid_t pid) { return fs::path("/proc") / std::to_string(pid); }

std::vector<pid_t> ProcessesOf(const std::string& program) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const auto pid = ParseUint(entry.path().filename().string());
    if (pid && Trim(ReadAll(entry.path() / "comm")) == program) found.push_back(static_cast<pid_t>(*pid));
  }
  return found;
}

// The process's number in the innermost namespace it is in.
uint64_t InnerPid(pid_t pid) {
  std::istringstream status(ReadAll(Folder(pid) / "status"));
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with("NSpid:")) continue;
    std::istringstream numbers(line.substr(line.find(':') + 1));
    uint64_t last = 0;
    for (uint64_t number; numbers >> number;) last = number;
    return last;
  }
  return 0;
}

// The name of the machine or container that the process runs in.
std::string HostOf(pid_t pid) {
  if (LinkOf(Folder(pid) / "ns/uts") == LinkOf("/proc/self/ns/uts")) return HostName();
  return std::string(Trim(ReadAll(Folder(pid) / "root/etc/hostname")));
}

LocalProcess Describe(pid_t pid) {
  LocalProcess process{.pid = pid};
  process.own_network = LinkOf(Folder(pid) / "ns/net") != LinkOf("/proc/self/ns/net");
  const std::string words = ReadAll(Folder(pid) / "cmdline"), variables = ReadAll(Folder(pid) / "environ");
  const auto has = [&](const char* word) { return words.find(word) != std::string::npos; };
  process.keeps_store = has("-data_dir") || has("-data-dir") || has("-meta=") ||
                        variables.find("SHEAF_DATA_DIR=") != std::string::npos ||
                        variables.find("SHEAF_META=") != std::string::npos;
  return process;
}

// Calls `look` with port, state and inode of each TCP socket in the process's network namespace.
template <typename Look>
void EachTcpSocket(pid_t pid, Look look) {
  for (const char* file : {"net/tcp", "net/tcp6"}) {
    std::istringstream lines(ReadAll(Folder(pid) / file));
    std::string line;
    std::getline(lines, line);  // headings
    while (std::getline(lines, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, queues, timer, retransmits, uid, timeout, inode;
      fields >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> uid >> timeout >> inode;
      const size_t colon = local.find(':');
      if (colon == std::string::npos) continue;
      look(static_cast<uint16_t>(std::strtoul(local.c_str() + colon + 1, nullptr, 16)), state, inode);
    }
  }
}

// The inodes of the sockets that the process holds.
std::set<std::string> SocketsOf(pid_t pid) {
  constexpr std::string_view kPrefix = "socket:[";
  std::set<std::string> inodes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(Folder(pid) / "fd", ignored)) {
    const std::string to = LinkOf(entry.path());
    if (to.starts_with(kPrefix)) inodes.insert(to.substr(kPrefix.size(), to.size() - kPrefix.size() - 1));
  }
  return inodes;
}

}  // namespace

Result<LocalProcess> FindMember(const std::string& program, const std::string& host, uint32_t pid) {
  for (const pid_t candidate : ProcessesOf(program)) {
    if (InnerPid(candidate) == pid && HostOf(candidate) == host) return Describe(candidate);
  }
  return Fail(ErrorCode::kNotFound, "no ", program, " with process number ", pid, " of host ", host,
              " runs on this machine (", HostName(), "): run this where it runs",
              geteuid() == 0 ? "" : ", or as root if it is in a container");
}

Result<LocalProcess> FindScheduler(const std::string& address) {
  const auto port = ParseUint(address.substr(address.rfind(':') + 1));
  if (!port) return Fail(ErrorCode::kInvalidArgument, "no port in the scheduler's address ", address);
  for (const pid_t candidate : ProcessesOf("sheaf-scheduler")) {
    const std::set<std::string> sockets = SocketsOf(candidate);
    bool listens = false;
    EachTcpSocket(candidate, [&](uint16_t local, const std::string& state, const std::string& inode) {
      listens = listens || (local == *port && state == kListening && sockets.contains(inode));
    });
    if (listens) return Describe(candidate);
  }
  return Fail(ErrorCode::kNotFound, "no sheaf-scheduler on this machine listens at port ", *port,
              ": run this where it runs", geteuid() == 0 ? "" : ", or as root if it is another user's");
}

std::vector<uint16_t> TcpPortsOf(pid_t pid) {
  const std::set<std::string> sockets = SocketsOf(pid);
  std::set<uint16_t> ports;
  EachTcpSocket(pid, [&](uint16_t local, const std::string&, const std::string& inode) {
    if (sockets.contains(inode)) ports.insert(local);
  });
  return {ports.begin(), ports.end()};
}

Status SendSignal(const LocalProcess& process, int signal) {
  if (kill(process.pid, signal) == 0) return {};
  const ErrorCode code = errno == EPERM ? ErrorCode::kPermissionDenied : ErrorCode::kNotFound;
  return Fail(code, "cannot send a signal to process ", process.pid, ": ", std::strerror(errno),
              errno == EPERM ? "; it is another user's: try as root" : "");
}

}  // namespace sheaf::cli
