// The processes of a SimCluster: the real cores, and around each what its shell would do. Part of SimCluster, for its
// sources only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "scheduler/state_keeper.h"
#include "server/control_client.h"
#include "server/shard.h"
#include "server/shard_checkpoints.h"
#include "server/snapshot_store.h"
#include "server/snapshotter.h"
#include "tests/sim/sim_cluster.h"
#include "tests/sim/sim_tool.h"
#include "worker/worker_core.h"

namespace sheaf::sim {

inline const std::string kSchedulerAddress = "sim://scheduler";

// Shards and their server share a fate; ids only have to be distinct, also from those of the process before.
inline constexpr uint64_t kIncarnation = 100'000;
inline PeerId ServerPeer(uint32_t server, uint64_t incarnation = 0) {
  return PeerId(1000 + server + incarnation * kIncarnation);
}
inline PeerId ShardPeer(uint32_t server, uint32_t shard, uint64_t incarnation = 0) {
  return PeerId(2000 + server * 100 + shard + incarnation * kIncarnation);
}
// The same for all processes of one server.
inline PeerId HomeOf(PeerId peer) { return PeerId(peer.value % kIncarnation); }
inline std::string ShardAddress(uint32_t server, uint32_t shard) {
  return "sim://server-" + std::to_string(server) + "/" + std::to_string(shard);
}

// What can be stopped: whatever comes meanwhile waits until it goes on.
struct SimCluster::Process {
  // With a clock of its own, if the run is to have such: nobody may compare the clocks of two processes.
  explicit Process(SimCluster& cluster);

  TimePoint Now() const;
  bool stopped() const { return clock.Now() < stopped_until; }
  void Do(std::function<void()> action) {
    if (stopped()) {
      postponed.push_back(std::move(action));
    } else {
      action();
    }
  }
  void Resume() {
    auto actions = std::exchange(postponed, {});
    for (auto& action : actions) Do(std::move(action));
  }

  const Clock& clock;  // the cluster's
  Duration clock_offset{};
  int64_t clock_ppm = 0;  // how much faster it runs, in millionths
  TimePoint stopped_until{};
  std::vector<std::function<void()>> postponed;
};

struct SimCluster::SchedulerNode : Process {
  SchedulerNode(SimCluster& cluster, SchedulerOptions options, SavedState saved)
      : Process(cluster), keeper(cluster.meta_, saved.epoch), core(std::move(options), Now(), std::move(saved)) {}
  // Where its process is to end when it next has something to save; kNone: it goes on.
  enum class End { kNone, kBeforeSave, kBeforeSend };

  void Flush() {
    for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
    out.clear();
  }

  StateKeeper keeper;
  SchedulerCore core;
  Outbox out;
  End end = End::kNone;
  bool ended = false;    // it does nothing more; the cluster takes it away
  bool stalled = false;  // its store is full
  std::unique_ptr<SimTransport> transport;
};

struct SimCluster::ServerNode : Process {
  ServerNode(SimCluster& cluster, uint32_t its_number, uint64_t its_incarnation)
      : Process(cluster), number(its_number), incarnation(its_incarnation) {}
  // Where its process is to end when it next has something to write; kNone: it goes on.
  enum class End { kNone, kBeforeCommit, kBeforeSend };
  // What a shard reads at once, of the store that it has.
  struct SimColdStore final : ColdStore {
    SimColdStore(std::unique_ptr<KvStore>& its_rows, SimStore& on_disk) : rows(its_rows), disk(on_disk) {}
    void ReadNow(ColdRead& read) override {
      if (rows == nullptr) rows = disk.Open();
      read.status = ReadRows(*rows, read);
    }
    std::unique_ptr<KvStore>& rows;
    SimStore& disk;
  };
  struct ShardNode {
    std::unique_ptr<KvStore> rows;
    std::unique_ptr<SimColdStore> cold;
    TimePoint read_at{};           // all that was asked for
    uint64_t evicted_rows = 0;     // that were noted
    std::unique_ptr<Shard> core;
    std::unique_ptr<Snapshotter> snapshotter;
    TimePoint written_at{};        // all that was given to be written
    std::unique_ptr<CheckpointFiles> files;
    std::unique_ptr<ShardCheckpoints> checkpoints;
    TimePoint files_done_at{};     // all that was given to be written to them, or read
    uint64_t failed_attempt = 0;   // the store is opened anew for the next
    Outbox out;
    std::unique_ptr<SimTransport> transport;

    void Flush() {
      for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
      out.clear();
    }
  };

  ShardStats Stats() const {
    std::vector<ShardStats> each;
    for (const ShardNode& shard : shards) {
      each.push_back(shard.core->stats());
      if (shard.checkpoints != nullptr) shard.checkpoints->AddTo(each.back());
    }
    return MergeStats(each);
  }
  void FlushControl() {
    for (auto& item : control_out.items()) (void)control_transport->Send(item.to, std::move(item.message));
    control_out.clear();
  }

