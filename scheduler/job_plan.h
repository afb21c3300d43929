// From a data plan to the ranges of each split, and to the order a pass walks them in. Pure functions.
#pragma once

#include <vector>

#include "common/base/result.h"
#include "proto/control.pb.h"
#include "scheduler/lease_book.h"

namespace sheaf {

inline constexpr uint32_t kTrainSplit = 0, kValidSplit = 1, kTestSplit = 2;

struct SplitPlan {
  uint64_t rows = 0;
  std::vector<PlannedRange> ranges;
};

// kInvalidArgument if the plan contradicts itself or the job; the worker's own error if it carries one.
Result<std::vector<SplitPlan>> RangesOfPlan(const pb::JobSpec& spec, const pb::DataPlan& plan);

// Shuffled by (seed, pass) if the job asks for it. Compressed files, which can only be read forwards, keep their order
// in the first pass over a split; later passes find the rows in the workers' memory.
std::vector<uint32_t> PassOrder(const pb::JobSpec& spec, const std::vector<PlannedRange>& ranges, uint32_t pass,
                                bool first_walk);

}  // namespace sheaf
