// Decimal numbers of data files, parsed without locale, copies or allocation.
//
// Short plain numbers, nearly all there are, take a path of a few integer operations; the rest std::from_chars.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sheaf {

constexpr bool IsDigit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

namespace number_internal {

inline constexpr double kPowersOfTen[19] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                                            1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};

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

// The whole of `text` as a number, or nothing.
inline std::optional<double> ParseWhole(std::string_view text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  if (ParseNumber(text.data(), end, &value) != end || text.empty()) return std::nullopt;
  return value;
}

}  // namespace sheaf
