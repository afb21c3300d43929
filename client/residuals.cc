#include "client/residuals.h"

#include <bit>

namespace sheaf {

void ResidualTable::Rows(std::span<const HashedKey> keys, std::vector<float*>& rows) {
  rows.resize(keys.size());
  if (slots_.size() < 2 * (size_ + keys.size())) Grow(std::bit_ceil(std::max<size_t>(4 * (size_ + keys.size()), 64)));
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < keys.size(); ++i) {
    size_t at = keys[i] & mask;
    while (slots_[at].row != nullptr && slots_[at].key != keys[i]) at = (at + 1) & mask;
    if (slots_[at].row == nullptr) slots_[at] = {keys[i], NewRow()};
    rows[i] = slots_[at].row;
  }
}

float* ResidualTable::NewRow() {
  if (size_ % kRowsOfSlab == 0) slabs_.push_back(std::make_unique<float[]>(kRowsOfSlab * dim_));
  return slabs_.back().get() + (size_++ % kRowsOfSlab) * dim_;
}

void ResidualTable::Grow(size_t count) {
  std::vector<Slot> old(count);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.row == nullptr) continue;
    size_t at = slot.key & (count - 1);
    while (slots_[at].row != nullptr) at = (at + 1) & (count - 1);
    slots_[at] = slot;
  }
}

ResidualTable& Residuals::Of(TableId table, uint32_t dim) {
  auto at = tables_.try_emplace(table, dim).first;
  if (at->second.dim() != dim) at->second = ResidualTable(dim);
  return at->second;
}

}  // namespace sheaf
