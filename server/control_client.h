// A server's side of the conversation with the scheduler: join, report, take configurations.
//
// A state machine without I/O, owned by the server's main loop (or the simulator). State-based: a report says all the
// server knows of itself, an answer brings the whole configuration if the server's is old, so lost messages only cost
// time. A newer configuration is reported back as soon as every shard has taken it: the scheduler waits for that.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/net/message.h"
#include "common/net/scheduler_link.h"
#include "common/runtime/clock.h"
#include "server/shard_core.h"

namespace sheaf {

class ControlClient {
 public:
  ControlClient(const MemberInfo& self, SchedulerLinkOptions scheduler)
      : self_(self.self), link_(self, std::move(scheduler)) {}

  void OnMessage(const Message& message, TimePoint now, Outbox& out);
  // `stats` are the shards' latest, added up.
  void OnTick(const ShardStats& stats, TimePoint now, Outbox& out);
  // Tells the scheduler that this server goes.
  void Leave(const ShardStats& stats, TimePoint now, Outbox& out);

  // A configuration that came since the last call, for the shards.
  std::optional<pb::ClusterConfig> TakeConfig();
  const SchedulerLink& link() const { return link_; }

 private:
  void SendReport(const ShardStats& stats, bool leaving, TimePoint now, Outbox& out);

  const PeerId self_;
  SchedulerLink link_;
  bool report_now_ = false;
  TimePoint next_report_;
  uint64_t reported_generation_ = 0;
  pb::ClusterConfig config_;         // the latest, to which updates are applied
  bool is_new_ = false;              // nobody has taken it yet
};

}  // namespace sheaf
