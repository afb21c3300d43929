#include "scheduler/job_plan.h"

#include <numeric>
#include <string_view>

#include "common/base/random.h"

namespace sheaf {
namespace {

bool OnlyForwards(const pb::RangeSpec& rows) {
  for (std::string_view suffix : {".gz", ".zst", ".xz"}) {
    if (std::string_view(rows.path()).ends_with(suffix)) return true;
  }
  return false;
}

}  // namespace

Result<std::vector<SplitPlan>> RangesOfPlan(const pb::JobSpec& spec, const pb::DataPlan& plan) {
  if (!plan.error().empty()) {
    return Fail(ErrorCodeFromWire(plan.error_code()), plan.error());
  }
  const uint32_t batch = spec.train().batch_size();
  const uint64_t per_range = static_cast<uint64_t>(batch) * spec.train().range_batches();
  std::vector<SplitPlan> splits(3);
  uint32_t next_file[3] = {0, 0, 0};
  for (const pb::PlanFile& file : plan.file()) {
    if (file.split() > kTestSplit) return Fail(ErrorCode::kInvalidArgument, "plan names split ", file.split());
    if (file.rows_per_range() != per_range) {
      return Fail(ErrorCode::kInvalidArgument, "plan of ", file.path(), " has ranges of ", file.rows_per_range(),
                  " rows, the job ", per_range);
    }
    // A number alone must not make ranges: with an offset for each they are no more than a message holds.
    const uint64_t ranges = file.rows() / per_range + (file.rows() % per_range != 0 ? 1 : 0);
    if (ranges != static_cast<uint64_t>(file.offset_size())) {
      return Fail(ErrorCode::kInvalidArgument, "plan of ", file.path(), " has ", file.offset_size(), " offsets for ",
                  ranges, " ranges");
    }
    SplitPlan& split = splits[file.split()];
    const uint32_t number = next_file[file.split()]++;
    split.rows += file.rows();
    for (uint64_t first = 0; first < file.rows(); first += per_range) {
      PlannedRange range;
      const uint64_t rows = std::min(per_range, file.rows() - first);
      range.rows.set_split(file.split());
      range.rows.set_file(number);
      range.rows.set_path(file.path());
      range.rows.set_first_row(first);
      range.rows.set_row_count(static_cast<uint32_t>(rows));
      range.rows.set_byte_offset(file.offset(static_cast<int>(first / per_range)));
      range.rows.set_file_bytes(file.bytes());
      range.batches = static_cast<uint32_t>((rows + batch - 1) / batch);
      split.ranges.push_back(std::move(range));
    }
  }
  if (splits[kTrainSplit].rows == 0) return Fail(ErrorCode::kInvalidArgument, "data.train has no rows");
  if (spec.data().test_size() > 0 && splits[kTestSplit].rows == 0) {
    return Fail(ErrorCode::kInvalidArgument, "data.test has no rows");
  }
  return splits;
}

std::vector<uint32_t> PassOrder(const pb::JobSpec& spec, const std::vector<PlannedRange>& ranges, uint32_t pass,
                                bool first_walk) {
  std::vector<uint32_t> order(ranges.size());
  std::iota(order.begin(), order.end(), 0U);
  if (spec.train().shuffle() == pb::TrainSpec::NONE) return order;
  if (first_walk) {
    for (const PlannedRange& range : ranges) {
      if (OnlyForwards(range.rows)) return order;
    }
  }
  Random random(MixPair(spec.train().seed(), pass));
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  return order;
}

}  // namespace sheaf
