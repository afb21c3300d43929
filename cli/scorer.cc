#include "cli/scorer.h"

#include <algorithm>
#include <filesystem>

#include "compute/eval/eval_counts.h"
#include "compute/features/weighting.h"
#include "worker/data/data_source.h"

namespace sheaf::cli {
namespace {

constexpr size_t kBatchRows = 1024;

}  // namespace

Result<Scorer> Scorer::Make(StoredModel model) {
  auto compute = MakeModel(model.spec.model());
  if (!compute) return Wrap(compute.error(), "the stored job");
  const auto expect = [](const char* what, uint64_t stored, uint64_t needed) -> Status {
    if (stored == needed) return {};
    return Fail(ErrorCode::kDataLoss, "the model file's ", what, " have ", stored, " numbers a row, its job needs ",
                needed);
  };
  SHEAF_RETURN_IF_ERROR(expect("weights", model.weights.dim(), static_cast<uint64_t>((*compute)->row_dim())));
  SHEAF_RETURN_IF_ERROR(expect("biases", model.bias.size(), static_cast<uint64_t>((*compute)->bias_dim())));
  const uint32_t statistics_dim = StatisticsDim(model.spec.data());
  if (statistics_dim > 0) SHEAF_RETURN_IF_ERROR(expect("statistics", model.statistics.dim(), statistics_dim));
  if (statistics_dim > 0 && model.statistics.size() == 0)
    return Fail(ErrorCode::kDataLoss, "the model file lacks the statistics its job needs");
  model.weights.BuildIndex();
  model.statistics.BuildIndex();
  return Scorer(std::move(model), std::move(*compute));
}

Status Scorer::Score(const std::vector<std::string>& files, const ScoreSink& sink) {
  pb::JobSpec spec = model_.spec;
  for (auto* split : {spec.mutable_data()->mutable_train(), spec.mutable_data()->mutable_valid(),
                      spec.mutable_data()->mutable_test()})
    split->Clear();
  for (const std::string& file : files)
    spec.mutable_data()->add_train(std::filesystem::absolute(file).lexically_normal().string());
  auto planned = PlanData(spec, ".", [](const std::string&, uint64_t) {});
  if (!planned) {  // the field that is planned is ours; people know the option
    constexpr std::string_view kField = "data.train: ";
    std::string text = planned.error().message;
    if (text.starts_with(kField)) text.replace(0, kField.size(), "--data: ");
    return Fail(planned.error().code, text);
  }
  const pb::DataPlan plan = std::move(*planned);
  SHEAF_ASSIGN_OR_RETURN(const auto source, MakeDataSource(spec, "."));
  for (int index = 0; index < plan.file_size(); ++index) {
    const pb::PlanFile& file = plan.file(index);
    const uint64_t step = std::max<uint64_t>(1, file.rows_per_range());
    for (uint64_t first = 0, range = 0; first < file.rows(); first += step, ++range) {
      pb::RangeSpec rows;
      rows.set_split(0);
      rows.set_file(static_cast<uint32_t>(index));
      rows.set_path(file.path());
      rows.set_first_row(first);
      rows.set_row_count(static_cast<uint32_t>(std::min(step, file.rows() - first)));
      if (range < static_cast<uint64_t>(file.offset_size())) rows.set_byte_offset(file.offset(static_cast<int>(range)));
      rows.set_file_bytes(file.bytes());
      SHEAF_ASSIGN_OR_RETURN(RowBlock block, source->ReadRange(rows));
      SHEAF_RETURN_IF_ERROR(ScoreBlock(block, sink));
    }
  }
  return {};
}

Status Scorer::ScoreBlock(RowBlock& block, const ScoreSink& sink) {
  bad_rows_ += block.bad_rows;
  if (StatisticsDim(model_.spec.data()) > 0) {
    const std::vector<HashedKey> keys = StatisticsKeys(block);
    std::vector<float> statistics(keys.size() * model_.statistics.dim());
    model_.statistics.Lookup(keys, statistics);
    WeightRows(model_.spec.data(), keys, statistics, block);
  } else {
    WeightRows(model_.spec.data(), {}, {}, block);
  }
  const auto outputs = static_cast<size_t>(compute_->output_dim());
  std::vector<float> weights;
  std::vector<float> scores;
  for (size_t first = 0; first < block.size(); first += kBatchRows) {
    const Batch batch = MakeBatch(block, first, std::min(kBatchRows, block.size() - first), {});
    weights.resize(batch.keys->size() * model_.weights.dim());
    model_.weights.Lookup(*batch.keys, weights);
    scores.resize(batch.size() * outputs);
    compute_->Score(batch, weights, model_.bias, scores);
    CountScores(*compute_, model_.spec.model(), scores, batch.labels, counts_);
    SHEAF_RETURN_IF_ERROR(sink({batch.labels, scores, compute_->output_dim()}));
  }
  return {};
}

pb::EvalResult Scorer::Metrics() const {
  pb::EvalResult result;
  result.set_examples(counts_.examples());
  ComputeMetrics(counts_, model_.spec.model(), result);
  return result;
}

}  // namespace sheaf::cli
