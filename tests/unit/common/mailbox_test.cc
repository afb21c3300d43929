#include "common/runtime/mailbox.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <memory>

#include "common/runtime/thread.h"

namespace sheaf {
namespace {

bool Readable(int fd) {
  pollfd polled{fd, POLLIN, 0};
  return poll(&polled, 1, 0) == 1;
}

TEST(Mailbox, GivesItemsInOrderAndIsReadableWhileItHasSome) {
  Mailbox<int> mailbox(3);
  EXPECT_FALSE(Readable(mailbox.fd()));
  EXPECT_FALSE(mailbox.TryTake());
  ASSERT_TRUE(mailbox.TryPut(1));
  ASSERT_TRUE(mailbox.TryPut(2));
  EXPECT_TRUE(Readable(mailbox.fd()));
  EXPECT_EQ(mailbox.TryTake(), 1);
  EXPECT_TRUE(Readable(mailbox.fd()));
  EXPECT_EQ(mailbox.TryTake(), 2);
  EXPECT_FALSE(Readable(mailbox.fd()));
}

TEST(Mailbox, SaysUnavailableWhenFullAndLeavesTheItemWithItsOwner) {
  Mailbox<std::unique_ptr<int>> mailbox(1);
  ASSERT_TRUE(mailbox.TryPut(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  const Status put = mailbox.TryPut(std::move(second));
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, ErrorCode::kUnavailable);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(**mailbox.TryTake(), 1);
  EXPECT_TRUE(mailbox.TryPut(std::move(second)));
}

TEST(Mailbox, TakesWhatIsLeftAfterClose) {
  Mailbox<int> mailbox(2);
  ASSERT_TRUE(mailbox.TryPut(1));
  mailbox.Close();
  mailbox.Close();
  EXPECT_EQ(mailbox.TryPut(2).error().code, ErrorCode::kClosed);
  EXPECT_EQ(mailbox.Take(std::chrono::hours(1)), 1);
  EXPECT_FALSE(mailbox.Take(std::chrono::hours(1)));
  EXPECT_TRUE(Readable(mailbox.fd()));
}

TEST(Mailbox, TakeGivesUpAfterItsTimeout) {
  Mailbox<int> mailbox(1);
  EXPECT_FALSE(mailbox.Take(Milliseconds(1)));
}

TEST(Mailbox, LosesNothingBetweenManyThreads) {
  constexpr int kThreads = 4;
  constexpr int kItems = 5000;
  Mailbox<int> mailbox(16);
  std::vector<Thread> writers;
  for (int i = 0; i < kThreads; ++i) {
    writers.emplace_back("writer", [&] {
      for (int item = 0; item < kItems; ++item) {
        while (!mailbox.TryPut(item)) std::this_thread::yield();
      }
    });
  }
  int64_t sum = 0;
  for (int i = 0; i < kThreads * kItems; ++i) sum += *mailbox.Take(std::chrono::seconds(60));
  EXPECT_EQ(sum, int64_t{kThreads} * kItems * (kItems - 1) / 2);
  EXPECT_EQ(mailbox.size(), 0u);
  EXPECT_FALSE(Readable(mailbox.fd()));
}

}  // namespace
}  // namespace sheaf
