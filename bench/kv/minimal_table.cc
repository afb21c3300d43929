#include "bench/kv/minimal_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "compute/kernel.h"

namespace sheaf::bench {
namespace {

constexpr float kRate = 0.01f;
constexpr size_t kAhead = 16;
constexpr size_t kBatch = 512;  // rows found, then worked on
constexpr size_t kTail = 64;    // cells behind the last home
constexpr uint32_t kEmpty = ~uint32_t{0};

void* HugeRoom(size_t bytes) {
  void* const room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    std::fprintf(stderr, "bench: no memory for a table of %zu bytes; use a smaller --rows\n", bytes);
    std::_Exit(3);
  }
  madvise(room, bytes, MADV_HUGEPAGE);
  return room;
}

SHEAF_INLINE void DescendRow(float* __restrict row, const float* __restrict gradient, uint32_t dim) {
  for (uint32_t k = 0; k < dim; ++k) row[k] -= kRate * gradient[k];
}

SHEAF_TARGET_CLONES void Descend(float* const* rows, size_t count, const float* gradients, uint32_t dim) {
  if (dim == 1) {
    for (size_t i = 0; i < count; ++i) *rows[i] -= kRate * gradients[i];
    return;
  }
  for (size_t i = 0; i < count; ++i) DescendRow(rows[i], gradients + i * dim, dim);
}

SHEAF_INLINE void AdagradRow(float* __restrict row, float* __restrict sums, const float* __restrict gradient,
                             uint32_t dim) {
  for (uint32_t k = 0; k < dim; ++k) {
    const float g = gradient[k];
    const float sum = sums[k] + g * g;
    sums[k] = sum;
    row[k] -= kRate * g / (std::sqrt(sum) + 1e-8f);
  }
}

SHEAF_TARGET_CLONES void Adagrad(float* const* rows, size_t count, const float* gradients, uint32_t dim) {
  for (size_t i = 0; i < count; ++i) AdagradRow(rows[i], rows[i] + dim, gradients + i * dim, dim);
}

void PrefetchRow(const float* row, size_t floats) {
  const char* const begin = reinterpret_cast<const char*>(row);
  const size_t bytes = std::min<size_t>(floats * sizeof(float), 512);
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(begin + at, 1);
}

}  // namespace

MinimalTable::MinimalTable(size_t rows, uint32_t dim, bool adagrad)
    : dim_(dim), stride_(adagrad ? 2 * dim : dim), adagrad_(adagrad), row_count_(rows) {
  const int bits = std::max(4, static_cast<int>(std::bit_width(rows * 3 / 2)));
  shift_ = 64 - bits;
  cell_count_ = (size_t{1} << bits) + kTail;
  cells_ = static_cast<Cell*>(HugeRoom(cell_count_ * sizeof(Cell)));
  std::memset(cells_, 0xff, cell_count_ * sizeof(Cell));
  rows_ = static_cast<float*>(HugeRoom(rows * stride_ * sizeof(float)));
}

MinimalTable::~MinimalTable() {
  munmap(cells_, cell_count_ * sizeof(Cell));
  munmap(rows_, row_count_ * stride_ * sizeof(float));
}

uint32_t MinimalTable::Find(HashedKey key) const {
  for (size_t at = Home(key);; ++at) {
    if (cells_[at].slot == kEmpty || cells_[at].key == key) return cells_[at].slot;
  }
}

uint32_t MinimalTable::FindOrInsert(HashedKey key) {
  for (size_t at = Home(key);; ++at) {
    if (cells_[at].slot != kEmpty && cells_[at].key != key) {
      if (at + 1 < cell_count_) continue;
      std::fprintf(stderr, "bench: the limit's table overflows; its keys are not uniform\n");
      std::_Exit(3);
    }
    if (cells_[at].slot == kEmpty) cells_[at] = {key, used_++};
    return cells_[at].slot;
  }
}

void MinimalTable::Push(std::span<const HashedKey> keys, const float* gradients) {
  float* rows[kBatch];
  for (size_t first = 0; first < keys.size(); first += kBatch) {
    const std::span<const HashedKey> batch = keys.subspan(first, std::min(kBatch, keys.size() - first));
    for (size_t i = 0; i < std::min(kAhead, batch.size()); ++i) __builtin_prefetch(&cells_[Home(batch[i])]);
    for (size_t i = 0; i < batch.size(); ++i) {
      if (i + kAhead < batch.size()) __builtin_prefetch(&cells_[Home(batch[i + kAhead])]);
      rows[i] = RowAt(FindOrInsert(batch[i]));
      PrefetchRow(rows[i], stride_);
    }
    (adagrad_ ? Adagrad : Descend)(rows, batch.size(), gradients + first * dim_, dim_);
  }
}

void MinimalTable::Pull(std::span<const HashedKey> keys, float* out) const {
  const float* rows[kBatch];
  for (size_t first = 0; first < keys.size(); first += kBatch) {
    const std::span<const HashedKey> batch = keys.subspan(first, std::min(kBatch, keys.size() - first));
    for (size_t i = 0; i < std::min(kAhead, batch.size()); ++i) __builtin_prefetch(&cells_[Home(batch[i])]);
    for (size_t i = 0; i < batch.size(); ++i) {
      if (i + kAhead < batch.size()) __builtin_prefetch(&cells_[Home(batch[i + kAhead])]);
      const uint32_t slot = Find(batch[i]);
      rows[i] = slot == kEmpty ? nullptr : RowAt(slot);
      if (rows[i] != nullptr) PrefetchRow(rows[i], dim_);
    }
    for (size_t i = 0; i < batch.size(); ++i, out += dim_) {
      if (rows[i] == nullptr) {
        std::memset(out, 0, dim_ * sizeof(float));
      } else if (dim_ == 1) {
        *out = *rows[i];
      } else {
        std::memcpy(out, rows[i], dim_ * sizeof(float));
      }
    }
  }
}

}  // namespace sheaf::bench
