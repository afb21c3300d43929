// Text helpers: numbers to and from text, for people and for flags.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"

namespace sheaf {

// The parts as operator<< prints them, one after the other.
template <typename... Parts>
std::string StrCat(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return std::move(text).str();
}

std::string_view Trim(std::string_view text);  // without blanks, tabs and line ends at either side
// The pieces between separators; "a,,b" has three, "" has none.
std::vector<std::string_view> Split(std::string_view text, char separator);
std::string Join(const std::vector<std::string>& pieces, std::string_view separator);
std::string ToLower(std::string_view text);  // ASCII
std::string ToUpper(std::string_view text);  // ASCII

// Least number of inserted, deleted, changed or swapped neighbouring letters that turn `a` into `b`.
size_t EditDistance(std::string_view a, std::string_view b);
// The candidate most like `name`, for "did you mean"; empty if none is near.
std::string NearestName(std::string_view name, const std::vector<std::string>& candidates);
// ", did you mean --workers?" or nothing, to be put behind an error's text.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates, std::string_view prefix = "");

std::string FormatBytes(uint64_t bytes);         // 512 B, 1.5 KiB, 4.0 MiB
std::string FormatCount(uint64_t count);         // 1 284 (a space between thousands)
std::string FormatDuration(Duration duration);   // 00:12:40, hours may pass 99; negative counts as 0
std::string FormatSeconds(Duration duration);    // 850 us, 12.3 ms, 3.2 s, 12 min 40 s
std::string FormatFixed(double value, int digits);  // 0.4512

// The whole text as a number, nothing before or after it. kInvalidArgument quotes the text.
Result<uint64_t> ParseUint(std::string_view text);
Result<int64_t> ParseInt(std::string_view text);
Result<double> ParseDouble(std::string_view text);
Result<uint64_t> ParseBytes(std::string_view text);     // 4096, 64KiB, 1.5GiB, 2MB
Result<Duration> ParseDuration(std::string_view text);  // 500ms, 10s, 2min, 1h, 250us

}  // namespace sheaf
