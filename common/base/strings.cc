#include "common/base/strings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace sheaf {
namespace {

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f'; }

template <typename Number>
Result<Number> ParseNumber(std::string_view text, std::string_view what) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is out of range for ", what);
  }
  if (error != std::errc() || end != text.data() + text.size()) {
    return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is not ", what);
  }
  return value;
}

struct Unit {
  std::string_view name;
  double factor;
};

// A number and one of `units`; the unit's factor applied.
template <size_t N>
Result<double> ParseWithUnit(std::string_view text, const std::array<Unit, N>& units, std::string_view what) {
  const size_t digits = text.find_first_not_of("0123456789.");
  const std::string_view number = text.substr(0, digits);
  const std::string_view name = digits == std::string_view::npos ? "" : Trim(text.substr(digits));
  const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.name == name; });
  const auto value = ParseDouble(number);
  if (unit == units.end() || !value) return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is not ", what);
  return *value * unit->factor;
}

}  // namespace

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsBlank(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsBlank(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  for (;;) {
    const size_t end = text.find(separator);
    pieces.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return pieces;
    text.remove_prefix(end + 1);
  }
}

std::string Join(const std::vector<std::string>& pieces, std::string_view separator) {
  std::string text;
  for (const std::string& piece : pieces) {
    if (&piece != &pieces.front()) text += separator;
    text += piece;
  }
  return text;
}

std::string ToLower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return result;
}

std::string ToUpper(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return result;
}

// Optimal string alignment distance; three rows of the table are kept.
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), previous(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({previous[j] + 1, row[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, previous);
    std::swap(previous, row);
  }
  return previous[b.size()];
}

std::string NearestName(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string wanted = ToLower(name);
  std::string nearest;
  size_t least = std::max<size_t>(2, name.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // "worker" for "workers_per_host" is a beginning, not a typo, but as likely meant.
    const bool beginning = wanted.size() >= 4 && ToLower(candidate).starts_with(wanted);
    const size_t distance = beginning ? 1 : EditDistance(wanted, ToLower(candidate));
    if (distance < least && distance < std::max(candidate.size(), name.size())) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates, std::string_view prefix) {
  const std::string nearest = NearestName(name, candidates);
  return nearest.empty() ? "" : StrCat(", did you mean ", prefix, nearest, "?");
}

std::string FormatFixed(double value, int digits) {
  std::array<char, 512> text;  // holds the 309 digits of the greatest double
  const int length = std::snprintf(text.data(), text.size(), "%.*f", std::clamp(digits, 0, 100), value);
  return std::string(text.data(), static_cast<size_t>(length));
}

std::string FormatBytes(uint64_t bytes) {
  constexpr std::array kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return StrCat(bytes, " B");
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kNames.size()) {  // what would print as 1024.0
    value /= 1024;
    ++unit;
  }
  return StrCat(FormatFixed(value, 1), " ", kNames[unit]);
}

std::string FormatCount(uint64_t count) {
  std::string text = std::to_string(count);
  for (size_t end = text.size(); end > 3; end -= 3) text.insert(end - 3, 1, ' ');
  return text;
}

std::string FormatDuration(Duration duration) {
  const int64_t seconds = std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(duration).count());
  std::array<char, 64> text;
  const int length = std::snprintf(text.data(), text.size(), "%02lld:%02d:%02d", static_cast<long long>(seconds / 3600),
                                   static_cast<int>(seconds / 60 % 60), static_cast<int>(seconds % 60));
  return std::string(text.data(), static_cast<size_t>(length));
}

std::string FormatSeconds(Duration duration) {
  const double seconds = ToSeconds(duration);
  if (seconds < 0.9995e-3) return StrCat(FormatFixed(seconds * 1e6, 0), " us");
  if (seconds < 0.99995) return StrCat(FormatFixed(seconds * 1e3, 1), " ms");
  if (seconds < 119.95) return StrCat(FormatFixed(seconds, 1), " s");
  const auto whole = static_cast<uint64_t>(seconds);
  if (whole < 7200) return StrCat(whole / 60, " min ", whole % 60, " s");
  return StrCat(whole / 3600, " h ", whole / 60 % 60, " min");
}

Result<uint64_t> ParseUint(std::string_view text) { return ParseNumber<uint64_t>(text, "a whole number of 0 or more"); }
Result<int64_t> ParseInt(std::string_view text) { return ParseNumber<int64_t>(text, "a whole number"); }
Result<double> ParseDouble(std::string_view text) { return ParseNumber<double>(text, "a number"); }

Result<uint64_t> ParseBytes(std::string_view text) {
  constexpr std::array<Unit, 10> kUnits = {{{"", 1}, {"B", 1}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30},
                                            {"TiB", 0x1p40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}}};
  constexpr std::string_view kWhat = "a size such as 4096, 64KiB or 1.5GiB";
  SHEAF_ASSIGN_OR_RETURN(const double bytes, ParseWithUnit(text, kUnits, kWhat));
  if (bytes >= 0x1p63) return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is too large for ", kWhat);
  return static_cast<uint64_t>(bytes);
}

Result<Duration> ParseDuration(std::string_view text) {
  constexpr std::array<Unit, 6> kUnits = {
      {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 6e10}, {"h", 3.6e12}, {"d", 8.64e13}}};
  constexpr std::string_view kWhat = "a duration such as 500ms, 10s or 2min";
  SHEAF_ASSIGN_OR_RETURN(const double nanoseconds, ParseWithUnit(text, kUnits, kWhat));
  if (nanoseconds >= 0x1p62) return Fail(ErrorCode::kInvalidArgument, "\"", text, "\" is too long for ", kWhat);
  return Duration(static_cast<int64_t>(nanoseconds));
}

}  // namespace sheaf
