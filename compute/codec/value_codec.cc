#include "compute/codec/value_codec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/base/check.h"
#include "compute/kernel.h"

namespace sheaf {
namespace {

constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr uint32_t kInfinity = 0x7f800000;
// 1.5 * 2^23: adding and taking it away again rounds |x| < 2^22 to the nearest integer, halves to even.
constexpr float kRounder = 12582912.0f;
// Below it 127 / magnitude would overflow; such a row travels as zeros.
constexpr float kSmallestInt8Row = 1e-36f;
// The greatest scale whose 127-fold is finite: the quotient of the greatest floats by 127 is rounded up past it.
constexpr float kLargestInt8Scale = 2.6793883e36f;

SHEAF_INLINE uint32_t Bits(float value) { return std::bit_cast<uint32_t>(value); }
SHEAF_INLINE float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

// The wire has no alignment.
template <typename T>
SHEAF_INLINE void Store(std::byte* out, T value) {
  std::memcpy(out, &value, sizeof value);
}
template <typename T>
SHEAF_INLINE T Load(const std::byte* in) {
  T value;
  std::memcpy(&value, in, sizeof value);
  return value;
}

SHEAF_INLINE uint16_t ToBf16(float value) {
  const uint32_t bits = Bits(value);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // overflow carries into infinity
  const uint32_t quiet_nan = (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits & kMagnitude) > kInfinity ? quiet_nan : rounded);
}

SHEAF_INLINE uint16_t ToFp16(float value) {
  const uint32_t bits = Bits(value);
  const uint32_t magnitude = bits & kMagnitude;
  // Normal: move the exponent's bias from 127 to 15 and round away 13 bits; a carry out of 65504 makes infinity.
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Subnormal, below 2^-14: adding 0.5 lets the adder shift and round to units of 2^-24.
  const uint32_t subnormal = Bits(FromBits(magnitude) + 0.5f) - Bits(0.5f);
  const uint32_t nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  uint32_t half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= (143u << 23) ? 0x7c00 : half;
  half = magnitude > kInfinity ? nan : half;
  return static_cast<uint16_t>(half | ((bits >> 16) & 0x8000));
}

SHEAF_INLINE float FromFp16(uint16_t half) {
  const uint32_t shifted = (half & 0x7fffu) << 13;
  const uint32_t exponent = shifted & (0x7c00u << 13);
  const uint32_t normal = shifted + (112u << 23);
  const uint32_t special = shifted + (224u << 23);                                                   // infinity, NaN
  const uint32_t subnormal = Bits(FromBits(shifted + (113u << 23)) - FromBits(113u << 23));          // and zero
  uint32_t bits = exponent == 0 ? subnormal : normal;
  bits = exponent == (0x7c00u << 13) ? special : bits;
  return FromBits(bits | (half & 0x8000u) << 16);
}

SHEAF_TARGET_CLONES void EncodeBf16(const float* values, size_t count, std::byte* out) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) Store(out + 2 * i, ToBf16(values[i]));
}
SHEAF_TARGET_CLONES void DecodeBf16(const std::byte* in, size_t count, float* out) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) out[i] = FromBits(static_cast<uint32_t>(Load<uint16_t>(in + 2 * i)) << 16);
}
SHEAF_TARGET_CLONES void EncodeFp16(const float* values, size_t count, std::byte* out) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) Store(out + 2 * i, ToFp16(values[i]));
}
SHEAF_TARGET_CLONES void DecodeFp16(const std::byte* in, size_t count, float* out) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) out[i] = FromFp16(Load<uint16_t>(in + 2 * i));
}

// One row of `dim` values, to which residual (if any) is added first and in which is left what was lost. A row with a
// NaN or an infinity gets the scale NaN, so that it decodes to NaN everywhere and the receiver can refuse it.
template <bool kFeedback>
SHEAF_INLINE void EncodeInt8Row(const float* values, uint32_t dim, float* residual, std::byte* out) {
  uint32_t greatest = 0;  // as integers: they order as magnitudes do, and the maximum vectorises
  for (uint32_t i = 0; i < dim; ++i) {
    const float value = kFeedback ? values[i] + residual[i] : values[i];
    greatest = std::max(greatest, Bits(value) & kMagnitude);
  }
  const bool finite = greatest < kInfinity;
  const float magnitude = FromBits(greatest);
  const bool tiny = !(magnitude >= kSmallestInt8Row);
  const float scale = !finite ? std::numeric_limits<float>::quiet_NaN()
                      : tiny  ? 0.0f
                              : std::min(magnitude / 127.0f, kLargestInt8Scale);
  const float inverse = !finite || tiny ? 0.0f : 127.0f / magnitude;
  Store(out, scale);
  std::byte* bytes = out + sizeof scale;
  if (!finite) {
    std::fill_n(bytes, dim, std::byte{0});
    return;
  }
  SHEAF_INDEPENDENT
  for (uint32_t i = 0; i < dim; ++i) {
    const float value = kFeedback ? values[i] + residual[i] : values[i];
    const float rounded = (value * inverse + kRounder) - kRounder;
    bytes[i] = static_cast<std::byte>(static_cast<int8_t>(static_cast<int32_t>(rounded)));
    if constexpr (kFeedback) residual[i] = value - rounded * scale;
  }
}

