// A real etcd of a test's own, with one member, on loopback and in a temporary folder.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/runtime/process.h"
#include "common/runtime/temp_folder.h"
#include "common/storage/etcd_address.h"
#include "common/storage/etcd_client.h"

namespace sheaf {

class EtcdProcess {
 public:
  // Where there is none a test is to be skipped, and say this.
  static constexpr const char* kMissing = "there is no /usr/bin/etcd (package etcd-server): run scripts/setup.sh";
  static bool IsInstalled() { return access("/usr/bin/etcd", X_OK) == 0; }

  EtcdProcess() {
    for (int tries = 0; tries < 5 && !Start(); ++tries) {}
    SHEAF_CHECK(Answers(), "etcd does not start; its log: ", folder_.path(), "/log");
  }

  const std::string& endpoint() const { return endpoint_; }
  EtcdAddress address(const std::string& prefix = "test") const { return {{endpoint_}, prefix}; }
  // From then on it does nothing: a signal alone would let its threads finish what they are at.
  void Stop() {
    process_->Signal(SIGSTOP);
    siginfo_t stopped{};
    SHEAF_CHECK(waitid(P_PID, static_cast<id_t>(process_->pid()), &stopped, WSTOPPED) == 0, "etcd is gone");
  }
  void GoOn() { process_->Signal(SIGCONT); }

 private:
  static int FreePort() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof any;
    SHEAF_CHECK(bind(fd, reinterpret_cast<sockaddr*>(&any), size) == 0 &&
                getsockname(fd, reinterpret_cast<sockaddr*>(&any), &size) == 0, "no port");
    close(fd);
    return ntohs(any.sin_port);
  }
  // False: somebody else has got one of the ports meanwhile, or it is too slow.
  bool Start() {
    endpoint_ = "127.0.0.1:" + std::to_string(FreePort());
    const std::string client = "http://" + endpoint_, peer = "http://127.0.0.1:" + std::to_string(FreePort());
    ProcessSpec spec;
    spec.argv = {"/usr/bin/etcd", "--name=test", "--data-dir=" + folder_.path() + "/" + endpoint_,
                 "--listen-client-urls=" + client, "--advertise-client-urls=" + client, "--listen-peer-urls=" + peer,
                 "--initial-advertise-peer-urls=" + peer, "--initial-cluster=test=" + peer,
                 "--heartbeat-interval=20", "--election-timeout=200"};
    spec.log_path = folder_.path() + "/log";
    auto spawned = ChildProcess::Spawn(spec);
    SHEAF_CHECK(spawned.has_value(), spawned.error().message);
    process_ = std::move(*spawned);
    for (int tries = 0; tries < 1000 && !Answers(); ++tries) {
      if (process_->Wait(Milliseconds(20))) return false;
    }
    return Answers();
  }
  bool Answers() const { return EtcdClient({endpoint_}).Range({.key = "ready"}).has_value(); }

  const TempFolder folder_;
  std::string endpoint_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace sheaf
