// Clients without a job: every push is applied exactly once, whatever the network does, and pulls bring its effect.
#include "tests/contract/data_path/world.h"

namespace sheaf {
namespace {

using namespace data_path;

constexpr uint32_t kDim = 3;

// What all acknowledged pushes add up to.
class Ledger {
 public:
  void Add(const KeyVector& keys, const std::vector<float>& values) {
    for (size_t i = 0; i < keys->size(); ++i) {
      auto& row = rows_[(*keys)[i]];
      row.resize(kDim);
      for (uint32_t c = 0; c < kDim; ++c) row[c] += values[i * kDim + c];
    }
  }
  std::vector<float> Of(const KeyVector& keys) const {
    std::vector<float> values;
    for (const HashedKey key : *keys) {
      const auto at = rows_.find(key);
      for (uint32_t c = 0; c < kDim; ++c) values.push_back(at == rows_.end() ? 0.0f : at->second[c]);
    }
    return values;
  }
  const std::map<HashedKey, std::vector<float>>& rows() const { return rows_; }

 private:
  std::map<HashedKey, std::vector<float>> rows_;
};

// Integers; the first of a row is 127, so that INT8 has the scale 1 and loses nothing.
std::vector<float> SomeValues(Random& random, size_t keys) {
  std::vector<float> values;
  for (size_t i = 0; i < keys; ++i) {
    values.push_back(127);
    for (uint32_t c = 1; c < kDim; ++c) values.push_back(static_cast<float>(random.Below(100)) - 50);
  }
  return values;
}

// Clients push at once, `rounds` each, a few in flight; then everything is pulled and scanned.
void PushAndCheck(World& world, pb::WireSpec::Codec codec, int rounds, size_t pool,
                  std::function<void(int)> on_round = {}) {
  Ledger ledger;
  for (int round = 0; round < rounds; ++round) {
    if (on_round) on_round(round);
    for (uint32_t c = 0; c < world.clients.size(); ++c) {
      for (uint64_t k = 0; k < 3; ++k) {
        const KeyVector keys = SomeKeys(world.random, pool, 0.3);
        const std::vector<float> values = SomeValues(world.random, keys->size());
        ledger.Add(keys, values);
        PushOptions options;
        options.identity = {77, c, static_cast<uint64_t>(round) * 3 + k};
        options.codec = codec;
        world.Push(c, {{TableId(kSums), keys, values}}, options, [](Completion done) {
          EXPECT_TRUE(done.status) << done.status.error().message;
        });
      }
    }
    world.network.RunFor(Milliseconds(3));
  }
  ASSERT_TRUE(world.Settle()) << world.clients[0].core->WaitingFor(world.clock.Now());
  const KeyVector all = SomeKeys(world.random, pool, 2);
  for (uint32_t c = 0; c < world.clients.size(); ++c) {
    const Completion pulled = world.PullNow(c, kSums, all);
    ASSERT_TRUE(pulled.status) << pulled.status.error().message;
    EXPECT_EQ(pulled.values[0], ledger.Of(all)) << "seed " << world.shape_.seed;
  }
  EXPECT_EQ(world.ScanAll(0, kSums, 7), ledger.rows());
}

TEST(DataPath, AppliesEveryPushExactlyOnceUnderEveryCodec) {
  for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::INT8}) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      World world({.seed = seed, .servers = 1 + static_cast<uint32_t>(seed % 3), .clients = 3, .faults = Lossy()});
      PushAndCheck(world, codec, 10, 300);
    }
  }
}

TEST(DataPath, AppliesRoundedPushesExactlyOnceToo) {
  for (const auto codec : {pb::WireSpec::BF16, pb::WireSpec::FP16}) {   // integers below 128 are exact in both
    World world({.seed = 9, .faults = Lossy()});
    PushAndCheck(world, codec, 10, 300);
  }
}

TEST(DataPath, AppliesSlicedPushesExactlyOnceWithLittleCredit) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    Shape shape{.seed = seed, .clients = 3, .faults = Lossy()};
    shape.client.max_payload_bytes = 500;
    shape.client.credit_bytes = 1200;
    World world(shape);
    PushAndCheck(world, pb::WireSpec::FP32, 6, 500);
  }
}

TEST(DataPath, OneShardAndManyPartitionsAreNoSpecialCases) {
  World one({.seed = 3, .servers = 1, .shards = 1, .faults = Lossy()});
  PushAndCheck(one, pb::WireSpec::FP32, 6, 300);
  World many({.seed = 4, .partitions = 512, .servers = 5, .shards = 3, .faults = Lossy()});
  PushAndCheck(many, pb::WireSpec::FP32, 3, 300);
}

TEST(DataPath, SurvivesShardsThatForgetKeyListsAndAreOverloaded) {
  Shape shape{.seed = 5, .clients = 3, .faults = Lossy()};
  shape.shard.key_list_budget_bytes = 3000;
  shape.shard.request_budget_bytes = 8000;
  shape.client.min_keys_to_remember = 8;
  shape.client.max_payload_bytes = 800;
  World world(shape);
  PushAndCheck(world, pb::WireSpec::FP32, 10, 300);
  // The same list over and over, beside others that drive it out.
  const KeyVector keys = SomeKeys(world.random, 300, 0.5);
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(world.PullNow(0, kSums, keys).status);
    EXPECT_TRUE(world.PullNow(1, kSums, SomeKeys(world.random, 300, 0.5)).status);
  }
}