SHEAF_TARGET_CLONES void EncodeInt8(const float* values, size_t row_count, uint32_t dim, std::byte* out) {
  for (size_t row = 0; row < row_count; ++row) {
    EncodeInt8Row<false>(values + row * dim, dim, nullptr, out + row * (sizeof(float) + dim));
  }
}
SHEAF_TARGET_CLONES void EncodeInt8Feedback(const float* values, size_t row_count, uint32_t dim,
                                            float* const* residual_rows, std::byte* out) {
  for (size_t row = 0; row < row_count; ++row) {
    EncodeInt8Row<true>(values + row * dim, dim, residual_rows[row], out + row * (sizeof(float) + dim));
  }
}
SHEAF_TARGET_CLONES void DecodeInt8(const std::byte* in, size_t row_count, uint32_t dim, float* out) {
  for (size_t row = 0; row < row_count; ++row, in += sizeof(float) + dim, out += dim) {
    const float scale = Load<float>(in);
    const std::byte* bytes = in + sizeof(float);
    SHEAF_INDEPENDENT
    for (uint32_t i = 0; i < dim; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(bytes[i]));
  }
}

// The greatest magnitude, as an integer: at least kInfinity if any value is not finite.
// Asks for what is a little ahead, also past the end: values have just come off the wire, and this loop does less than
// the hardware's own prefetcher can feed.
SHEAF_TARGET_CLONES uint32_t GreatestMagnitude(const float* values, size_t count) {
  constexpr size_t kStep = 64, kAhead = 256;  // floats
  uint32_t greatest = 0;
  size_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    const auto ahead = reinterpret_cast<uintptr_t>(values + i) + kAhead * sizeof(float);
    for (size_t line = 0; line < kStep; line += 16)
      __builtin_prefetch(reinterpret_cast<const void*>(ahead + line * sizeof(float)));
    uint32_t of_step = 0;
    for (size_t k = 0; k < kStep; ++k) of_step = std::max(of_step, Bits(values[i + k]) & kMagnitude);
    greatest = std::max(greatest, of_step);
  }
  for (; i < count; ++i) greatest = std::max(greatest, Bits(values[i]) & kMagnitude);
  return greatest;
}

}  // namespace

size_t EncodedSize(pb::WireSpec::Codec codec, size_t row_count, uint32_t dim) {
  switch (codec) {
    case pb::WireSpec::FP32: return row_count * dim * 4;
    case pb::WireSpec::BF16:
    case pb::WireSpec::FP16: return row_count * dim * 2;
    case pb::WireSpec::INT8: return row_count * (sizeof(float) + dim);
  }
  SHEAF_CHECK(false, "codec ", static_cast<int>(codec));
}

void EncodeValues(pb::WireSpec::Codec codec, std::span<const float> values, uint32_t dim, std::span<std::byte> out) {
  if (values.empty()) return;
  SHEAF_CHECK(dim > 0 && values.size() % dim == 0, values.size(), " values in rows of ", dim);
  const size_t row_count = values.size() / dim;
  SHEAF_CHECK(out.size() == EncodedSize(codec, row_count, dim), "room of ", out.size(), " bytes for ", row_count,
              " rows of ", dim);
  switch (codec) {
    case pb::WireSpec::FP32: std::memcpy(out.data(), values.data(), values.size_bytes()); return;
    case pb::WireSpec::BF16: EncodeBf16(values.data(), values.size(), out.data()); return;
    case pb::WireSpec::FP16: EncodeFp16(values.data(), values.size(), out.data()); return;
    case pb::WireSpec::INT8: EncodeInt8(values.data(), row_count, dim, out.data()); return;
  }
}

void DecodeValues(pb::WireSpec::Codec codec, std::span<const std::byte> bytes, uint32_t dim, std::span<float> out) {
  if (out.empty()) return;
  SHEAF_CHECK(dim > 0 && out.size() % dim == 0, out.size(), " values in rows of ", dim);
  const size_t row_count = out.size() / dim;
  SHEAF_CHECK(bytes.size() == EncodedSize(codec, row_count, dim), bytes.size(), " bytes for ", row_count, " rows of ",
              dim);
  switch (codec) {
    case pb::WireSpec::FP32: std::memcpy(out.data(), bytes.data(), bytes.size()); return;
    case pb::WireSpec::BF16: DecodeBf16(bytes.data(), out.size(), out.data()); return;
    case pb::WireSpec::FP16: DecodeFp16(bytes.data(), out.size(), out.data()); return;
    case pb::WireSpec::INT8: DecodeInt8(bytes.data(), row_count, dim, out.data()); return;
  }
}

void EncodeInt8WithFeedback(std::span<const float> values, uint32_t dim, std::span<float* const> residual_rows,
                            std::span<std::byte> out) {
  SHEAF_CHECK(values.size() == residual_rows.size() * dim, values.size(), " values for ", residual_rows.size(),
              " residual rows of ", dim);
  SHEAF_CHECK(out.size() == EncodedSize(pb::WireSpec::INT8, residual_rows.size(), dim), "room of ", out.size(),
              " bytes for ", residual_rows.size(), " rows of ", dim);
  EncodeInt8Feedback(values.data(), residual_rows.size(), dim, residual_rows.data(), out.data());
}

bool AllFinite(std::span<const float> values) {
  // In blocks, so that the answer to a bad message does not wait for its end.
  constexpr size_t kBlock = 4096;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const size_t count = std::min(kBlock, values.size() - begin);
    if (GreatestMagnitude(values.data() + begin, count) >= kInfinity) return false;
  }
  return true;
}

}  // namespace sheaf
