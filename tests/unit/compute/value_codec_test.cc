#include "compute/codec/value_codec.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/base/random.h"

namespace sheaf {
namespace {

using Wire = pb::WireSpec;

std::vector<std::byte> Encode(Wire::Codec codec, const std::vector<float>& values, uint32_t dim) {
  std::vector<std::byte> bytes(EncodedSize(codec, values.size() / dim, dim));
  EncodeValues(codec, values, dim, bytes);
  return bytes;
}
std::vector<float> Decode(Wire::Codec codec, std::span<const std::byte> bytes, size_t count, uint32_t dim) {
  std::vector<float> values(count);
  DecodeValues(codec, bytes, dim, values);
  return values;
}
std::vector<float> RoundTrip(Wire::Codec codec, const std::vector<float>& values, uint32_t dim) {
  return Decode(codec, Encode(codec, values, dim), values.size(), dim);
}

// All 65,536 sixteen-bit numbers, decoded.
std::vector<float> AllNumbers(Wire::Codec codec) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  return Decode(codec, std::as_bytes(std::span(all)), all.size(), 1);
}

uint16_t Encoded(Wire::Codec codec, float value) {
  const std::vector<std::byte> bytes = Encode(codec, {value}, 1);
  uint16_t number;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

TEST(ValueCodec, EverySixteenBitNumberSurvivesTheRoundTrip) {
  for (const Wire::Codec codec : {Wire::BF16, Wire::FP16}) {
    const std::vector<float> numbers = AllNumbers(codec);
    const std::vector<std::byte> bytes = Encode(codec, numbers, 1);
    for (uint32_t i = 0; i < 65536; ++i) {
      uint16_t again;
      std::memcpy(&again, bytes.data() + 2 * i, sizeof again);
      if (std::isnan(numbers[i])) {
        const uint16_t quiet = codec == Wire::BF16 ? 0x40 : 0x200;
        ASSERT_EQ(again, i | quiet);
      } else {
        ASSERT_EQ(again, i) << codec << " " << numbers[i];
      }
    }
  }
}

TEST(ValueCodec, DecodesHalfPrecisionByItsDefinition) {
  const std::vector<float> numbers = AllNumbers(Wire::FP16);
  for (uint32_t i = 0; i < 65536; ++i) {
    const int exponent = (i >> 10) & 31, mantissa = i & 1023, sign = i >> 15 ? -1 : 1;
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(numbers[i]), mantissa != 0);
      ASSERT_EQ(std::isinf(numbers[i]), mantissa == 0);
      continue;
    }
    const double expected = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    ASSERT_EQ(numbers[i], sign * expected) << i;
    ASSERT_EQ(std::signbit(numbers[i]), sign < 0);
  }
}

// Between every two neighbours: just below the middle goes down, just above goes up, the middle to the even one.
TEST(ValueCodec, RoundsToNearestAndHalvesToEven) {
  for (const Wire::Codec codec : {Wire::BF16, Wire::FP16}) {
    const std::vector<float> numbers = AllNumbers(codec);
    const uint32_t infinity = codec == Wire::BF16 ? 0x7f80 : 0x7c00;
    for (uint32_t i = 0; i < infinity; ++i) {
      // The middle to infinity is where the next number would be, were there one.
      const double above = i + 1 < infinity ? static_cast<double>(numbers[i + 1])
                                            : 2.0 * numbers[i] - static_cast<double>(numbers[i - 1]);
      const float middle = static_cast<float>((static_cast<double>(numbers[i]) + above) / 2);
      ASSERT_EQ(Encoded(codec, std::nextafter(middle, 0.0f)), i) << middle;
      ASSERT_EQ(Encoded(codec, middle), i % 2 == 0 ? i : i + 1) << middle;
      ASSERT_EQ(Encoded(codec, std::nextafter(middle, std::numeric_limits<float>::infinity())), i + 1) << middle;
      ASSERT_EQ(Encoded(codec, -middle), 0x8000 | (i % 2 == 0 ? i : i + 1)) << middle;
    }
  }
}

