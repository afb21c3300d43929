#include "compute/model/linear_model.h"

#include <algorithm>

#include "compute/model/batch_view.h"

namespace sheaf {
namespace {

// Four sums, so that additions need not wait for each other; named here, so that every machine adds in this order.
template <bool kValues>
SHEAF_INLINE float Dot(const uint32_t* index, const float* values, size_t count, const float* weights) {
  float a = 0, b = 0, c = 0, d = 0;
  size_t j = 0;
  for (; j + 4 <= count; j += 4) {
    a += weights[index[j]] * (kValues ? values[j] : 1.0f);
    b += weights[index[j + 1]] * (kValues ? values[j + 1] : 1.0f);
    c += weights[index[j + 2]] * (kValues ? values[j + 2] : 1.0f);
    d += weights[index[j + 3]] * (kValues ? values[j + 3] : 1.0f);
  }
  for (; j < count; ++j) a += weights[index[j]] * (kValues ? values[j] : 1.0f);
  return (a + b) + (c + d);
}

SHEAF_INLINE float RowScore(const BatchView& view, size_t row, float* scale) {
  const size_t begin = view.row_begin[row];
  const size_t end = view.row_begin[row + 1];
  *scale = RowScale(view, begin, end);
  const float dot = view.values != nullptr
                        ? Dot<true>(view.index + begin, view.values + begin, end - begin, view.weights)
                        : Dot<false>(view.index + begin, nullptr, end - begin, view.weights);
  return dot * *scale + (view.bias != nullptr ? *view.bias : 0.0f);
}

SHEAF_INLINE void Scatter(const BatchView& view, size_t row, float slope) {
  const size_t end = view.row_begin[row + 1];
  if (view.values != nullptr) {
    for (size_t j = view.row_begin[row]; j < end; ++j) view.gradient[view.index[j]] += slope * view.values[j];
  } else {
    for (size_t j = view.row_begin[row]; j < end; ++j) view.gradient[view.index[j]] += slope;
  }
}

SHEAF_TARGET_CLONES void Losses(const PointLoss& point, const float* scores, const float* labels, size_t count,
                                double* losses, float* residuals) {
  PointLosses(point, scores, labels, count, losses, residuals);
}

// By blocks of rows: their losses vectorise across examples, and the rows are still in cache for the second walk.
double LinearGradient(const PointLoss& point, const BatchView& view) {
  constexpr size_t kBlock = 64;
  float scores[kBlock], scales[kBlock], residuals[kBlock];
  double losses[kBlock];
  const float mean = 1.0f / static_cast<float>(view.rows);
  double loss_sum = 0;
  double residual_sum = 0;
  for (size_t first = 0; first < view.rows; first += kBlock) {
    const size_t count = std::min(kBlock, view.rows - first);
    for (size_t i = 0; i < count; ++i) scores[i] = RowScore(view, first + i, &scales[i]);
    Losses(point, scores, view.labels + first, count, losses, residuals);
    for (size_t i = 0; i < count; ++i) {
      loss_sum += losses[i];
      residual_sum += residuals[i];
      Scatter(view, first + i, residuals[i] * mean * scales[i]);
    }
  }
  if (view.bias_gradient != nullptr) *view.bias_gradient = static_cast<float>(residual_sum * mean);
  return loss_sum;
}

class LinearModel final : public Model {
 public:
  explicit LinearModel(const pb::ModelSpec& spec)
      : point_{spec.loss(), spec.huber_delta()}, bias_dim_(spec.bias() ? 1 : 0), normalize_(spec.normalize_rows()) {}

  int row_dim() const override { return 1; }
  int bias_dim() const override { return bias_dim_; }
  int output_dim() const override { return 1; }

  void Score(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
             std::span<float> scores) const override {
    SHEAF_CHECK(scores.size() == batch.size(), "room for ", scores.size(), " scores of ", batch.size());
    BatchView view = ViewOf(batch, 1, bias_dim_, weights, bias);
    view.normalize = normalize_;
    float scale;
    for (size_t row = 0; row < view.rows; ++row) scores[row] = RowScore(view, row, &scale);
  }

  double Gradient(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
                  std::span<float> gradient, std::span<float> bias_gradient) const override {
    BatchView view = GradientViewOf(batch, 1, bias_dim_, weights, bias, gradient, bias_gradient);
    if (view.rows == 0) return 0;
    view.normalize = normalize_;
    return LinearGradient(point_, view);
  }

  double Loss(std::span<const float> scores, float label) const override {
    double loss;
    float residual;
    PointLosses(point_, scores.data(), &label, 1, &loss, &residual);
    return loss;
  }

 private:
  const PointLoss point_;
  const int bias_dim_;
  const bool normalize_;
};

}  // namespace

std::unique_ptr<Model> MakeLinearModel(const pb::ModelSpec& spec) { return std::make_unique<LinearModel>(spec); }

}  // namespace sheaf
