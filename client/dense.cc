#include "client/dense.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "common/base/check.h"
#include "common/base/random.h"

namespace sheaf {

DenseLayout::DenseLayout(TableId table, uint64_t elements, uint32_t dim) : elements_(elements), dim_(dim) {
  SHEAF_CHECK(elements > 0 && dim > 0, "a dense table of ", elements, " elements in chunks of ", dim);
  const uint64_t chunks = (elements + dim - 1) / dim;
  SHEAF_CHECK(chunks <= UINT32_MAX, "a dense table of ", chunks, " chunks");
  std::vector<HashedKey> key_of_chunk(chunks);
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) key_of_chunk[chunk] = MixPair(table.value, chunk);
  chunk_of_row_.resize(chunks);
  std::iota(chunk_of_row_.begin(), chunk_of_row_.end(), 0u);
  std::ranges::sort(chunk_of_row_, {}, [&](uint32_t chunk) { return key_of_chunk[chunk]; });
  std::vector<HashedKey> sorted(chunks);
  for (uint64_t row = 0; row < chunks; ++row) sorted[row] = key_of_chunk[chunk_of_row_[row]];
  keys_ = std::make_shared<const std::vector<HashedKey>>(std::move(sorted));
}

void DenseLayout::ToRows(std::span<const float> flat, std::span<float> rows) const {
  SHEAF_CHECK(flat.size() == elements_ && rows.size() == row_count() * dim_, flat.size(), " elements to ", rows.size());
  for (size_t row = 0; row < row_count(); ++row) {
    const uint64_t first = uint64_t{chunk_of_row_[row]} * dim_;
    const size_t count = static_cast<size_t>(std::min<uint64_t>(dim_, elements_ - first));
    float* to = rows.data() + row * dim_;
    std::memcpy(to, flat.data() + first, count * sizeof(float));
    std::fill(to + count, to + dim_, 0.0f);
  }
}

void DenseLayout::ToFlat(std::span<const float> rows, std::span<float> flat) const {
  SHEAF_CHECK(flat.size() == elements_ && rows.size() == row_count() * dim_, rows.size(), " elements to ", flat.size());
  for (size_t row = 0; row < row_count(); ++row) {
    const uint64_t first = uint64_t{chunk_of_row_[row]} * dim_;
    const size_t count = static_cast<size_t>(std::min<uint64_t>(dim_, elements_ - first));
    std::memcpy(flat.data() + first, rows.data() + row * dim_, count * sizeof(float));
  }
}

}  // namespace sheaf
