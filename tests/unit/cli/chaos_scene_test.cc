#include "cli/chaos_scene.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sheaf::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint32_t kFirst = 1, kSecond = 2, kWorker = 3;

void AddNode(pb::ClusterStatus& status, uint32_t node, const std::string& name, pb::Role role, uint32_t pid) {
  pb::NodeStatus& added = *status.add_node();
  added.set_node(node);
  added.set_name(name);
  added.set_role(role);
  added.set_state("alive");
  added.set_pid(pid);
}

// Two servers with two partitions each, and a worker.
class ChaosScene : public ::testing::Test {
 protected:
  ChaosScene() {
    AddNode(status_, kFirst, "server-0", pb::SERVER, 100);
    AddNode(status_, kSecond, "server-1", pb::SERVER, 101);
    AddNode(status_, kWorker, "worker-0", pb::WORKER, 102);
    for (const uint32_t primary : {kFirst, kSecond, kFirst, kSecond}) {
      pb::PartitionConfig& partition = *config_.add_partition();
      partition.set_primary(primary);
      partition.add_replica()->set_in_sync(true);
    }
    pb::JobStatus& job = *status_.add_job();
    job.set_phase(pb::RUNNING);
    job.set_work_done(500);
  }
  Scene Now() const { return MakeScene(status_, config_); }

  pb::ClusterStatus status_;
  pb::ClusterConfig config_;
};

TEST_F(ChaosScene, TellsNothingWhereNothingHappened) { EXPECT_THAT(WhatHappened(Now(), Now()), IsEmpty()); }

TEST_F(ChaosScene, TellsWhoDiedAndWhoTookOverWhat) {
  const Scene before = Now();
  status_.mutable_node(1)->set_state("dead");
  for (const int p : {1, 3}) {
    config_.mutable_partition(p)->set_primary(kFirst);
    config_.mutable_partition(p)->clear_replica();
  }
  EXPECT_THAT(WhatHappened(before, Now()),
              ElementsAre("server-1 is dead", "server-0 took over 2 partitions of server-1",
                          "2 partitions have no copy in sync for now"));
}

TEST_F(ChaosScene, TellsThatCopiesAreInSyncAgain) {
  config_.mutable_partition(0)->mutable_replica(0)->set_in_sync(false);
  const Scene before = Now();
  config_.mutable_partition(0)->mutable_replica(0)->set_in_sync(true);
  EXPECT_THAT(WhatHappened(before, Now()), ElementsAre("every partition has a copy in sync again"));
}

TEST_F(ChaosScene, KnowsARestartedProcessByItsNumberAlsoIfItsDeathWasNotSeen) {
  const Scene before = Now();
  status_.mutable_node(0)->set_pid(200);
  EXPECT_THAT(WhatHappened(before, Now()), ElementsAre("server-0 is back, as process 200"));
}

TEST_F(ChaosScene, KnowsAPausedProcessThatIsHeardAgain) {
  status_.mutable_node(2)->set_state("dead");
  const Scene before = Now();
  status_.mutable_node(2)->set_state("alive");
  EXPECT_THAT(WhatHappened(before, Now()), ElementsAre("worker-0 is heard again"));
}

TEST_F(ChaosScene, ALivingProcessCountsWhereTwoHaveHadItsName) {
  const Scene before = Now();
  AddNode(status_, 9, "worker-0", pb::WORKER, 300);
  status_.mutable_node(2)->set_state("dead");
  EXPECT_EQ(Now().nodes.at("worker-0").pid, 300u);
  AddNode(status_, 8, "worker-0", pb::WORKER, 99);
  status_.mutable_node(4)->set_state("dead");
  EXPECT_EQ(Now().nodes.at("worker-0").pid, 300u);
  EXPECT_THAT(WhatHappened(before, Now()), ElementsAre("worker-0 is back, as process 300"));
}

TEST_F(ChaosScene, CountsWhatIsWithoutACopyAndWhatIsWhose) {
  config_.mutable_partition(2)->clear_replica();
  EXPECT_EQ(Now().Uncopied(), 1u);
  EXPECT_EQ(Now().PartitionsOf(kFirst), 2u);
  EXPECT_TRUE(Now().training);
  EXPECT_EQ(Now().work_done, 500u);
}

}  // namespace
}  // namespace sheaf::cli
