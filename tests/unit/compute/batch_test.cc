#include "compute/batch.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "common/base/random.h"
#include "compute/key_index.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// The properties that define the result; there is only one such pair.
void ExpectIndexed(const std::vector<HashedKey>& keys) {
  std::vector<uint32_t> index(keys.size());
  std::vector<HashedKey> distinct = {7};  // overwritten
  IndexKeys(keys, index, distinct);
  const std::set<HashedKey> expected(keys.begin(), keys.end());
  ASSERT_EQ(distinct, std::vector<HashedKey>(expected.begin(), expected.end()));
  for (size_t j = 0; j < keys.size(); ++j) {
    ASSERT_LT(index[j], distinct.size());
    ASSERT_EQ(distinct[index[j]], keys[j]) << j;
  }
}

TEST(IndexKeys, SortsAndDeduplicatesListsOfAnySize) {
  Random random(1);
  for (const size_t count : {0, 1, 2, 3, 31, 32, 33, 100, 1000, 20000, 7, 300000, 50}) {
    for (const uint64_t universe : {uint64_t{1}, uint64_t{10}, uint64_t{1000}, uint64_t{1} << 40}) {
      std::vector<HashedKey> keys(count);
      for (HashedKey& key : keys) key = MixKey(random.Below(universe));
      ExpectIndexed(keys);
    }
  }
}

TEST(IndexKeys, TakesTheSmallestAndGreatestKeys) {
  const HashedKey last = ~HashedKey{0};
  ExpectIndexed({0});
  ExpectIndexed({0, 0, 0});
  ExpectIndexed({last});
  ExpectIndexed({last, 0, last - 1, 1, 0, last, 1, 2, last - 2});
}

TEST(IndexKeys, StaysCorrectForKeysThatAreNotUniform) {
  Random random(2);
  std::vector<HashedKey> ascending(5000);
  std::iota(ascending.begin(), ascending.end(), 0);
  ExpectIndexed(ascending);
  std::reverse(ascending.begin(), ascending.end());
  ExpectIndexed(ascending);
  std::vector<HashedKey> crowded(5000);
  for (HashedKey& key : crowded) key = ~HashedKey{0} - random.Below(3000);  // past the last slot
  ExpectIndexed(crowded);
  ExpectIndexed(ascending);                                                // and the scratch is clean again
  for (HashedKey& key : crowded) key = random.Next();
  ExpectIndexed(crowded);
}

RowBlock ThreeRows() {
  RowBlock block;
  block.labels = {0, 1, 2};
  block.row_begin = {0, 2, 2, 5};
  block.keys = {50, 10, 30, 10, 20};
  block.values = {1, 2, 3, 4, 5};
  return block;
}

TEST(MakeBatch, ReplacesKeysByIndexesIntoTheSortedDistinctKeys) {
  const Batch batch = MakeBatch(ThreeRows(), 0, 3, {});
  EXPECT_THAT(batch.labels, ElementsAre(0, 1, 2));
  EXPECT_THAT(batch.row_begin, ElementsAre(0, 2, 2, 5));
  EXPECT_THAT(*batch.keys, ElementsAre(10, 20, 30, 50));
  EXPECT_THAT(batch.index, ElementsAre(3, 0, 2, 0, 1));
  EXPECT_THAT(batch.values, ElementsAre(1, 2, 3, 4, 5));
}

TEST(MakeBatch, TakesARangeOfRows) {
  const Batch batch = MakeBatch(ThreeRows(), 1, 2, {});
  EXPECT_THAT(batch.labels, ElementsAre(1, 2));
  EXPECT_THAT(batch.row_begin, ElementsAre(0, 0, 3));
  EXPECT_THAT(*batch.keys, ElementsAre(10, 20, 30));
  EXPECT_THAT(batch.index, ElementsAre(2, 0, 1));
  EXPECT_THAT(batch.values, ElementsAre(3, 4, 5));
}

TEST(MakeBatch, FollowsThePermutation) {
  const Batch batch = MakeBatch(ThreeRows(), 0, 2, {2, 0, 1});
  EXPECT_THAT(batch.labels, ElementsAre(2, 0));
  EXPECT_THAT(batch.row_begin, ElementsAre(0, 3, 5));
  EXPECT_THAT(*batch.keys, ElementsAre(10, 20, 30, 50));
  EXPECT_THAT(batch.index, ElementsAre(2, 0, 1, 3, 0));
  EXPECT_THAT(batch.values, ElementsAre(3, 4, 5, 1, 2));
}

TEST(MakeBatch, KeepsValuesImplicitWhenAllAreOne) {
  RowBlock block = ThreeRows();
  block.values.clear();
  EXPECT_THAT(MakeBatch(block, 0, 3, {}).values, IsEmpty());
  EXPECT_THAT(MakeBatch(block, 0, 3, {1, 2, 0}).values, IsEmpty());
}

TEST(MakeBatch, MakesAnEmptyBatchOfNoRowsAndOfEmptyRows) {
  const Batch none = MakeBatch(ThreeRows(), 3, 0, {});
  EXPECT_EQ(none.size(), 0u);
  EXPECT_THAT(none.row_begin, ElementsAre(0));
  EXPECT_THAT(*none.keys, IsEmpty());
  const Batch empty_row = MakeBatch(ThreeRows(), 1, 1, {});
  EXPECT_THAT(empty_row.row_begin, ElementsAre(0, 0));
  EXPECT_THAT(*empty_row.keys, IsEmpty());
}

}  // namespace
}  // namespace sheaf
