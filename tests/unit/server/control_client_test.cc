#include "server/control_client.h"

#include <gtest/gtest.h>

#include "common/net/config_update.h"

namespace sheaf {
namespace {

pb::ClusterConfig Generation(uint64_t generation) {
  pb::ClusterConfig config;
  config.set_generation(generation);
  config.set_partition_count(1);
  config.add_partition()->set_epoch(generation);
  return config;
}

class ControlClientTest : public ::testing::Test {
 protected:
  ControlClientTest() : control_(Self(), {}) {
    Message registered;
    registered.header.mutable_registered()->set_name("server-0");
    registered.header.mutable_registered()->set_report_every_ms(1000);
    Outbox out;
    control_.OnMessage(registered, now_, out);
    (void)Reports();
  }
  static MemberInfo Self() {
    MemberInfo self;
    self.role = pb::SERVER;
    self.self = PeerId(7);
    return self;
  }
  void Hear(const pb::ConfigUpdate& update) {
    Message message;
    message.header.mutable_server_orders()->set_config_update(update.SerializeAsString());
    Outbox out;
    control_.OnMessage(message, now_, out);
  }
  // What a tick right now sends.
  std::vector<pb::ServerReport> Reports() {
    Outbox out;
    control_.OnTick(stats_, now_, out);
    std::vector<pb::ServerReport> reports;
    for (const auto& item : out.items()) {
      if (item.message.header.has_server_report()) reports.push_back(item.message.header.server_report());
    }
    return reports;
  }

  TimePoint now_{};
  ShardStats stats_;
  ControlClient control_;
};

TEST_F(ControlClientTest, BuildsEachConfigurationFromTheOneBefore) {
  Hear(WholeConfig(Generation(1)));
  EXPECT_EQ(control_.TakeConfig()->SerializeAsString(), Generation(1).SerializeAsString());
  EXPECT_FALSE(control_.TakeConfig());
  Hear(DiffConfig(Generation(1), Generation(2)));
  EXPECT_EQ(control_.TakeConfig()->SerializeAsString(), Generation(2).SerializeAsString());
}

TEST_F(ControlClientTest, AsksAtOnceWhenAnUpdateWasLost) {
  Hear(WholeConfig(Generation(1)));
  (void)control_.TakeConfig();
  EXPECT_TRUE(Reports().empty());
  Hear(DiffConfig(Generation(2), Generation(3)));
  EXPECT_FALSE(control_.TakeConfig());
  const auto reports = Reports();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].config_generation(), 1u);
}

TEST_F(ControlClientTest, LeavesOldUpdatesAlone) {
  Hear(WholeConfig(Generation(5)));
  (void)control_.TakeConfig();
  Hear(WholeConfig(Generation(4)));
  Hear(DiffConfig(Generation(3), Generation(4)));
  EXPECT_FALSE(control_.TakeConfig());
  EXPECT_TRUE(Reports().empty());
}

}  // namespace
}  // namespace sheaf
