#include "worker/data/click_parser.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "worker/data/byte_block.h"
#include "worker/data/feature_hash.h"
#include "worker/data/number_parser.h"

namespace sheaf {
namespace {

// Domains of the hash, so that a missing value, a bucket and a cross are never the hash of a string.
constexpr uint64_t kMissing = 0x6d697373ULL;
constexpr uint64_t kInteger = 0x696e7467ULL;
constexpr uint64_t kCross = 0x63726f73ULL;
constexpr size_t kMostCrossValues = 65536;  // a cross of two long lists would outgrow any row

std::optional<int64_t> ParseInteger(std::string_view text) {
  if (!text.empty() && text.size() <= 18 && IsDigit(text[0])) {  // no sign, and no room for an overflow
    int64_t value = 0;
    for (const char c : text) {
      if (!IsDigit(c)) return std::nullopt;
      value = value * 10 + (c - '0');
    }
    return value;
  }
  if (text.starts_with('+')) text.remove_prefix(1);
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [next, code] = std::from_chars(text.data(), end, value);
  if (next != end || code != std::errc()) return std::nullopt;
  return value;
}

std::string_view NextField(const char*& p, const char* end, char separator) {
  const void* found = std::memchr(p, separator, static_cast<size_t>(end - p));
  const char* const field_end = found != nullptr ? static_cast<const char*>(found) : end;
  const std::string_view field(p, static_cast<size_t>(field_end - p));
  p = field_end;
  return field;
}

// Calls `add` with each part of `field` that is not empty.
template <typename Add>
void ForEachPart(std::string_view field, std::string_view separator, const Add& add) {
  for (size_t at = 0; at <= field.size();) {
    const size_t next = std::min(field.find(separator, at), field.size());
    if (next > at) add(field.substr(at, next - at));
    at = next + separator.size();
  }
}

}  // namespace

uint64_t IntegerBucket(int64_t value) {
  if (value <= 2) return static_cast<uint64_t>(value);
  const double log = std::log2(static_cast<double>(value));
  return (uint64_t{1} << 62) | static_cast<uint64_t>(log * log);
}

ClickParser::ClickParser(const pb::DataSpec& spec, LabelRule labels)
    : spec_(spec.clicks()),
      labels_(labels),
      seed_(MixKey(spec.hash_seed())),
      separator_(spec_.separator().empty() ? '\t' : spec_.separator()[0]),
      value_separator_(spec_.multi_value_separator()) {}

// Fills fields_ with views of the line; only fields with quotes are copied.
void ClickParser::Split(std::string_view line) {
  fields_.clear();
  unquoted_count_ = 0;
  const char* p = line.data();
  const char* const end = p + line.size();
  if (separator_ != ',' || line.empty() || std::memchr(line.data(), '"', line.size()) == nullptr) {
    ForEachBlock(line, [&](const ByteBlock& block, size_t first, size_t count) {
      uint64_t separators = block.Equal(separator_);
      if (count < ByteBlock::kBytes) separators &= (uint64_t{1} << count) - 1;  // a zero byte may be one
      ForEachBit(separators, [&](size_t at) {
        const char* const field_end = line.data() + first + at;
        fields_.emplace_back(p, static_cast<size_t>(field_end - p));
        p = field_end + 1;
      });
    });
    fields_.emplace_back(p, static_cast<size_t>(end - p));
    return;
  }
  for (;;) {
    if (p < end && *p == '"') {
      const char* const begin = p++;
      while (p < end) {
        if (*p++ != '"') continue;
        if (p < end && *p == '"') ++p;  // "" within quotes is one quote
        else break;
      }
      NextField(p, end, separator_);  // what follows the closing quote belongs to the field too, as in most readers
      fields_.push_back(Unquote({begin, static_cast<size_t>(p - begin)}));
    } else {
      fields_.push_back(NextField(p, end, separator_));
    }
    if (p == end) return;
    ++p;
  }
}

std::string_view ClickParser::Unquote(std::string_view quoted) {
  if (unquoted_count_ == unquoted_.size()) unquoted_.emplace_back();
  std::string& text = unquoted_[unquoted_count_++];
  text.clear();
  bool inside = true;
  for (size_t i = 1; i < quoted.size(); ++i) {
    if (!inside || quoted[i] != '"') {
      text += quoted[i];
    } else if (i + 1 < quoted.size() && quoted[i + 1] == '"') {
      text += quoted[i++];
    } else {
      inside = false;
    }
  }
  return text;
}

std::string ClickParser::Describe(size_t column) const {
  std::string text = "column " + std::to_string(column);
  if (!columns_[column].name.empty()) text += " (" + Quoted(columns_[column].name) + ")";
  return text;
}

Status ClickParser::BeginFile(std::string_view first_line) {
  Split(first_line);
  columns_.assign(fields_.size(), {});
  for (size_t i = 0; i < fields_.size(); ++i) {
    if (spec_.header()) columns_[i].name = fields_[i];
    columns_[i].seed = MixPair(seed_, i);
  }
  if (fields_.size() < 2) {
    return Fail(ErrorCode::kInvalidArgument, "only one column in ", Quoted(first_line),
                "; check data.clicks.separator, now ", Quoted({&separator_, 1}));
  }
  SHEAF_RETURN_IF_ERROR(AssignRoles());
  return AssignCrosses();
}

std::string ClickParser::Layout() const {
  std::string layout = std::to_string(columns_.size()) + " columns";
  for (const Column& column : columns_) {
    if (!column.name.empty()) layout += ' ' + Quoted(column.name);
  }
  return layout;
}

Result<size_t> ClickParser::FindColumn(std::string_view field, std::string_view name) const {
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!columns_[i].name.empty() && columns_[i].name == name) return i;
  }
  const auto index = ParseInteger(name);
  if (index && *index >= 0 && static_cast<uint64_t>(*index) < columns_.size()) return static_cast<size_t>(*index);
  const std::string advice = spec_.header() ? "the header has " + Layout()
                                            : "use an index 0.." + std::to_string(columns_.size() - 1) +
                                                  ", or set data.clicks.header if the first line names the columns";
  return Fail(ErrorCode::kInvalidArgument, "data.clicks.", field, ": there is no column ", Quoted(name), "; ", advice);
}

