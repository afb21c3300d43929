// Click log rows: a label column, integer and categorical columns, crosses of two columns. See pb::ClickSpec.
//
// A feature's raw key is a hash of its column number and its value, seeded with data.hash_seed, so equal strings in
// different columns differ. An empty field is a feature of its own ("missing"). All values are 1. With the separator
// "," fields may be quoted as in RFC 4180 (without line breaks). Thread-safety: none. No allocation a field, unless
// quoted.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "worker/data/row_parser.h"

namespace sheaf {

class ClickParser final : public RowParser {
 public:
  ClickParser(const pb::DataSpec& spec, LabelRule labels);

  // Finds the columns; kInvalidArgument names one that is not there, or is given two roles.
  Status BeginFile(std::string_view first_line) override;
  bool first_line_is_header() const override { return spec_.header(); }
  std::string Layout() const override;
  Status ParseRow(std::string_view line, RowBuilder& rows) override;

 private:
  enum class Role { kIgnore, kLabel, kCategorical, kInteger };
  struct Column {
    std::string name;                // empty without a header
    Role role = Role::kIgnore;
    bool emit = false;               // its values are features; false: only crosses need them
    uint64_t seed = 0;
    uint32_t first_key = 0, key_count = 0;  // of keys_: the current row's values
  };
  struct Cross {
    size_t a = 0, b = 0;
    uint64_t seed = 0;
  };

  void Split(std::string_view line);
  std::string_view Unquote(std::string_view quoted);
  std::string Describe(size_t column) const;
  Result<size_t> FindColumn(std::string_view field, std::string_view name) const;
  Status AssignRoles();
  Status AssignCrosses();
  Status ComputeKeys();
  Status AddCrosses();

  pb::ClickSpec spec_;
  LabelRule labels_;
  uint64_t seed_;
  char separator_;
  std::string_view value_separator_;     // into spec_; empty: fields hold one value
  std::vector<Column> columns_;
  std::vector<Cross> crosses_;
  size_t label_column_ = 0;

  // Of the current row.
  std::vector<std::string_view> fields_;
  std::deque<std::string> unquoted_;     // deque: views into its strings stay valid as it grows
  size_t unquoted_count_ = 0;
  std::vector<uint64_t> keys_;           // of all values that are emitted or crossed
  std::vector<uint64_t> features_;       // raw keys, perhaps some of them twice
};

// kInvalidArgument names the field of data.clicks that is wrong.
Result<std::unique_ptr<RowParser>> MakeClickParser(const pb::DataSpec& spec, LabelRule labels);

// The bucket of an integer value: floor(log2(v)^2) for v > 2, tagged so that no bucket equals a plain value.
uint64_t IntegerBucket(int64_t value);

}  // namespace sheaf
