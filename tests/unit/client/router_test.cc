#include "client/router.h"

#include <set>

#include "tests/unit/client/fake_cluster.h"

namespace sheaf {
namespace {

using namespace client_test;

TEST(Router, PutsEveryPartitionOnTheShardOfItsPrimary) {
  const pb::ClusterConfig config = MakeConfig({.partitions = 64, .servers = 3, .shards = 2});
  const Router router(config);
  ASSERT_TRUE(router.routable());
  for (uint32_t p = 0; p < 64; ++p) {
    const ShardRoute& shard = router.shards()[router.shard_of(p)];
    EXPECT_EQ(shard.peer.value, 100 + (p / 2 % 3) * 10 + p % 2);
    EXPECT_EQ(shard.name, "server-" + std::to_string(p / 2 % 3));
  }
}

TEST(Router, FindsTheBoundsThatTheDefinitionGives) {
  for (const uint32_t partitions : {1u, 2u, 7u, 64u, 1000u, 4096u}) {
    const Router router(MakeConfig({.partitions = partitions}));
    for (const size_t count : {0, 1, 5, 63, 1000, 20000}) {
      const KeyVector keys = MakeKeys(count);
      std::vector<uint32_t> bounds;
      router.FindBounds(*keys, bounds);
      ASSERT_EQ(bounds.size(), partitions + 1);
      EXPECT_EQ(bounds.front(), 0u);
      EXPECT_EQ(bounds.back(), count);
      for (uint32_t p = 0; p < partitions; ++p) {
        ASSERT_LE(bounds[p], bounds[p + 1]);
        for (uint32_t i = bounds[p]; i < bounds[p + 1]; ++i) ASSERT_EQ(PartitionOf((*keys)[i], partitions).value, p);
      }
    }
  }
}

TEST(Router, FindsBoundsOfKeysThatAreAllInOnePlace) {
  std::vector<HashedKey> keys;
  for (uint64_t i = 0; i < 5000; ++i) keys.push_back(~uint64_t{0} - 5000 + i);
  const Router router(MakeConfig({.partitions = 64}));
  std::vector<uint32_t> bounds;
  router.FindBounds(keys, bounds);
  EXPECT_EQ(bounds[63], 0u);
  EXPECT_EQ(bounds[64], 5000u);
}

TEST(Router, FindsBoundsOfKeysInClusters) {
  const Router router(MakeConfig({.partitions = 64}));
  for (const uint64_t stride : {uint64_t{1}, uint64_t{1} << 40, uint64_t{1} << 57}) {
    for (const uint64_t base : {uint64_t{0}, uint64_t{1} << 58, uint64_t{31} << 58, ~uint64_t{0} - 3000}) {
      std::set<HashedKey> set;
      for (uint64_t i = 0; i < 3000; ++i) set.insert(base + i * stride + (i % 7) * (uint64_t{1} << 59));  // may wrap
      const std::vector<HashedKey> keys(set.begin(), set.end());
      std::vector<uint32_t> bounds;
      router.FindBounds(keys, bounds);
      for (uint32_t p = 0; p < 64; ++p) {
        for (uint32_t i = bounds[p]; i < bounds[p + 1]; ++i) ASSERT_EQ(PartitionOf(keys[i], 64).value, p);
      }
      EXPECT_EQ(bounds[64], keys.size());
    }
  }
}

TEST(Router, SaysWhyAConfigurationCannotBeUsed) {
  pb::ClusterConfig config;
  EXPECT_EQ(Router(config).obstacle(), "no server has joined the cluster yet");
  config = MakeConfig();
  config.mutable_partition(3)->set_primary(99);
  EXPECT_EQ(Router(config).obstacle(), "partition 3 has no server now");
  config = MakeConfig();
  config.set_partition_count(4000);
  EXPECT_FALSE(Router(config).routable());
  config = MakeConfig();
  config.mutable_server(0)->clear_shard();
  EXPECT_FALSE(Router(config).routable());
}

TEST(Router, TakesNoTableWhoseRowsCannotBe) {
  pb::ClusterConfig config = MakeConfig();
  config.mutable_table(0)->set_dim(1 << 30);
  config.mutable_table(1)->set_dim(0);
  const Router router(config);
  EXPECT_EQ(router.TableDim(TableId(kTable)), 0u);
  EXPECT_EQ(router.TableDim(TableId(kOtherTable)), 0u);
}

TEST(Router, TellsWhetherPartitionsAreStillWhereTheyWere) {
  const Router before(MakeConfig());
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  EXPECT_TRUE(before.SamePlacement(Router(config)));
  config.mutable_partition(0)->set_epoch(2);
  const Router after(config);
  EXPECT_FALSE(before.SamePlacement(after));
  EXPECT_FALSE(
      after.StillAt(before.shards()[before.shard_of(0)].peer, *before.shards()[before.shard_of(0)].partitions));
  EXPECT_TRUE(after.StillAt(before.shards()[before.shard_of(1)].peer, *before.shards()[before.shard_of(1)].partitions));
}

}  // namespace
}  // namespace sheaf
