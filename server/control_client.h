// A server's side of the conversation with the scheduler: register, report, take configurations.
//
// A state machine without I/O, owned by the server's main loop (or the simulator). State-based: a report says all the server
// knows of itself, an answer brings the whole configuration if the server's is old, so lost messages only cost time.
// A newer configuration is reported back as soon as every shard has taken it: the scheduler waits for that.
#pragma once

#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "server/shard_core.h"

namespace sheaf {

struct ControlOptions {
  PeerId self;
  std::string host;
  uint32_t pid = 0;
  std::string build;
  uint32_t wire_version = 1;
  std::vector<pb::ShardEndpoint> shards;
  Duration register_every = Milliseconds(500);
};

class ControlClient {
 public:
  explicit ControlClient(ControlOptions options) : options_(std::move(options)) {}

  void OnMessage(const Message& message, TimePoint now, Outbox& out);
  // `stats` are the shards' latest, added up.
  void OnTick(const ShardStats& stats, TimePoint now, Outbox& out);
  // Tells the scheduler that this server goes.
  void Leave(const ShardStats& stats, TimePoint now, Outbox& out);

  // A configuration that came since the last call, for the shards.
  std::optional<pb::ClusterConfig> TakeConfig();
  bool registered() const { return registered_; }
  const std::string& name() const { return name_; }
  // The server cannot be part of this cluster; the text says why.
  const std::optional<Error>& fatal() const { return fatal_; }
  TimePoint last_heard() const { return last_heard_; }

 private:
  void SendRegister(TimePoint now, Outbox& out);
  void SendReport(const ShardStats& stats, bool leaving, TimePoint now, Outbox& out);

  const ControlOptions options_;
  bool registered_ = false;
  bool report_now_ = false;
  std::string name_ = "server";
  Duration report_every_ = Milliseconds(200);
  TimePoint next_register_, next_report_, last_heard_;
  uint64_t scheduler_ = 0;                   // its incarnation; 0: not known yet
  uint64_t request_ = 0;
  uint64_t reported_generation_ = 0;
  uint64_t taken_generation_ = 0;
  std::optional<pb::ClusterConfig> config_;
  std::optional<Error> fatal_;
};

}  // namespace sheaf
