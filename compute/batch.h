// Rows of training data, and the mini-batch a model computes on.
//
// Ownership: both own their vectors; a batch shares its key list with the operations that name it.
// Thread-safety: plain values.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

// Parsed rows in compressed sparse form. Row i's features are [row_begin[i], row_begin[i + 1]) of `keys` and `values`.
struct RowBlock {
  std::vector<float> labels;          // [n] class index (LOGISTIC: 0 or 1) or target
  std::vector<uint32_t> row_begin;    // [n + 1]
  std::vector<HashedKey> keys;        // [nnz] hashed, not sorted, unique within a row
  std::vector<float> values;          // [nnz]; empty means all are 1
  uint64_t bad_rows = 0;              // rows skipped because data.on_bad_row is SKIP

  size_t size() const { return labels.size(); }
  size_t ByteSize() const {
    return labels.size() * sizeof(float) + row_begin.size() * sizeof(uint32_t) + keys.size() * sizeof(HashedKey) +
           values.size() * sizeof(float);
  }
};

// A mini-batch: the same, with keys replaced by indexes into the sorted list of the batch's distinct keys.
struct Batch {
  std::vector<float> labels;          // [n]
  std::vector<uint32_t> row_begin;    // [n + 1]
  std::vector<uint32_t> index;        // [nnz] into `keys`
  std::vector<float> values;          // [nnz]; empty means all are 1
  // [u] ascending, distinct: what is pulled and pushed; never null
  KeyVector keys = std::make_shared<const std::vector<HashedKey>>();

  size_t size() const { return labels.size(); }
  size_t ByteSize() const {
    return (labels.size() + row_begin.size() + index.size() + values.size()) * sizeof(float) +
           keys->size() * sizeof(HashedKey);
  }
};

// The batch of rows [first, first + count) of `block`, in the order of `permutation` if it is not empty.
Batch MakeBatch(const RowBlock& block, size_t first, size_t count, const std::vector<uint32_t>& permutation);

}  // namespace sheaf
