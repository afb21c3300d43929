// A dense tensor as rows of a table: chunk c of `dim` elements is the row under key MixPair(table, c).
//
// Rows stand in key order, as every request wants them; the layout maps them to the flat tensor and back.
// Shapes: flat [elements]; rows [row_count(), dim] row-major, the last chunk's rest is zero.
// Thread-safety: a plain value.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

class DenseLayout {
 public:
  // elements > 0, dim > 0.
  DenseLayout(TableId table, uint64_t elements, uint32_t dim);

  const KeyVector& keys() const { return keys_; }
  size_t row_count() const { return chunk_of_row_.size(); }
  uint64_t elements() const { return elements_; }
  uint32_t dim() const { return dim_; }

  void ToRows(std::span<const float> flat, std::span<float> rows) const;
  void ToFlat(std::span<const float> rows, std::span<float> flat) const;

 private:
  uint64_t elements_;
  uint32_t dim_;
  KeyVector keys_;   // ascending
  std::vector<uint32_t> chunk_of_row_;
};

}  // namespace sheaf
