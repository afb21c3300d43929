// The processes of a cluster as this machine sees them: in its own namespaces or in containers.
//
// The scheduler knows where a member says that it runs (host and process number, both as its container sees them). This
// finds the process of that description in /proc. Thread-safety: functions without state.
// Errors: kNotFound (no such process here, says what was looked for), kPermissionDenied.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf::cli {

struct LocalProcess {
  pid_t pid = 0;             // as we see it
  bool own_network = false;  // it has a network namespace of its own
  bool keeps_store = false;  // it was given a --data_dir, so it comes back as what it was
};

// `host`, `pid`: as the member reported them. `program`: sheaf-server.
Result<LocalProcess> FindMember(const std::string& program, const std::string& host, uint32_t pid);
// The scheduler that listens at the port of `address` (tcp://HOST:PORT).
Result<LocalProcess> FindScheduler(const std::string& address);

// TCP ports that the process holds: those that it listens at, and its own ends of connections.
std::vector<uint16_t> TcpPortsOf(pid_t pid);

Status SendSignal(const LocalProcess& process, int signal);

}  // namespace sheaf::cli
