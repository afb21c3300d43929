// A process without its network for a while: iptables drops all that it sends and all that is sent to it.
//
// A process with a network namespace of its own (a container) is cut there, from everybody. One that shares ours is cut
// by the ports that it holds; meanwhile nobody can make a new connection to the cluster either, as those of the process
// could not be told from others. The destructor heals. Thread-safety: none; needs root.
// Errors: kPermissionDenied (not root), kNotFound (no iptables), kUnavailable (the rules were refused; its words).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/chaos_process.h"

namespace sheaf::cli {

class NetworkCut {
 public:
  // `cluster_ports`: where scheduler and servers listen; of no matter if the process has a network of its own.
  static Result<std::unique_ptr<NetworkCut>> Make(const LocalProcess& process,
                                                  const std::vector<uint16_t>& cluster_ports);
  ~NetworkCut();
  NetworkCut(const NetworkCut&) = delete;
  NetworkCut& operator=(const NetworkCut&) = delete;

  // Whether Make could do it, asked before anything is done.
  static Status Possible();

 private:
  explicit NetworkCut(std::vector<std::string> inside) : inside_(std::move(inside)) {}
  Status Tables(const std::vector<std::string>& words) const;
  void Heal() const;

  const std::vector<std::string> inside_;  // what runs a command in the process's network
};

}  // namespace sheaf::cli
