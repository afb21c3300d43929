#include "scheduler/placement.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

namespace sheaf {
namespace {

const NodeId kNodeA(1), kNodeB(2), kNodeC(3);

TEST(Placement, GivesEachServerItsShareToWithinOne) {
  Placement placement(64);
  EXPECT_TRUE(placement.Balance({kNodeA, kNodeB, kNodeC}));
  EXPECT_EQ(placement.CountOn(kNodeA), 22u);
  EXPECT_EQ(placement.CountOn(kNodeB), 21u);
  EXPECT_EQ(placement.CountOn(kNodeC), 21u);
}

TEST(Placement, MovesNoMoreThanItMustWhenAServerJoins) {
  Placement placement(64);
  placement.Balance({kNodeA, kNodeB});
  const auto before = placement.homes();
  placement.Balance({kNodeA, kNodeB, kNodeC});
  int moved = 0;
  for (size_t p = 0; p < before.size(); ++p) moved += before[p].primary != placement.homes()[p].primary;
  EXPECT_EQ(moved, 21);
  EXPECT_EQ(placement.CountOn(kNodeC), 21u);
}

TEST(Placement, RaisesTheEpochOfWhatMovedAndOfNothingElse) {
  Placement placement(8);
  placement.Balance({kNodeA, kNodeB});
  const auto before = placement.homes();
  EXPECT_FALSE(placement.Balance({kNodeA, kNodeB}));
  placement.Balance({kNodeA});
  for (size_t p = 0; p < before.size(); ++p) {
    const bool moved = before[p].primary != kNodeA;
    EXPECT_EQ(placement.homes()[p].epoch.value, before[p].epoch.value + (moved ? 1 : 0));
  }
}

TEST(Placement, LeavesPartitionsHomelessWithoutServers) {
  Placement placement(4);
  placement.Balance({kNodeA});
  EXPECT_TRUE(placement.Balance({}));
  for (const auto& home : placement.homes()) EXPECT_EQ(home.primary, NodeId());
}

TEST(Placement, KeepsNeighboursTogether) {
  Placement placement(8);
  placement.Balance({kNodeA, kNodeB});
  for (size_t p = 0; p < 4; ++p) EXPECT_EQ(placement.homes()[p].primary, kNodeA);
  for (size_t p = 4; p < 8; ++p) EXPECT_EQ(placement.homes()[p].primary, kNodeB);
}

// ---- copies

// Both have copies of what the other has, in sync by generation 2.
Placement InSync(const std::vector<NodeId>& servers, uint32_t copies, uint32_t partitions = 8) {
  Placement placement(partitions);
  placement.Balance(servers);
  placement.Replicate(servers, copies);
  placement.Stamp(1);
  for (uint32_t p = 0; p < partitions; ++p) {
    for (const NodeId node : servers) placement.Note(placement.homes()[p].primary, p, node, 1, /*lost=*/false);
  }
  placement.Stamp(2);
  return placement;
}

TEST(PlacementReplicas, AreSpreadAndBeginAsLearners) {
  Placement placement(9);
  placement.Balance({kNodeA, kNodeB, kNodeC});
  EXPECT_TRUE(placement.Replicate({kNodeA, kNodeB, kNodeC}, 2));
  EXPECT_FALSE(placement.Replicate({kNodeA, kNodeB, kNodeC}, 2));
  std::map<NodeId, int> copies;
  for (const Placement::Home& home : placement.homes()) {
    ASSERT_EQ(home.replicas.size(), 1u);
    EXPECT_NE(home.replicas[0].node, home.primary);
    EXPECT_FALSE(home.replicas[0].in_sync);
    ++copies[home.replicas[0].node];
  }
  for (const NodeId server : {kNodeA, kNodeB, kNodeC}) EXPECT_NEAR(copies[server], 3, 1);
}

TEST(PlacementReplicas, AreAsManyAsThereAreServersFor) {
  Placement placement(4);
  placement.Balance({kNodeA, kNodeB});
  placement.Replicate({kNodeA, kNodeB}, 3);
  for (const Placement::Home& home : placement.homes()) EXPECT_EQ(home.replicas.size(), 1u);
}

TEST(PlacementReplicas, TakeOverWhenTheyAreInSyncAndOnlyThen) {
  Placement placement(2);
  placement.Balance({kNodeA, kNodeB});
  placement.Replicate({kNodeA, kNodeB}, 2);
  placement.Stamp(1);
  EXPECT_FALSE(placement.CanLose(kNodeA));
  EXPECT_TRUE(placement.Note(kNodeA, 0, kNodeB, 1, /*lost=*/false));
  EXPECT_FALSE(placement.Note(kNodeA, 0, kNodeB, 1, /*lost=*/false)) << "known";
  EXPECT_FALSE(placement.Note(kNodeB, 0, kNodeA, 1, /*lost=*/false)) << "not by its primary";
  EXPECT_TRUE(placement.CanLose(kNodeA));
  const Epoch before = placement.homes()[0].epoch;
  placement.Lose(kNodeA, /*keeps=*/false);
  EXPECT_EQ(placement.homes()[0].primary, kNodeB);
  EXPECT_EQ(placement.homes()[0].epoch.value, before.value + 1);
  EXPECT_FALSE(placement.CanLose(kNodeB));
  placement.Lose(kNodeB, /*keeps=*/false);
  EXPECT_EQ(placement.homes()[0].primary, kNodeB) << "nobody else has it";
}

TEST(PlacementReplicas, AreNotInSyncByWhatIsSaidOfAnEarlierListing) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  placement.Lose(kNodeB, /*keeps=*/false);
  placement.Replicate({kNodeA, kNodeB}, 2);
  EXPECT_FALSE(placement.Note(kNodeA, 0, kNodeB, 1, /*lost=*/false)) << "no configuration lists it yet";
  placement.Stamp(3);
  EXPECT_FALSE(placement.Note(kNodeA, 0, kNodeB, 1, /*lost=*/false));
  EXPECT_FALSE(placement.homes()[0].replicas[0].in_sync);
  EXPECT_TRUE(placement.Note(kNodeA, 0, kNodeB, 3, /*lost=*/false));
}

TEST(PlacementReplicas, BeginAnewWhenTheyHaveLostWhatTheyHad) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  EXPECT_TRUE(placement.Note(kNodeA, 0, kNodeB, 1, /*lost=*/true));
  EXPECT_FALSE(placement.homes()[0].replicas[0].in_sync);
  EXPECT_EQ(placement.homes()[0].replicas[0].since, 0u);
}

