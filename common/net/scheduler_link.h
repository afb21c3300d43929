// A server's or worker's standing with the scheduler: asks to be a member until it is one, and learns why it cannot be.
//
// A state machine without I/O, part of its owner's core. Reports and orders are the owner's; it hands everything the
// scheduler says to OnMessage() first. A scheduler that was started anew knows nothing of what its members hold, so
// they end with an error instead of joining it.
// Thread-safety: none.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/net/member_info.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct SchedulerLinkOptions {
  std::string address{};                          // of the scheduler, for people
  Duration register_every = Milliseconds(500);
  Duration deadline = std::chrono::seconds(30);   // of its silence; then fatal() says so
};

class SchedulerLink {
 public:
  SchedulerLink(MemberInfo self, SchedulerLinkOptions options) : self_(std::move(self)), options_(std::move(options)) {}

  // Registers, and does so again while no answer comes. Silence counts from the first tick on, and not over a gap
  // between ticks: then we were stopped, or our machine slept, and could not have heard.
  void OnTick(TimePoint now, Outbox& out);
  // True if we have just become a member: time for a first report.
  bool OnMessage(const Message& message, TimePoint now);
  // The scheduler does not know this incarnation (any more): come back as a new member.
  void OnUnknown(TimePoint now, Outbox& out);

  bool registered() const { return registered_; }
  const std::string& name() const { return name_; }           // "server-0"; empty until registered
  Duration report_every() const { return report_every_; }
  // This process cannot be part of this cluster, or cannot go on; the text says why.
  const std::optional<Error>& fatal() const { return fatal_; }
  // The number of the next request to the scheduler. Rises.
  uint64_t NextRequest() { return ++request_; }

 private:
  void SendRegister(TimePoint now, Outbox& out);

  const MemberInfo self_;
  const SchedulerLinkOptions options_;
  bool registered_ = false;
  std::string name_;
  Duration report_every_ = Milliseconds(200);
  TimePoint next_register_, heard_;
  std::optional<TimePoint> last_tick_;
  uint64_t scheduler_ = 0;                   // its incarnation; 0: not known yet
  uint64_t request_ = 0;
  std::optional<Error> fatal_;
};

}  // namespace sheaf
