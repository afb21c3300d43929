#include "worker/data/libsvm_parser.h"

#include <cmath>
#include <cstring>

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

// Walks over the features of one row and puts those that are not 0 into arrays with room for all.
class FeatureWalk {
 public:
  FeatureWalk(uint64_t* indexes, float* values) : indexes_(indexes), values_(values) {}

  // Features that begin in [p, stop) of a row that ends at `end`.
  // Returns where it stopped, `end` if only a comment is left, or null: then status() says why.
  // kFeatureReads bytes can be read from every byte before `stop`.
  const char* Walk(const char* p, const char* stop, const char* end) {
    // In registers while the loop runs: what the arrays hold could be anything, also these members.
    size_t count = count_;
    uint64_t previous = previous_;
    bool ones = ones_;
    while (p < stop) {
      uint64_t index = 0;
      float value = 1;
      const char* next = ShortIndex(p, &index);
      if (next != nullptr && next[0] == '1' && IsBlank(next[1])) {
        ++next;
      } else {
        next = next == nullptr ? nullptr : ShortValue(next, end, &value);
        if (next == nullptr) {
          while (p < end && IsBlank(*p)) ++p;
          if (p == end || *p == '#') {
            p = end;
            break;
          }
          next = AnyFeature(p, end, &index, &value);
          if (next == nullptr) return nullptr;
        }
        if (ones) ones = value == 1.0f || value == 0.0f;
      }
      if (index <= previous) [[unlikely]] return Misplaced(index, previous);
      previous = index;
      p = next;
      if (value == 0.0f) [[unlikely]] continue;
      indexes_[count] = index;
      values_[count++] = value;
    }
    count_ = count;
    previous_ = previous;
    ones_ = ones;
    return p;
  }
  size_t count() const { return count_; }
  bool ones() const { return ones_; }        // all values are 1
  const Status& status() const { return status_; }

  // A blank, 7 digits, a colon, a number, and what follows it.
  static constexpr size_t kFeatureReads = 1 + 8 + 1 + kShortNumberReads + 1;

 private:
  // One blank, an index of at most 8 digits and a colon at `p`: returns where the value begins. Null for anything else.
  static const char* ShortIndex(const char* p, uint64_t* index) {
    if constexpr (!kHasDigitRuns) return nullptr;
    if (!IsBlank(*p)) return nullptr;
    const DigitRun run = DigitsAt(p + 1);
    p += 1 + run.count;
    *index = run.value;
    return *p == ':' && run.count > 0 ? p + 1 : nullptr;
  }

  // A short number up to a blank or the row's end.
  static const char* ShortValue(const char* p, const char* end, float* value) {
    double number = 0;
    p = ParseShortNumber(p, &number);
    if (p == nullptr || (p != end && !IsBlank(*p))) return nullptr;
    *value = static_cast<float>(number);
    return p;
  }

  // Any feature, right at `p`. Null if it is none.
  const char* AnyFeature(const char* p, const char* end, uint64_t* index, float* value) {
    const char* const token = p;
    *index = 0;
    while (p < end && IsDigit(*p)) *index = *index * 10 + static_cast<uint64_t>(*p++ - '0');
    const auto digits = p - token;
    double number = 0;
    const char* value_end = nullptr;
    if (digits > 0 && digits <= 18 && p < end && *p == ':') value_end = ParseNumber(p + 1, end, &number);
    *value = static_cast<float>(number);
    if (value_end != nullptr && (value_end == end || IsBlank(*value_end)) && std::isfinite(*value)) return value_end;
    status_ = ExplainFeature(TokenAt(token, end));
    return nullptr;
  }

  const char* Misplaced(uint64_t index, uint64_t previous) {
    const ErrorCode code = ErrorCode::kInvalidArgument;
    if (index == 0) {
      status_ = Fail(code, "index 0; LIBSVM indexes count from 1: add 1 to each");
    } else if (index == previous) {
      status_ = Fail(code, "index ", index, " is there twice; sort each row's indexes, each once");
    } else {
      status_ = Fail(code, "index ", index, " comes after ", previous, "; sort each row's indexes, each once");
    }
    return nullptr;
  }

  uint64_t* const indexes_;
  float* const values_;
  size_t count_ = 0;
  uint64_t previous_ = 0;
  bool ones_ = true;
  Status status_;
};

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

  // A feature takes four bytes, " 1:1"; only the last may be followed by nothing.
  if (indexes_.size() < line.size() / 4 + 1) {
    indexes_.resize(line.size() / 4 + 1);
    values_.resize(line.size() / 4 + 1);
  }
  FeatureWalk walk(indexes_.data(), values_.data());
  constexpr size_t kReads = FeatureWalk::kFeatureReads;
  if (end - p > static_cast<ptrdiff_t>(kReads)) p = walk.Walk(p, end - kReads, end);
  if (p != nullptr && p < end) {
    // The last features, with room behind them to read in whole words.
    char tail[2 * kReads] = {};
    const auto left = static_cast<size_t>(end - p);
    std::memcpy(tail, p, left);
    p = walk.Walk(tail, tail + left, tail + left);
  }
  if (p == nullptr) [[unlikely]] return walk.status();
  rows.BeginRow();
  rows.AddDistinct({indexes_.data(), walk.count()}, {values_.data(), walk.ones() ? 0 : walk.count()});
  rows.CommitRow(*label);
  return {};
}

}  // namespace sheaf
