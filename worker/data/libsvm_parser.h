// LIBSVM rows: label index:value ... with ascending indexes from 1; "# ..." to the line's end is a comment.
//
// The raw key of a feature is its index. Features of value 0 are left out: they say nothing and would cost a key.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "worker/data/row_parser.h"

namespace sheaf {

class LibsvmParser final : public RowParser {
 public:
  explicit LibsvmParser(LabelRule labels) : labels_(labels) {}

  Status ParseRow(std::string_view line, RowBuilder& rows) override;
  char comment() const override { return '#'; }

 private:
  LabelRule labels_;
  // Of the current row: features before they are hashed.
  std::vector<uint64_t> indexes_;
  std::vector<float> values_;
};

}  // namespace sheaf
