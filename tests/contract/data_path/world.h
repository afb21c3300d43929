// Real clients and real shards in one thread, over the simulated network: the data path without processes.
//
// Gradients are small integers and tables sum them up (or learn with plain gradient descent of rate 1), so that the
// rows at the end are exactly what the acknowledged pushes add up to, in whatever order.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/ps_client.h"
#include "common/base/random.h"
#include "server/shard_core.h"
#include "tests/sim/sim_network.h"

namespace sheaf::data_path {

inline constexpr uint32_t kSums = 1;        // SUM, dim 3
inline constexpr uint32_t kWeights = 2;     // SGD with rate 1, dim 2
inline constexpr uint64_t kJob = 5;


struct Shape {
  uint64_t seed = 1;
  uint32_t partitions = 16;
  uint32_t servers = 2;
  uint32_t shards = 2;
  uint32_t clients = 2;
  sim::LinkFaults faults{};
  ClientOptions client{};
  ShardOptions shard{};
};

inline sim::LinkFaults Lossy() {
  sim::LinkFaults faults;
  faults.max_delay = Milliseconds(2);
  faults.loss = 0.1;
  faults.duplicate = 0.1;
  faults.reorder = 0.3;
  return faults;
}

// Some of `count` keys that all clients share.
inline KeyVector SomeKeys(Random& random, size_t pool, double share) {
  std::vector<HashedKey> keys;
  for (size_t i = 0; i < pool; ++i) {
    if (random.Chance(share)) keys.push_back(MixKey(i));
  }
  std::ranges::sort(keys);
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

class World {
 public:
  struct ShardNode {
    std::unique_ptr<ShardCore> core;
    std::unique_ptr<sim::SimTransport> transport;
  };
  struct ClientNode {
    std::unique_ptr<PsClient> core;
    std::unique_ptr<sim::SimTransport> transport;
    bool fetching = false;
    Outbox out;
  };

  explicit World(const Shape& shape) : shape_(shape), random(shape.seed), network(clock, random) {
    network.SetFaults(shape.faults);
    MakeConfig();
    for (uint32_t s = 0; s < shape.servers; ++s) {
      for (uint32_t i = 0; i < shape.shards; ++i) StartShard(PeerId(100 + 10 * s + i));
    }
    for (uint32_t c = 0; c < shape.clients; ++c) StartClient(c);
    for (auto& [peer, shard] : shards) TellShard(peer);
    for (uint32_t c = 0; c < shape.clients; ++c) TellClient(c);
  }

  pb::Roster& AddRoster(pb::ConsistencySpec::Mode mode, uint32_t lanes, uint64_t end_clock, uint32_t staleness = 0) {
    pb::Roster& roster = *config.add_roster();
    roster.set_job(kJob);
    roster.set_pass(0);
    roster.set_mode(mode);
    roster.set_staleness(staleness);
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      pb::Lane& added = *roster.add_lane();
      added.set_lane(lane);
      added.set_start_clock(0);
      added.set_end_clock(end_clock);
    }
    return roster;
  }
  // The configuration has changed: everybody hears of it, each at a time of its own.
  void Publish() {
    config.set_generation(config.generation() + 1);
    for (auto& [peer, shard] : shards) network.Schedule(RandomDelay(), [this, peer = peer] { TellShard(peer); });
    for (uint32_t c = 0; c < clients.size(); ++c) network.Schedule(RandomDelay(), [this, c] { TellClient(c); });
  }

  // The completion is given to `then`.
  void Pull(uint32_t c, std::vector<TableKeys> tables, PullOptions options, std::function<void(Completion)> then) {
    const OperationId id = clients[c].core->Pull(std::move(tables), std::move(options), clock.Now(), clients[c].out);
    waiting[{c, id}] = std::move(then);
    Flush(c);
  }
  void Push(uint32_t c, std::vector<TableGradients> tables, PushOptions options, std::function<void(Completion)> then) {
    const OperationId id = clients[c].core->Push(std::move(tables), std::move(options), clock.Now(), clients[c].out);
    waiting[{c, id}] = std::move(then);
    Flush(c);
  }
  void PushPull(uint32_t c, std::vector<TableGradients> tables, PushOptions options,
                std::function<void(Completion)> then) {
    const OperationId id =
        clients[c].core->PushPull(std::move(tables), std::move(options), clock.Now(), clients[c].out);
    waiting[{c, id}] = std::move(then);
    Flush(c);
  }
  // Runs until no operation is left; false if that takes longer than `limit` of simulated time.
  bool Settle(Duration limit = std::chrono::minutes(10)) {
    const TimePoint end = clock.Now() + limit;
    while (!waiting.empty() && clock.Now() < end) network.Step();
    return waiting.empty();
  }
  Completion PullNow(uint32_t c, uint32_t table, KeyVector keys, PullOptions options = {}) {
    Completion result;
    Pull(c, {{TableId(table), std::move(keys)}}, std::move(options),
         [&](Completion done) { result = std::move(done); });
    EXPECT_TRUE(Settle()) << clients[c].core->WaitingFor(clock.Now());
    return result;
  }
  // All rows of a table, partition by partition, a few at a time.
  std::map<HashedKey, std::vector<float>> ScanAll(uint32_t c, uint32_t table, uint32_t max_rows) {
    std::map<HashedKey, std::vector<float>> rows;
    for (uint32_t p = 0; p < shape_.partitions; ++p) {
      std::optional<HashedKey> after;
      while (true) {
        clients[c].core->Scan(TableId(table), PartitionId(p), after, max_rows, clock.Now(), clients[c].out);
        Flush(c);
        std::vector<PsClient::ScanResult> scans;
        while (scans.empty()) {
          network.Step();
          scans = clients[c].core->TakeScans();
        }
        EXPECT_TRUE(scans[0].status) << scans[0].status.error().message;
        if (!scans[0].status) return rows;
        const size_t dim = scans[0].keys.empty() ? 0 : scans[0].values.size() / scans[0].keys.size();
        for (size_t i = 0; i < scans[0].keys.size(); ++i) {
          const auto row = scans[0].values.begin() + static_cast<ptrdiff_t>(i * dim);
          EXPECT_TRUE(
              rows.emplace(scans[0].keys[i], std::vector<float>(row, row + static_cast<ptrdiff_t>(dim))).second);
        }
        if (scans[0].done) break;
        after = scans[0].keys.back();
      }
    }
    return rows;
  }
  ShardStats Stats() const {
    std::vector<ShardStats> stats;
    for (const auto& [peer, shard] : shards) stats.push_back(shard.core->stats());
    return MergeStats(stats);
  }

  const Shape shape_;
  ManualClock clock;
  Random random;
  sim::SimNetwork network;
  pb::ClusterConfig config;
  std::map<PeerId, ShardNode> shards;
  std::deque<ClientNode> clients;
  std::map<std::pair<uint32_t, OperationId>, std::function<void(Completion)>> waiting;

 private:
  static std::string AddressOf(PeerId peer) { return "tcp://shard:" + std::to_string(peer.value); }
  Duration RandomDelay() { return std::chrono::microseconds(random.Below(100'000)); }

  void MakeConfig() {
    config.set_generation(1);
    config.set_partition_count(shape_.partitions);
    for (uint32_t s = 0; s < shape_.servers; ++s) {
      pb::ServerInfo& server = *config.add_server();
      server.set_node(s + 1);
      server.set_name("server-" + std::to_string(s));
      for (uint32_t i = 0; i < shape_.shards; ++i) {
        pb::ShardEndpoint& shard = *server.add_shard();
        shard.set_peer(100 + 10 * s + i);
        shard.set_address(AddressOf(PeerId(shard.peer())));
      }
    }
    for (uint32_t p = 0; p < shape_.partitions; ++p) {
      pb::PartitionConfig& partition = *config.add_partition();
      partition.set_epoch(1);
      partition.set_primary(1 + p * shape_.servers / shape_.partitions);
    }
    pb::TableSpec& sums = *config.add_table();
    sums.set_id(kSums);
    sums.set_job(kJob);
    sums.set_dim(3);
    sums.set_update(pb::TableSpec::SUM);
    pb::TableSpec& weights = *config.add_table();
    weights.set_id(kWeights);
    weights.set_job(kJob);
    weights.set_dim(2);
    weights.mutable_optimizer()->set_kind(pb::OptimizerSpec::SGD);
    weights.mutable_optimizer()->set_learning_rate(1);
  }
  void StartShard(PeerId peer) {
    ShardNode& shard = shards[peer];
    shard.core = std::make_unique<ShardCore>(peer, shape_.shard);
    shard.transport = network.Start(peer, AddressOf(peer), [this, peer](PeerId from, Message message) {
      ShardNode& node = shards.at(peer);
      Outbox out;
      node.core->OnMessage(from, std::move(message), clock.Now(), out);
      SendAll(*node.transport, out);
    });
    TickShard(peer);
  }
  void StartClient(uint32_t c) {
    ClientNode& client = clients.emplace_back();
    client.core = std::make_unique<PsClient>(PeerId(1000 + c), shape_.client);
    client.transport = network.Start(PeerId(1000 + c), "", [this, c](PeerId from, Message message) {
      clients[c].core->OnMessage(from, std::move(message), clock.Now(), clients[c].out);
      Flush(c);
    });
    TickClient(c);
  }
  void TickShard(PeerId peer) {
    network.Schedule(std::chrono::seconds(1), [this, peer] {
      Outbox out;
      shards.at(peer).core->OnTick(clock.Now(), out);
      SendAll(*shards.at(peer).transport, out);
      TickShard(peer);
    });
  }
  void TickClient(uint32_t c) {
    network.Schedule(Milliseconds(20), [this, c] {
      clients[c].core->OnTick(clock.Now(), clients[c].out);
      if (clients[c].core->wants_config() && !clients[c].fetching) {
        clients[c].fetching = true;
        network.Schedule(RandomDelay(), [this, c] {
          clients[c].fetching = false;
          TellClient(c);
        });
      }
      Flush(c);
      TickClient(c);
    });
  }
  void TellShard(PeerId peer) {
    Outbox out;
    const Status status = shards.at(peer).core->OnConfig(config, clock.Now(), out);
    EXPECT_TRUE(status) << status.error().message;
    SendAll(*shards.at(peer).transport, out);
  }
  void TellClient(uint32_t c) {
    for (const pb::ServerInfo& server : config.server()) {
      for (const pb::ShardEndpoint& shard : server.shard()) {
        EXPECT_TRUE(clients[c].transport->Connect(PeerId(shard.peer()), shard.address()));
      }
    }
    clients[c].core->OnConfig(config);
  }
  void SendAll(Transport& transport, Outbox& out) {
    for (Outbox::Item& item : out.items()) {
      const Status sent = transport.Send(item.to, std::move(item.message));
      EXPECT_TRUE(sent || sent.error().code != ErrorCode::kInvalidArgument) << sent.error().message;
    }
    out.clear();
  }
  void Flush(uint32_t c) {
    SendAll(*clients[c].transport, clients[c].out);
    for (Completion& done : clients[c].core->TakeCompletions()) {
      const auto at = waiting.find({c, done.operation});
      ASSERT_NE(at, waiting.end()) << "an operation has ended twice, or before it was known";
      const auto then = std::move(at->second);
      waiting.erase(at);
      then(std::move(done));
    }
  }
};

}  // namespace sheaf::data_path
