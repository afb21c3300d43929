#include "worker/train_step.h"

#include "client/dense.h"
#include "compute/eval/eval_counts.h"
#include "compute/features/weighting.h"
#include "compute/model/model.h"

namespace sheaf {
namespace {

class ModelStep final : public TrainStep {
 public:
  ModelStep(const pb::JobBrief& brief, std::unique_ptr<Model> model)
      : spec_(brief.spec()), model_(std::move(model)), weights_(brief.weight_table()), bias_(brief.bias_table()),
        statistics_(brief.statistics_table()) {
    if (model_->bias_dim() > 0) {
      // One chunk: a bias has few elements.
      const auto dim = static_cast<uint32_t>(model_->bias_dim());
      bias_keys_ = DenseLayout(bias_, dim, dim).keys();
    }
  }

  std::vector<TableKeys> Needs(pb::PassKind kind, const Batch& batch) const override {
    if (kind == pb::STATISTICS) return {};
    std::vector<TableKeys> needs{{weights_, batch.keys}};
    if (bias_keys_ != nullptr) needs.push_back({bias_, bias_keys_});
    return needs;
  }

  Result<StepResult> Run(pb::PassKind kind, const Batch& batch, const std::vector<Floats>& pulled,
                         pb::EvalCounts& eval) const override {
    StepResult result;
    if (kind == pb::STATISTICS) {
      Statistics statistics = CountStatistics(spec_.data(), batch);
      result.gradients.push_back(
          {statistics_, std::make_shared<const std::vector<HashedKey>>(std::move(statistics.keys)),
           std::move(statistics.counts)});
      return result;
    }
    const std::span<const float> weights = pulled[0];
    const std::span<const float> bias =
        bias_keys_ == nullptr ? std::span<const float>() : std::span<const float>(pulled[1]);
    const auto row_dim = static_cast<size_t>(model_->row_dim());
    if (weights.size() != batch.keys->size() * row_dim || bias.size() != static_cast<size_t>(model_->bias_dim())) {
      return Fail(ErrorCode::kInternal, "the model has rows of ", row_dim, " and a bias of ", model_->bias_dim(),
                  "; what was pulled for ", batch.keys->size(), " keys are ", weights.size(), " and ", bias.size(),
                  " numbers");
    }
    if (kind != pb::TRAIN) {
      std::vector<float> scores(batch.size() * static_cast<size_t>(model_->output_dim()));
      model_->Score(batch, weights, bias, scores);
      CountScores(*model_, spec_.model(), scores, batch.labels, eval);
      return result;
    }
    std::vector<float> gradient(weights.size());
    std::vector<float> bias_gradient(bias.size());
    result.loss_sum = model_->Gradient(batch, weights, bias, gradient, bias_gradient);
    result.gradients.push_back({weights_, batch.keys, std::move(gradient)});
    if (bias_keys_ != nullptr) result.gradients.push_back({bias_, bias_keys_, std::move(bias_gradient)});
    return result;
  }

 private:
  const pb::JobSpec spec_;
  const std::unique_ptr<Model> model_;
  const TableId weights_, bias_, statistics_;
  KeyVector bias_keys_;                        // nullptr: no bias
};

}  // namespace

Result<std::unique_ptr<TrainStep>> MakeTrainStep(const pb::JobBrief& brief) {
  SHEAF_ASSIGN_OR_RETURN(auto model, MakeModel(brief.spec().model()));
  return std::unique_ptr<TrainStep>(std::make_unique<ModelStep>(brief, std::move(model)));
}

}  // namespace sheaf
