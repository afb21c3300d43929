// The table of the limit: what a parameter table costs at least. One thread, open addressing, batched prefetching, no
// features.
//
// Keys are uniform, so a cell's home is the key's top bits and a sorted batch walks the index in memory order. The
// table is made for so many rows and never grows. Rows are [weights | Adagrad sums].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/base/ids.h"

namespace sheaf::bench {

class MinimalTable {
 public:
  // `adagrad`: else plain gradient descent, with no state.
  MinimalTable(size_t rows, uint32_t dim, bool adagrad);
  ~MinimalTable();

  // gradients [keys.size(), dim]; absent rows are made, and start at zero.
  void Push(std::span<const HashedKey> keys, const float* gradients);
  // out [keys.size(), dim]; absent rows are zero.
  void Pull(std::span<const HashedKey> keys, float* out) const;

  uint32_t dim() const { return dim_; }

 private:
  struct Cell {
    HashedKey key;
    uint32_t slot;  // ~0: empty
  };
  size_t Home(HashedKey key) const { return key >> shift_; }
  float* RowAt(uint32_t slot) const { return rows_ + size_t{slot} * stride_; }
  uint32_t Find(HashedKey key) const;
  uint32_t FindOrInsert(HashedKey key);

  const uint32_t dim_, stride_;
  const bool adagrad_;
  int shift_ = 0;
  size_t cell_count_ = 0, row_count_ = 0;
  Cell* cells_ = nullptr;
  float* rows_ = nullptr;
  uint32_t used_ = 0;
};

}  // namespace sheaf::bench