Status ClickParser::AssignRoles() {
  const std::string_view label = spec_.has_label_column() ? std::string_view(spec_.label_column()) : "0";
  SHEAF_ASSIGN_OR_RETURN(label_column_, FindColumn("label_column", label));
  columns_[label_column_].role = Role::kLabel;

  std::vector<bool> taken(columns_.size());
  taken[label_column_] = true;
  const auto assign = [&](const auto& names, std::string_view field, Role role) -> Status {
    for (const std::string& name : names) {
      SHEAF_ASSIGN_OR_RETURN(const size_t column, FindColumn(field, name));
      if (taken[column]) {
        return Fail(ErrorCode::kInvalidArgument, "data.clicks.", field, ": ", Describe(column),
                    " has a role already; name each column once among label_column, categorical, integer and ignore");
      }
      taken[column] = true;
      columns_[column].role = role;
      columns_[column].emit = role != Role::kIgnore;
    }
    return {};
  };
  SHEAF_RETURN_IF_ERROR(assign(spec_.categorical(), "categorical", Role::kCategorical));
  SHEAF_RETURN_IF_ERROR(assign(spec_.integer(), "integer", Role::kInteger));
  SHEAF_RETURN_IF_ERROR(assign(spec_.ignore(), "ignore", Role::kIgnore));
  if (spec_.categorical().empty()) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (taken[i]) continue;
      columns_[i].role = Role::kCategorical;
      columns_[i].emit = true;
    }
  }
  return {};
}

Status ClickParser::AssignCrosses() {
  crosses_.clear();
  for (const std::string& text : spec_.cross()) {
    const size_t star = text.find('*');
    if (star == text.npos) {
      return Fail(ErrorCode::kInvalidArgument, "data.clicks.cross: ", Quoted(text),
                  " is not \"a*b\"; name two columns");
    }
    SHEAF_ASSIGN_OR_RETURN(const size_t a, FindColumn("cross", std::string_view(text).substr(0, star)));
    SHEAF_ASSIGN_OR_RETURN(const size_t b, FindColumn("cross", std::string_view(text).substr(star + 1)));
    if (a == label_column_ || b == label_column_) {
      return Fail(ErrorCode::kInvalidArgument, "data.clicks.cross: ", Quoted(text),
                  " uses the label, which is to be predicted");
    }
    if (a == b)
      return Fail(ErrorCode::kInvalidArgument, "data.clicks.cross: ", Quoted(text), " crosses a column with itself");
    for (const size_t column : {a, b}) {
      if (columns_[column].role == Role::kIgnore) columns_[column].role = Role::kCategorical;
    }
    crosses_.push_back({a, b, MixPair(seed_, kCross)});
  }
  return {};
}

