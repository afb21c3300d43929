// What goes where, step by step, with servers that do at once what they are told.
#include "scheduler/rebalancer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace sheaf {
namespace {

const NodeId kServerA(1), kServerB(2), kServerC(3);

class RebalancerTest : public testing::Test {
 protected:
  static constexpr uint32_t kPartitions = 12;

  void Begin(const std::vector<NodeId>& on, uint32_t copies) {
    copies_ = copies;
    placement_.Balance(on);
    placement_.Replicate(on, copies);
    Obey();
  }
  // Copies come in sync, and what is handed over is taken.
  void Obey() {
    placement_.Stamp(++generation_);
    for (uint32_t p = 0; p < kPartitions; ++p) {
      const Placement::Home home = placement_.homes()[p];
      for (const Placement::Replica& replica : home.replicas) {
        placement_.Note(home.primary, p, replica.node, replica.since, /*lost=*/false);
      }
      placement_.Settle(home.primary, generation_);
    }
    placement_.Stamp(++generation_);
  }
  // Until there is nothing more to do. At every moment each partition has its copies.
  int Run(const std::vector<Rebalancer::Server>& servers) {
    int steps = 0;
    for (; steps < 200 && rebalancer_.Step(placement_, servers, copies_, now_); ++steps) {
      for (const Placement::Home& home : placement_.homes()) {
        const auto in_sync = 1 + std::ranges::count_if(home.replicas, &Placement::Replica::in_sync);
        EXPECT_GE(in_sync, std::min<size_t>(copies_, servers.size()));
      }
      Obey();
      now_ += Milliseconds(100);
    }
    return steps;
  }
  std::map<NodeId, int> Copies() const {
    std::map<NodeId, int> copies;
    for (const Placement::Home& home : placement_.homes()) {
      ++copies[home.primary];
      for (const Placement::Replica& replica : home.replicas) ++copies[replica.node];
    }
    return copies;
  }
  void Load(NodeId server, const std::vector<uint64_t>& bytes, const std::vector<uint64_t>& keys) {
    pb::PartitionLoads loads;
    for (uint32_t p = 0; p < kPartitions; ++p) {
      if (placement_.homes()[p].primary != server) continue;
      loads.add_partition(p);
      loads.add_bytes(bytes[p]);
      loads.add_keys(keys[p]);
    }
    rebalancer_.loads().Note(server, loads, now_);
  }

