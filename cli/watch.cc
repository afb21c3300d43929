#include "cli/watch.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>

namespace sheaf::cli {

Status Watch::Sleep(Duration duration) const {
  const SystemClock clock;
  const TimePoint end = clock.Now() + duration;
  for (TimePoint now = clock.Now(); now < end; now = clock.Now()) {
    std::vector<pollfd> polled;
    for (const int fd : fds()) polled.push_back({fd, POLLIN, 0});
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(std::min<Duration>(end - now, Milliseconds(200)));
    poll(polled.data(), polled.size(), static_cast<int>(left.count()));
    SHEAF_RETURN_IF_ERROR(check());
  }
  return {};
}

Status CheckInterrupted(SignalFd& signals) {
  const auto signal = signals.Take();
  if (!signal) return {};
  return Fail(ErrorCode::kCancelled, *signal == SIGINT ? "interrupted (Ctrl-C)" : "told to end (SIGTERM)");
}

Watch WatchSignals(SignalFd& signals) {
  return {[&signals] { return std::vector{signals.fd()}; }, [&signals] { return CheckInterrupted(signals); }};
}

}  // namespace sheaf::cli
