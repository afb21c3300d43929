// The arithmetic of one mini-batch: which rows it needs, what it pushes, what it counts. Pure.
#pragma once

#include <memory>
#include <vector>

#include "client/ps_client.h"
#include "common/base/result.h"
#include "proto/control.pb.h"
#include "worker/range_loader.h"

namespace sheaf {

struct StepResult {
  std::vector<TableGradients> gradients;  // empty for evaluation
  double loss_sum = 0;
};

class TrainStep {
 public:
  virtual ~TrainStep() = default;
  // Empty if nothing is to be pulled (statistics).
  virtual std::vector<TableKeys> Needs(pb::PassKind kind, const Batch& batch) const = 0;
  // `pulled` are the rows of Needs(), in its order. Evaluation counts are added to `eval`.
  // kInternal: the tables' rows are not as wide as the model's.
  virtual Result<StepResult> Run(pb::PassKind kind, const Batch& batch, const std::vector<Floats>& pulled,
                                 pb::EvalCounts& eval) const = 0;
};

// The step of a job's model.
Result<std::unique_ptr<TrainStep>> MakeTrainStep(const pb::JobBrief& brief);

}  // namespace sheaf