TEST(PlacementReplicas, GiveBackWhatTheyHadNotTakenOverWhenTheyDied) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  placement.Lose(kNodeA, /*keeps=*/true);
  EXPECT_EQ(placement.homes()[0].primary, kNodeB);
  EXPECT_EQ(placement.homes()[0].former, kNodeA);
  EXPECT_FALSE(placement.Settle(kNodeB, 100)) << "no configuration says so yet";
  placement.Stamp(3);
  EXPECT_FALSE(placement.Settle(kNodeB, 2));
  EXPECT_EQ(placement.Lose(kNodeB, /*keeps=*/true).given_back, std::set<NodeId>{kNodeA});
  EXPECT_EQ(placement.homes()[0].primary, kNodeA);
  EXPECT_EQ(placement.homes()[0].former, NodeId());
}

TEST(PlacementReplicas, GiveBackWhatTheyHaveNoCopyOf) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  placement.Lose(kNodeA, /*keeps=*/true);
  placement.Stamp(3);
  EXPECT_TRUE(placement.NoteAbsent(kNodeB, 0, 2).given_back.empty()) << "a word on an earlier configuration";
  EXPECT_EQ(placement.NoteAbsent(kNodeB, 0, 3).given_back, std::set<NodeId>{kNodeA});
  EXPECT_EQ(placement.homes()[0].primary, kNodeA);
}

TEST(PlacementReplicas, LoseRowsWhenThereIsNobodyToGiveThemBackTo) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  placement.Lose(kNodeA, /*keeps=*/false);
  placement.Stamp(3);
  EXPECT_TRUE(placement.Lose(kNodeB, /*keeps=*/true).rows);
}

TEST(PlacementReplicas, KeepWhatTheyAreKnownToHaveTakenOver) {
  Placement placement = InSync({kNodeA, kNodeB}, 2);
  placement.Lose(kNodeA, /*keeps=*/true);
  placement.Stamp(3);
  EXPECT_TRUE(placement.Settle(kNodeB, 3));
  EXPECT_TRUE(placement.Lose(kNodeB, /*keeps=*/true).given_back.empty());
  EXPECT_EQ(placement.homes()[0].primary, kNodeB);
}

