// When a disk counts as slow, and when no longer.
#include "server/disk_watch.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

class DiskHealthTest : public ::testing::Test {
 protected:
  // Writes that take so long each, one after the other.
  void Write(Duration each, Duration time) {
    for (const TimePoint end = now_ + time; now_ < end;) {
      watch_.Begin(now_);
      for (const TimePoint done = now_ + each; now_ < done;) {
        now_ += std::min<Duration>(Milliseconds(20), done - now_);
        Look();
      }
      watch_.End(now_);
      Look();
    }
  }
  void Rest(Duration time) {
    for (const TimePoint end = now_ + time; now_ < end; now_ += Milliseconds(20)) Look();
  }
  void Look() { health_.OnTick(watch_.average(), watch_.Waiting(now_), watch_.writes(), now_); }

  TimePoint now_{std::chrono::hours(1)};
  DiskWatch watch_;
  DiskHealth health_;
};

TEST_F(DiskHealthTest, IsSlowWhenWritesTakeTooLongForAWhile) {
  Write(Milliseconds(1), std::chrono::seconds(10));
  EXPECT_FALSE(health_.slow());
  Write(Milliseconds(300), std::chrono::seconds(4));
  EXPECT_FALSE(health_.slow()) << "a burst passes";
  Write(Milliseconds(300), std::chrono::seconds(3));
  EXPECT_TRUE(health_.slow());
  Write(Milliseconds(1), std::chrono::seconds(4));
  EXPECT_TRUE(health_.slow());
  Write(Milliseconds(1), std::chrono::seconds(3));
  EXPECT_FALSE(health_.slow());
}

TEST_F(DiskHealthTest, IsSlowWhileOneWriteHangs) {
  Write(Milliseconds(1), std::chrono::seconds(1));
  watch_.Begin(now_);
  Rest(std::chrono::seconds(6));
  EXPECT_TRUE(health_.slow());
  EXPECT_GE(watch_.Waiting(now_), std::chrono::seconds(6));
  watch_.End(now_);
  EXPECT_EQ(watch_.Waiting(now_), Duration::zero());
}

TEST_F(DiskHealthTest, IsNotCalledSlowForOneSlowWriteNowAndThen) {
  for (int i = 0; i < 100; ++i) {
    Write(Milliseconds(150), Milliseconds(150));
    Write(Milliseconds(1), Milliseconds(200));
  }
  EXPECT_FALSE(health_.slow());
}

// Whoever has no partitions any more writes nothing: it is tried again, each time after twice as long.
TEST_F(DiskHealthTest, IsTriedAgainMoreAndMoreRarely) {
  Duration quiet = DiskHealth::kQuietFor;
  for (int i = 0; i < 8; ++i) {
    Write(Milliseconds(300), std::chrono::seconds(7));
    ASSERT_TRUE(health_.slow());
    Rest(quiet - std::chrono::seconds(1));
    EXPECT_TRUE(health_.slow()) << i;
    Rest(std::chrono::seconds(2));
    EXPECT_FALSE(health_.slow()) << i;
    quiet = std::min<Duration>(2 * quiet, DiskHealth::kLongestQuiet);
  }
}

}  // namespace
}  // namespace sheaf
