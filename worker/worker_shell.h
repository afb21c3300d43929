// A worker process around its core: sockets, the reader thread, signals.
#pragma once

#include <functional>
#include <string>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "worker/threaded_loader.h"
#include "worker/worker_core.h"

namespace sheaf {

struct WorkerShellOptions {
  std::string scheduler;                      // tcp://host:port
  std::string data_dir;
  size_t cache_bytes = 1ULL << 30;
  Duration scheduler_timeout = std::chrono::seconds(30);
};

class WorkerShell final : private EventLoop::Handler {
 public:
  WorkerShell(ZmqContext& context, const Clock& clock, WorkerShellOptions options);

  // Serves until the worker may leave; `stop_fd` readable asks it to. The error says why it could not go on.
  Status Run(int stop_fd, const std::function<void()>& take_signal);

 private:
  void OnMessage(PeerId from, Message message) override;
  void OnTick(TimePoint now) override;
  void OnTurnEnd(TimePoint now) override;
  void Flush();

  const WorkerShellOptions options_;
  const PeerId self_;
  const uint64_t host_;
  ZmqTransport transport_;
  TraceLog trace_;
  EventLoop loop_;
  ThreadedLoader loader_;
  WorkerCore core_;
  Outbox out_;
  Status outcome_;
  bool leaving_ = false;
  TimePoint leave_by_;
  bool named_ = false;
};

}  // namespace sheaf
