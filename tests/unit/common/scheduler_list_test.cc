#include "common/net/scheduler_list.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

class SchedulerListTest : public ::testing::Test {
 protected:
  // Passes time, asking all the while; answers whether another was gone to.
  bool Wait(Duration time, bool ask = true) {
    bool moved = false;
    for (Duration done{}; done < time; done += Milliseconds(10)) {
      now_ += Milliseconds(10);
      if (ask) list_.OnAsked();
      moved |= list_.OnTick(now_);
    }
    return moved;
  }

  TimePoint now_{std::chrono::seconds(1)};
  SchedulerList list_{"tcp://a:1, tcp://b:2,tcp://c:3"};
};

TEST_F(SchedulerListTest, BeginsWithTheFirstAndStaysWithWhoAnswers) {
  EXPECT_EQ(list_.current(), "tcp://a:1");
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(Wait(Milliseconds(900)));
    list_.OnHeard();
  }
}

TEST_F(SchedulerListTest, GoesOnWhenNobodyAnswersAndComesRound) {
  EXPECT_TRUE(Wait(Milliseconds(1100)));
  EXPECT_EQ(list_.current(), "tcp://b:2");
  EXPECT_TRUE(Wait(Milliseconds(1100)));
  EXPECT_EQ(list_.current(), "tcp://c:3");
  EXPECT_TRUE(Wait(Milliseconds(1100)));
  EXPECT_EQ(list_.current(), "tcp://a:1");
}

TEST_F(SchedulerListTest, SilenceIsOfQuestions) {
  EXPECT_FALSE(Wait(std::chrono::seconds(60), /*ask=*/false));
  list_.OnAsked();
  EXPECT_TRUE(Wait(Milliseconds(1100), /*ask=*/false));
}

TEST_F(SchedulerListTest, SilenceIsNotOfTheTimeInWhichWeWereStopped) {
  Wait(Milliseconds(500));
  now_ += std::chrono::minutes(1);
  list_.OnAsked();
  EXPECT_FALSE(list_.OnTick(now_));
}

TEST_F(SchedulerListTest, GoesAtOnceToTheOneThatLeads) {
  list_.OnNotLeader("tcp://c:3", 1, now_);
  EXPECT_TRUE(Wait(Milliseconds(10)));
  EXPECT_EQ(list_.current(), "tcp://c:3");
  list_.OnNotLeader("tcp://elsewhere:9", 2, now_);
  EXPECT_FALSE(Wait(Milliseconds(50))) << "two that name each other must not cost much";
  EXPECT_TRUE(Wait(Milliseconds(60)));
  EXPECT_EQ(list_.current(), "tcp://elsewhere:9");
  EXPECT_TRUE(Wait(Milliseconds(1100))) << "and it answers nothing";
  EXPECT_EQ(list_.current(), "tcp://b:2");
}

// Who stands by may take some seconds to see that the leader has died.
TEST_F(SchedulerListTest, DoesNotGoBackToWhoHasJustBeenSilent) {
  EXPECT_TRUE(Wait(Milliseconds(1100)));
  EXPECT_EQ(list_.current(), "tcp://b:2");
  for (int i = 0; i < 15; ++i) {
    list_.OnNotLeader("tcp://a:1", 4, now_);
    EXPECT_FALSE(Wait(Milliseconds(100)));
  }
  list_.OnNotLeader("tcp://c:3", 5, now_);
  EXPECT_TRUE(Wait(Milliseconds(20)));
  EXPECT_EQ(list_.current(), "tcp://c:3");
}

TEST_F(SchedulerListTest, GoesBackToWhoWasSilentWhenItLeadsAnew) {
  EXPECT_TRUE(Wait(Milliseconds(1100)));
  EXPECT_EQ(list_.current(), "tcp://b:2");
  list_.OnNotLeader("tcp://a:1", 4, now_);
  EXPECT_FALSE(Wait(Milliseconds(100)));
  list_.OnNotLeader("tcp://a:1", 5, now_);
  EXPECT_TRUE(Wait(Milliseconds(100)));
  EXPECT_EQ(list_.current(), "tcp://a:1");
}

TEST_F(SchedulerListTest, DoesNotGoToWhoLedBeforeTheOneThatItKnows) {
  list_.OnNotLeader("tcp://c:3", 7, now_);
  EXPECT_TRUE(Wait(Milliseconds(10)));
  list_.OnNotLeader("tcp://b:2", 6, now_);
  EXPECT_FALSE(Wait(Milliseconds(500)));
  list_.OnNotLeader("tcp://b:2", 8, now_);
  EXPECT_TRUE(Wait(Milliseconds(10)));
}

TEST_F(SchedulerListTest, AsksAnotherIfWhoStandsByKnowsOfNobodyForLong) {
  bool moved = false;
  for (int i = 0; i < 22 && !moved; ++i) {
    list_.OnNotLeader("", 0, now_);
    moved = Wait(Milliseconds(100));
  }
  EXPECT_TRUE(moved);
  EXPECT_EQ(list_.current(), "tcp://b:2");
}

TEST(SchedulerListOfOne, StaysThereUnlessItIsToldWhoLeads) {
  SchedulerList list("tcp://a:1");
  TimePoint now{};
  for (int i = 0; i < 1000; ++i) {
    list.OnAsked();
    EXPECT_FALSE(list.OnTick(now += Milliseconds(10)));
  }
  EXPECT_FALSE(list.several());
  list.OnNotLeader("tcp://b:2", 1, now);
  EXPECT_TRUE(list.OnTick(now));
  EXPECT_EQ(list.current(), "tcp://b:2");
  bool moved = false;
  for (int i = 0; i < 200 && !moved; ++i) {
    list.OnAsked();
    moved = list.OnTick(now += Milliseconds(10));
  }
  EXPECT_EQ(list.current(), "tcp://a:1");
}

TEST(SchedulerListCheck, RefusesWhatIsEmptyOrEndless) {
  EXPECT_TRUE(SchedulerList::Check("tcp://a:1").has_value());
  EXPECT_TRUE(SchedulerList::Check("tcp://a:1,tcp://b:2").has_value());
  EXPECT_FALSE(SchedulerList::Check("").has_value());
  EXPECT_FALSE(SchedulerList::Check("tcp://a:1,,tcp://b:2").has_value());
  EXPECT_FALSE(SchedulerList::Check(std::string(50, ',')).has_value());
}

}  // namespace
}  // namespace sheaf