  const uint32_t number;
  const uint64_t incarnation;
  const std::shared_ptr<int> alive = std::make_shared<int>();
  End end = End::kNone;
  bool ended = false;        // it does nothing more; the cluster takes it away
  pb::ClusterConfig config;  // as its shards have it
  std::unique_ptr<ControlClient> control;
  Outbox control_out;
  std::unique_ptr<SimTransport> control_transport;
  std::vector<ShardNode> shards;
};

// A worker and its surroundings: rows come after a while.
struct SimCluster::WorkerNode final : Process, RangeLoader {
  WorkerNode(SimCluster& its_cluster, PeerId its_id, uint32_t its_number)
      : Process(its_cluster), cluster(its_cluster), self(its_id), number(its_number) {
    WorkerOptions options;
    options.self.role = pb::WORKER;
    options.self.self = self;
    options.scheduler.deadline = std::chrono::hours(1);  // its own silence is what other checks see
    options.client = cluster.options_.client;
    options.pulls_ahead = cluster.options_.pulls_ahead;
    options.pushes_ahead = cluster.options_.pushes_ahead;
    options.pause_unheard = Milliseconds(150);  // less than it takes to be dead
    core = std::make_unique<WorkerCore>(options, *this, [this](const pb::JobBrief& brief) {
      return Result<std::unique_ptr<TrainStep>>(
          std::make_unique<CountingStep>(brief, cluster.options_.partitions, self.value));
    });
  }

  void Flush() {
    for (const PeerId gone : core->TakeDisconnections()) transport->Disconnect(gone);
    for (const pb::ShardEndpoint& shard : core->TakeConnections()) {
      (void)transport->Connect(PeerId(shard.peer()), shard.address());
    }
    for (auto& item : out.items()) {
      if (item.message.header.has_push()) cluster.NotePush(item.message.header.push());
      if (item.message.header.has_push() && cluster.cut_ != 0) cluster.cut_pushers_.insert(self);
      (void)transport->Send(item.to, std::move(item.message));
    }
    out.clear();
  }
  // Answers of a loader come later, and never to a worker that has died since.
  void Later(std::function<void()> action) {
    const Duration delay = Milliseconds(static_cast<int64_t>(cluster.random_.Below(20)));
    std::weak_ptr<int> living = alive;
    cluster.network_.Schedule(delay, [this, living, action = std::move(action)] {
      if (!living.expired()) Do(action);
    });
  }
  void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) override {
    Later([this, grant, brief] {
      if (brief.statistics_table() == 0 || grant.kind() == pb::STATISTICS) return Ready(grant, brief);
      weighted[grant.lease()] = {grant, brief};
      const auto keys = SimStatistics(grant, brief.spec(), cluster.options_.partitions);
      std::vector<HashedKey> names;
      for (const auto& [key, count] : keys) names.push_back(key);
      core->OnRangeNeedsStatistics(grant.lease(), std::move(names), Now(), out);
      Flush();
    });
  }
  void Ready(const pb::LeaseGrant& grant, const pb::JobBrief& brief) {
    core->OnRangeReady(grant.lease(), MakeSimBatches(grant, brief.spec(), cluster.options_.partitions), 0, Now(), out);
    Flush();
  }
  void Weight(uint64_t lease, Floats statistics) override {
    const auto found = weighted.extract(lease);
    if (!found) return;
    cluster.CheckStatistics(found.mapped().first, found.mapped().second.spec(), statistics);
    Later([this, range = found.mapped()] { Ready(range.first, range.second); });
  }
  void Forget(uint64_t lease) override { weighted.erase(lease); }
  void Plan(const pb::PlanOrder& order) override {
    Later([this, order] {
      core->OnPlan(MakeSimPlan(order.spec(), order.job()), Now(), out);
      Flush();
    });
  }

  SimCluster& cluster;
  const PeerId self;
  const uint32_t number;  // of those started
  std::shared_ptr<int> alive = std::make_shared<int>();
  std::unique_ptr<WorkerCore> core;
  Outbox out;
  std::map<uint64_t, std::pair<pb::LeaseGrant, pb::JobBrief>> weighted;  // leases that wait for statistics
  std::optional<TimePoint> leaving_since;
  TimePoint hindered_until{};  // by a cut or a pause
  std::unique_ptr<SimTransport> transport;
};

// A tool and its transport.
struct SimCluster::ToolNode final : Process {
  ToolNode(SimCluster& its_cluster, PeerId its_id)
      : Process(its_cluster),
        self(its_id),
        tool(its_id, its_cluster.options_.client, its_cluster.random_.Next(), its_cluster.job_,
             its_cluster.options_.mode) {}
  void Flush() {
    for (const auto& [peer, address] : tool.TakeConnections()) (void)transport->Connect(peer, address);
    for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
    out.clear();
  }

  const PeerId self;
  SimTool tool;
  Outbox out;
  std::unique_ptr<SimTransport> transport;
};

}  // namespace sheaf::sim
