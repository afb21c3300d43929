#include "server/control_client.h"

#include <utility>

#include "common/base/planted_bug.h"

namespace sheaf {

void ControlClient::SendRegister(TimePoint now, Outbox& out) {
  next_register_ = now + options_.register_every;
  Message message;
  message.header.set_request(++request_);
  pb::Register& registration = *message.header.mutable_register_node();
  registration.set_role(pb::SERVER);
  registration.set_incarnation(options_.self.value);
  registration.set_wire_version(options_.wire_version);
  registration.set_build(options_.build);
  registration.set_host(options_.host);
  registration.set_pid(options_.pid);
  for (const pb::ShardEndpoint& shard : options_.shards) *registration.add_shard() = shard;
  out.Send(kSchedulerPeer, std::move(message));
}

void ControlClient::SendReport(const ShardStats& stats, bool leaving, TimePoint now, Outbox& out) {
  next_report_ = now + report_every_;
  report_now_ = false;
  reported_generation_ = stats.seen_generation;
  Message message;
  message.header.set_request(++request_);
  pb::ServerReport& report = *message.header.mutable_server_report();
  report.set_incarnation(options_.self.value);
  report.set_seen_generation(stats.seen_generation);
  for (const pb::PassLedger& ledger : stats.ledgers) *report.add_ledger() = ledger;
  report.set_memory_bytes(stats.memory_bytes);
  report.set_rows(stats.rows);
  report.set_pushes_applied(stats.pushes_applied);
  report.set_pushes_deduplicated(stats.pushes_deduplicated);
  report.set_pulls_answered(stats.pulls_answered);
  report.set_overloaded(stats.overloaded);
  for (const std::string& line : stats.waiting) report.add_waiting(line);
  report.set_leaving(leaving);
  out.Send(kSchedulerPeer, std::move(message));
}

void ControlClient::OnMessage(const Message& message, TimePoint now, Outbox& out) {
  last_heard_ = now;
  switch (message.header.body_case()) {
    case pb::Header::kRegistered:
      if (scheduler_ != 0 && scheduler_ != message.header.registered().scheduler()) {
        fatal_ = Error{ErrorCode::kUnavailable,
                       "the scheduler was started anew and knows nothing of the jobs this process works for: start it anew too"};
        break;
      }
      scheduler_ = message.header.registered().scheduler();
      registered_ = true;
      report_now_ = true;
      name_ = message.header.registered().name();
      report_every_ = Milliseconds(std::max(1U, message.header.registered().report_every_ms()));
      break;
    case pb::Header::kServerOrders: {
      const pb::ServerOrders& orders = message.header.server_orders();
      if (orders.unknown()) {
        registered_ = false;
        SendRegister(now, out);
      }
      if (orders.has_config() &&
          (orders.config().generation() > taken_generation_ || Planted(Bug::kServerTakesOldConfig))) {
        taken_generation_ = orders.config().generation();
        config_ = orders.config();
      }
      break;
    }
    case pb::Header::kReportNow: report_now_ = registered_; break;
    case pb::Header::kRefusal:
      fatal_ = Error{message.header.refusal().reason() == pb::Refusal::VERSION_MISMATCH ? ErrorCode::kVersionMismatch
                                                                                       : ErrorCode::kInvalidArgument,
                     message.header.refusal().text()};
      break;
    default: break;
  }
}

void ControlClient::OnTick(const ShardStats& stats, TimePoint now, Outbox& out) {
  if (!registered_) {
    if (now >= next_register_) SendRegister(now, out);
    return;
  }
  if (report_now_ || now >= next_report_ || stats.seen_generation > reported_generation_) {
    SendReport(stats, /*leaving=*/false, now, out);
  }
}

void ControlClient::Leave(const ShardStats& stats, TimePoint now, Outbox& out) {
  if (registered_) SendReport(stats, /*leaving=*/true, now, out);
}

std::optional<pb::ClusterConfig> ControlClient::TakeConfig() { return std::exchange(config_, std::nullopt); }

}  // namespace sheaf
