// What holds for every block, whatever the input was.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <vector>

#include "common/base/check.h"
#include "worker/data/row_parser.h"

namespace sheaf {

inline void ParseLines(RowParser& parser, std::string_view text, RowBuilder& rows) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const size_t before = rows.row_count();
    const bool good = parser.ParseRow(text.substr(0, end), rows).has_value();
    SHEAF_CHECK(rows.row_count() == before + (good ? 1 : 0));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

inline void CheckRows(const RowBlock& block) {
  SHEAF_CHECK(block.row_begin.size() == block.size() + 1);
  SHEAF_CHECK(block.row_begin.front() == 0 && block.row_begin.back() == block.keys.size());
  SHEAF_CHECK(block.values.empty() || block.values.size() == block.keys.size());
  for (const float label : block.labels) SHEAF_CHECK(std::isfinite(label));
  for (const float value : block.values) SHEAF_CHECK(!std::isnan(value));
  for (size_t i = 0; i < block.size(); ++i) {
    SHEAF_CHECK(block.row_begin[i] <= block.row_begin[i + 1]);
    std::vector<HashedKey> keys(block.keys.begin() + block.row_begin[i], block.keys.begin() + block.row_begin[i + 1]);
    std::sort(keys.begin(), keys.end());
    SHEAF_CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());
  }
}

}  // namespace sheaf
