// Asks the scheduler, and waits for the answer: what every command that needs a cluster does.
//
// Ownership: borrows the context. Thread-safety: none. Requests are repeated until answered; all of them may be (a job is
// submitted under a token). Errors: kUnavailable names the address that did not answer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/zmq_transport.h"
#include "common/runtime/clock.h"
#include "proto/control.pb.h"

namespace sheaf::cli {

// What else to look at while waiting: signals, child processes.
struct Watch {
  std::vector<int> fds;             // wake the wait when readable
  std::function<Status()> check;    // called after each wait; an error ends the wait with it
};

class SchedulerClient {
 public:
  static Result<std::unique_ptr<SchedulerClient>> Connect(ZmqContext& context, const std::string& address, Duration timeout);

  void SetWatch(Watch watch) { watch_ = std::move(watch); }
  // Does nothing but watch for so long.
  Status Sleep(Duration duration);

  Result<uint64_t> Submit(const pb::JobSpec& spec);
  // job 0: the cluster and all jobs. kNotFound: no such job.
  Result<pb::ClusterStatus> GetStatus(uint64_t job);
  Status Cancel(uint64_t job, const std::string& reason);
  Result<pb::ClusterConfig> GetConfig();

  const std::string& address() const { return address_; }
  void set_timeout(Duration timeout) { timeout_ = timeout; }

 private:
  SchedulerClient(ZmqContext& context, std::string address, Duration timeout);
  // Sends the request until an answer comes. A refusal is the error it stands for.
  Result<pb::Header> Call(pb::Header request);
  Status Wait(Duration at_most);

  const std::string address_;
  Duration timeout_;
  ZmqTransport transport_;
  SystemClock clock_;
  Watch watch_;
  uint64_t last_request_ = 0;
};

}  // namespace sheaf::cli
