#include "common/runtime/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/check.h"

namespace sheaf {

EventLoop::EventLoop(ZmqTransport& transport, const Clock& clock, EventLoopOptions options)
    : transport_(transport), clock_(clock), options_(options), now_(clock.Now()) {
  stop_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  SHEAF_CHECK(stop_fd_ >= 0, "no file descriptor left for an event loop");
}

EventLoop::~EventLoop() { close(stop_fd_); }

void EventLoop::Watch(int fd, std::function<void()> on_ready) {
  Unwatch(fd);
  watched_.push_back(std::make_shared<const Watched>(Watched{fd, std::move(on_ready)}));
}

void EventLoop::Unwatch(int fd) {
  std::erase_if(watched_, [fd](const auto& watched) { return watched->fd == fd; });
}

void EventLoop::Wait() {
  polled_.assign(1, {stop_fd_, POLLIN, 0});
  for (const auto& watched : watched_) polled_.push_back({watched->fd, POLLIN, 0});
  const bool at_once = tick_requested_ || turn_requested_;
  turn_requested_ = false;
  const Duration until_tick = at_once ? Duration::zero() : next_tick_ - clock_.Now();
  transport_.Poll(std::max(until_tick, Duration::zero()), polled_);
  now_ = clock_.Now();
}

void EventLoop::ServeDescriptors() {
  for (size_t i = 1; i < polled_.size(); ++i) {
    if (polled_[i].revents == 0) continue;
    const int fd = polled_[i].fd;
    // A handler before this one may have unwatched it; this one may unwatch itself.
    const auto found = std::find_if(watched_.begin(), watched_.end(), [fd](const auto& w) { return w->fd == fd; });
    if (found == watched_.end()) continue;
    const std::shared_ptr<const Watched> watched = *found;
    watched->on_ready();
  }
}

void EventLoop::Run(Handler& handler) {
  now_ = clock_.Now();
  next_tick_ = now_;
  while (!stopped_.load(std::memory_order_acquire)) {
    Wait();
    for (int i = 0; i < options_.max_messages_a_turn; ++i) {
      std::optional<ZmqTransport::Received> received = transport_.Receive();
      if (!received) break;
      handler.OnMessage(received->from, std::move(received->message));
    }
    ServeDescriptors();
    handler.OnTurnEnd(now_);
    if (tick_requested_ || now_ >= next_tick_) {
      tick_requested_ = false;
      next_tick_ = now_ + options_.tick_every;
      handler.OnTick(now_);
    }
  }
  eventfd_t value = 0;
  eventfd_read(stop_fd_, &value);
  stopped_.store(false, std::memory_order_release);
}

void EventLoop::Stop() {
  stopped_.store(true, std::memory_order_release);
  eventfd_write(stop_fd_, 1);
}

}  // namespace sheaf