TEST(PlacementReplicas, ShareWhatADeadServerDid) {
  Placement placement = InSync({kNodeA, kNodeB, kNodeC}, 3, 12);
  placement.Lose(kNodeA, /*keeps=*/false);
  EXPECT_EQ(placement.CountOn(kNodeB), 6u);
  EXPECT_EQ(placement.CountOn(kNodeC), 6u);
  for (const Placement::Home& home : placement.homes()) {
    ASSERT_EQ(home.replicas.size(), 1u);
    EXPECT_EQ(home.replicas[0].in_sync, home.epoch.value == 1 || home.replicas[0].since != 0);
  }
}

// ---- planned

TEST(PlacementHandOver, KeepsTheCopiesThatAreInSyncAndTheOldPrimaryIfItStays) {
  Placement placement = InSync({kNodeA, kNodeB, kNodeC}, 3, 3);
  placement.HandOver(0, kNodeB, /*stays=*/true);
  placement.Stamp(3);
  const Placement::Home& home = placement.homes()[0];
  EXPECT_EQ(home.primary, kNodeB);
  EXPECT_EQ(home.former, kNodeA);
  EXPECT_TRUE(home.handed_over && home.taking_over);
  ASSERT_EQ(home.replicas.size(), 2u);
  for (const Placement::Replica& replica : home.replicas) {
    EXPECT_TRUE(replica.in_sync);
    EXPECT_EQ(replica.since, replica.node == kNodeC ? 1u : 3u);
  }
  EXPECT_TRUE(placement.Settle(kNodeB, 3));
  EXPECT_EQ(home.former, NodeId());
  EXPECT_EQ(placement.handed_over(), 1u);
}

TEST(PlacementHandOver, IsATakeOverWhenTheOldPrimaryDiesMeanwhile) {
  Placement placement = InSync({kNodeA, kNodeB, kNodeC}, 3, 3);
  placement.HandOver(0, kNodeB, /*stays=*/true);
  placement.Stamp(3);
  placement.Lose(kNodeA, /*keeps=*/true);
  const Placement::Home& home = placement.homes()[0];
  EXPECT_EQ(home.primary, kNodeB);
  EXPECT_EQ(home.former, kNodeA) << "its disk has all that was acknowledged";
  EXPECT_TRUE(home.taking_over);
  EXPECT_FALSE(home.handed_over) << "there is nothing more to wait for";
  ASSERT_EQ(home.replicas.size(), 1u);
  EXPECT_FALSE(home.replicas[0].in_sync) << "it may have more or less of what was not acknowledged";
}

TEST(PlacementHandOver, GoesBackWhenTheNewPrimaryDiesMeanwhile) {
  Placement placement = InSync({kNodeA, kNodeB, kNodeC}, 3, 3);
  placement.HandOver(0, kNodeB, /*stays=*/true);
  placement.Stamp(3);
  EXPECT_TRUE(placement.CanLose(kNodeB)) << "it need not be waited for";
  const auto lost = placement.Lose(kNodeB, /*keeps=*/true);
  EXPECT_FALSE(lost.rows);
  EXPECT_TRUE(lost.given_back.empty()) << "who has it never went, with all it has in memory";
  EXPECT_EQ(placement.homes()[0].primary, kNodeA);
  EXPECT_FALSE(placement.homes()[0].handed_over);
}

TEST(PlacementHandOver, GoesBackWhenTheNewPrimaryHasNoCopy) {
  Placement placement = InSync({kNodeA, kNodeB}, 2, 2);
  placement.HandOver(0, kNodeB, /*stays=*/true);
  placement.Stamp(3);
  const auto lost = placement.NoteAbsent(kNodeB, 0, 3);
  EXPECT_TRUE(lost.any) << "others must hear of it";
  EXPECT_TRUE(lost.given_back.empty());
  EXPECT_EQ(placement.homes()[0].primary, kNodeA);
}

TEST(PlacementHandOver, IsInWhatIsSaved) {
  Placement placement = InSync({kNodeA, kNodeB}, 2, 2);
  placement.HandOver(0, kNodeB, /*stays=*/false);
  placement.Stamp(3);
  Placement again(2);
  again.Restore({Placement::Describe(placement.homes()[0]), Placement::Describe(placement.homes()[1])});
  EXPECT_TRUE(again.homes()[0].handed_over);
  EXPECT_EQ(again.homes()[0].former, kNodeA);
}

}  // namespace
}  // namespace sheaf
