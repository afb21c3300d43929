#include "common/net/scheduler_link.h"

#include <gmock/gmock.h>

namespace sheaf {
namespace {

using ::testing::HasSubstr;

class SchedulerLinkTest : public ::testing::Test {
 protected:
  // How many registrations were sent while `time` passed.
  size_t Pass(Duration time, Duration step = Milliseconds(100)) {
    size_t sent = 0;
    for (Duration done{}; done < time; done += step) {
      now_ += step;
      Outbox out;
      link_.OnTick(now_, out);
      sent += out.items().size();
    }
    return sent;
  }
  bool Registered(uint64_t cluster, uint64_t epoch = 1) {
    Message answer;
    answer.header.mutable_registered()->set_cluster_id(cluster);
    answer.header.mutable_registered()->set_scheduler_epoch(epoch);
    answer.header.mutable_registered()->set_name("worker-3");
    answer.header.mutable_registered()->set_report_every_ms(50);
    return link_.OnMessage(answer, now_);
  }
  void Unknown() {
    Outbox out;
    link_.OnUnknown(now_, out);
    EXPECT_EQ(out.items().size(), 1u);
  }

  TimePoint now_{};
  SchedulerLink link_{{.role = pb::WORKER, .self = PeerId(7)}, {.address = "tcp://a:1"}};
};

TEST_F(SchedulerLinkTest, RegistersUntilItIsAnsweredAndThenNoMore) {
  EXPECT_EQ(Pass(std::chrono::seconds(2)), 4u);
  EXPECT_FALSE(link_.registered());
  EXPECT_TRUE(Registered(11));
  EXPECT_FALSE(Registered(11));   // a repeated answer is no second membership
  EXPECT_TRUE(link_.registered());
  EXPECT_EQ(link_.name(), "worker-3");
  EXPECT_EQ(link_.report_every(), Milliseconds(50));
  EXPECT_EQ(Pass(std::chrono::seconds(2)), 0u);
}

TEST_F(SchedulerLinkTest, ComesBackToTheSchedulerThatForgotItButNotToAnother) {
  Registered(11);
  Unknown();
  EXPECT_FALSE(link_.registered());
  EXPECT_TRUE(Registered(11));
  Unknown();
  EXPECT_FALSE(Registered(12));
  ASSERT_TRUE(link_.fatal());
  EXPECT_EQ(link_.fatal()->code, ErrorCode::kUnavailable);
  EXPECT_THAT(link_.fatal()->message, HasSubstr("tcp://a:1 was started anew"));
}

TEST_F(SchedulerLinkTest, PassesOnWhyItIsRefused) {
  Message answer;
  answer.header.mutable_refusal()->set_reason(pb::Refusal::VERSION_MISMATCH);
  answer.header.mutable_refusal()->set_text("install the same release");
  EXPECT_FALSE(link_.OnMessage(answer, now_));
  ASSERT_TRUE(link_.fatal());
  EXPECT_EQ(link_.fatal()->code, ErrorCode::kVersionMismatch);
  EXPECT_THAT(link_.fatal()->message, HasSubstr("install the same release"));
}

TEST_F(SchedulerLinkTest, EndsWhenTheSchedulerIsSilentForTheDeadline) {
  Registered(11);
  Pass(std::chrono::seconds(29));
  EXPECT_FALSE(link_.fatal());
  Pass(std::chrono::seconds(2));
  ASSERT_TRUE(link_.fatal());
  EXPECT_THAT(link_.fatal()->message, HasSubstr("no word from the scheduler at tcp://a:1 for 30"));
}

TEST_F(SchedulerLinkTest, DoesNotTakeItsOwnPauseForTheSchedulersSilence) {
  Registered(11);
  Pass(std::chrono::seconds(29));
  Pass(std::chrono::hours(1), std::chrono::hours(1));
  Pass(std::chrono::seconds(29));
  EXPECT_FALSE(link_.fatal());
}

TEST_F(SchedulerLinkTest, GoesOnWithASchedulerThatWasStartedAgainAndSaysSo) {
  Registered(11, /*epoch=*/1);
  Message orders;
  orders.header.mutable_worker_orders()->set_scheduler_epoch(2);
  EXPECT_TRUE(link_.Heeds(orders));
  link_.OnMessage(orders, now_);
  EXPECT_TRUE(link_.registered());
  EXPECT_FALSE(link_.fatal());
  EXPECT_EQ(link_.scheduler_epoch(), 2u);
  EXPECT_THAT(link_.TakeEvents(), ::testing::ElementsAre(HasSubstr("was started again (epoch 2)")));
}

TEST_F(SchedulerLinkTest, HeedsNoEarlierScheduler) {
  Registered(11, /*epoch=*/3);
  Message orders;
  orders.header.mutable_worker_orders()->set_scheduler_epoch(2);
  EXPECT_FALSE(link_.Heeds(orders));
  orders.header.mutable_worker_orders()->set_unknown(true);  // perhaps one of another cluster, which registering tells
  EXPECT_TRUE(link_.Heeds(orders));
}

TEST_F(SchedulerLinkTest, WaitsAsLongAsTheSchedulerHasAsked) {
  Message answer;
  answer.header.mutable_registered()->set_silence_ms(120'000);
  link_.OnMessage(answer, now_);
  Pass(std::chrono::seconds(100));
  EXPECT_FALSE(link_.fatal());
  Pass(std::chrono::seconds(30));
  EXPECT_TRUE(link_.fatal());
}

// One of several schedulers stands by, and says who leads.
TEST(SchedulerLinkOfSeveral, GoesToTheOneThatLeadsAndHeedsNoEarlierOneAfterwards) {
  TimePoint now{};
  Outbox out;
  SchedulerLink link({.role = pb::WORKER, .self = PeerId(7)}, {.address = "tcp://a:1,tcp://b:2"});
  link.OnTick(now, out);
  EXPECT_EQ(link.address(), "tcp://a:1");
  Message stands_by;
  stands_by.header.mutable_refusal()->set_reason(pb::Refusal::NOT_LEADER);
  stands_by.header.mutable_refusal()->set_leader("tcp://b:2");
  EXPECT_TRUE(link.Heeds(stands_by));
  EXPECT_FALSE(link.OnMessage(stands_by, now));
  EXPECT_FALSE(link.fatal());
  out.clear();
  link.OnTick(now += Milliseconds(10), out);
  EXPECT_EQ(link.address(), "tcp://b:2");
  EXPECT_EQ(out.items().size(), 1u) << "it registers there at once";
  Message orders;
  orders.header.mutable_worker_orders()->set_scheduler_epoch(5);
  EXPECT_TRUE(link.Heeds(orders));
  link.OnMessage(orders, now);
  orders.header.mutable_worker_orders()->set_scheduler_epoch(4);
  EXPECT_FALSE(link.Heeds(orders));
  orders.header.mutable_worker_orders()->set_scheduler_epoch(6);
  EXPECT_TRUE(link.Heeds(orders));
  link.OnMessage(orders, now);
  EXPECT_THAT(link.TakeEvents(), ::testing::ElementsAre(HasSubstr("tcp://b:2 leads now (epoch 6)")));
}

TEST(SchedulerLinkOfSeveral, EndsIfNoneLeadsForTheDeadlineThoughOneAnswers) {
  TimePoint now{};
  SchedulerLink link({.role = pb::WORKER, .self = PeerId(7)}, {.address = "tcp://a:1,tcp://b:2"});
  Message stands_by;
  stands_by.header.mutable_refusal()->set_reason(pb::Refusal::NOT_LEADER);
  for (int i = 0; i < 320 && !link.fatal(); ++i) {
    Outbox out;
    link.OnTick(now += Milliseconds(100), out);
    link.OnMessage(stands_by, now);
  }
  ASSERT_TRUE(link.fatal());
  EXPECT_THAT(link.fatal()->message, HasSubstr("tcp://a:1,tcp://b:2 for 30"));
}

}  // namespace
}  // namespace sheaf
