#include "cli/chaos_cut.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "common/base/strings.h"
#include "common/runtime/process.h"

namespace sheaf::cli {
namespace {

constexpr char kChain[] = "SHEAF-CHAOS";  // of our own, so that what else is in the tables stays
constexpr Duration kPatience = std::chrono::seconds(10);

}  // namespace

Status NetworkCut::Possible() {
  if (geteuid() != 0) {
    return Fail(ErrorCode::kPermissionDenied, "cutting a process off needs root, for iptables: sudo, or `pause` it");
  }
  for (const char* folder : {"/usr/sbin", "/sbin", "/usr/bin"}) {
    std::error_code ignored;
    if (std::filesystem::exists(std::filesystem::path(folder) / "iptables", ignored)) return {};
  }
  return Fail(ErrorCode::kNotFound, "there is no iptables here: apt-get install iptables, or `pause` it");
}

Result<std::unique_ptr<NetworkCut>> NetworkCut::Make(const LocalProcess& process,
                                                     const std::vector<uint16_t>& cluster_ports) {
  SHEAF_RETURN_IF_ERROR(Possible());
  std::vector<std::string> inside;
  if (process.own_network) inside = {"nsenter", StrCat("--net=/proc/", process.pid, "/ns/net"), "--"};
  std::unique_ptr<NetworkCut> cut(new NetworkCut(std::move(inside)));
  cut->Heal();  // what another, killed in the middle, may have left
  SHEAF_RETURN_IF_ERROR(cut->Tables({"-N", kChain}));
  if (process.own_network) {
    SHEAF_RETURN_IF_ERROR(cut->Tables({"-A", kChain, "-j", "DROP"}));
  } else {
    for (const uint16_t port : TcpPortsOf(process.pid)) {
      for (const char* side : {"--sport", "--dport"}) {
        SHEAF_RETURN_IF_ERROR(cut->Tables({"-A", kChain, "-p", "tcp", side, StrCat(port), "-j", "DROP"}));
      }
    }
    for (const uint16_t port : cluster_ports) {
      SHEAF_RETURN_IF_ERROR(cut->Tables({"-A", kChain, "-p", "tcp", "--syn", "--dport", StrCat(port), "-j", "DROP"}));
    }
  }
  SHEAF_RETURN_IF_ERROR(cut->Tables({"-I", "INPUT", "-j", kChain}));
  SHEAF_RETURN_IF_ERROR(cut->Tables({"-I", "OUTPUT", "-j", kChain}));
  return cut;
}

NetworkCut::~NetworkCut() { Heal(); }

void NetworkCut::Heal() const {
  // What is not there cannot be removed, and need not be.
  for (const char* from : {"INPUT", "OUTPUT"}) (void)Tables({"-D", from, "-j", kChain});
  (void)Tables({"-F", kChain});
  (void)Tables({"-X", kChain});
}

Status NetworkCut::Tables(const std::vector<std::string>& words) const {
  std::string said_path = std::filesystem::temp_directory_path() / "sheaf-iptables-XXXXXX";
  const int said_file = mkstemp(said_path.data());
  if (said_file >= 0) close(said_file);
  ProcessSpec spec{.argv = inside_, .log_path = said_path};
  spec.argv.insert(spec.argv.end(), {"iptables", "-w"});
  spec.argv.insert(spec.argv.end(), words.begin(), words.end());
  const auto child = ChildProcess::Spawn(spec);
  const auto exit = child ? (*child)->Wait(kPatience) : std::nullopt;
  std::ifstream file(said_path);
  const std::string said(std::istreambuf_iterator<char>(file), {});
  unlink(said_path.c_str());
  if (!child) return Failure{child.error()};
  if (exit && exit->ok()) return {};
  return Fail(ErrorCode::kUnavailable, Join(spec.argv, " "), ": ", exit ? exit->Text() : "no end", " ",
              Trim(said.substr(0, said.find('\n'))));
}

}  // namespace sheaf::cli
