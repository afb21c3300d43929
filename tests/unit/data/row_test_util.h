// Rows parsed from single lines, as maps that tests can read.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "worker/data/row_parser.h"

namespace sheaf {

struct ParsedRow {
  float label = 0;
  std::map<uint64_t, float> features;   // by hashed key
};

inline std::vector<ParsedRow> RowsOf(const RowBlock& block) {
  std::vector<ParsedRow> rows;
  EXPECT_EQ(block.row_begin.size(), block.size() + 1);
  EXPECT_EQ(block.row_begin.back(), block.keys.size());
  EXPECT_TRUE(block.values.empty() || block.values.size() == block.keys.size());
  for (size_t i = 0; i < block.size(); ++i) {
    ParsedRow row{block.labels[i], {}};
    for (uint32_t j = block.row_begin[i]; j < block.row_begin[i + 1]; ++j) {
      const bool is_new = row.features.emplace(block.keys[j], block.values.empty() ? 1.0f : block.values[j]).second;
      EXPECT_TRUE(is_new) << "key twice in row " << i;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

inline Result<ParsedRow> ParseOne(RowParser& parser, std::string_view line, uint64_t max_features = 0) {
  RowBuilder rows(max_features);
  auto status = parser.ParseRow(line, rows);
  if (!status) {
    EXPECT_EQ(rows.feature_count(), 0u) << "a bad row left features behind";
    EXPECT_EQ(rows.row_count(), 0u);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    return Failure{status.error()};
  }
  return RowsOf(rows.Take()).at(0);
}

inline std::string ErrorOf(RowParser& parser, std::string_view line) {
  const auto row = ParseOne(parser, line);
  return row ? "no error" : row.error().message;
}

}  // namespace sheaf
