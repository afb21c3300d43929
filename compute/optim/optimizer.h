// Optimizers run on the servers, fused over a row: [weights | state] beside each other in memory.
//
// Gradients are of the batch's *mean* loss, so l1 and l2 weigh against the mean loss too, whatever the batch size. Both
// act only on rows that a push touches, once a push: l2 * w is added to the gradient, and after the update |w| shrinks
// by learning_rate * l1, not past zero (FTRL: its own proximal step with l1). A rare key is rarely regularized.
// Elementwise and compiled without FMA contraction: the same input gives the same bits on every machine.
// A NaN in a gradient spoils the weight and state it meets and no other; callers refuse such pushes (AllFinite).
// Thread-safety: const; rows are the caller's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf {

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // Floats of state a weight: 0 SGD, 1 momentum, Adagrad, 2 Adam, AdamW, FTRL; Adam and AdamW also keep a
  // step count per row, in one more float at the row's end.
  virtual uint32_t StateDim(uint32_t dim) const = 0;
  // Sets a new row's state; `row` is [dim + StateDim(dim)], its weights are set already (FTRL derives z from them).
  virtual void InitState(float* row, uint32_t dim) const = 0;
  // Applies gradients [count, dim] to rows, in order; a row may occur more than once. `rate_scale` multiplies the
  // learning rate (FTRL has none and ignores it).
  virtual void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float rate_scale) const = 0;
};

// kInvalidArgument names the field that is out of range, its value and what it may be.
Result<std::unique_ptr<Optimizer>> MakeOptimizer(const pb::OptimizerSpec& spec);
// Adds what is pushed to the row: statistics tables.
std::unique_ptr<Optimizer> MakeSumOptimizer();

}  // namespace sheaf
