// A shard (or several) with a configuration that tests change, and short ways to say requests.
//
// Tables learn with plain gradient descent of rate 1, so that small integers make exact sums: a row is minus the sum of
// what was applied to it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/partition.h"
#include "common/base/random.h"
#include "compute/codec/value_codec.h"
#include "server/key_list_cache.h"
#include "server/shard_core.h"

namespace sheaf {

inline constexpr PeerId kShardPeer{100};
inline constexpr PeerId kClient{7};
inline constexpr PeerId kOtherClient{8};
inline constexpr uint32_t kTable = 1;

using Rows = std::map<HashedKey, std::vector<float>>;

class ShardFixture : public ::testing::Test {
 protected:
  ShardFixture() {
    config.set_generation(0);
    config.set_partition_count(4);
    pb::ServerInfo& server = *config.add_server();
    server.set_node(1);
    server.add_shard()->set_peer(kShardPeer.value);
    for (int p = 0; p < 4; ++p) {
      pb::PartitionConfig& partition = *config.add_partition();
      partition.set_epoch(3);
      partition.set_primary(1);
    }
    AddTable(kTable, 2);
  }

  pb::TableSpec& AddTable(uint32_t id, uint32_t dim) {
    pb::TableSpec& table = *config.add_table();
    table.set_id(id);
    table.set_job(5);
    table.set_dim(dim);
    table.mutable_optimizer()->set_kind(pb::OptimizerSpec::SGD);
    table.mutable_optimizer()->set_learning_rate(1);
    return table;
  }
  pb::Roster& AddRoster(pb::ConsistencySpec::Mode mode, uint32_t lanes, uint64_t end = ~uint64_t{0},
                        uint32_t pass = 0) {
    pb::Roster& roster = *config.add_roster();
    roster.set_job(5);
    roster.set_pass(pass);
    roster.set_mode(mode);
    roster.set_staleness(2);
    roster.set_learning_rate_scale(1);
    for (uint32_t lane = 0; lane < lanes; ++lane) {
      pb::Lane& added = *roster.add_lane();
      added.set_lane(lane);
      added.set_start_clock(0);
      added.set_end_clock(end);
    }
    return roster;
  }
  // Makes the configuration known. Answers what the shard sends.
  std::vector<Outbox::Item> Install() {
    config.set_generation(config.generation() + 1);
    Outbox out;
    last_config = core->OnConfig(config, now, out);
    return std::move(out.items());
  }

  // The i-th key of a partition.
  static HashedKey Key(uint32_t partition, uint64_t i) {
    return PartitionFirstKey(PartitionId(partition), 4) + i * 1000;
  }

  pb::Progress At(uint32_t lane, uint64_t clock, uint32_t pass = 0) const {
    pb::Progress progress;
    progress.set_job(5);
    progress.set_pass(pass);
    progress.set_lane(lane);
    progress.set_clock(clock);
    progress.set_generation(config.generation());
    return progress;
  }

  template <typename Body>
  void FillTarget(Body& body, const std::vector<uint32_t>& partitions) const {
    for (const uint32_t p : partitions) {
      body.add_partition(p);
      body.add_epoch(3);
    }
  }
  static std::vector<uint32_t> All() { return {0, 1, 2, 3}; }

  // A block of one table; keys go inlined to the frame.
  static void FillBlock(pb::Block& block, uint32_t table, const std::vector<HashedKey>& keys,
                        const std::vector<uint32_t>& partitions) {
    block.set_table(table);
    block.mutable_keys()->set_inlined(true);
    for (const uint32_t p : partitions) {
      block.add_key_count(static_cast<uint32_t>(std::count_if(
          keys.begin(), keys.end(), [p](HashedKey key) { return PartitionOf(key, 4) == PartitionId(p); })));
    }
  }

  Message MakePull(const std::vector<HashedKey>& keys, std::optional<pb::Progress> progress = std::nullopt,
                   uint32_t table = kTable) const {
    Message message;
    message.header.set_request(1);
    pb::PullRequest& pull = *message.header.mutable_pull();
    if (progress) *pull.mutable_progress() = *progress;
    FillTarget(pull, All());
    FillBlock(*pull.add_block(), table, keys, All());
    message.keys = Buffer::FromVector(keys);
    return message;
  }

  // A session push (without progress) or a training push, of batch `seq` in range `range`.
  Message MakePush(const Rows& rows, uint64_t seq, std::optional<pb::Progress> progress = std::nullopt,
                   uint64_t range = 0, uint32_t table = kTable) const {
    Message message;
    message.header.set_request(1);
    pb::PushRequest& push = *message.header.mutable_push();
    push.set_stream_high(progress ? progress->job() << 32 | progress->pass() : 0xabcdef);
    push.set_stream_low(range);
    push.set_seq(seq);
    push.set_example_count(10);
    if (progress) *push.mutable_progress() = *progress;
    FillTarget(push, All());
    std::vector<HashedKey> keys;
    std::vector<float> values;
    for (const auto& [key, row] : rows) {
      keys.push_back(key);
      values.insert(values.end(), row.begin(), row.end());
    }
    FillBlock(*push.add_block(), table, keys, All());
    message.keys = Buffer::FromVector(keys);
    message.values = Buffer::FromVector(values);
    return message;
  }

  std::vector<Outbox::Item> Send(Message message, PeerId from = kClient) {
    Outbox out;
    core->OnMessage(from, std::move(message), now, out);
    return std::move(out.items());
  }
  // The one answer to a request.
  Message Ask(Message message, PeerId from = kClient) {
    auto items = Send(std::move(message), from);
    EXPECT_EQ(items.size(), 1U);
    if (items.empty()) return {};
    EXPECT_EQ(items[0].to, from);
    return std::move(items[0].message);
  }
  // The first answer, which must be a refusal, by its reason's name; "" if it is not.
  std::string Refusal(Message message, PeerId from = kClient) {
    const auto items = Send(std::move(message), from);
    EXPECT_FALSE(items.empty());
    if (items.empty() || !items[0].message.header.has_refusal()) return "";
    last_refusal = items[0].message.header.refusal();
    EXPECT_FALSE(last_refusal.text().empty());
    return pb::Refusal::Reason_Name(last_refusal.reason());
  }
  std::vector<float> Pull(const std::vector<HashedKey>& keys, uint32_t table = kTable) {
    return Floats(Ask(MakePull(keys, std::nullopt, table)));
  }
  static std::vector<float> Floats(const Message& message) {
    EXPECT_TRUE(message.header.has_pull_reply() || message.header.has_push_reply())
        << message.header.ShortDebugString();
    const auto values = message.values.As<float>();
    return {values.begin(), values.end()};
  }
  void Configure(ShardOptions options) {
    core = std::make_unique<ShardCore>(kShardPeer, options);
  }

  pb::ClusterConfig config;
  std::unique_ptr<ShardCore> core = std::make_unique<ShardCore>(kShardPeer, ShardOptions{});
  TimePoint now{};
  Status last_config;
  pb::Refusal last_refusal;
};

}  // namespace sheaf
