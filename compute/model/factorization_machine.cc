#include "compute/model/factorization_machine.h"

#include <algorithm>
#include <cstring>

#include "compute/model/batch_view.h"
#include "compute/model/losses.h"

namespace sheaf {
namespace {

// Eight factors at once. A vector type, not a loop: the sums over a row's features stay in registers.
// Lanes are summed in the order of SumLanes on every machine.
typedef float Lanes __attribute__((vector_size(32)));
constexpr size_t kLanes = 8;

SHEAF_INLINE void LoadLanes(const float* from, Lanes& to) { std::memcpy(&to, from, sizeof to); }
SHEAF_INLINE void StoreLanes(const Lanes& from, float* to) { std::memcpy(to, &from, sizeof from); }
SHEAF_INLINE float SumLanes(const Lanes& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

// kBlocks * 8 factors, sums in registers.
template <int kBlocks>
struct FixedFactors {
  SHEAF_INLINE static float Score(const BatchView& view, size_t, size_t begin, size_t end, float scale, float* sums) {
    constexpr size_t kRow = 1 + kBlocks * kLanes;
    Lanes sum[kBlocks] = {};
    Lanes squares[kBlocks] = {};
    float linear = 0;
    for (size_t j = begin; j < end; ++j) {
      const float* row = view.weights + view.index[j] * kRow;
      const float x = view.values != nullptr ? view.values[j] * scale : scale;
      linear += row[0] * x;
      for (int b = 0; b < kBlocks; ++b) {
        Lanes v;
        LoadLanes(row + 1 + b * kLanes, v);
        v *= x;
        sum[b] += v;
        squares[b] += v * v;
      }
    }
    float pairs = 0;
    for (int b = 0; b < kBlocks; ++b) {
      pairs += SumLanes(sum[b] * sum[b] - squares[b]);
      StoreLanes(sum[b], sums + b * kLanes);
    }
    return linear + 0.5f * pairs;
  }

  SHEAF_INLINE static void AddGradient(const BatchView& view, size_t, size_t begin, size_t end, float scale,
                                       const float* sums, float slope) {
    constexpr size_t kRow = 1 + kBlocks * kLanes;
    Lanes sum[kBlocks];
    for (int b = 0; b < kBlocks; ++b) LoadLanes(sums + b * kLanes, sum[b]);
    for (size_t j = begin; j < end; ++j) {
      const float* row = view.weights + view.index[j] * kRow;
      float* gradient = view.gradient + view.index[j] * kRow;
      const float x = view.values != nullptr ? view.values[j] * scale : scale;
      const float step = slope * x;
      gradient[0] += step;
      for (int b = 0; b < kBlocks; ++b) {
        Lanes v, g;
        LoadLanes(row + 1 + b * kLanes, v);
        LoadLanes(gradient + 1 + b * kLanes, g);
        g += step * (sum[b] - v * x);
        StoreLanes(g, gradient + 1 + b * kLanes);
      }
    }
  }
};

// Any number of factors, sums in memory: `sums` holds [2 * factors], the second half the sums of squares.
struct AnyFactors {
  SHEAF_INLINE static float Score(const BatchView& view, size_t factors, size_t begin, size_t end, float scale,
                                  float* sums) {
    float* squares = sums + factors;
    for (size_t f = 0; f < 2 * factors; ++f) sums[f] = 0;
    float linear = 0;
    for (size_t j = begin; j < end; ++j) {
      const float* row = view.weights + view.index[j] * (1 + factors);
      const float x = view.values != nullptr ? view.values[j] * scale : scale;
      linear += row[0] * x;
      SHEAF_INDEPENDENT
      for (size_t f = 0; f < factors; ++f) {
        const float v = row[1 + f] * x;
        sums[f] += v;
        squares[f] += v * v;
      }
    }
    float pairs = 0;
    for (size_t f = 0; f < factors; ++f) pairs += sums[f] * sums[f] - squares[f];
    return linear + 0.5f * pairs;
  }

  SHEAF_INLINE static void AddGradient(const BatchView& view, size_t factors, size_t begin, size_t end, float scale,
                                       const float* sums, float slope) {
    for (size_t j = begin; j < end; ++j) {
      const float* row = view.weights + view.index[j] * (1 + factors);
      float* gradient = view.gradient + view.index[j] * (1 + factors);
      const float x = view.values != nullptr ? view.values[j] * scale : scale;
      const float step = slope * x;
      gradient[0] += step;
      SHEAF_INDEPENDENT
      for (size_t f = 0; f < factors; ++f) gradient[1 + f] += step * (sums[f] - row[1 + f] * x);
    }
  }
};

template <class Factors>
SHEAF_INLINE double Gradient(const PointLoss& point, const BatchView& view, size_t factors, float* sums) {
  const float mean = 1.0f / static_cast<float>(view.rows);
  const float bias = view.bias != nullptr ? *view.bias : 0.0f;
  double loss_sum = 0;
  double residual_sum = 0;
  for (size_t row = 0; row < view.rows; ++row) {
    const size_t begin = view.row_begin[row];
    const size_t end = view.row_begin[row + 1];
    const float scale = RowScale(view, begin, end);
    const float score = Factors::Score(view, factors, begin, end, scale, sums) + bias;
    double loss;
    float residual;
    PointLosses(point, &score, view.labels + row, 1, &loss, &residual);
    loss_sum += loss;
    residual_sum += residual;
    Factors::AddGradient(view, factors, begin, end, scale, sums, residual * mean);
  }
  if (view.bias_gradient != nullptr) *view.bias_gradient = static_cast<float>(residual_sum * mean);
  return loss_sum;
}

template <class Factors>
SHEAF_INLINE void Scores(const BatchView& view, size_t factors, float* sums, float* scores) {
  const float bias = view.bias != nullptr ? *view.bias : 0.0f;
  for (size_t row = 0; row < view.rows; ++row) {
    const size_t begin = view.row_begin[row];
    const size_t end = view.row_begin[row + 1];
    scores[row] = Factors::Score(view, factors, begin, end, RowScale(view, begin, end), sums) + bias;
  }
}

// `sums` has room for 2 * factors floats.
SHEAF_TARGET_CLONES double MachineGradient(const PointLoss& point, const BatchView& view, size_t factors, float* sums) {
  switch (factors) {
    case 8: return Gradient<FixedFactors<1>>(point, view, factors, sums);
    case 16: return Gradient<FixedFactors<2>>(point, view, factors, sums);
    case 32: return Gradient<FixedFactors<4>>(point, view, factors, sums);
    default: return Gradient<AnyFactors>(point, view, factors, sums);
  }
}
SHEAF_TARGET_CLONES void MachineScores(const BatchView& view, size_t factors, float* sums, float* scores) {
  switch (factors) {
    case 8: return Scores<FixedFactors<1>>(view, factors, sums, scores);
    case 16: return Scores<FixedFactors<2>>(view, factors, sums, scores);
    case 32: return Scores<FixedFactors<4>>(view, factors, sums, scores);
    default: return Scores<AnyFactors>(view, factors, sums, scores);
  }
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
    BatchView view = ViewOf(batch, 1 + factors_, bias_dim_, weights, bias);
    SHEAF_CHECK(gradient.size() == weights.size() && bias_gradient.size() == bias.size(), "gradient of ",
                gradient.size(), " + ", bias_gradient.size(), " for ", weights.size(), " + ", bias.size());
    std::fill(gradient.begin(), gradient.end(), 0.0f);
    std::fill(bias_gradient.begin(), bias_gradient.end(), 0.0f);
    if (view.rows == 0) return 0;
    view.normalize = normalize_;
    view.gradient = gradient.data();
    view.bias_gradient = bias_dim_ == 0 ? nullptr : bias_gradient.data();
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
