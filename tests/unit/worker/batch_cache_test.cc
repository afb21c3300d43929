#include "worker/batch_cache.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

BatchCache::Entry EntryOf(size_t rows) {
  auto block = std::make_shared<RowBlock>();
  block->labels.resize(rows);
  return {block, {}, 0};
}

TEST(BatchCache, FindsWhatWasPut) {
  BatchCache cache(1 << 20);
  cache.Put({1, 0, 7}, EntryOf(10));
  ASSERT_NE(cache.Find({1, 0, 7}), nullptr);
  EXPECT_EQ(cache.Find({1, 0, 7})->rows->labels.size(), 10u);
  EXPECT_EQ(cache.Find({1, 0, 8}), nullptr);
}

TEST(BatchCache, KeepsWhatItHasWhenAJobIsLargerThanTheBudget) {
  BatchCache cache(10000);
  for (uint32_t range = 0; range < 100; ++range) cache.Put({1, 0, range}, EntryOf(500));
  EXPECT_LE(cache.bytes(), 10000u);
  EXPECT_NE(cache.Find({1, 0, 0}), nullptr);
  EXPECT_EQ(cache.Find({1, 0, 99}), nullptr);
}

TEST(BatchCache, MakesRoomForAnotherJob) {
  BatchCache cache(10000);
  for (uint32_t range = 0; range < 100; ++range) cache.Put({1, 0, range}, EntryOf(500));
  cache.Put({2, 0, 0}, EntryOf(500));
  EXPECT_NE(cache.Find({2, 0, 0}), nullptr);
  EXPECT_LE(cache.bytes(), 10000u);
}

TEST(BatchCache, ReplacesAnEntryWithoutCountingItTwice) {
  BatchCache cache(1 << 20);
  cache.Put({1, 0, 0}, EntryOf(1000));
  const size_t bytes = cache.bytes();
  cache.Put({1, 0, 0}, EntryOf(1000));
  EXPECT_EQ(cache.bytes(), bytes);
}

TEST(BatchCache, LeavesOutWhatIsLargerThanAll) {
  BatchCache cache(100);
  cache.Put({1, 0, 0}, EntryOf(1000));
  EXPECT_EQ(cache.Find({1, 0, 0}), nullptr);
  EXPECT_EQ(cache.bytes(), 0u);
}

}  // namespace
}  // namespace sheaf
