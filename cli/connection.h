// What most commands begin with: the scheduler that --scheduler names, and Ctrl-C, which ends whatever is waited for.
// Thread-safety: none.
#pragma once

#include <memory>

#include "cli/args.h"
#include "cli/watch.h"
#include "client/blocking_client.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {

class Connection {
 public:
  // From --scheduler and --timeout. kUnavailable: nobody answers.
  static Result<std::unique_ptr<Connection>> Open(const Args& args);

  BlockingClient& client() { return *client_; }
  const Watch& watch() const { return watch_; }

 private:
  explicit Connection(std::unique_ptr<SignalFd> signals)
      : signals_(std::move(signals)), watch_(WatchSignals(*signals_)) {}

  const std::unique_ptr<SignalFd> signals_;
  const Watch watch_;
  ZmqContext context_;
  std::unique_ptr<BlockingClient> client_;
};

}  // namespace sheaf::cli
