// A scheduler process around its core: the socket that everybody connects to, ticks, signals.
#pragma once

#include <functional>
#include <string>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {

class SchedulerShell final : private EventLoop::Handler {
 public:
  SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options);

  // tcp://host:port; port 0 takes any. Answers the real address.
  Result<std::string> Bind(const std::string& address);
  // Serves until `stop_fd` is readable.
  void Run(int stop_fd, const std::function<void()>& take_signal);

 private:
  void OnMessage(PeerId from, Message message) override;
  void OnTick(TimePoint now) override;
  void Flush();

  ZmqTransport transport_;
  EventLoop loop_;
  SchedulerCore core_;
  Outbox out_;
};

// Writes an address where others look for it, whole or not at all.
Status WriteAddressFile(const std::string& path, const std::string& address);

}  // namespace sheaf