TEST(DataPath, FollowsEpochsThatRiseWhilePushesAreUnderWay) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    Shape shape{.seed = seed, .clients = 3, .faults = Lossy()};
    shape.client.max_payload_bytes = 2000;
    World world(shape);
    PushAndCheck(world, pb::WireSpec::FP32, 20, 300, [&](int round) {
      if (round % 4 != 0) return;
      for (auto& partition : *world.config.mutable_partition()) {
        if (world.random.Chance(0.3)) partition.set_epoch(partition.epoch() + 1);
      }
      world.Publish();
    });
  }
}

TEST(DataPath, FollowsPartitionsThatMoveAndTheirPullsEnd) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    World world({.seed = seed, .servers = 3, .clients = 3, .faults = Lossy()});
    // Rows do not move with their partition here, so only that everything ends well is looked at.
    for (int round = 0; round < 30; ++round) {
      if (round % 5 == 0) {
        for (auto& partition : *world.config.mutable_partition()) {
          if (!world.random.Chance(0.3)) continue;
          partition.set_epoch(partition.epoch() + 1);
          partition.set_primary(static_cast<uint32_t>(1 + world.random.Below(3)));
        }
        world.Publish();
      }
      for (uint32_t c = 0; c < 3; ++c) {
        const KeyVector keys = SomeKeys(world.random, 300, 0.3);
        const auto ends_well = [](Completion done) { EXPECT_TRUE(done.status) << done.status.error().message; };
        PushOptions options;
        options.identity = {78, c, static_cast<uint64_t>(round)};
        if (round % 2 == 0) {
          world.PushPull(c, {{TableId(kSums), keys, SomeValues(world.random, keys->size())}}, options, ends_well);
        } else {
          world.Push(c, {{TableId(kSums), keys, SomeValues(world.random, keys->size())}}, options, ends_well);
        }
        world.Pull(c, {{TableId(kSums), keys}}, {}, ends_well);
      }
      world.network.RunFor(Milliseconds(20));
    }
    EXPECT_TRUE(world.Settle()) << "seed " << seed << ": " << world.clients[0].core->WaitingFor(world.clock.Now());
  }
}

TEST(DataPath, APushPulledInOneGoAnswersTheNewValues) {
  for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::FP16, pb::WireSpec::INT8}) {
    for (const size_t limit : {size_t{600}, size_t{4} << 20}) {
      Shape shape{.seed = 11, .clients = 1, .faults = Lossy()};
      shape.client.max_payload_bytes = limit;
      World world(shape);
      const KeyVector keys = SomeKeys(world.random, 300, 0.5);
      const std::vector<float> values = SomeValues(world.random, keys->size());
      Completion result;
      PushOptions options;
      options.identity = {1, 2, 0};
      options.codec = codec;
      world.PushPull(0, {{TableId(kSums), keys, values}}, options, [&](Completion done) { result = std::move(done); });
      ASSERT_TRUE(world.Settle());
      ASSERT_TRUE(result.status) << result.status.error().message;
      EXPECT_EQ(result.values[0], values);
    }
  }
}

TEST(DataPath, APushThatAnotherClientHasMadeIsADuplicate) {
  World world({.seed = 2, .faults = Lossy()});
  const KeyVector keys = SomeKeys(world.random, 300, 0.5);
  const std::vector<float> values = SomeValues(world.random, keys->size());
  PushOptions options;
  options.identity = {1, 2, 0};
  for (const uint32_t c : {0u, 1u}) {
    world.Push(c, {{TableId(kSums), keys, values}}, options, [&](Completion done) {
      EXPECT_TRUE(done.status);
      if (c == 1) {
        EXPECT_TRUE(done.duplicate);
      }
    });
    ASSERT_TRUE(world.Settle());
  }
  EXPECT_EQ(world.PullNow(0, kSums, keys).values[0], values);
}

TEST(DataPath, NamesTheServerThatCannotBeReached) {
  World world({.seed = 2, .clients = 1});
  world.network.Cut(PeerId(1000), PeerId(111));
  const Completion done = world.PullNow(0, kSums, SomeKeys(world.random, 300, 0.5));
  ASSERT_FALSE(done.status);
  EXPECT_EQ(done.status.error().code, ErrorCode::kTimeout);
  EXPECT_NE(done.status.error().message.find("server-1 (tcp://shard:111)"), std::string::npos)
      << done.status.error().message;
}

TEST(DataPath, RefusesInfiniteGradientsAndAppliesNothing) {
  World world({.seed = 2, .servers = 1, .shards = 1, .clients = 1});
  const KeyVector keys = SomeKeys(world.random, 300, 0.5);
  std::vector<float> values = SomeValues(world.random, keys->size());
  values[7] = std::numeric_limits<float>::infinity();
  Completion result;
  world.Push(0, {{TableId(kSums), keys, values}}, {.progress = {}, .identity = {1, 2, 0}},
             [&](Completion done) { result = std::move(done); });
  ASSERT_TRUE(world.Settle());
  EXPECT_EQ(result.status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(world.ScanAll(0, kSums, 10).empty());
}

}  // namespace
}  // namespace sheaf
