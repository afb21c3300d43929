// The loop of a shell: messages, file descriptors and ticks, one at a time on the thread that calls Run.
//
// Ownership: borrows transport and clock. Thread-safety: none, but Stop() may be called from any thread.
// It is a Clock itself: constant within one turn.
#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/result.h"
#include "common/net/zmq_transport.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct EventLoopOptions {
  Duration tick_every = Milliseconds(10);
  int max_messages_a_turn = 256;  // then descriptors and ticks have their turn
};

class EventLoop final : public Clock {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void OnMessage(PeerId from, Message message) = 0;
    // Every tick_every, and at the end of a turn in which RequestTick() was called.
    virtual void OnTick(TimePoint now) = 0;
    // After the messages of a turn, before the loop waits: for work that is better done once for many messages.
    virtual void OnTurnEnd(TimePoint /*now*/) {}
  };

  EventLoop(ZmqTransport& transport, const Clock& clock, EventLoopOptions options = {});
  ~EventLoop() override;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls `on_ready` whenever `fd` is readable or closed (a mailbox, signals, a child process). `on_ready` must make it
  // unreadable again, or Unwatch it. May be called from handlers.
  void Watch(int fd, std::function<void()> on_ready);
  void Unwatch(int fd);

  // OnTick at the end of this turn rather than at the next regular time.
  void RequestTick() { tick_requested_ = true; }
  // The next turn begins without waiting: there is work left that the turn's messages go before.
  void RequestTurn() { turn_requested_ = true; }

  // Serves `handler` until Stop(). A Stop() before Run ends it at once; Run may be called again afterwards.
  void Run(Handler& handler);
  void Stop();

  TimePoint Now() const override { return now_; }

 private:
  struct Watched {
    int fd;
    std::function<void()> on_ready;
  };
  void Wait();
  void ServeDescriptors();

  ZmqTransport& transport_;
  const Clock& clock_;
  const EventLoopOptions options_;
  int stop_fd_ = -1;
  std::atomic<bool> stopped_ = false;
  bool tick_requested_ = false;
  bool turn_requested_ = false;
  TimePoint now_;
  TimePoint next_tick_;
  std::vector<std::shared_ptr<const Watched>> watched_;
  std::vector<pollfd> polled_;  // [0] is stop_fd_, then one for each of watched_ at the time of the wait
};

}  // namespace sheaf
