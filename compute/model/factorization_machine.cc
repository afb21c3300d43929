#include "compute/model/factorization_machine.h"

#include <algorithm>
#include <cstddef>
#include <iterator>

#include "compute/model/batch_view.h"
#include "compute/model/losses.h"
#include "compute/model/strips.h"

namespace sheaf {
namespace {

// One example's features, in pointers of its own: stores to the gradient could otherwise be stores to the view.
struct Features {
  SHEAF_INLINE Features(const BatchView& view, size_t row)
      : count(view.row_begin[row + 1] - view.row_begin[row]), index(view.index + view.row_begin[row]),
        values(view.values != nullptr ? view.values + view.row_begin[row] : nullptr), weights(view.weights),
        gradient(view.gradient), scale(RowScale(view, view.row_begin[row], view.row_begin[row + 1])) {}
  SHEAF_INLINE float value(size_t j) const { return values != nullptr ? values[j] * scale : scale; }

  size_t count;
  const uint32_t* index;
  const float* values;
  const float* weights;
  float* gradient;
  float scale;
};

SHEAF_INLINE float PairSum(const float* sums, const float* squares, size_t factors) {
  float pairs = 0;
  for (size_t f = 0; f < factors; ++f) pairs += sums[f] * sums[f] - squares[f];
  return 0.5f * pairs;
}

// The score without bias; leaves sum_j v_jf x_j in sums[0, factors), and uses as much room after it.
template <class Strip>
SHEAF_INLINE float Score(Strip*, const Features& features, size_t factors, float* sums) {
  Strip sum, squares, v;
  sum.SetZero();
  squares.SetZero();
  float linear = 0;
  for (size_t j = 0; j < features.count; ++j) {
    const float* row = features.weights + features.index[j] * (1 + factors);
    const float x = features.value(j);
    linear += row[0] * x;
    v.Load(row + 1, factors);
    for (size_t b = 0; b < std::size(v.block); ++b) {
      v.block[b] *= x;
      sum.block[b] += v.block[b];
      squares.block[b] += v.block[b] * v.block[b];
    }
  }
  sum.Store(sums, factors);
  squares.Store(sums + factors, factors);
  return linear + PairSum(sums, sums + factors, factors);
}
SHEAF_INLINE float Score(std::nullptr_t, const Features& features, size_t factors, float* sums) {
  float* squares = sums + factors;
  for (size_t f = 0; f < 2 * factors; ++f) sums[f] = 0;
  float linear = 0;
  for (size_t j = 0; j < features.count; ++j) {
    const float* row = features.weights + features.index[j] * (1 + factors);
    const float x = features.value(j);
    linear += row[0] * x;
    SHEAF_INDEPENDENT
    for (size_t f = 0; f < factors; ++f) {
      const float v = row[1 + f] * x;
      sums[f] += v;
      squares[f] += v * v;
    }
  }
  return linear + PairSum(sums, squares, factors);
}

// slope: the derivative of the mean loss by this example's score.
template <class Strip>
SHEAF_INLINE void AddGradient(Strip*, const Features& features, size_t factors, const float* sums, float slope) {
  Strip sum, v, g;
  sum.Load(sums, factors);
  for (size_t j = 0; j < features.count; ++j) {
    const float* row = features.weights + features.index[j] * (1 + factors);
    float* gradient = features.gradient + features.index[j] * (1 + factors);
    const float x = features.value(j);
    const float step = slope * x;
    gradient[0] += step;
    v.Load(row + 1, factors);
    g.Load(gradient + 1, factors);
    for (size_t b = 0; b < std::size(v.block); ++b) g.block[b] += step * (sum.block[b] - v.block[b] * x);
    g.Store(gradient + 1, factors);
  }
}
SHEAF_INLINE void AddGradient(std::nullptr_t, const Features& features, size_t factors, const float* sums,
                              float slope) {
  for (size_t j = 0; j < features.count; ++j) {
    const float* row = features.weights + features.index[j] * (1 + factors);
    float* gradient = features.gradient + features.index[j] * (1 + factors);
    const float x = features.value(j);
    const float step = slope * x;
    gradient[0] += step;
    SHEAF_INDEPENDENT
    for (size_t f = 0; f < factors; ++f) gradient[1 + f] += step * (sums[f] - row[1 + f] * x);
  }
}

// `sums` has room for 2 * factors floats.
SHEAF_TARGET_CLONES double MachineGradient(const PointLoss& point, const BatchView& view, size_t factors, float* sums) {
  const float mean = 1.0f / static_cast<float>(view.rows);
  const float bias = view.bias != nullptr ? *view.bias : 0.0f;
  double loss_sum = 0;
  double residual_sum = 0;
  WithStrips(factors, [&](auto strip) __attribute__((always_inline)) {
    for (size_t row = 0; row < view.rows; ++row) {
      const Features features(view, row);
      const float score = Score(strip, features, factors, sums) + bias;
      double loss;
      float residual;
      PointLosses(point, &score, view.labels + row, 1, &loss, &residual);
      loss_sum += loss;
      residual_sum += residual;
      AddGradient(strip, features, factors, sums, residual * mean);
    }
  });
  if (view.bias_gradient != nullptr) *view.bias_gradient = static_cast<float>(residual_sum * mean);
  return loss_sum;
}
SHEAF_TARGET_CLONES void MachineScores(const BatchView& view, size_t factors, float* sums, float* scores) {
  const float bias = view.bias != nullptr ? *view.bias : 0.0f;
  WithStrips(factors, [&](auto strip) __attribute__((always_inline)) {
    for (size_t row = 0; row < view.rows; ++row) {
      scores[row] = Score(strip, Features(view, row), factors, sums) + bias;
    }
  });
}

class FactorizationMachine final : public Model {
 public:
  explicit FactorizationMachine(const pb::ModelSpec& spec)
      : point_{spec.loss(), spec.huber_delta()}, factors_(spec.factors()), bias_dim_(spec.bias() ? 1 : 0),
        normalize_(spec.normalize_rows()) {}

  int row_dim() const override { return static_cast<int>(1 + factors_); }
  int bias_dim() const override { return bias_dim_; }
  int output_dim() const override { return 1; }

  void Score(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
             std::span<float> scores) const override {
    SHEAF_CHECK(scores.size() == batch.size(), "room for ", scores.size(), " scores of ", batch.size());
    BatchView view = ViewOf(batch, 1 + factors_, bias_dim_, weights, bias);
    view.normalize = normalize_;
    std::vector<float> sums(2 * factors_);
    MachineScores(view, factors_, sums.data(), scores.data());
  }

  double Gradient(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
                  std::span<float> gradient, std::span<float> bias_gradient) const override {
    BatchView view = GradientViewOf(batch, 1 + factors_, bias_dim_, weights, bias, gradient, bias_gradient);
    if (view.rows == 0) return 0;
    view.normalize = normalize_;
    std::vector<float> sums(2 * factors_);
    return MachineGradient(point_, view, factors_, sums.data());
  }

  double Loss(std::span<const float> scores, float label) const override {
    double loss;
    float residual;
    PointLosses(point_, scores.data(), &label, 1, &loss, &residual);
    return loss;
  }

 private:
  const PointLoss point_;
  const size_t factors_;
  const int bias_dim_;
  const bool normalize_;
};

}  // namespace

std::unique_ptr<Model> MakeFactorizationMachine(const pb::ModelSpec& spec) {
  return std::make_unique<FactorizationMachine>(spec);
}

}  // namespace sheaf
