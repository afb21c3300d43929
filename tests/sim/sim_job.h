// A job made of counting: every batch adds 1 to a row of its own in every partition, so afterwards the rows say exactly
// which pushes were applied, where, and how often.
//
// Ownership: plain functions and a ledger that the cluster owns. Gradients are small integers, so sums are exact.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <vector>

#include "common/base/ids.h"
#include "proto/control.pb.h"
#include "worker/range_loader.h"
#include "worker/train_step.h"

namespace sheaf::sim {

struct SimJobSize {
  uint32_t rows = 0;
  uint32_t batch_size = 0;
  uint32_t range_batches = 0;
  uint32_t epochs = 0;
};

pb::JobSpec MakeSimJob(const SimJobSize& size, pb::ConsistencySpec::Mode mode, uint32_t staleness, uint32_t workers);
pb::DataPlan MakeSimPlan(const pb::JobSpec& spec, uint64_t job);

// A batch as the checkers name it.
using BatchName = std::tuple<uint32_t, uint32_t, uint32_t>;   // pass, range, batch

// The row in `partition` that belongs to a batch alone.
HashedKey OwnKey(BatchName batch, PartitionId partition, uint32_t partition_count);

// The batches of a leased range: each touches its own row in every partition, and a few rows that all touch.
LoadedBatches MakeSimBatches(const pb::LeaseGrant& grant, const pb::JobSpec& spec, uint32_t partition_count);

// Pushes +1 (times the number of lanes, which BSP divides by) to each row of the batch.
class CountingStep final : public TrainStep {
 public:
  CountingStep(const pb::JobBrief& brief, float amount) : weights_(brief.weight_table()), amount_(amount) {}
  std::vector<TableKeys> Needs(pb::PassKind kind, const Batch& batch) const override;
  StepResult Run(pb::PassKind kind, const Batch& batch, const std::vector<std::vector<float>>& pulled,
                 pb::EvalCounts& eval) const override;

 private:
  const TableId weights_;
  const float amount_;
};

}  // namespace sheaf::sim