TEST(ValueCodec, OverflowsToInfinityAndKeepsNan) {
  EXPECT_EQ(Encoded(Wire::FP16, 65519.99f), 0x7bff);
  EXPECT_EQ(Encoded(Wire::FP16, 65520.0f), 0x7c00);
  EXPECT_EQ(Encoded(Wire::FP16, -1e38f), 0xfc00);
  EXPECT_EQ(Encoded(Wire::FP16, 1e-10f), 0);
  EXPECT_EQ(Encoded(Wire::BF16, 3.4e38f), 0x7f80);
  for (const Wire::Codec codec : {Wire::BF16, Wire::FP16}) {
    for (const uint32_t bits : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xffffffffu, 0xff800001u}) {
      const std::vector<float> back = RoundTrip(codec, {std::bit_cast<float>(bits)}, 1);
      EXPECT_TRUE(std::isnan(back[0])) << std::hex << bits;
    }
  }
}

TEST(ValueCodec, LongListsAreEncodedAsTheirElements) {
  Random random(1);
  for (const Wire::Codec codec : {Wire::FP32, Wire::BF16, Wire::FP16}) {
    for (size_t count = 1; count < 100; ++count) {
      std::vector<float> values(count);
      for (float& value : values) value = std::bit_cast<float>(static_cast<uint32_t>(random.Next()) & 0xbfffffff);
      const std::vector<float> together = RoundTrip(codec, values, 1);
      for (size_t i = 0; i < count; ++i) ASSERT_EQ(together[i], RoundTrip(codec, {values[i]}, 1)[0]);
    }
  }
}

TEST(ValueCodec, ReadsAndWritesAtAnyAddress) {
  std::vector<float> values = {1, -2, 3.5f, 0, 7, 8, 9, 10, 11, 12};
  for (const Wire::Codec codec : {Wire::FP32, Wire::BF16, Wire::FP16, Wire::INT8}) {
    const std::vector<std::byte> expected = Encode(codec, values, 5);
    std::vector<std::byte> room(expected.size() + 1);
    const std::span<std::byte> odd = std::span(room).subspan(1);
    EncodeValues(codec, values, 5, odd);
    EXPECT_TRUE(std::equal(odd.begin(), odd.end(), expected.begin()));
    EXPECT_EQ(Decode(codec, odd, 10, 5), Decode(codec, expected, 10, 5));
  }
}

TEST(ValueCodec, HasTheDocumentedSizes) {
  EXPECT_EQ(EncodedSize(Wire::FP32, 10, 3), 120u);
  EXPECT_EQ(EncodedSize(Wire::BF16, 10, 3), 60u);
  EXPECT_EQ(EncodedSize(Wire::FP16, 10, 3), 60u);
  EXPECT_EQ(EncodedSize(Wire::INT8, 10, 3), 70u);
  for (const Wire::Codec codec : {Wire::FP32, Wire::BF16, Wire::FP16, Wire::INT8}) {
    EncodeValues(codec, {}, 3, {});
    DecodeValues(codec, {}, 3, {});
  }
}

TEST(ValueCodec, Int8ErrsByAtMostHalfAScale) {
  Random random(2);
  for (uint32_t dim = 1; dim <= 65; ++dim) {
    std::vector<float> values(4 * dim);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(random.NextGaussian() * std::pow(10.0, 12.0 * static_cast<double>(i / dim) - 20));
    }
    const std::vector<float> back = RoundTrip(Wire::INT8, values, dim);
    for (size_t row = 0; row < 4; ++row) {
      float greatest = 0;
      for (uint32_t k = 0; k < dim; ++k) greatest = std::max(greatest, std::abs(values[row * dim + k]));
      for (uint32_t k = 0; k < dim; ++k) {
        ASSERT_NEAR(back[row * dim + k], values[row * dim + k], greatest / 127 * 0.50001);
      }
    }
  }
}

