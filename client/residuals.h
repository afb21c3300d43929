// What rounding to INT8 lost, per table and key, to be added to the next push of that key (error feedback: Seide et
// al., Interspeech 2014).
//
// Size: dim floats for every key this client ever pushed with INT8, until its table leaves the configuration.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "common/base/ids.h"

namespace sheaf {

class ResidualTable {
 public:
  explicit ResidualTable(uint32_t dim) : dim_(dim) {}

  // The residual rows of distinct keys, zero where new. Pointers stay valid as long as the table lives.
  void Rows(std::span<const HashedKey> keys, std::vector<float*>& rows);
  size_t size() const { return size_; }
  uint32_t dim() const { return dim_; }

 private:
  static constexpr size_t kRowsOfSlab = 1024;
  struct Slot {
    HashedKey key = 0;
    float* row = nullptr;
  };
  float* NewRow();
  void Grow(size_t slots);

  uint32_t dim_;
  size_t size_ = 0;
  std::vector<Slot> slots_;     // open addressing; a power of two, at most half full. Keys are hashed already
  std::vector<std::unique_ptr<float[]>> slabs_;
};

class Residuals {
 public:
  ResidualTable& Of(TableId table, uint32_t dim);
  template <typename Keep>
  void KeepOnly(Keep&& keep) {
    std::erase_if(tables_, [&](const auto& entry) { return !keep(entry.first); });
  }

 private:
  std::map<TableId, ResidualTable> tables_;
};

}  // namespace sheaf
