// Decimal numbers of data files, parsed without locale, copies or allocation.
//
// Three ways, each for what the one before does not take: eight digits at a time in one 64-bit register (Lamport,
// "Multiple byte processing with full-word instructions", CACM 1975), without a branch on how many there are, where
// enough bytes can be read; digit by digit; std::from_chars. Where two of them take a number they give the same bits.
#pragma once

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace sheaf {

constexpr bool IsDigit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

namespace number_internal {

inline constexpr double kPowersOfTen[19] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                            1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};

inline constexpr uint64_t kWholePowersOfTen[9] = {1,       10,        100,        1000,       10'000,
                                                  100'000, 1'000'000, 10'000'000, 100'000'000};

// Of a number that no double holds: is it below the least of them, rather than beyond the greatest?
inline bool IsTiny(std::string_view number) {
  const size_t e = std::min(number.find_first_of("eE"), number.size());
  const std::string_view digits = number.substr(0, e);
  const size_t first = std::min(digits.find_first_of("123456789"), digits.size());
  const size_t point = std::min(digits.find('.'), digits.size());
  // The power of ten of the first digit, give or take one: far from 0 either way, as the number does not fit.
  const int64_t power = static_cast<int64_t>(point) - static_cast<int64_t>(first);
  int64_t exponent = 0;
  if (e < number.size()) {
    const bool plus = number.substr(e + 1).starts_with('+');
    const char* const begin = number.data() + e + 1 + (plus ? 1 : 0);
    const auto parsed = std::from_chars(begin, number.data() + number.size(), exponent);
    if (parsed.ec == std::errc::result_out_of_range) return *begin == '-';
  }
  return exponent < -power;
}

// Exponents, nan, inf, many digits. Beyond double: infinite; below it: 0.
inline const char* ParseSlowly(const char* begin, const char* end, double* value) {
  if (begin < end && *begin == '+') {
    ++begin;
    if (begin < end && *begin == '-') return nullptr;
  }
  const auto [next, code] = std::from_chars(begin, end, *value);
  if (code == std::errc::result_out_of_range) {
    const std::string_view text(begin, static_cast<size_t>(next - begin));
    *value = std::copysign(IsTiny(text) ? 0.0 : HUGE_VAL, text.starts_with('-') ? -1.0 : 1.0);
    return next;
  }
  return code == std::errc() ? next : nullptr;
}

}  // namespace number_internal

// Parses the number at `begin`; returns where it ends, or null if there is none. May be NaN or infinite.
inline const char* ParseNumber(const char* begin, const char* end, double* value) {
  const char* p = begin;
  bool negative = false;
  if (p < end && (*p == '-' || *p == '+')) negative = *p++ == '-';
  const char* const first = p;
  uint64_t mantissa = 0;  // may wrap round: then there are too many digits, and the slow path parses them again
  while (p < end && IsDigit(*p)) mantissa = mantissa * 10 + static_cast<uint64_t>(*p++ - '0');
  auto digits = p - first;
  decltype(digits) fraction = 0;
  if (p < end && *p == '.') {
    const char* const dot = ++p;
    while (p < end && IsDigit(*p)) mantissa = mantissa * 10 + static_cast<uint64_t>(*p++ - '0');
    fraction = p - dot;
    digits += fraction;
  }
  if (digits == 0 || digits > 18 || (p < end && (*p | 0x20) == 'e')) [[unlikely]] {
    return number_internal::ParseSlowly(begin, end, value);
  }
  const double magnitude = static_cast<double>(mantissa) / number_internal::kPowersOfTen[fraction];
  *value = negative ? -magnitude : magnitude;
  return p;
}

// The digits right at `p`, at most 8 of them: how many, and their number (unspecified if there are none). Reads 8
// bytes.
struct DigitRun {
  uint64_t value;
  uint32_t count;
};
inline constexpr bool kHasDigitRuns = std::endian::native == std::endian::little;
inline DigitRun DigitsAt(const char* p) {
  uint64_t x;
  std::memcpy(&x, p, sizeof x);
  x ^= 0x3030303030303030ULL;  // digits become 0..9
  // The top bit of a byte says "no digit"; a carry out of such a byte spoils only bytes after it, which do not count.
  const uint64_t others = ((x + 0x7676767676767676ULL) | x) & 0x8080808080808080ULL;
  uint32_t count = 8;
  if (others != 0) [[likely]] {
    const auto bit = static_cast<uint32_t>(std::countr_zero(others));
    // What is no digit goes out at the top; the zeros that come in are leading digits.
    x <<= (7 - bit) & 63;
    count = bit / 8;
  }
  // Neighbours are joined three times over: 8 numbers below 10, 4 below 100, 2 below 10,000, 1.
  x = (x * (1 + (10ULL << 8)) >> 8) & 0x00ff00ff00ff00ffULL;
  x = (x * (1 + (100ULL << 16)) >> 16) & 0x0000ffff0000ffffULL;
  x = x * (1 + (10'000ULL << 32)) >> 32;
  return {x, count};
}

inline constexpr size_t kShortNumberReads = 27;
// ParseNumber for decimal numbers of 1 to 7 digits before the point, at most 15 behind it and 18 in all; null for any
// other. kShortNumberReads bytes must be readable.
inline const char* ParseShortNumber(const char* p, double* value) {
  const bool negative = *p == '-';
  p += negative;
  DigitRun whole{static_cast<uint64_t>(*p - '0'), 1};
  if (!IsDigit(*p) || p[1] != '.') {  // mostly 0.12
    whole = DigitsAt(p);
    if (whole.count - 1 >= 7) return nullptr;
  }
  p += whole.count;
  uint64_t mantissa = whole.value;
  uint32_t fraction = 0;
  if (*p == '.') {
    const DigitRun first = DigitsAt(++p);
    fraction = first.count;
    p += first.count;
    if (first.count > 0) mantissa = mantissa * number_internal::kWholePowersOfTen[first.count] + first.value;
    if (first.count == 8) {
      const DigitRun second = DigitsAt(p);
      if (second.count == 8) return nullptr;
      if (second.count > 0) mantissa = mantissa * number_internal::kWholePowersOfTen[second.count] + second.value;
      fraction += second.count;
      p += second.count;
    }
  }
  if (whole.count + fraction > 18 || (*p | 0x20) == 'e') return nullptr;
  // Signed: from 64 bits without sign it takes a branch.
  const double magnitude =
      static_cast<double>(static_cast<int64_t>(mantissa)) / number_internal::kPowersOfTen[fraction];
  *value = negative ? -magnitude : magnitude;
  return p;
}

// The whole of `text` as a number, or nothing.
inline std::optional<double> ParseWhole(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  if (ParseNumber(text.data(), end, &value) != end || text.empty()) return std::nullopt;
  return value;
}

}  // namespace sheaf
