#include "common/net/scheduler_link.h"

#include <algorithm>

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr Duration kLongPause = std::chrono::seconds(1);

}  // namespace

void SchedulerLink::SendRegister(TimePoint now, Outbox& out) {
  next_register_ = now + options_.register_every;
  Message message;
  message.header.set_request(NextRequest());
  pb::Register& registration = *message.header.mutable_register_node();
  registration.set_role(self_.role);
  registration.set_incarnation(self_.self.value);
  registration.set_wire_version(self_.wire_version);
  registration.set_build(self_.build);
  registration.set_host(self_.host);
  registration.set_pid(self_.pid);
  for (const pb::ShardEndpoint& shard : self_.shards) *registration.add_shard() = shard;
  if (self_.store != 0) registration.set_store(self_.store);
  out.Send(kSchedulerPeer, std::move(message));
}

void SchedulerLink::OnTick(TimePoint now, Outbox& out) {
  if (!last_tick_ || now - *last_tick_ > kLongPause) heard_ = now;
  last_tick_ = now;
  if (now - heard_ > options_.deadline && !fatal_) {
    fatal_ = Error{ErrorCode::kUnavailable,
                   StrCat("no word from the scheduler at ", options_.address, " for ", FormatSeconds(options_.deadline),
                          ": is it running, and is this the right address (--scheduler)?")};
  }
  if (!registered_ && now >= next_register_) SendRegister(now, out);
}

bool SchedulerLink::OnMessage(const Message& message, TimePoint now) {
  heard_ = now;
  if (message.header.has_refusal()) {
    const pb::Refusal& refusal = message.header.refusal();
    const bool version = refusal.reason() == pb::Refusal::VERSION_MISMATCH;
    fatal_ = Error{version ? ErrorCode::kVersionMismatch : ErrorCode::kInvalidArgument,
                   StrCat("the scheduler at ", options_.address, " refused this process: ", refusal.text())};
    return false;
  }
  if (registered_ || !message.header.has_registered()) return false;
  const pb::Registered& answer = message.header.registered();
  if (scheduler_ != 0 && scheduler_ != answer.scheduler()) {
    fatal_ = Error{ErrorCode::kUnavailable,
                   StrCat("the scheduler at ", options_.address,
                          " was started anew and knows nothing of the jobs this process works for: start it anew too")};
    return false;
  }
  scheduler_ = answer.scheduler();
  registered_ = true;
  name_ = answer.name();
  report_every_ = Milliseconds(std::max(1U, answer.report_every_ms()));
  return true;
}

void SchedulerLink::OnUnknown(TimePoint now, Outbox& out) {
  registered_ = false;
  SendRegister(now, out);
}

}  // namespace sheaf
