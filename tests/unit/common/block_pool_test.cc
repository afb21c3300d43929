#include "common/base/block_pool.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace sheaf {
namespace {

TEST(BlockPool, GivesABlockOutAgainForAboutItsSize) {
  BlockPool pool(1 << 20);
  void* const block = pool.Take(1000);
  EXPECT_EQ(pool.spare_bytes(), 0U);
  pool.GiveBack(block, 1000);
  EXPECT_GE(pool.spare_bytes(), 1000U);
  void* const again = pool.Take(900);
  EXPECT_EQ(again, block);
  EXPECT_EQ(pool.spare_bytes(), 0U);
  pool.GiveBack(again, 900);
}

TEST(BlockPool, HasRoomForWhatWasAskedFor) {
  BlockPool pool(1 << 30);
  for (const size_t bytes : {1, 8, 63, 64, 65, 80, 81, 127, 128, 129, 4095, 4097, 1 << 20, (1 << 20) + 1, 9 << 20}) {
    for (int round = 0; round < 2; ++round) {
      void* const block = pool.Take(bytes);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignof(std::max_align_t), 0U);
      std::memset(block, 0xff, bytes);  // the sanitizer looks
      pool.GiveBack(block, bytes);
      EXPECT_LE(pool.spare_bytes(), 4U << 20) << "an unneeded block";
    }
  }
}

TEST(BlockPool, KeepsNoMoreThanItsLimit) {
  BlockPool pool(1000);
  std::vector<void*> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(pool.Take(64));
  for (void* const block : blocks) pool.GiveBack(block, 64);
  EXPECT_LE(pool.spare_bytes(), 1000U);
  EXPECT_GT(pool.spare_bytes(), 1000U - 64);
  pool.GiveBack(pool.Take(2000), 2000);
  EXPECT_LE(pool.spare_bytes(), 1000U);
}

TEST(BlockPool, OldSizesMakeRoomForNewOnes) {
  BlockPool pool(1024);
  void* const large = pool.Take(1024);
  void* const small = pool.Take(64);
  pool.GiveBack(large, 1024);
  EXPECT_EQ(pool.spare_bytes(), 1024U);
  pool.GiveBack(small, 64);
  EXPECT_EQ(pool.spare_bytes(), 64U);
  void* const again = pool.Take(64);
  EXPECT_EQ(again, small);
  pool.GiveBack(again, 64);
}

TEST(BlockPool, LivesAsLongAsWhatIsMadeOfIt) {
  auto pool = std::make_shared<BlockPool>(1 << 20);
  const std::weak_ptr<BlockPool> watched = pool;
  auto text = std::allocate_shared<std::string>(PoolAllocator<std::string>(pool), "kept");
  auto list = std::allocate_shared_for_overwrite<uint64_t[]>(PoolAllocator<uint64_t>(pool), 1000);
  list[999] = 7;
  pool.reset();
  EXPECT_EQ(*text, "kept");
  text.reset();
  EXPECT_FALSE(watched.expired());
  list.reset();
  EXPECT_TRUE(watched.expired());
}

TEST(BlockPool, TakesBackOnOneThreadWhatAnotherTook) {
  const auto pool = std::make_shared<BlockPool>(64 << 10);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([pool, t] {
      std::shared_ptr<uint64_t[]> kept;
      for (size_t i = 1; i < 2000; ++i) {
        auto made = std::allocate_shared_for_overwrite<uint64_t[]>(PoolAllocator<uint64_t>(pool), i);
        made[i - 1] = t;
        if (kept && kept[i - 2] != t) ADD_FAILURE() << "changed under way";
        kept = std::move(made);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(pool->spare_bytes(), 64U << 10);
}

}  // namespace
}  // namespace sheaf
