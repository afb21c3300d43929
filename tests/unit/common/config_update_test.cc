#include "common/net/config_update.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace sheaf {
namespace {

// A configuration like the scheduler's, of a few elements of each kind so that two of them often have some in common.
pb::ClusterConfig Draw(Random& random, uint64_t generation) {
  pb::ClusterConfig config;
  config.set_generation(generation);
  config.set_partition_count(6);
  for (uint32_t node = 1; node <= 5; ++node) {
    if (random.Chance(0.4)) continue;
    pb::ServerInfo& server = *config.add_server();
    server.set_node(node);
    server.set_name("server-" + std::to_string(node));
    server.add_shard()->set_peer(100 * node + random.Below(2));
    server.mutable_shard(0)->set_address("tcp://host:" + std::to_string(random.Below(2)));
    server.mutable_shard(0)->set_host(random.Below(2));
  }
  if (random.Chance(0.8)) {
    for (uint32_t p = 0; p < 6; ++p) {
      pb::PartitionConfig& partition = *config.add_partition();
      partition.set_epoch(random.Below(2));
      partition.set_primary(static_cast<uint32_t>(random.Below(3)));
    }
  }
  for (uint32_t id = 4; id <= 7; ++id) {
    if (random.Chance(0.4)) continue;
    pb::TableSpec& table = *config.add_table();
    table.set_id(id);
    table.set_dim(static_cast<uint32_t>(1 + random.Below(2)));
  }
  for (uint64_t job = 1; job <= 3; ++job) {
    if (random.Chance(0.4)) continue;
    pb::Roster& roster = *config.add_roster();
    roster.set_job(job);
    roster.set_pass(static_cast<uint32_t>(random.Below(2)));
    if (random.Chance(0.5)) roster.set_staleness(static_cast<uint32_t>(random.Below(2)));
    for (uint32_t number = 0; number < 6; ++number) {
      if (random.Chance(0.4)) continue;
      pb::Lane& lane = *roster.add_lane();
      lane.set_lane(number);
      lane.set_start_clock(random.Below(2));
      if (random.Chance(0.5)) lane.set_end_clock(random.Below(2));
    }
  }
  return config;
}

TEST(ConfigUpdate, TurnsAnyConfigurationIntoAnyOther) {
  Random random(1);
  for (uint64_t i = 0; i < 3000; ++i) {
    const pb::ClusterConfig from = Draw(random, 7), to = Draw(random, 9);
    pb::ClusterConfig config = from;
    ASSERT_TRUE(ApplyConfigUpdate(DiffConfig(from, to).SerializeAsString(), config).has_value());
    ASSERT_EQ(config.SerializeAsString(), to.SerializeAsString())
        << "from " << from.ShortDebugString() << "\nto   " << to.ShortDebugString() << "\ncame "
        << config.ShortDebugString();
  }
}

TEST(ConfigUpdate, OfTheWholeNeedsNothingBefore) {
  Random random(2);
  const pb::ClusterConfig to = Draw(random, 9);
  pb::ClusterConfig config = Draw(random, 3);
  ASSERT_TRUE(ApplyConfigUpdate(WholeConfig(to), config).has_value());
  EXPECT_EQ(config.SerializeAsString(), to.SerializeAsString());
}

TEST(ConfigUpdate, OfAnotherGenerationChangesNothing) {
  Random random(3);
  const pb::ConfigUpdate update = DiffConfig(Draw(random, 7), Draw(random, 9));
  pb::ClusterConfig config = Draw(random, 8);
  const pb::ClusterConfig before = config;
  const Status status = ApplyConfigUpdate(update, config);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(config.SerializeAsString(), before.SerializeAsString());
}

TEST(ConfigUpdate, ThatNamesAPartitionOutOfBoundsIsRefused) {
  Random random(4);
  pb::ConfigUpdate update = DiffConfig(Draw(random, 7), Draw(random, 9));
  update.clear_partition_index();
  update.mutable_config()->clear_partition();
  update.add_partition_index(update.partition_size());
  update.mutable_config()->add_partition();
  pb::ClusterConfig config = Draw(random, 7);
  EXPECT_FALSE(ApplyConfigUpdate(update, config).has_value());
  update.set_partition_size(1 << 30);
  EXPECT_FALSE(ApplyConfigUpdate(update, config).has_value());
  EXPECT_FALSE(ApplyConfigUpdate("no update", config).has_value());
}

TEST(ConfigUpdate, OfOneLaneAmongThousandsIsSmall) {
  pb::ClusterConfig from;
  from.set_generation(1);
  pb::Roster& roster = *from.add_roster();
  roster.set_job(1);
  for (uint32_t lane = 0; lane < 10'000; ++lane) roster.add_lane()->set_lane(lane);
  pb::ClusterConfig to = from;
  to.set_generation(2);
  to.mutable_roster(0)->mutable_lane()->DeleteSubrange(5000, 1);
  EXPECT_LT(DiffConfig(from, to).ByteSizeLong(), 64u);
}

}  // namespace
}  // namespace sheaf
