// Short runs of floats (a row's classes or factors) held in registers while a loop runs over an example's features.
//
// A run of `dim` floats is covered by kBlocks blocks of kLanes; the last ends where the run ends and so may overlap the
// one before. Overlapping lanes hold the same values, so storing both does no harm as long as all blocks are loaded
// before any is stored. Vector types of the compiler, not loops: a loop's array of sums would live in memory.
// Lanes are independent: any covering gives the same bits.
#pragma once

#include <cstddef>
#include <cstring>

#include "compute/kernel.h"

namespace sheaf {

template <int kLanes, int kBlocks>
struct Strips {
  typedef float Block __attribute__((vector_size(kLanes * sizeof(float))));
  Block block[kBlocks];

  SHEAF_INLINE static size_t Begin(int b, size_t dim) { return b + 1 < kBlocks ? b * kLanes : dim - kLanes; }

  SHEAF_INLINE void SetZero() {
    for (int b = 0; b < kBlocks; ++b) block[b] = Block{};
  }
  SHEAF_INLINE void Load(const float* from, size_t dim) {
    for (int b = 0; b < kBlocks; ++b) std::memcpy(&block[b], from + Begin(b, dim), sizeof(Block));
  }
  SHEAF_INLINE void Store(float* to, size_t dim) const {
    for (int b = 0; b < kBlocks; ++b) std::memcpy(to + Begin(b, dim), &block[b], sizeof(Block));
  }
};

// Calls run(Strips<..>*) with the covering that fits `dim`, or run(nullptr) if a loop over memory does better.
template <class Run>
SHEAF_INLINE auto WithStrips(size_t dim, const Run& run) {
  switch (dim) {
    case 2: return run(static_cast<Strips<2, 1>*>(nullptr));
    case 3: return run(static_cast<Strips<2, 2>*>(nullptr));
    case 4: return run(static_cast<Strips<4, 1>*>(nullptr));
    case 5: case 6: case 7: return run(static_cast<Strips<4, 2>*>(nullptr));
    case 8: return run(static_cast<Strips<8, 1>*>(nullptr));
    default: break;
  }
  if (dim > 8 && dim <= 16) return run(static_cast<Strips<8, 2>*>(nullptr));
  if (dim > 16 && dim <= 24) return run(static_cast<Strips<8, 3>*>(nullptr));
  if (dim > 24 && dim <= 32) return run(static_cast<Strips<8, 4>*>(nullptr));
  return run(nullptr);
}

}  // namespace sheaf
