// What to look at while a command waits: Ctrl-C, child processes. Thread-safety: none.
#pragma once

#include <functional>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {

struct Watch {
  std::function<std::vector<int>()> fds;  // readable: look at once
  std::function<Status()> check;          // an error ends the wait with it

  // Waits for so long, and looks at least five times a second.
  Status Sleep(Duration duration) const;
};

// kCancelled once SIGINT or SIGTERM has come.
Status CheckInterrupted(SignalFd& signals);
// Only signals.
Watch WatchSignals(SignalFd& signals);

}  // namespace sheaf::cli
