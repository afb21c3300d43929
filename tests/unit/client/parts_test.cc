// The small parts of the client: key lists, cutting, credit, retry, residuals, dense layouts.
#include <cmath>

#include "client/credit.h"
#include "client/dense.h"
#include "client/operation.h"
#include "client/residuals.h"
#include "client/retry.h"
#include "common/base/partition.h"
#include "tests/unit/client/fake_cluster.h"

namespace sheaf {
namespace {

using namespace client_test;

TEST(KeyPart, GathersTheKeysOfItsRunsInOrder) {
  const KeyVector list = MakeKeys(10);
  KeyPart part({{1, 2}, {5, 3}});
  EXPECT_FALSE(part.contiguous());
  EXPECT_EQ(part.size(), 5u);
  const Buffer keys = part.Keys(list);
  const std::vector<HashedKey> want = {(*list)[1], (*list)[2], (*list)[5], (*list)[6], (*list)[7]};
  EXPECT_TRUE(std::ranges::equal(keys.As<HashedKey>(), want));
  EXPECT_EQ(part.SignatureIn(list), SignatureOf(want));
}

TEST(KeyPart, ViewsAGaplessPartWithoutCopying) {
  const KeyVector list = MakeKeys(10);
  const auto part = KeyPart::Of(std::vector<Segment>{{0, 2, 2}, {1, 4, 3}});
  EXPECT_TRUE(part->contiguous());
  EXPECT_EQ(static_cast<const void*>(part->Keys(list).data()), list->data() + 2);
}

TEST(KeyPart, SlicesAcrossRuns) {
  const KeyPart part({{0, 3}, {10, 4}, {20, 2}});
  const auto slice = part.Slice(2, 6);
  ASSERT_EQ(slice->runs().size(), 3u);
  EXPECT_EQ(slice->runs()[0].begin, 2u);
  EXPECT_EQ(slice->runs()[1].count, 4u);
  EXPECT_EQ(slice->runs()[2].count, 1u);
  EXPECT_EQ(slice->size(), 6u);
}

TEST(KeyPart, IsCutByPartitionWithinItsRuns) {
  constexpr uint32_t kPartitions = 16;
  const KeyVector list = MakeKeys(100);
  const KeyPart part({{3, 40}, {50, 50}});
  uint32_t at = 3;
  for (const Segment& segment : part.Segments(list, kPartitions)) {
    EXPECT_EQ(segment.begin, at == 43 ? 50 : at);
    EXPECT_GT(segment.count, 0u);
    at = segment.begin + segment.count;
    for (uint32_t i = segment.begin; i < at; ++i)
      ASSERT_EQ(PartitionOf((*list)[i], kPartitions).value, segment.partition);
  }
  EXPECT_EQ(at, 100u);
}

TEST(PartCache, KnowsAListAgainButNotAnotherAtItsAddress) {
  const Router router(MakeConfig());
  PartCache cache;
  KeyVector list = MakeKeys(100);
  const auto parts = cache.Get(router, list);
  EXPECT_EQ(cache.Get(router, list), parts);
  EXPECT_NE(cache.Get(router, MakeKeys(100)), parts);
  // Two lists of one owner.
  struct Both { std::vector<HashedKey> a, b; };
  const auto both = std::make_shared<Both>(Both{*MakeKeys(5), *MakeKeys(9)});
  const KeyVector a(both, &both->a);
  const KeyVector b(both, &both->b);
  EXPECT_NE(cache.Get(router, a), cache.Get(router, b));
}

TEST(RememberedLists, ForgetsTheOldestFirst) {
  RememberedLists lists;
  for (uint64_t i = 0; i < 5000; ++i) lists.Add({i, i});
  EXPECT_FALSE(lists.Has({0, 0}));
  EXPECT_TRUE(lists.Has({4999, 4999}));
  lists.Forget({4999, 4999});
  EXPECT_FALSE(lists.Has({4999, 4999}));
}

BlockPlan PlanOf(uint32_t table, uint32_t rows) {
  return {table, std::make_shared<KeyPart>(std::vector<Run>{{0, rows}})};
}

TEST(CutRequests, KeepsWhatFitsInOneMessage) {
  const auto plans = CutRequests({PlanOf(0, 10), PlanOf(1, 10)}, {12, 12}, 240, 8);
  ASSERT_EQ(plans.size(), 1u);
  EXPECT_EQ(plans[0].blocks.size(), 2u);
  EXPECT_EQ(plans[0].bytes, 240u);
}

TEST(CutRequests, CutsAtABlockRatherThanWithinIt) {
  const auto plans = CutRequests({PlanOf(0, 10), PlanOf(1, 10)}, {12, 12}, 200, 8);
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_EQ(plans[1].blocks[0].part->size(), 10u);
}

TEST(CutRequests, CutsALongBlockAndNeverARow) {
  const auto plans = CutRequests({PlanOf(0, 25)}, {100}, 1000, 8);
  ASSERT_EQ(plans.size(), 3u);
  EXPECT_EQ(plans[2].blocks[0].part->size(), 5u);
  EXPECT_EQ(plans[2].blocks[0].part->runs()[0].begin, 20u);
  EXPECT_EQ(CutRequests({PlanOf(0, 3)}, {100}, 10, 8).size(), 3u);
}

TEST(CutRequests, BoundsTheBlocksOfAMessage) {
  EXPECT_EQ(CutRequests({PlanOf(0, 1), PlanOf(1, 1), PlanOf(2, 1)}, {1, 1, 1}, 1000, 2).size(), 2u);
  EXPECT_EQ(MaxBlocks(4096), 2u);
  EXPECT_GT(MaxBlocks(64), 100u);
}

TEST(CutRequests, AnswersOneEmptyMessageForNothing) {
  const auto plans = CutRequests({}, {}, 1000, 2);
  ASSERT_EQ(plans.size(), 1u);
  EXPECT_TRUE(plans[0].blocks.empty());
}

TEST(CreditLine, TakesUntilTheLimitAndAGiantAlone) {
  CreditLine line(100);
  EXPECT_TRUE(line.Takes(1000));
  line.Use(60);
  EXPECT_TRUE(line.Takes(40));
  EXPECT_FALSE(line.Takes(41));
  line.GiveBack(60);
  EXPECT_EQ(line.used(), 0u);
}

TEST(RetryTimer, DoublesUpToTheLongest) {
  RetryTimer timer(Milliseconds(100), Milliseconds(300));
  TimePoint now{};
  for (const int64_t wait : {100, 200, 300, 300}) {
    timer.OnSend(now);
    EXPECT_EQ(timer.resend_at() - now, Milliseconds(wait));
    now = timer.resend_at();
  }
  EXPECT_EQ(now - timer.heard(), Milliseconds(900));
  timer.OnAlive(now);
  EXPECT_EQ(timer.resend_at() - now, Milliseconds(100));
}

TEST(RetryTimer, PausesAsLongAsAskedButNotForEver) {
  RetryTimer timer(Milliseconds(100), Milliseconds(300));
  const auto expect_from = [&](int milliseconds) {  // and up to a quarter more
    EXPECT_GE(timer.resend_at(), TimePoint{} + Milliseconds(milliseconds));
    EXPECT_LE(timer.resend_at(), TimePoint{} + Milliseconds(milliseconds) * 5 / 4);
  };
  timer.OnPause(TimePoint{}, Milliseconds(70), 1);
  expect_from(70);
  timer.OnPause(TimePoint{}, std::chrono::hours(5), 1);
  expect_from(300);
}

TEST(RetryTimer, DoublesItsPausesHoweverLittleIsAsked) {
  RetryTimer timer(Milliseconds(100), Milliseconds(300));
  TimePoint last{};
  for (int i = 0; i < 8; ++i) {
    timer.OnPause(TimePoint{}, Milliseconds(1), 1);
    EXPECT_GE(timer.resend_at(), last);
    last = timer.resend_at();
  }
  EXPECT_GE(last, TimePoint{} + Milliseconds(300));
}

TEST(Residuals, KeepsARowPerKeyAtOnePlace) {
  Residuals residuals;
  const KeyVector first = MakeKeys(3000, 1);
  const KeyVector second = MakeKeys(3000, 2);
  std::vector<float*> rows;
  residuals.Of(TableId(1), 2).Rows(*first, rows);
  const std::vector<float*> before = rows;
  for (size_t i = 0; i < rows.size(); ++i) rows[i][1] = static_cast<float>(i);
  residuals.Of(TableId(1), 2).Rows(*second, rows);
  for (const float* row : rows) EXPECT_EQ(row[1], 0.0f);
  residuals.Of(TableId(1), 2).Rows(*first, rows);
  EXPECT_EQ(rows, before);
  EXPECT_EQ(residuals.Of(TableId(1), 2).size(), 6000u);
  residuals.KeepOnly([](TableId) { return false; });
  EXPECT_EQ(residuals.Of(TableId(1), 2).size(), 0u);
}

TEST(DenseLayout, MapsChunksToSortedRowsAndBack) {
  const DenseLayout layout(TableId(3), 1001, 10);
  EXPECT_EQ(layout.row_count(), 101u);
  EXPECT_TRUE(std::ranges::is_sorted(*layout.keys()));
  std::vector<float> flat(1001);
  for (size_t i = 0; i < flat.size(); ++i) flat[i] = static_cast<float>(i) + 1;
  std::vector<float> rows(1010, -1.0f);
  layout.ToRows(flat, rows);
  for (size_t row = 0; row < 101; ++row) {
    const auto chunk = static_cast<uint64_t>((rows[row * 10] - 1) / 10);
    EXPECT_EQ((*layout.keys())[row], MixPair(3, chunk));
    if (chunk == 100) {
      EXPECT_EQ(rows[row * 10 + 1], 0.0f);
    }
  }
  std::vector<float> back(1001);
  layout.ToFlat(rows, back);
  EXPECT_EQ(back, flat);
}

}  // namespace
}  // namespace sheaf
