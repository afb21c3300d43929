#include "scheduler/placement.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

const NodeId kA(1), kB(2), kC(3);

TEST(Placement, GivesEachServerItsShareToWithinOne) {
  Placement placement(64);
  EXPECT_TRUE(placement.Balance({kA, kB, kC}));
  EXPECT_EQ(placement.CountOn(kA), 22u);
  EXPECT_EQ(placement.CountOn(kB), 21u);
  EXPECT_EQ(placement.CountOn(kC), 21u);
}

TEST(Placement, MovesNoMoreThanItMustWhenAServerJoins) {
  Placement placement(64);
  placement.Balance({kA, kB});
  const auto before = placement.homes();
  placement.Balance({kA, kB, kC});
  int moved = 0;
  for (size_t p = 0; p < before.size(); ++p) moved += before[p].primary != placement.homes()[p].primary;
  EXPECT_EQ(moved, 21);
  EXPECT_EQ(placement.CountOn(kC), 21u);
}

TEST(Placement, RaisesTheEpochOfWhatMovedAndOfNothingElse) {
  Placement placement(8);
  placement.Balance({kA, kB});
  const auto before = placement.homes();
  EXPECT_FALSE(placement.Balance({kA, kB}));
  placement.Balance({kA});
  for (size_t p = 0; p < before.size(); ++p) {
    const bool moved = before[p].primary != kA;
    EXPECT_EQ(placement.homes()[p].epoch.value, before[p].epoch.value + (moved ? 1 : 0));
  }
}

TEST(Placement, LeavesPartitionsHomelessWithoutServers) {
  Placement placement(4);
  placement.Balance({kA});
  EXPECT_TRUE(placement.Balance({}));
  for (const auto& home : placement.homes()) EXPECT_EQ(home.primary, NodeId());
}

TEST(Placement, KeepsNeighboursTogether) {
  Placement placement(8);
  placement.Balance({kA, kB});
  for (size_t p = 0; p < 4; ++p) EXPECT_EQ(placement.homes()[p].primary, kA);
  for (size_t p = 4; p < 8; ++p) EXPECT_EQ(placement.homes()[p].primary, kB);
}

}  // namespace
}  // namespace sheaf