  Placement placement_{kPartitions};
  Rebalancer rebalancer_{kPartitions};
  uint32_t copies_ = 1;
  uint64_t generation_ = 0;
  TimePoint now_{std::chrono::hours(1)};
};

TEST_F(RebalancerTest, ComesToRest) {
  Begin({kServerA, kServerB, kServerC}, 2);
  EXPECT_LT(Run({{kServerA}, {kServerB}, {kServerC}}), 10);
  EXPECT_EQ(Run({{kServerA}, {kServerB}, {kServerC}}), 0);
}

TEST_F(RebalancerTest, GivesANewServerItsShareWithoutACopyLess) {
  for (const uint32_t copies : {1u, 2u}) {
    placement_ = Placement(kPartitions);
    Begin({kServerA, kServerB}, copies);
    EXPECT_GT(Run({{kServerA}, {kServerB}, {kServerC}}), 0);
    for (const auto& [node, count] : Copies()) EXPECT_EQ(count, static_cast<int>(kPartitions * copies / 3));
    for (const NodeId node : {kServerA, kServerB, kServerC}) EXPECT_NEAR(placement_.CountOn(node), kPartitions / 3, 1);
  }
}

TEST_F(RebalancerTest, HandsOverAFewAtATimeWithPausesBetween) {
  Begin({kServerA, kServerB}, 2);
  const std::vector<Rebalancer::Server> servers = {{kServerA, /*draining=*/true}, {kServerB}, {kServerC}};
  TimePoint wave{};
  int waves = 0, handed_over = 0;
  for (int step = 0; step < 500; ++step, now_ += Milliseconds(5)) {
    if (rebalancer_.Step(placement_, servers, copies_, now_)) {
      const auto at_once = std::ranges::count_if(placement_.homes(), &Placement::Home::handed_over);
      if (at_once > 0) {
        EXPECT_GE(now_ - wave, Milliseconds(40));
        EXPECT_LE(at_once, 4);
        wave = now_;
        ++waves;
        handed_over += static_cast<int>(at_once);
      }
    } else if (const auto next = rebalancer_.next_wave()) {
      EXPECT_LE(*next, wave + Milliseconds(40)) << "it says when there is more to do";
    }
    Obey();
  }
  EXPECT_EQ(Copies().contains(kServerA), false);
  EXPECT_GE(handed_over, 6);
  EXPECT_GT(waves, 1);
}

TEST_F(RebalancerTest, EmptiesAServerThatIsDrained) {
  Begin({kServerA, kServerB, kServerC}, 2);
  Run({{kServerA, /*draining=*/true}, {kServerB}, {kServerC}});
  EXPECT_FALSE(Copies().contains(kServerA));
  EXPECT_EQ(Copies()[kServerB], 12);
  EXPECT_NEAR(placement_.CountOn(kServerB), 6, 1);
}

TEST_F(RebalancerTest, KeepsWhatIsOnADrainedServerAsLongAsThereAreTooFewOthers) {
  Begin({kServerA, kServerB}, 2);
  Run({{kServerA, /*draining=*/true}, {kServerB}});
  EXPECT_EQ(Copies()[kServerA], 12);
}

TEST_F(RebalancerTest, SharesThePrimariesAgainWhenAServerIsBack) {
  Begin({kServerA, kServerB}, 2);
  placement_.Lose(kServerA, /*keeps=*/false);
  Obey();
  EXPECT_EQ(placement_.CountOn(kServerB), kPartitions);
  placement_.Replicate({kServerA, kServerB}, 2);
  Obey();
  Run({{kServerA}, {kServerB}});
  EXPECT_EQ(placement_.CountOn(kServerA), kPartitions / 2);
  EXPECT_EQ(placement_.CountOn(kServerB), kPartitions / 2);
}

TEST_F(RebalancerTest, MakesOnlyAFewCopiesAtATime) {
  Begin({kServerA, kServerB}, 1);
  rebalancer_.Step(placement_, std::vector<Rebalancer::Server>{{kServerA}, {kServerB}, {kServerC}}, copies_, now_);
  const auto learners =
      std::ranges::count_if(placement_.homes(), [](const auto& home) { return !home.replicas.empty(); });
  EXPECT_EQ(learners, 2);
}

TEST_F(RebalancerTest, MovesCopiesByWhatIsInThem) {
  Begin({kServerA, kServerB}, 1);
  std::vector<uint64_t> bytes(kPartitions, 10 << 20), keys(kPartitions, 0);
  bytes[0] = 50 << 20;  // both have six, one of them much more
  for (const NodeId node : {kServerA, kServerB}) Load(node, bytes, keys);
  Run({{kServerA}, {kServerB}});
  uint64_t on_a = 0, on_b = 0;
  for (uint32_t p = 0; p < kPartitions; ++p) (placement_.homes()[p].primary == kServerA ? on_a : on_b) += bytes[p];
  EXPECT_LE(std::max(on_a, on_b), std::min(on_a, on_b) * 11 / 10);
}

TEST_F(RebalancerTest, SharesHotPartitionsOut) {
  Begin({kServerA, kServerB}, 2);
  std::vector<uint64_t> bytes(kPartitions, 10 << 20), keys(kPartitions, 0);
  for (int second = 0; second < 60; ++second) {
    for (const NodeId node : {kServerA, kServerB}) Load(node, bytes, keys);
    now_ += std::chrono::seconds(1);
    for (uint32_t p = 0; p < kPartitions; ++p) keys[p] += p < 4 ? 100'000 : 1'000;  // all four of them on A
  }
  ASSERT_EQ(placement_.homes()[0].primary, kServerA);
  ASSERT_EQ(placement_.homes()[3].primary, kServerA);
  Run({{kServerA}, {kServerB}});
  int hot_on_a = 0;
  for (uint32_t p = 0; p < 4; ++p) hot_on_a += placement_.homes()[p].primary == kServerA;
  EXPECT_EQ(hot_on_a, 2);
}

TEST_F(RebalancerTest, TakesBackWhatIsNotTakenOverUnlessItsFormerServerMayBeDead) {
  Begin({kServerA, kServerB}, 2);
  placement_.HandOver(0, kServerB, /*stays=*/true);
  placement_.Stamp(++generation_);
  const std::vector<Rebalancer::Server> all = {{kServerA}, {kServerB}};
  rebalancer_.Step(placement_, all, copies_, now_);
  now_ += std::chrono::seconds(3);
  const std::vector<Rebalancer::Server> one_silent = {{.node = kServerA, .silent = true}, {kServerB}};
  rebalancer_.Step(placement_, one_silent, copies_, now_);
  EXPECT_EQ(placement_.homes()[0].primary, kServerB);
  EXPECT_TRUE(rebalancer_.Step(placement_, all, copies_, now_));
  EXPECT_EQ(placement_.homes()[0].primary, kServerA);
  EXPECT_EQ(rebalancer_.TakeEvents().size(), 1u);
}

TEST_F(RebalancerTest, RelievesAPrimaryThatCannotWriteAndGivesItBackWhenItCan) {
  Begin({kServerA, kServerB, kServerC}, 2);
  Run({{kServerA}, {kServerB}, {kServerC}});
  const auto copies = Copies();
  Run({{.node = kServerA, .unfit = true}, {kServerB}, {kServerC}});
  EXPECT_EQ(placement_.CountOn(kServerA), 0u);
  EXPECT_EQ(Copies(), copies) << "it stays a copy: those are in memory";
  EXPECT_EQ(Run({{.node = kServerA, .unfit = true}, {kServerB}, {kServerC}}), 0);
  now_ += std::chrono::minutes(1);
  Run({{kServerA}, {kServerB}, {kServerC}});
  EXPECT_GT(placement_.CountOn(kServerA), 0u);
}

TEST_F(RebalancerTest, LeavesAllWhereItIsWhenNobodyIsFit) {
  Begin({kServerA, kServerB}, 2);
  Run({{kServerA}, {kServerB}});
  const uint32_t before = placement_.CountOn(kServerA);
  EXPECT_EQ(Run({{.node = kServerA, .unfit = true}, {.node = kServerB, .unfit = true}}), 0);
  EXPECT_EQ(placement_.CountOn(kServerA), before);
}

}  // namespace
}  // namespace sheaf
