#include "scheduler/config_log.h"

#include <gtest/gtest.h>

#include "common/net/config_update.h"

namespace sheaf {
namespace {

pb::ClusterConfig Generation(uint64_t generation) {
  pb::ClusterConfig config;
  config.set_generation(generation);
  config.set_partition_count(1);
  config.add_partition()->set_epoch(generation);
  config.add_server()->set_node(static_cast<uint32_t>(generation));
  config.add_roster()->set_job(generation);
  return config;
}

pb::ConfigUpdate Parsed(const std::string& encoded) {
  pb::ConfigUpdate update;
  EXPECT_TRUE(update.ParseFromString(encoded));
  return update;
}

TEST(ConfigLog, LeadsFromEveryGenerationItKnowsToTheLatest) {
  ConfigLog log(Generation(1));
  for (uint64_t generation = 2; generation <= 9; ++generation) log.Add(Generation(generation));
  for (uint64_t since = 1; since <= 8; ++since) {
    pb::ClusterConfig config = Generation(since);
    EXPECT_EQ(Parsed(log.UpdateFor(pb::SERVER, since)).since(), since);
    ASSERT_TRUE(ApplyConfigUpdate(log.UpdateFor(pb::SERVER, since), config).has_value());
    EXPECT_EQ(config.SerializeAsString(), log.latest().SerializeAsString());
  }
}

TEST(ConfigLog, GivesTheWholeToWhoeverHasNothingOrWhatWasForgotten) {
  ConfigLog log(Generation(1));
  for (uint64_t generation = 2; generation <= 100; ++generation) log.Add(Generation(generation));
  for (const uint64_t since : {uint64_t{0}, uint64_t{1}, uint64_t{1000}}) {
    pb::ClusterConfig config = Generation(since);
    EXPECT_EQ(Parsed(log.UpdateFor(pb::SERVER, since)).since(), 0u);
    ASSERT_TRUE(ApplyConfigUpdate(log.UpdateFor(pb::SERVER, since), config).has_value());
    EXPECT_EQ(config.SerializeAsString(), log.latest().SerializeAsString());
  }
}

TEST(ConfigLog, EncodesOnceForAllThatNeedTheSame) {
  ConfigLog log(Generation(1));
  log.Add(Generation(2));
  EXPECT_EQ(&log.UpdateFor(pb::SERVER, 1), &log.UpdateFor(pb::SERVER, 1));
  EXPECT_EQ(&log.UpdateFor(pb::SERVER, 0), &log.UpdateFor(pb::SERVER, 77));
}

TEST(ConfigLog, KeepsRostersFromWorkers) {
  ConfigLog log(Generation(1));
  log.Add(Generation(2));
  for (const uint64_t since : {0, 1}) {
    const pb::ConfigUpdate update = Parsed(log.UpdateFor(pb::WORKER, since));
    EXPECT_EQ(update.roster_size() + update.config().roster_size(), 0);
    EXPECT_EQ(update.config().generation(), 2u);
    EXPECT_EQ(update.config().server_size(), 1);
  }
}

}  // namespace
}  // namespace sheaf
