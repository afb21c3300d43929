// A job made of counting: every batch adds 1 to a row of its own in every partition, so afterwards the rows say exactly
// which pushes were applied, where, and how often.
//
// - SSP, ASP: what is added is 1 + stamp / 1024, with a stamp of each computation, so that the rows of one shard also
//   say whether they came from one computation or were mixed from two.
// - BSP: a few hot rows get numbers that depend on the batch and on the values pulled, so that any departure from the
//   order of clocks and lanes changes their bits.
// Ownership: plain functions.
#pragma once

#include <array>
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

// A row's numbers. Of a batch's own rows all are the same.
inline constexpr uint32_t kDim = 3;
using Row = std::array<float, kDim>;

struct SimJobSize {
  uint32_t rows = 0;
  uint32_t valid_rows = 0;  // evaluated after each epoch; 0: no evaluation
  uint32_t batch_size = 0;
  uint32_t range_batches = 0;
  uint32_t epochs = 0;
  bool sparse = false;      // a batch has rows in some partitions only, so that not every server holds its pull back
  bool statistics = false;  // a statistics pass comes first, and every range is weighted by it
  pb::WireSpec::Codec push = pb::WireSpec::FP32, pull = pb::WireSpec::FP32;
  pb::JobSpec::Durability durability = pb::JobSpec::LOG;
};

pb::JobSpec MakeSimJob(const SimJobSize& size, pb::ConsistencySpec::Mode mode, uint32_t staleness, uint32_t workers);
pb::DataPlan MakeSimPlan(const pb::JobSpec& spec, uint64_t job);

// A batch as the checkers name it.
using BatchName = std::tuple<uint32_t, uint32_t, uint32_t>;  // pass, range, batch

// Whether a batch has a row of its own in a partition, and whether it touches one of the rows that many do.
bool HasOwnRow(BatchName batch, PartitionId partition, uint32_t partition_count, bool sparse);
bool TouchesHotRow(BatchName batch, uint32_t hot, bool sparse);

// The row in `partition` that belongs to a batch alone.
HashedKey OwnKey(BatchName batch, PartitionId partition, uint32_t partition_count);

// Rows that every batch touches; in a sparse job every other one.
inline constexpr uint32_t kHotRows = 4;
bool IsHotKey(HashedKey key, uint32_t partition_count);

// The batches of a leased range: each touches its own rows, one a partition, and a few rows that others touch, too.
LoadedBatches MakeSimBatches(const pb::LeaseGrant& grant, const pb::JobSpec& spec, uint32_t partition_count);

// How often each key was counted by the statistics pass, of the keys that a leased range is weighted by: those of the
// statistics of one range, each once, and what all batches touch.
std::map<HashedKey, uint32_t> SimStatistics(const pb::LeaseGrant& grant, const pb::JobSpec& spec,
                                            uint32_t partition_count);

// How often a batch was applied, from the value of its own row (not BSP, where a mean is taken): stamps stay below a
// quarter, and codecs round.
inline int TimesOf(float own_row) { return static_cast<int>(own_row + 0.25F); }

class CountingStep final : public TrainStep {
 public:
  // `stamps` tells the computations of this step from those of other workers.
  CountingStep(const pb::JobBrief& brief, uint32_t partition_count, uint64_t stamps)
      : weights_(brief.weight_table()),
        statistics_(brief.statistics_table()),
        bsp_(brief.spec().consistency().mode() == pb::ConsistencySpec::BSP),
        partition_count_(partition_count),
        stamps_(stamps) {}
  std::vector<TableKeys> Needs(pb::PassKind kind, const Batch& batch) const override;
  Result<StepResult> Run(pb::PassKind kind, const Batch& batch, const std::vector<Floats>& pulled,
                         pb::EvalCounts& eval) const override;

 private:
  const TableId weights_, statistics_;
  const bool bsp_;
  const uint32_t partition_count_;
  const uint64_t stamps_;
  mutable uint64_t computed_ = 0;  // makes each computation's stamp another
};

}  // namespace sheaf::sim
