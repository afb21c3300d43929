// A model: loss and gradient of a mini-batch, given the parameter rows of its keys. Pure functions.
//
// Shapes: weights and gradient [batch.keys.size(), row_dim()] row-major; bias and bias_gradient [bias_dim()].
// The gradient is of the batch's *mean* loss alone: l1 and l2 are the optimizer's, on the server (optimizer.h).
// Sums over a row's features are in single precision, in a fixed order; sums over examples in double.
// A NaN in the weights, or a SOFTMAX label that is no class, makes loss and gradient NaN: callers check AllFinite.
// Thread-safety: const and stateless.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "compute/batch.h"
#include "proto/job.pb.h"

namespace sheaf {

inline constexpr uint32_t kMaxClasses = 1024;   // evaluation counts classes squared
inline constexpr uint32_t kMaxFactors = 4096;

class Model {
 public:
  virtual ~Model() = default;

  virtual int row_dim() const = 0;      // floats of a key's row: 1, K (softmax) or 1 + factors
  virtual int bias_dim() const = 0;     // 0 without bias, K for softmax, else 1
  virtual int output_dim() const = 0;   // scores an example: K for softmax, else 1

  // Raw scores (logits) of every example: scores [batch.size(), output_dim()].
  virtual void Score(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
                     std::span<float> scores) const = 0;
  // Overwrites the gradients; returns the sum of the examples' losses (regularization not included).
  virtual double Gradient(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
                          std::span<float> gradient, std::span<float> bias_gradient) const = 0;
  // Loss of one example given its scores [output_dim()].
  virtual double Loss(std::span<const float> scores, float label) const = 0;
};

// kInvalidArgument names the field that is out of range, its value and what it may be.
Result<std::unique_ptr<Model>> MakeModel(const pb::ModelSpec& spec);

}  // namespace sheaf
