#include "compute/batch.h"

#include <span>

#include "common/base/check.h"
#include "compute/key_index.h"

namespace sheaf {

Batch MakeBatch(const RowBlock& block, size_t first, size_t count, const std::vector<uint32_t>& permutation) {
  SHEAF_CHECK(first <= block.size() && count <= block.size() - first, "rows ", first, "+", count, " of ", block.size());
  SHEAF_CHECK(permutation.empty() || permutation.size() == block.size(), "a permutation of ", permutation.size(),
              " for ", block.size(), " rows");
  Batch batch;
  batch.row_begin.reserve(count + 1);
  batch.row_begin.push_back(0);
  std::vector<HashedKey> distinct;
  if (count == 0) return batch;

  if (permutation.empty()) {
    const size_t begin = block.row_begin[first];
    const size_t end = block.row_begin[first + count];
    batch.labels.assign(block.labels.begin() + first, block.labels.begin() + first + count);
    for (size_t row = first; row < first + count; ++row) {
      batch.row_begin.push_back(static_cast<uint32_t>(block.row_begin[row + 1] - begin));
    }
    if (!block.values.empty()) batch.values.assign(block.values.begin() + begin, block.values.begin() + end);
    batch.index.resize(end - begin);
    IndexKeys(std::span(block.keys).subspan(begin, end - begin), batch.index, distinct);
    batch.keys = std::make_shared<const std::vector<HashedKey>>(std::move(distinct));
    return batch;
  }

  batch.labels.reserve(count);
  uint32_t nnz = 0;
  for (size_t i = first; i < first + count; ++i) {
    const uint32_t row = permutation[i];
    nnz += block.row_begin[row + 1] - block.row_begin[row];
    batch.row_begin.push_back(nnz);
    batch.labels.push_back(block.labels[row]);
  }
  thread_local std::vector<HashedKey> keys;
  keys.clear();
  keys.reserve(nnz);
  if (!block.values.empty()) batch.values.reserve(nnz);
  for (size_t i = first; i < first + count; ++i) {
    const size_t begin = block.row_begin[permutation[i]];
    const size_t end = block.row_begin[permutation[i] + 1];
    keys.insert(keys.end(), block.keys.begin() + begin, block.keys.begin() + end);
    if (!block.values.empty()) {
      batch.values.insert(batch.values.end(), block.values.begin() + begin, block.values.begin() + end);
    }
  }
  batch.index.resize(nnz);
  IndexKeys(keys, batch.index, distinct);
  batch.keys = std::make_shared<const std::vector<HashedKey>>(std::move(distinct));
  return batch;
}

}  // namespace sheaf
