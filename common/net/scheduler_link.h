// A server's or worker's standing with the scheduler: asks to be a member until it is one, and learns why it cannot be.
//
// A state machine without I/O, part of its owner's core. Reports and orders are the owner's; it hands everything the
// scheduler says to Heeds() and OnMessage() first. A scheduler that was started again from its store is the same to its
// members, and they say what they hold as always. One without a store knows nothing of that when it is started anew, so
// they end with an error instead of joining it. So is one of several that has begun to lead: the link goes to the one
// that does, and its owner's shell connects to address() whenever that is another.
// Thread-safety: none.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/net/member_info.h"
#include "common/net/message.h"
#include "common/net/scheduler_list.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct SchedulerLinkOptions {
  std::string address{};                          // of the scheduler; of several, all, with commas (SchedulerList)
  Duration register_every = Milliseconds(500);
  Duration deadline = std::chrono::seconds(30);   // of its silence; then fatal() says so
};

class SchedulerLink {
 public:
  SchedulerLink(MemberInfo self, SchedulerLinkOptions options)
      : self_(std::move(self)), options_(std::move(options)), schedulers_(options_.address) {}

  // Registers, and does so again while no answer comes. Silence counts from the first tick on, and not over a gap
  // between ticks: then we were stopped, or our machine slept, and could not have heard.
  void OnTick(TimePoint now, Outbox& out);
  // False: it was said by a scheduler that another one has taken the place of.
  bool Heeds(const Message& message) const;
  // True if we have just become a member: time for a first report.
  bool OnMessage(const Message& message, TimePoint now);
  // The scheduler does not know this incarnation (any more): come back as a new member.
  void OnUnknown(TimePoint now, Outbox& out);

  // Where the scheduler is that is to be asked. May be another after each OnTick.
  const std::string& address() const { return schedulers_.current(); }
  bool registered() const { return registered_; }
  bool forgotten() const { return forgotten_; }               // as in pb::Registered
  // The greatest that was heard of; for reports.
  uint64_t scheduler_epoch() const { return epoch_; }
  // What people should know, since the last call.
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }
  const std::string& name() const { return name_; }           // "server-0"; empty until registered
  Duration report_every() const { return report_every_; }
  // This process cannot be part of this cluster, or cannot go on; the text says why.
  const std::optional<Error>& fatal() const { return fatal_; }
  // The number of the next request to the scheduler. Rises.
  uint64_t NextRequest() {
    schedulers_.OnAsked();
    return ++request_;
  }

 private:
  void SendRegister(TimePoint now, Outbox& out);
  void NoteEpoch(uint64_t epoch, TimePoint now);

  const MemberInfo self_;
  const SchedulerLinkOptions options_;
  SchedulerList schedulers_;
  bool registered_ = false, forgotten_ = false;
  std::string name_;
  Duration report_every_ = Milliseconds(200);
  TimePoint next_register_, heard_;
  std::optional<TimePoint> last_tick_;
  uint64_t cluster_id_ = 0;                  // of the scheduler; 0: not known yet
  uint64_t epoch_ = 0;                       // of the scheduler
  Duration silence_{};                       // that the scheduler has asked us to bear
  std::vector<std::string> events_;
  uint64_t request_ = 0;
  std::optional<Error> fatal_;
};

}  // namespace sheaf
