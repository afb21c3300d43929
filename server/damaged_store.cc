#include "server/damaged_store.h"

#include <glog/logging.h>

#include <utility>

#include "common/runtime/event_loop.h"

namespace sheaf {
namespace {

constexpr Duration kAskEvery = Milliseconds(20);

class Inquiry final : private EventLoop::Handler {
 public:
  Inquiry(ZmqContext& context, const Clock& clock, const MemberInfo& self, SchedulerLinkOptions scheduler)
      : transport_(context, self.self, {}), loop_(transport_, clock, {.tick_every = kAskEvery}),
        link_(self, std::move(scheduler)) {}

  Status Run(int stop_fd) {
    SHEAF_RETURN_IF_ERROR(transport_.Connect(kSchedulerPeer, link_.address()));
    loop_.Watch(stop_fd, [&] {
      outcome_ = Fail(ErrorCode::kCancelled, "stopped while it asked what to do with its damaged store");
      loop_.Stop();
    });
    loop_.Run(*this);
    return outcome_;
  }

 private:
  void OnMessage(PeerId from, Message message) override {
    if (from != kSchedulerPeer || !link_.Heeds(message)) return;
    link_.OnMessage(message, loop_.Now());
    Look();
  }
  void OnTick(TimePoint now) override {
    link_.OnTick(now, out_);
    if (const Status connected = transport_.Connect(kSchedulerPeer, link_.address()); !connected) {
      LOG_EVERY_N(WARNING, 100) << connected.error().message;
    }
    for (Outbox::Item& item : out_.items()) (void)transport_.Send(item.to, std::move(item.message));  // said again
    out_.clear();
    Look();
  }
  void Look() {
    if (link_.fatal()) outcome_ = Failure{*link_.fatal()};
    if (link_.registered() && !link_.forgotten()) {
      outcome_ = Fail(ErrorCode::kVersionMismatch, "the scheduler is of an older release, and cannot say");
    }
    if (link_.fatal() || link_.registered()) loop_.Stop();
  }

  ZmqTransport transport_;
  EventLoop loop_;
  SchedulerLink link_;
  Outbox out_;
  Status outcome_;
};

}  // namespace

Status AskToForget(ZmqContext& context, const Clock& clock, const MemberInfo& self, SchedulerLinkOptions scheduler,
                   int stop_fd) {
  return Inquiry(context, clock, self, std::move(scheduler)).Run(stop_fd);
}

}  // namespace sheaf