// Raw keys of all values of the row, column by column.
Status ClickParser::ComputeKeys() {
  keys_.clear();
  for (size_t i = 0; i < columns_.size(); ++i) {
    Column& column = columns_[i];
    if (column.role != Role::kCategorical && column.role != Role::kInteger) continue;
    const std::string_view field = fields_[i];
    column.first_key = static_cast<uint32_t>(keys_.size());
    if (field.empty()) {
      keys_.push_back(MixPair(column.seed, kMissing));
    } else if (column.role == Role::kInteger) {
      const auto value = ParseInteger(field);
      if (!value) {
        return Fail(ErrorCode::kInvalidArgument, Describe(i), " holds ", Quoted(field),
                    ", which is no integer; correct it, or list the column under data.clicks.categorical");
      }
      keys_.push_back(MixPair(column.seed ^ kInteger, IntegerBucket(*value)));
    } else if (value_separator_.empty()) {
      keys_.push_back(HashText(field, column.seed));
    } else {
      ForEachPart(field, value_separator_,
                  [&](std::string_view part) { keys_.push_back(HashText(part, column.seed)); });
      if (keys_.size() == column.first_key) keys_.push_back(MixPair(column.seed, kMissing));
    }
    column.key_count = static_cast<uint32_t>(keys_.size()) - column.first_key;
  }
  return {};
}

Status ClickParser::AddCrosses() {
  size_t left = kMostCrossValues;
  for (const Cross& cross : crosses_) {
    const Column& a = columns_[cross.a];
    const Column& b = columns_[cross.b];
    if (size_t{a.key_count} * b.key_count > left) {
      return Fail(ErrorCode::kInvalidArgument, "crosses make more than ", kMostCrossValues, " features of this row (",
                  a.key_count, " values in ", Describe(cross.a), ", ", b.key_count, " in ", Describe(cross.b),
                  "); do not cross columns with long lists");
    }
    left -= size_t{a.key_count} * b.key_count;
    for (uint32_t i = 0; i < a.key_count; ++i) {
      for (uint32_t j = 0; j < b.key_count; ++j) {
        features_.push_back(MixPair(cross.seed ^ keys_[a.first_key + i], keys_[b.first_key + j]));
      }
    }
  }
  return {};
}

Status ClickParser::ParseRow(std::string_view line, RowBuilder& rows) {
  Split(line);
  if (fields_.size() != columns_.size()) {
    return Fail(ErrorCode::kInvalidArgument, "row has ", fields_.size(), " columns, ", columns_.size(),
                " expected as in ", spec_.header() ? "the header" : "the file's first line",
                "; correct it, check data.clicks.separator, or set data.on_bad_row: SKIP");
  }
  const auto label = labels_.Parse(fields_[label_column_]);
  if (!label) {
    return Fail(label.error().code, Describe(label_column_), ": ", label.error().message,
                spec_.header() ? "" : " (if the first line names the columns, set data.clicks.header: true)");
  }
  SHEAF_RETURN_IF_ERROR(ComputeKeys());
  features_.clear();
  for (const Column& column : columns_) {
    if (!column.emit) continue;
    for (uint32_t i = 0; i < column.key_count; ++i) features_.push_back(keys_[column.first_key + i]);
  }
  SHEAF_RETURN_IF_ERROR(AddCrosses());
  rows.BeginRow();
  rows.AddOnce(features_);
  rows.CommitRow(*label);
  return {};
}

Result<std::unique_ptr<RowParser>> MakeClickParser(const pb::DataSpec& spec, LabelRule labels) {
  if (spec.clicks().separator().size() != 1) {
    return Fail(ErrorCode::kInvalidArgument, "data.clicks.separator must be one byte, it is ",
                Quoted(spec.clicks().separator()), "; e.g. \"\\t\" or \",\"");
  }
  if (spec.clicks().multi_value_separator() == spec.clicks().separator()) {
    return Fail(ErrorCode::kInvalidArgument,
                "data.clicks.multi_value_separator equals separator; lists need another one");
  }
  return std::unique_ptr<RowParser>(std::make_unique<ClickParser>(spec, labels));
}

}  // namespace sheaf
