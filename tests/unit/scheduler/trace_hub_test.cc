#include "scheduler/trace_hub.h"

#include <gmock/gmock.h>

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kTracer = 11, kAnother = 12;

class TraceHubTest : public ::testing::Test {
 protected:
  static pb::GetTrace Question(uint64_t after, uint64_t token = kTracer, bool end = false) {
    pb::GetTrace question;
    question.set_after(after);
    question.set_token(token);
    question.set_end(end);
    return question;
  }
  static pb::TraceSpans SpansOf(uint64_t a) {
    pb::TraceSpans spans;
    AppendSpans({{pb::COMPUTE, 0, TimePoint(Milliseconds(1)), Milliseconds(1), a, 0}}, spans);
    return spans;
  }
  static std::vector<uint64_t> Told(const pb::TraceReply& reply) {
    std::vector<uint64_t> told;
    for (const auto& part : reply.part()) told.push_back(part.spans().a(0));
    return told;
  }

  TimePoint now_ = TimePoint(std::chrono::seconds(50));
  TraceHub hub_;
};

TEST_F(TraceHubTest, RepeatsWhatWasNotSeenToArrive) {
  uint64_t last = hub_.OnGetTrace(Question(0), now_)->last();
  hub_.Take("worker-0", pb::WORKER, SpansOf(1), now_);
  const auto lost = hub_.OnGetTrace(Question(last), now_);
  EXPECT_THAT(Told(*lost), ElementsAre(1));
  hub_.Take("worker-0", pb::WORKER, SpansOf(2), now_);
  const auto again = hub_.OnGetTrace(Question(last), now_);
  EXPECT_THAT(Told(*again), ElementsAre(1, 2));
  EXPECT_THAT(Told(*hub_.OnGetTrace(Question(again->last()), now_)), IsEmpty());
}

TEST_F(TraceHubTest, EndsWhenNobodyAsksAnyMore) {
  ASSERT_TRUE(hub_.OnGetTrace(Question(0), now_));
  EXPECT_GT(hub_.LeftMs(now_ + std::chrono::seconds(2)), 0u);
  EXPECT_EQ(hub_.LeftMs(now_ + std::chrono::seconds(4)), 0u);
  hub_.Take("worker-0", pb::WORKER, SpansOf(1), now_ + std::chrono::hours(1));
  EXPECT_THAT(Told(*hub_.OnGetTrace(Question(1), now_ + std::chrono::hours(1))), IsEmpty());
}

TEST_F(TraceHubTest, HandsOutWhatCameWithTheEnd) {
  ASSERT_TRUE(hub_.OnGetTrace(Question(0), now_));
  hub_.Take("worker-0", pb::WORKER, SpansOf(1), now_);
  const auto end = hub_.OnGetTrace(Question(1, kTracer, /*end=*/true), now_);
  EXPECT_THAT(Told(*end), ElementsAre(1));
  EXPECT_FALSE(hub_.on(now_));
}

TEST_F(TraceHubTest, ServesOneTracerAtATimeAndTheNextAnew) {
  ASSERT_TRUE(hub_.OnGetTrace(Question(0), now_));
  hub_.Take("worker-0", pb::WORKER, SpansOf(1), now_);
  const auto refused = hub_.OnGetTrace(Question(0, kAnother), now_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyExists);
  now_ += std::chrono::seconds(10);
  EXPECT_THAT(Told(*hub_.OnGetTrace(Question(0, kAnother), now_)), IsEmpty()) << "spans of another's trace";
}

TEST_F(TraceHubTest, HoldsNoMoreThanItsBytesAndCountsTheRest) {
  TraceHub small({.goes_on = std::chrono::seconds(3), .most_bytes = 100, .answer_bytes = 30});
  ASSERT_TRUE(small.OnGetTrace(Question(0), now_));
  for (uint64_t i = 1; i <= 100; ++i) small.Take("worker-0", pb::WORKER, SpansOf(i), now_);
  uint64_t after = 1, parts = 0;
  bool more = true;
  while (more) {
    const auto answer = small.OnGetTrace(Question(after), now_);
    ASSERT_LE(answer->part_size(), 1) << "an answer is bounded too";
    parts += static_cast<uint64_t>(answer->part_size());
    after = answer->last();
    more = answer->more();
    EXPECT_EQ(answer->dropped_parts() + 3, 100u);
  }
  EXPECT_EQ(parts, 3u);
}

}  // namespace
}  // namespace sheaf
