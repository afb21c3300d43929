// A model: loss and gradient of a mini-batch, given the parameter rows of its keys. Pure functions.
//
// Shapes: weights and gradient [batch.keys.size(), row_dim()] row-major; bias and bias_gradient [bias_dim()].
// The gradient is of the batch's *mean* loss plus l2/2 |w|^2 and l1 |w| terms where the optimizer does not do them itself.
// Thread-safety: const and stateless; scratch belongs to the caller.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "compute/batch.h"
#include "proto/job.pb.h"

namespace sheaf {

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

// kInvalidArgument names the field that is out of range.
Result<std::unique_ptr<Model>> MakeModel(const pb::ModelSpec& spec);

}  // namespace sheaf