// The greatest floats came back infinite, and left an infinite residual.
TEST(ValueCodec, Int8KeepsTheGreatestRowsFinite) {
  const float most = std::numeric_limits<float>::max();
  for (float greatest = most; greatest > most * 0.9999f; greatest = std::nextafter(greatest, 0.0f)) {
    for (const float back : RoundTrip(Wire::INT8, {greatest, -greatest, 0}, 3))
      ASSERT_TRUE(std::isfinite(back)) << greatest;
  }
  EXPECT_NEAR(RoundTrip(Wire::INT8, {most}, 1)[0], most, most / 254);
}

TEST(ValueCodec, Int8SendsZerosTinyRowsAndBadRows) {
  EXPECT_EQ(RoundTrip(Wire::INT8, {0, 0, 0}, 3), (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(RoundTrip(Wire::INT8, {1e-40f, -1e-42f}, 2), (std::vector<float>{0, 0}));
  EXPECT_THAT(RoundTrip(Wire::INT8, {1, NAN}, 2), testing::Each(testing::IsNan()));
  EXPECT_THAT(RoundTrip(Wire::INT8, {INFINITY, 0}, 2), testing::Each(testing::IsNan()));
  const std::vector<float> mixed = RoundTrip(Wire::INT8, {1, NAN, 127, -127}, 2);
  EXPECT_EQ(mixed[2], 127);
  EXPECT_EQ(mixed[3], -127);
}

TEST(ValueCodec, FeedbackDeliversInTheEndWhatRoundingHeldBack) {
  Random random(3);
  constexpr uint32_t kDim = 9;
  constexpr size_t kRows = 3;
  std::vector<std::vector<float>> residuals(kRows, std::vector<float>(kDim, 0.0f));
  std::vector<float*> pointers;
  for (std::vector<float>& residual : residuals) pointers.push_back(residual.data());
  std::vector<double> wanted(kRows * kDim), delivered(kRows * kDim);
  for (int push = 0; push < 200; ++push) {
    std::vector<float> values(kRows * kDim);
    for (float& value : values) value = static_cast<float>(random.NextGaussian());
    std::vector<std::byte> bytes(EncodedSize(Wire::INT8, kRows, kDim));
    EncodeInt8WithFeedback(values, kDim, pointers, bytes);
    const std::vector<float> got = Decode(Wire::INT8, bytes, values.size(), kDim);
    for (size_t i = 0; i < values.size(); ++i) wanted[i] += values[i], delivered[i] += got[i];
  }
  // All that is missing after 200 pushes is the last residual, about half a scale: the rest is arithmetic (200 *
  // 2^-22).
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(delivered[i] + residuals[i / kDim][i % kDim], wanted[i], 1e-4);
    EXPECT_LT(std::abs(residuals[i / kDim][i % kDim]), 0.02);
  }
}

TEST(ValueCodec, FeedbackLeavesTheResidualOfABadRow) {
  std::vector<float> residual = {0.25f, -0.5f};
  float* pointer = residual.data();
  std::vector<std::byte> bytes(EncodedSize(Wire::INT8, 1, 2));
  EncodeInt8WithFeedback(std::vector<float>{NAN, 1}, 2, std::span(&pointer, 1), bytes);
  EXPECT_THAT(residual, testing::ElementsAre(0.25f, -0.5f));
  EXPECT_FALSE(AllFinite(Decode(Wire::INT8, bytes, 2, 2)));
}

TEST(AllFinite, FindsOneBadValueAnywhere) {
  EXPECT_TRUE(AllFinite({}));
  std::vector<float> values(10000, std::numeric_limits<float>::max());
  values[7] = -std::numeric_limits<float>::denorm_min();
  EXPECT_TRUE(AllFinite(values));
  for (const float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    for (const size_t place : {0, 1, 15, 16, 4095, 4096, 9998, 9999}) {
      std::vector<float> damaged = values;
      damaged[place] = bad;
      EXPECT_FALSE(AllFinite(damaged)) << bad << " at " << place;
    }
  }
}

}  // namespace
}  // namespace sheaf
