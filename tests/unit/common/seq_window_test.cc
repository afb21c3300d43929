#include "common/base/seq_window.h"

#include <gtest/gtest.h>

#include <set>

#include "common/base/random.h"

namespace sheaf {
namespace {

TEST(SeqWindow, StartsWithNothingIn) {
  const SeqWindow window;
  EXPECT_EQ(window.floor(), 0U);
  EXPECT_FALSE(window.Contains(0));
  EXPECT_FALSE(window.WouldExceed(1023));
  EXPECT_TRUE(window.WouldExceed(1024));
}

TEST(SeqWindow, TakesAllBelowItsFirstFloorAsIn) {
  const SeqWindow window(7);
  EXPECT_TRUE(window.Contains(6));
  EXPECT_FALSE(window.Contains(7));
}

TEST(SeqWindow, RaisesItsFloorOverNumbersThatCameEarly) {
  SeqWindow window;
  for (uint64_t seq = 1023; seq > 0; --seq) window.Mark(seq);
  EXPECT_EQ(window.floor(), 0U);
  window.Mark(0);
  EXPECT_EQ(window.floor(), 1024U);
  EXPECT_FALSE(window.Contains(1024));
}

TEST(SeqWindow, DoesNotChangeWhenANumberIsMarkedAgain) {
  SeqWindow window;
  window.Mark(0);
  window.Mark(0);
  window.Mark(5);
  window.Mark(5);
  EXPECT_EQ(window.floor(), 1U);
  EXPECT_TRUE(window.Contains(5));
}

TEST(SeqWindow, AgreesWithASetOverRandomOrders) {
  Random random(1);
  for (int round = 0; round < 20; ++round) {
    SeqWindow window;
    std::set<uint64_t> in;
    uint64_t floor = 0;
    for (int step = 0; step < 5000; ++step) {
      const uint64_t seq = floor + random.Below(random.Chance(0.1) ? SeqWindow::kWindow : 70);
      ASSERT_FALSE(window.WouldExceed(seq));
      window.Mark(seq);
      in.insert(seq);
      while (in.contains(floor)) ++floor;
      ASSERT_EQ(window.floor(), floor);
      const uint64_t probe = floor + random.Below(SeqWindow::kWindow + 10);
      ASSERT_EQ(window.Contains(probe), in.contains(probe)) << probe;
    }
  }
}

TEST(SeqWindow, KeepsWhatLiesAboveARaisedFloor) {
  for (const uint64_t floor : {1U, 63U, 64U, 65U, 200U, 1000U}) {
    SeqWindow window;
    window.Mark(floor + 3);
    if (floor + 23 < SeqWindow::kWindow) window.Mark(floor + 20);
    window.RaiseFloor(floor);
    EXPECT_EQ(window.floor(), floor);
    EXPECT_TRUE(window.Contains(floor - 1));
    EXPECT_FALSE(window.Contains(floor));
    EXPECT_TRUE(window.Contains(floor + 3));
    EXPECT_EQ(window.Contains(floor + 20), floor + 23 < SeqWindow::kWindow);
    window.RaiseFloor(floor - 1);
    EXPECT_EQ(window.floor(), floor);
  }
  SeqWindow window;
  window.Mark(3);
  window.RaiseFloor(3);
  EXPECT_EQ(window.floor(), 4U);
  window.Mark(900);
  window.RaiseFloor(1'000'000);
  EXPECT_EQ(window.floor(), 1'000'000U);
  EXPECT_FALSE(window.Contains(1'000'900));
}

}  // namespace
}  // namespace sheaf
