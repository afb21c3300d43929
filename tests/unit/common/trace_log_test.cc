#include "common/trace/trace_log.h"

#include <gmock/gmock.h>

namespace sheaf {
namespace {

using ::testing::ElementsAre;

class TraceLogTest : public ::testing::Test {
 protected:
  TraceLogTest() { clock_.Set(TimePoint(std::chrono::seconds(1000))); }

  ManualClock clock_;
  TraceLog log_{clock_, 3};
};

TEST_F(TraceLogTest, RecordsOnlyWhileTheOrdersSaySo) {
  log_.End(pb::COMPUTE, 0, clock_.Now(), 1, 2);
  EXPECT_EQ(log_.Begin(), TimePoint());
  log_.Follow(100, 0, clock_.Now(), clock_.Now());
  log_.End(pb::COMPUTE, 0, TimePoint(), 1, 2);  // began while it was off
  const TimePoint begin = log_.Begin();
  clock_.Advance(Milliseconds(3));
  log_.End(pb::COMPUTE, 7, begin, 1, 2);
  log_.OnTick(begin + Milliseconds(100));
  EXPECT_FALSE(log_.on());
  log_.End(pb::COMPUTE, 0, begin, 1, 2);

  pb::TraceSpans wire;
  ASSERT_TRUE(log_.Drain(wire));
  std::vector<Span> spans;
  ASSERT_TRUE(TakeSpans(wire, spans));
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].track, 7u);
  EXPECT_EQ(spans[0].begin, begin);
  EXPECT_EQ(spans[0].length, Milliseconds(3));
  EXPECT_FALSE(log_.Drain(wire)) << "spans are told once";
}

TEST_F(TraceLogTest, EndsWhenTheOrdersNameNoTime) {
  log_.Follow(100, 0, clock_.Now(), clock_.Now());
  log_.Follow(0, 0, clock_.Now(), clock_.Now());
  EXPECT_FALSE(log_.on());
}

TEST_F(TraceLogTest, DropsAndCountsWhatFindsNoRoom) {
  log_.Follow(100, 0, clock_.Now(), clock_.Now());
  for (uint64_t i = 0; i < 5; ++i) log_.Add({pb::PULL, 0, clock_.Now(), Milliseconds(1), i, 0});
  pb::TraceSpans wire;
  ASSERT_TRUE(log_.Drain(wire));
  EXPECT_THAT(wire.a(), ElementsAre(0, 1, 2));
  EXPECT_EQ(wire.dropped(), 2u);
  log_.Add({pb::PULL, 0, clock_.Now(), Milliseconds(1), 9, 0});
  pb::TraceSpans next;
  ASSERT_TRUE(log_.Drain(next));
  EXPECT_THAT(next.a(), ElementsAre(9));
  EXPECT_EQ(next.dropped(), 0u);
}

TEST_F(TraceLogTest, TakesTheSchedulersClockFromTheShortestRoundTrip) {
  const TimePoint sent = clock_.Now();
  const auto scheduler_ns = static_cast<uint64_t>((sent + std::chrono::hours(5)).time_since_epoch().count());
  log_.Follow(100, scheduler_ns, sent, sent + Milliseconds(2));                 // 1 ms off at most
  log_.Follow(100, scheduler_ns + 500'000'000, sent, sent + Milliseconds(40));  // a worse one
  log_.Add({pb::PULL, 0, sent, Milliseconds(1), 0, 0});
  pb::TraceSpans wire;
  ASSERT_TRUE(log_.Drain(wire));
  EXPECT_EQ(wire.clock_offset_ns(), Duration(std::chrono::hours(5) - Milliseconds(1)).count());
  EXPECT_EQ(wire.clock_error_ns(), 1'000'000u);
}

TEST(TraceSpans, ThatDoNotFitTogetherAreRefused) {
  pb::TraceSpans wire;
  AppendSpans({{pb::PULL, 1, TimePoint(Milliseconds(5)), Milliseconds(1), 2, 3}}, wire);
  wire.add_begin_ns(1);
  std::vector<Span> spans;
  EXPECT_FALSE(TakeSpans(wire, spans));
  EXPECT_TRUE(spans.empty());
}

}  // namespace
}  // namespace sheaf
