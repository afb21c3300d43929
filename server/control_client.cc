#include "server/control_client.h"

#include <utility>

#include "common/base/planted_bug.h"
#include "common/net/config_update.h"

namespace sheaf {
namespace {

constexpr Duration kLoadsEvery = std::chrono::seconds(1);

void AddTrouble(const ShardStats& stats, pb::ServerReport& report) {
  report.set_disk_write_us(stats.disk_write_us);
  if (stats.disk != pb::DISK_SOUND) {
    report.set_disk(stats.disk);
    report.set_disk_text(stats.disk_text);
  }
  if (stats.compared_rows > 0) report.set_compared_rows(stats.compared_rows);
  if (stats.copies_differed > 0) report.set_copies_differed(stats.copies_differed);
  if (stats.poisoned > 0) report.set_poisoned(stats.poisoned);
  for (const auto& [peer, count] : stats.poison) {
    pb::PoisonCount& each = *report.add_poison();
    each.set_peer(peer.value);
    each.set_count(count);
  }
}

}  // namespace

void ControlClient::SendReport(const ShardStats& stats, bool leaving, TimePoint now, Outbox& out) {
  next_report_ = now + link_.report_every();
  report_now_ = false;
  reported_generation_ = stats.seen_generation;
  Message message;
  asked_ = link_.NextRequest();
  reported_at_ = now;
  message.header.set_request(asked_);
  pb::ServerReport& report = *message.header.mutable_server_report();
  report.set_incarnation(self_.value);
  report.set_seen_generation(stats.seen_generation);
  for (const pb::PassLedger& ledger : stats.ledgers) *report.add_ledger() = ledger;
  report.set_memory_bytes(stats.memory_bytes);
  report.set_rows(stats.rows);
  if (stats.cold_rows > 0 || stats.evicted_rows > 0) {
    report.set_cold_rows(stats.cold_rows);
    report.set_cold_reads(stats.cold_reads);
    report.set_evicted_rows(stats.evicted_rows);
  }
  if (stats.expired_rows > 0) report.set_expired_rows(stats.expired_rows);
  if (stats.unadmitted > 0) report.set_unadmitted(stats.unadmitted);
  report.set_pushes_applied(stats.pushes_applied);
  report.set_pushes_deduplicated(stats.pushes_deduplicated);
  report.set_pulls_answered(stats.pulls_answered);
  report.set_overloaded(stats.overloaded);
  AddTrouble(stats, report);
  for (const std::string& line : stats.waiting) report.add_waiting(line);
  for (const pb::SyncedReplica& replica : stats.synced) *report.add_synced() = replica;
  reported_news_ = stats.news;
  if (now >= next_loads_) {
    next_loads_ = now + kLoadsEvery;
    for (const PartitionLoad& load : stats.loads) {
      report.mutable_loads()->add_partition(load.partition);
      report.mutable_loads()->add_bytes(load.bytes);
      report.mutable_loads()->add_keys(load.keys);
    }
  }
  report.set_leaving(leaving);
  report.set_config_generation(config_.generation());
  report.set_scheduler_epoch(link_.scheduler_epoch());
  if (stats.checkpoint.id() != 0) *report.mutable_checkpoint() = stats.checkpoint;
  if (stats.restore.job() != 0) *report.mutable_restore() = stats.restore;
  reported_checkpoint_ = stats.checkpoint.id();
  reported_phase_ = stats.checkpoint.phase();
  reported_restore_ = stats.restore.generation();
  if (pb::TraceSpans spans; trace_ != nullptr && trace_->Drain(spans)) report.mutable_trace()->Swap(&spans);
  out.Send(kSchedulerPeer, std::move(message));
}

void ControlClient::OnMessage(const Message& message, TimePoint now, Outbox& out) {
  if (!link_.Heeds(message)) return;
  report_now_ |= link_.OnMessage(message, now);
  if (message.header.has_report_now()) report_now_ = true;
  if (!message.header.has_server_orders()) return;
  const pb::ServerOrders& orders = message.header.server_orders();
  // Configurations are also sent unasked; they say nothing of traces.
  if (trace_ != nullptr && message.header.request() == asked_) {
    trace_->Follow(orders.trace_ms(), orders.clock_ns(), reported_at_, now);
  }
  TakeOrders(orders, message.header.request() == asked_);
  if (orders.unknown()) link_.OnUnknown(now, out);
  told_to_stop_ |= orders.stop();
  pb::ConfigUpdate update;
  if (!orders.has_config_update() || !update.ParseFromString(orders.config_update())) return;
  if (update.config().generation() <= config_.generation() && !Planted(Bug::kServerTakesOldConfig)) return;
  if (ApplyConfigUpdate(update, config_)) {
    is_new_ = true;
  } else {
    report_now_ = true;  // one before it was lost; the answer starts from what is here
  }
}

// What is not said counts only if the scheduler knew what we are at: an answer may have been made before.
void ControlClient::TakeOrders(const pb::ServerOrders& orders, bool latest) {
  CheckpointTasks tasks = tasks_;
  if (orders.checkpoint().id() > tasks.checkpoint.id()) tasks.checkpoint = orders.checkpoint();
  const bool over = latest && orders.checkpoint().id() == 0 && tasks.checkpoint.id() != 0 &&
                    reported_checkpoint_ == tasks.checkpoint.id();
  if (over || (latest && orders.unknown())) tasks.checkpoint.Clear();
  if (latest) tasks.restore = orders.restore();
  if (tasks.checkpoint.id() == tasks_.checkpoint.id() &&
      tasks.restore.generation() == tasks_.restore.generation() && tasks.restore.job() == tasks_.restore.job()) {
    return;
  }
  tasks_ = tasks;
  new_tasks_ = std::move(tasks);
}

bool ControlClient::HasNews(const ShardStats& stats) const {
  return stats.checkpoint.id() != reported_checkpoint_ || stats.checkpoint.phase() != reported_phase_ ||
         stats.restore.generation() != reported_restore_ || stats.news != reported_news_;
}

void ControlClient::OnTick(const ShardStats& stats, TimePoint now, Outbox& out) {
  if (trace_ != nullptr) trace_->OnTick(now);
  link_.OnTick(now, out);
  if (!link_.registered()) return;
  if (report_now_ || now >= next_report_ || stats.seen_generation > reported_generation_ || HasNews(stats)) {
    SendReport(stats, /*leaving=*/false, now, out);
  }
}

void ControlClient::Leave(const ShardStats& stats, TimePoint now, Outbox& out) {
  if (link_.registered()) SendReport(stats, /*leaving=*/true, now, out);
}

std::optional<pb::ClusterConfig> ControlClient::TakeConfig() {
  if (!std::exchange(is_new_, false)) return std::nullopt;
  return config_;
}

}  // namespace sheaf
