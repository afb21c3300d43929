// 64 bytes of text at once: which of them are such and such, as the bits of a word. Internal to worker/data.
//
// With SSE2, which every x86-64 has, a question takes a handful of instructions; elsewhere a loop answers it.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace sheaf {

class ByteBlock {
 public:
  static constexpr size_t kBytes = 64;

  // All 64 bytes must be readable.
  explicit ByteBlock(const char* p) { std::memcpy(bytes_, p, kBytes); }

  void Write(char* out) const { std::memcpy(out, bytes_, kBytes); }
#if defined(__SSE2__)
  uint64_t Equal(char c) const {
    const __m128i wanted = _mm_set1_epi8(c);
    return Mask([&](__m128i x) { return _mm_cmpeq_epi8(x, wanted); });
  }
  // low <= byte <= high, bytes taken without sign.
  uint64_t Between(unsigned char low, unsigned char high) const {
    const __m128i base = _mm_set1_epi8(static_cast<char>(low)), most = _mm_set1_epi8(static_cast<char>(high - low));
    return Mask([&](__m128i x) {
      const __m128i above = _mm_sub_epi8(x, base);
      return _mm_cmpeq_epi8(_mm_min_epu8(above, most), above);
    });
  }
  // The bytes, 'A' to 'Z' as small letters.
  void WriteLowercase(char* out) const {
    const __m128i base = _mm_set1_epi8('A'), most = _mm_set1_epi8('Z' - 'A'), bit = _mm_set1_epi8(0x20);
    for (int i = 0; i < 4; ++i) {
      const __m128i x = Load(i), above = _mm_sub_epi8(x, base);
      const __m128i upper = _mm_cmpeq_epi8(_mm_min_epu8(above, most), above);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * i), _mm_or_si128(x, _mm_and_si128(upper, bit)));
    }
  }

 private:
  __m128i Load(int i) const { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes_ + 16 * i)); }
  template <typename Test>
  uint64_t Mask(const Test& test) const {
    uint64_t mask = 0;
    for (int i = 0; i < 4; ++i) mask |= static_cast<uint64_t>(_mm_movemask_epi8(test(Load(i)))) << (16 * i);
    return mask;
  }
#else
  uint64_t Equal(char c) const { return Between(static_cast<unsigned char>(c), static_cast<unsigned char>(c)); }
  uint64_t Between(unsigned char low, unsigned char high) const {
    uint64_t mask = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      const auto byte = static_cast<unsigned char>(bytes_[i]);
      mask |= uint64_t{byte >= low && byte <= high} << i;
    }
    return mask;
  }
  void WriteLowercase(char* out) const {
    for (size_t i = 0; i < kBytes; ++i)
      out[i] = static_cast<char>(bytes_[i] + (bytes_[i] >= 'A' && bytes_[i] <= 'Z' ? 32 : 0));
  }

 private:
#endif
  char bytes_[kBytes];
};

// Calls visit(block, first, count) for each 64 bytes of `text`: `count` bytes of the block are text[first ...], zeros
// follow.
template <typename Visit>
void ForEachBlock(std::string_view text, const Visit& visit) {
  size_t first = 0;
  for (; first + ByteBlock::kBytes <= text.size(); first += ByteBlock::kBytes) {
    visit(ByteBlock(text.data() + first), first, ByteBlock::kBytes);
  }
  if (first == text.size()) return;
  char rest[ByteBlock::kBytes] = {};
  std::memcpy(rest, text.data() + first, text.size() - first);
  visit(ByteBlock(rest), first, text.size() - first);
}

// Calls visit(position) for each set bit, lowest first.
template <typename Visit>
void ForEachBit(uint64_t bits, const Visit& visit) {
  for (; bits != 0; bits &= bits - 1) visit(static_cast<size_t>(std::countr_zero(bits)));
}

}  // namespace sheaf
