#include "worker/data/libsvm_parser.h"

#include <cmath>

#include "worker/data/number_parser.h"

namespace sheaf {
namespace {

constexpr bool IsBlank(char c) { return c == ' ' || c == '\t'; }

std::string_view TokenAt(const char* p, const char* end) {
  const char* q = p;
  while (q < end && !IsBlank(*q)) ++q;
  return {p, static_cast<size_t>(q - p)};
}

// Why the feature at `token` could not be read; only called when it could not.
Failure ExplainFeature(std::string_view token) {
  const ErrorCode code = ErrorCode::kInvalidArgument;
  if (token.starts_with("qid:"))
    return Fail(code, Quoted(token), ": ranking data is not supported; remove the qid column");
  const size_t colon = token.find(':');
  if (colon == token.npos || colon == 0 || !IsDigit(token[0])) {
    return Fail(code, Quoted(token),
                " is not index:value; check data.format, LIBSVM rows are \"label index:value ...\"");
  }
  for (const char c : token.substr(0, colon)) {
    if (!IsDigit(c)) return Fail(code, "index of ", Quoted(token), " is not a whole number; indexes count from 1");
  }
  if (colon > 18) return Fail(code, "index of ", Quoted(token), " has more than 18 digits; number the features from 1");
  const std::string_view value = token.substr(colon + 1);
  const auto number = ParseWhole(value);
  if (!number) return Fail(code, "value of ", Quoted(token), " is not a number; write a decimal number, e.g. 0.5");
  return Fail(code, "value of ", Quoted(token),
              " is NaN, infinite or too large for a float; clean the data or leave it out");
}

}  // namespace

Status LibsvmParser::ParseRow(std::string_view line, RowBuilder& rows) {
  const char* p = line.data();
  const char* const end = p + line.size();
  while (p < end && IsBlank(*p)) ++p;
  const std::string_view label_text = TokenAt(p, end);
  if (label_text.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "no label; LIBSVM rows are \"label index:value ...\"");
  }
  const auto label = labels_.Parse(label_text);
  if (!label) return Failure{label.error()};
  p += label_text.size();

  rows.BeginRow();
  uint64_t previous = 0;
  for (;;) {
    while (p < end && IsBlank(*p)) ++p;
    if (p == end || *p == '#') break;
    const char* const token = p;
    uint64_t index = 0;
    while (p < end && IsDigit(*p)) index = index * 10 + static_cast<uint64_t>(*p++ - '0');
    const auto digits = p - token;
    double number = 0;
    const char* value_end = nullptr;
    if (digits > 0 && digits <= 18 && p < end && *p == ':') value_end = ParseNumber(p + 1, end, &number);
    const float value = static_cast<float>(number);
    if (value_end == nullptr || (value_end < end && !IsBlank(*value_end)) || !std::isfinite(value)) [[unlikely]] {
      rows.AbandonRow();
      return ExplainFeature(TokenAt(token, end));
    }
    if (index <= previous) [[unlikely]] {
      rows.AbandonRow();
      if (index == 0) return Fail(ErrorCode::kInvalidArgument, "index 0; LIBSVM indexes count from 1: add 1 to each");
      return Fail(ErrorCode::kInvalidArgument, "index ", index, index == previous ? " is there twice" : " comes after ",
                  index == previous ? std::string() : std::to_string(previous), "; sort each row's indexes, each once");
    }
    previous = index;
    p = value_end;
    if (value != 0.0f) rows.AddDistinct(index, value);
  }
  rows.CommitRow(*label);
  return {};
}

}  // namespace sheaf
