// A server's side of the conversation with the scheduler: join, report, take configurations.
//
// A state machine without I/O, owned by the server's main loop (or the simulator). State-based: a report says all the
// server knows of itself, an answer brings the whole configuration if the server's is old, so lost messages only cost
// time. A newer configuration is reported back as soon as every shard has taken it: the scheduler waits for that.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/message.h"
#include "common/net/scheduler_link.h"
#include "common/runtime/clock.h"
#include "server/shard_checkpoints.h"
#include "server/shard_core.h"

namespace sheaf {

class ControlClient {
 public:
  // `trace` outlives the client; nullptr: nothing is traced.
  ControlClient(const MemberInfo& self, SchedulerLinkOptions scheduler, TraceLog* trace = nullptr)
      : self_(self.self), trace_(trace), link_(self, std::move(scheduler)) {}

  void OnMessage(const Message& message, TimePoint now, Outbox& out);
  // `stats` are the shards' latest, added up.
  void OnTick(const ShardStats& stats, TimePoint now, Outbox& out);
  // The scheduler says that this server is to end: it has nothing any more.
  bool told_to_stop() const { return told_to_stop_; }
  // Tells the scheduler that this server goes.
  void Leave(const ShardStats& stats, TimePoint now, Outbox& out);

  // A configuration that came since the last call, for the shards.
  std::optional<pb::ClusterConfig> TakeConfig();
  // What the scheduler wants of checkpoints, if that is other than at the last call.
  std::optional<CheckpointTasks> TakeTasks() { return std::exchange(new_tasks_, std::nullopt); }
  // The scheduler waits to hear of it: report at the next tick.
  bool HasNews(const ShardStats& stats) const;
  const SchedulerLink& link() const { return link_; }
  // What people should see in the log, since the last call.
  std::vector<std::string> TakeEvents() { return link_.TakeEvents(); }

 private:
  void SendReport(const ShardStats& stats, bool leaving, TimePoint now, Outbox& out);
  // `latest`: they answer the latest report.
  void TakeOrders(const pb::ServerOrders& orders, bool latest);

  const PeerId self_;
  TraceLog* const trace_;
  SchedulerLink link_;
  bool report_now_ = false;
  bool told_to_stop_ = false;
  TimePoint next_report_, next_loads_;
  uint64_t asked_ = 0;                       // number of the latest report,
  TimePoint reported_at_;                    // and when it was sent
  uint64_t reported_generation_ = 0;
  uint64_t reported_news_ = 0;
  pb::ClusterConfig config_;         // the latest, to which updates are applied
  bool is_new_ = false;              // nobody has taken it yet
  // As in the latest report.
  uint64_t reported_checkpoint_ = 0;
  pb::CheckpointState::Phase reported_phase_ = pb::CheckpointState::NO_PHASE;
  uint64_t reported_restore_ = 0;    // its generation
  CheckpointTasks tasks_;
  std::optional<CheckpointTasks> new_tasks_;
};

}  // namespace sheaf
