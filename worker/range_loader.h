// What the worker's core asks of its surroundings: rows of leased ranges, as mini-batches.
//
// Load is answered by WorkerCore::OnRangeReady, OnRangeNeedsStatistics (then Weight is called) or OnLoadFailed, later
// and on the core's thread. Batches of a range are the same in every pass, so that their key lists repeat.
#pragma once

#include <memory>
#include <vector>

#include "common/base/floats.h"
#include "common/base/result.h"
#include "compute/batch.h"
#include "proto/control.pb.h"

namespace sheaf {

using LoadedBatches = std::vector<std::shared_ptr<const Batch>>;

class RangeLoader {
 public:
  virtual ~RangeLoader() = default;
  virtual void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) = 0;
  // The statistics rows of the keys that OnRangeNeedsStatistics named.
  virtual void Weight(uint64_t lease, Floats statistics) = 0;
  // The lease is gone: no answer is needed any more (one may still come).
  virtual void Forget(uint64_t lease) = 0;
  virtual void Plan(const pb::PlanOrder& order) = 0;       // answered by OnPlan
};

}  // namespace sheaf
