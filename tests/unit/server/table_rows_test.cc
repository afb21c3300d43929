#include "server/table_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "common/base/partition.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr uint32_t kDim = 16;

struct WideRows {
  WideRows() {
    optimizer = std::move(*MakeOptimizer(pb::OptimizerSpec()));
    layout = {.dim = kDim, .stride = kDim + optimizer->StateDim(kDim), .seed = 5, .init_stddev = 0.1,
              .optimizer = optimizer.get()};
  }
  std::unique_ptr<Optimizer> optimizer;
  RowLayout layout;
};

std::vector<HashedKey> RandomKeys(size_t count, Random& random) {
  std::vector<HashedKey> keys(count);
  for (HashedKey& key : keys) key = random.Next();
  std::ranges::sort(keys);
  return keys;
}

TEST(TableRows, FindsInEveryPartitionWhatItMade) {
  const WideRows fixture;
  for (const uint32_t partitions : {1U, 4U, 64U, 4096U}) {
    TableRows table(&fixture.layout, partitions);
    Random random(partitions);
    std::map<HashedKey, float> made;
    for (int round = 0; round < 60; ++round) {
      const auto keys = RandomKeys(random.Below(kMaxLookupKeys + 1), random);
      std::vector<float*> rows(keys.size() + 1);
      table.Find(keys, rows.data(), nullptr);
      EXPECT_TRUE(std::all_of(rows.begin(), rows.end(), [](float* row) { return row == nullptr; }));
      table.FindOrCreate(keys, rows.data(), nullptr);
      for (size_t i = 0; i < keys.size(); ++i) {
        made[keys[i]] = *rows[i];
        const RowStore* const store = table.store(PartitionOf(keys[i], partitions).value);
        ASSERT_NE(store, nullptr);
        ASSERT_EQ(rows[i], store->Find(keys[i]));
      }
    }
    std::vector<HashedKey> all;
    for (const auto& [key, value] : made) all.push_back(key);
    std::vector<float*> rows(kMaxLookupKeys);
    ForEachLookup(all.size(), [&](size_t first, size_t count) {
      table.Find(std::span(all).subspan(first, count), rows.data(), nullptr);
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(*rows[i], made.at(all[first + i]));
    });
  }
}

TEST(TableRows, AddressesRowsByTheSlotsItTold) {
  const WideRows fixture;
  TableRows table(&fixture.layout, 8);
  Random random(1);
  const auto half = RandomKeys(200, random);
  auto keys = RandomKeys(200, random);
  keys.insert(keys.end(), half.begin(), half.end());
  std::ranges::sort(keys);
  std::vector<float*> rows(keys.size());
  std::vector<uint32_t> slots(keys.size());
  table.FindOrCreate(half, rows.data(), nullptr);
  table.Find(keys, rows.data(), slots.data());
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(slots[i] == kNoSlot, !std::ranges::binary_search(half, keys[i]));
  table.FindOrCreate(keys, rows.data(), slots.data());
  for (int later = 0; later < 50; ++later) {  // the stores grow, and rows move, but not their slots
    const auto others = RandomKeys(kMaxLookupKeys, random);
    std::vector<float*> unused(others.size());
    table.FindOrCreate(others, unused.data(), nullptr);
  }
  std::vector<float*> found(keys.size());
  table.Find(keys, found.data(), nullptr);
  table.Address(keys, slots.data(), kDim, rows.data());
  EXPECT_EQ(rows, found);
}

TEST(TableRows, ForgetsADroppedPartitionOnly) {
  const WideRows fixture;
  TableRows table(&fixture.layout, 4);
  Random random(2);
  const auto keys = RandomKeys(300, random);
  std::vector<float*> rows(keys.size());
  table.FindOrCreate(keys, rows.data(), nullptr);
  table.Drop(2);
  EXPECT_EQ(table.store(2), nullptr);
  table.Find(keys, rows.data(), nullptr);
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(rows[i] == nullptr, PartitionOf(keys[i], 4).value == 2);
}

}  // namespace
}  // namespace sheaf
