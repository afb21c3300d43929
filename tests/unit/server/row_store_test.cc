#include "server/row_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "common/base/partition.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

struct Fixture {
  explicit Fixture(uint32_t dim, double init_stddev = 0, uint32_t init_zero_columns = 0) {
    pb::OptimizerSpec spec;  // Adagrad
    optimizer = std::move(*MakeOptimizer(spec));
    layout = {.dim = dim, .stride = dim + optimizer->StateDim(dim), .seed = 5, .init_stddev = init_stddev,
              .init_zero_columns = init_zero_columns, .optimizer = optimizer.get()};
  }
  std::unique_ptr<Optimizer> optimizer;
  RowLayout layout;
};

HashedKey KeyIn(PartitionId partition, uint32_t count, Random& random) {
  const HashedKey first = PartitionFirstKey(partition, count);
  const HashedKey last = PartitionLastKey(partition, count);
  return last - first == ~HashedKey{0} ? random.Next() : first + random.Below(last - first + 1);
}

TEST(RowStore, FindsExactlyTheRowsItMade) {
  const Fixture fixture(3);
  for (const uint32_t count : {1U, 3U, 64U}) {
    const PartitionId partition(count - 1);
    RowStore store(&fixture.layout, count);
    Random random(count);
    std::map<HashedKey, float> rows;
    for (int i = 0; i < 20000; ++i) {
      const HashedKey key = KeyIn(partition, count, random);
      float* row = store.FindOrCreate(key);
      const auto [at, fresh] = rows.try_emplace(key, static_cast<float>(i));
      if (fresh) row[0] = static_cast<float>(i);
      ASSERT_EQ(row[0], at->second);
      ASSERT_EQ(store.Find(KeyIn(partition, count, random)), nullptr);
    }
    EXPECT_EQ(store.size(), rows.size());
    for (const auto& [key, value] : rows) ASSERT_EQ(*store.Find(key), value);
  }
}

TEST(RowStore, AcceptsTheFirstAndLastKeyOfItsPartition) {
  const Fixture fixture(1);
  for (const uint32_t count : {1U, 7U, 64U, 4096U}) {
    for (const uint32_t p : {0U, count / 2, count - 1}) {
      RowStore store(&fixture.layout, count);
      const HashedKey first = PartitionFirstKey(PartitionId(p), count);
      const HashedKey last = PartitionLastKey(PartitionId(p), count);
      *store.FindOrCreate(last) = 2;
      *store.FindOrCreate(first) = 1;
      EXPECT_EQ(*store.Find(first), 1);
      EXPECT_EQ(*store.Find(last), 2);
    }
  }
}

TEST(RowStore, StaysRightWhenKeysCrowdAtOneEnd) {
  const Fixture fixture(1);
  RowStore store(&fixture.layout, 1);
  for (uint64_t i = 0; i < 3000; ++i) *store.FindOrCreate(~uint64_t{0} - (i * 7) % 3000) = static_cast<float>(i);
  EXPECT_EQ(store.size(), 3000U);
  std::vector<HashedKey> keys;
  std::vector<const float*> rows;
  EXPECT_TRUE(store.Scan(0, 10000, keys, rows));
  EXPECT_EQ(keys.size(), 3000U);
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  EXPECT_LT(store.memory_bytes(), 3000 * 100U);
}

TEST(RowStore, ScansInKeyOrderFromWhereItIsTold) {
  const Fixture fixture(2);
  RowStore store(&fixture.layout, 2);
  Random random(9);
  std::vector<HashedKey> made;
  for (int i = 0; i < 1000; ++i) made.push_back(KeyIn(PartitionId(1), 2, random));
  for (const HashedKey key : made) store.FindOrCreate(key);
  std::sort(made.begin(), made.end());
  std::vector<HashedKey> seen;
  HashedKey from = PartitionFirstKey(PartitionId(1), 2);
  while (true) {
    std::vector<HashedKey> keys;
    std::vector<const float*> rows;
    const bool done = store.Scan(from, 64, keys, rows);
    for (size_t i = 0; i < keys.size(); ++i) ASSERT_EQ(rows[i], store.Find(keys[i]));
    seen.insert(seen.end(), keys.begin(), keys.end());
    if (done) break;
    ASSERT_EQ(keys.size(), 64U);
    from = keys.back() + 1;
  }
  EXPECT_EQ(seen, made);
}

TEST(RowStore, StartsRowsByTheirKeyAndNotByTheirOrder) {
  const Fixture fixture(5, 0.5, 2);
  RowStore forward(&fixture.layout, 1);
  RowStore backward(&fixture.layout, 1);
  Random random(4);
  std::vector<HashedKey> keys;
  for (int i = 0; i < 2000; ++i) keys.push_back(random.Next());
  for (size_t i = 0; i < keys.size(); ++i) {
    forward.FindOrCreate(keys[i]);
    backward.FindOrCreate(keys[keys.size() - 1 - i]);
  }
  double sum = 0;
  double squares = 0;
  for (const HashedKey key : keys) {
    const float* row = forward.Find(key);
    ASSERT_TRUE(std::equal(row, row + 5, backward.Find(key)));
    ASSERT_EQ(row[0], 0);
    ASSERT_EQ(row[1], 0);
    for (int d = 2; d < 5; ++d) {
      sum += row[d];
      squares += row[d] * row[d];
    }
    std::vector<float> weights(5);
    fixture.layout.InitWeights(key, weights.data());
    ASSERT_TRUE(std::equal(weights.begin(), weights.end(), row));
  }
  EXPECT_NEAR(sum / 6000, 0, 0.03);
  EXPECT_NEAR(std::sqrt(squares / 6000), 0.5, 0.02);
}

// The numbers themselves: a model must start the same with every build, compiler and machine.
TEST(RowStore, StartsRowsWithTheNumbersItAlwaysDid) {
  const Fixture fixture(3, 1.0);
  std::vector<float> weights(3);
  fixture.layout.InitWeights(12345, weights.data());
  const std::vector<float> golden{0.376864702f, 0.357354313f, 1.25227249f};
  EXPECT_EQ(weights, golden);
}

TEST(RowStore, StaysTinyWithFewRows) {
  const Fixture fixture(16);
  RowStore empty(&fixture.layout, 64);
  EXPECT_EQ(empty.memory_bytes(), 0U);
  RowStore one(&fixture.layout, 64);
  one.FindOrCreate(1);
  EXPECT_LE(one.memory_bytes(), 1024U);
}

TEST(RowStore, TakesUnderOnePointThreeTimesKeyAndRow) {
  const Fixture fixture(16);
  RowStore store(&fixture.layout, 1);
  Random random(6);
  const double row = 8 + 32 * 4;
  double worst = 0;
  for (int i = 1; i <= 400000; ++i) {
    store.FindOrCreate(random.Next());
    if (i > 100000 && i % 1000 == 0) worst = std::max(worst, static_cast<double>(store.memory_bytes()) / (i * row));
  }
  EXPECT_LT(worst, 1.3);
}

}  // namespace
}  // namespace sheaf
