#include "server/sightings.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr uint32_t kPartitions = 256;

TEST(SightingsTest, CountsEachKeyByItself) {
  Sightings sightings;
  for (uint32_t time = 1; time <= 300; ++time) {
    ASSERT_EQ(sightings.Add(MixKey(1), kPartitions), std::min(time, 255u));
    if (time <= 3) {
      ASSERT_EQ(sightings.Add(MixKey(2), kPartitions), time);
    }
  }
}

TEST(SightingsTest, OfManyKeysThatCameOnceFewAreTakenForSeenBefore) {
  Sightings sightings;
  uint32_t wrong = 0;
  const auto keys = static_cast<uint32_t>(Sightings::Counters(kPartitions) / 8);
  for (uint32_t i = 0; i < keys; ++i) wrong += sightings.Add(MixKey(i), kPartitions) > 1;
  EXPECT_LT(wrong, keys / 50);
}

TEST(SightingsTest, WhatCameLongAgoIsForgotten) {
  Sightings sightings;
  for (int i = 0; i < 8; ++i) sightings.Add(MixKey(1), kPartitions);
  Random random(1);
  for (size_t i = 0; i < 4 * Sightings::Counters(kPartitions); ++i) sightings.Add(random.Below(1000) + 10, kPartitions);
  Sightings halved = sightings;
  EXPECT_GT(halved.Add(500, kPartitions), 1u);
  EXPECT_LE(sightings.Add(MixKey(1), kPartitions), 2u);
}

TEST(SightingsTest, GoOnAsTheyWereSaved) {
  Sightings sightings;
  Random random(2);
  for (int i = 0; i < 10'000; ++i) sightings.Add(random.Below(3000), kPartitions);
  auto restored = Sightings::Restore(sightings.Save(), sightings.since_halved(), kPartitions);
  ASSERT_TRUE(restored);
  for (int i = 0; i < 10'000; ++i) {
    const HashedKey key = random.Below(5000);
    ASSERT_EQ(restored->Add(key, kPartitions), sightings.Add(key, kPartitions));
  }
}

TEST(SightingsTest, OfAnotherSizeAreNone) {
  const std::vector<uint64_t> words(Sightings::Counters(kPartitions) / 8);
  EXPECT_TRUE(Sightings::Restore(words, 0, kPartitions));
  EXPECT_FALSE(Sightings::Restore(std::span(words).first(words.size() - 1), 0, kPartitions));
  EXPECT_FALSE(Sightings::Restore({}, 0, kPartitions));
  EXPECT_FALSE(Sightings::Restore(words, Sightings::Counters(kPartitions), kPartitions));
}

}  // namespace
}  // namespace sheaf
