#include "common/net/scheduler_link.h"

#include <algorithm>

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr Duration kLongPause = std::chrono::seconds(1);

// 0: the message does not say.
uint64_t EpochOf(const Message& message) {
  const pb::Header& header = message.header;
  return header.has_server_orders()   ? header.server_orders().scheduler_epoch()
         : header.has_worker_orders() ? header.worker_orders().scheduler_epoch()
         : header.has_registered()    ? header.registered().scheduler_epoch()
                                      : 0;
}

}  // namespace

bool SchedulerLink::Heeds(const Message& message) const {
  // Who does not know us may be of another cluster, whose epochs say nothing; what it answers when we register tells.
  const pb::Header& header = message.header;
  const uint64_t epoch = EpochOf(message);
  return epoch == 0 || epoch >= epoch_ || header.has_registered() || header.server_orders().unknown() ||
         header.worker_orders().unknown();
}

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
  if (self_.store != 0) {
    registration.set_store(self_.store);
    registration.set_store_start(self_.store_start);
    if (!self_.damaged.empty()) registration.set_damaged(self_.damaged);
  }
  out.Send(kSchedulerPeer, std::move(message));
}

void SchedulerLink::OnTick(TimePoint now, Outbox& out) {
  if (!last_tick_ || now - *last_tick_ > kLongPause) heard_ = now;
  last_tick_ = now;
  if (schedulers_.OnTick(now)) next_register_ = now;
  const Duration deadline = std::max(options_.deadline, silence_);
  if (now - heard_ > deadline && !fatal_) {
    fatal_ = Error{ErrorCode::kUnavailable,
                   StrCat("no word from the scheduler at ", options_.address, " for ", FormatSeconds(deadline),
                          ": is it running, and is this the right address (--scheduler)?")};
  }
  if (!registered_ && now >= next_register_) SendRegister(now, out);
}

void SchedulerLink::NoteEpoch(uint64_t epoch, TimePoint now) {
  if (epoch <= epoch_) return;
  if (epoch_ > 0) {
    const bool several = schedulers_.several();
    events_.push_back(StrCat("the scheduler at ", address(), several ? " leads now" : " was started again", " (epoch ",
                             epoch, "); ", several ? "they" : "it", " had been silent for ",
                             FormatSeconds(now - heard_)));
  }
  epoch_ = epoch;
}

bool SchedulerLink::OnMessage(const Message& message, TimePoint now) {
  if (message.header.refusal().reason() == pb::Refusal::NOT_LEADER) {
    const pb::Refusal& refusal = message.header.refusal();
    schedulers_.OnNotLeader(refusal.leader(), refusal.leader_term(), now);
    return false;
  }
  schedulers_.OnHeard();
  if (!message.header.has_registered()) NoteEpoch(EpochOf(message), now);
  heard_ = now;
  if (message.header.has_refusal()) {
    const pb::Refusal& refusal = message.header.refusal();
    const bool version = refusal.reason() == pb::Refusal::VERSION_MISMATCH;
    fatal_ = Error{version ? ErrorCode::kVersionMismatch : ErrorCode::kInvalidArgument,
                   StrCat("the scheduler at ", address(), " refused this process: ", refusal.text())};
    return false;
  }
  if (registered_ || !message.header.has_registered()) return false;
  const pb::Registered& answer = message.header.registered();
  if (cluster_id_ != 0 && cluster_id_ != answer.cluster_id()) {
    fatal_ = Error{ErrorCode::kUnavailable,
                   StrCat("the scheduler at ", address(),
                          " was started anew and knows nothing of the jobs this process works for: start it anew too"
                          " (a scheduler with --data_dir would go on)")};
    return false;
  }
  if (answer.scheduler_epoch() < epoch_) return false;
  NoteEpoch(answer.scheduler_epoch(), now);
  cluster_id_ = answer.cluster_id();
  silence_ = Milliseconds(answer.silence_ms());
  registered_ = true;
  forgotten_ = answer.forgotten();
  name_ = answer.name();
  report_every_ = Milliseconds(std::max(1U, answer.report_every_ms()));
  return true;
}

void SchedulerLink::OnUnknown(TimePoint now, Outbox& out) {
  registered_ = false;
  SendRegister(now, out);
}

}  // namespace sheaf
