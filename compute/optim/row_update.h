// The loop that every optimizer shares: rows one after the other, each fused over [weights | state].
//
// A Rule holds the constants of one Apply and updates one weight:
//   kSlots                    floats of state a weight, laid out as kSlots runs of `dim` after the weights
//   kL1                       whether the shared soft threshold follows (FTRL does its own)
//   ForRow(row, dim)          a Rule for this row: itself, or one with constants that differ from row to row
//   Update(w, a, b, g)        one weight, its state (unused slots are dummies) and its gradient
// Everything here is inlined into the optimizers' kernels, which are compiled once per instruction set.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compute/kernel.h"

namespace sheaf {

// The rows and gradients of one Apply.
struct RowUpdates {
  float* const* rows;
  size_t count;
  const float* gradients;   // [count, dim]
  uint32_t dim;
  uint32_t row_floats;      // weights and state
};

// What comes before and after an optimizer's own rule, on every weight.
struct Regularizer {
  float l2 = 0;             // l2 * w is added to the gradient
  float threshold = 0;      // then |w| shrinks by this, not past zero; 0: does not
};

// Moves w towards zero. Written so that a NaN stays one.
SHEAF_INLINE float SoftThreshold(float w, float threshold) {
  const float inside = w > threshold ? threshold : (w < -threshold ? -threshold : w);
  return w - inside;
}

// Rows lie anywhere in memory: ask for them some rows ahead, all their cache lines up to a bound, beyond which the
// hardware has seen the pattern.
SHEAF_INLINE void PrefetchRow(const float* row, uint32_t row_floats) {
  constexpr uint32_t kLineFloats = 16;
  constexpr uint32_t kMaxFloats = 16 * kLineFloats;
  const uint32_t end = row_floats < kMaxFloats ? row_floats : kMaxFloats;
  for (uint32_t i = 0; i < end; i += kLineFloats) __builtin_prefetch(row + i, 1);
  __builtin_prefetch(row + end - 1, 1);  // rows do not begin on cache lines
}

template <bool kThreshold, class Rule>
SHEAF_INLINE void UpdateElement(const Rule& rule, const Regularizer& regularizer, float* w, float* a, float* b,
                                float g) {
  float weight = *w;
  float first = 0;
  float second = 0;
  if constexpr (Rule::kSlots > 0) first = *a;
  if constexpr (Rule::kSlots > 1) second = *b;
  rule.Update(weight, first, second, g + regularizer.l2 * weight);
  if constexpr (kThreshold) weight = SoftThreshold(weight, regularizer.threshold);
  *w = weight;
  if constexpr (Rule::kSlots > 0) *a = first;
  if constexpr (Rule::kSlots > 1) *b = second;
}

template <bool kThreshold, class Rule>
SHEAF_INLINE void UpdateRows(const Rule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  const uint32_t dim = updates.dim;
  if (dim == 1) {
    constexpr size_t kAhead = 16;
    for (size_t i = 0; i < updates.count; ++i) {
      if (i + kAhead < updates.count) __builtin_prefetch(updates.rows[i + kAhead], 1);
      float* row = updates.rows[i];
      UpdateElement<kThreshold>(rule.ForRow(row, 1), regularizer, row, row + 1, row + 2, updates.gradients[i]);
    }
    return;
  }
  const size_t ahead = updates.row_floats <= 64 ? 8 : 2;
  for (size_t i = 0; i < updates.count; ++i) {
    if (i + ahead < updates.count) PrefetchRow(updates.rows[i + ahead], updates.row_floats);
    float* row = updates.rows[i];
    const float* gradient = updates.gradients + i * dim;
    const auto row_rule = rule.ForRow(row, dim);
    SHEAF_INDEPENDENT
    for (uint32_t k = 0; k < dim; ++k) {
      UpdateElement<kThreshold>(row_rule, regularizer, row + k, row + dim + k, row + 2 * dim + k, gradient[k]);
    }
  }
}

template <class Rule>
SHEAF_INLINE void UpdateRows(const Rule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  if constexpr (Rule::kL1) {
    if (regularizer.threshold > 0) return UpdateRows<true>(rule, regularizer, updates);
  }
  UpdateRows<false>(rule, regularizer, updates);
}

}  // namespace sheaf
