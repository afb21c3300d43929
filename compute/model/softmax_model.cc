#include "compute/model/softmax_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>

#include "compute/model/batch_view.h"
#include "compute/model/losses.h"
#include "compute/model/strips.h"

namespace sheaf {
namespace {

// scores[c] = sum over the row's features of w_c x.
template <class Strip>
SHEAF_INLINE void Sum(Strip*, const BatchView& view, size_t classes, size_t begin, size_t end, float* scores) {
  Strip sum, w;
  sum.SetZero();
  for (size_t j = begin; j < end; ++j) {
    w.Load(view.weights + view.index[j] * classes, classes);
    const float x = view.values != nullptr ? view.values[j] : 1.0f;
    for (size_t b = 0; b < std::size(w.block); ++b) sum.block[b] += w.block[b] * x;
  }
  sum.Store(scores, classes);
}
SHEAF_INLINE void Sum(std::nullptr_t, const BatchView& view, size_t classes, size_t begin, size_t end, float* scores) {
  for (size_t c = 0; c < classes; ++c) scores[c] = 0;
  for (size_t j = begin; j < end; ++j) {
    const float* row = view.weights + view.index[j] * classes;
    const float x = view.values != nullptr ? view.values[j] : 1.0f;
    SHEAF_INDEPENDENT
    for (size_t c = 0; c < classes; ++c) scores[c] += row[c] * x;
  }
}

template <class Strip>
SHEAF_INLINE void RowScores(Strip strip, const BatchView& view, size_t classes, size_t row, float scale,
                            float* scores) {
  Sum(strip, view, classes, view.row_begin[row], view.row_begin[row + 1], scores);
  for (size_t c = 0; c < classes; ++c) {
    scores[c] = scores[c] * scale + (view.bias != nullptr ? view.bias[c] : 0.0f);
  }
}

// Adds slopes[c] * x to the gradients of the row's features. Pointers are copied first: what is stored could be theirs.
template <class Strip>
SHEAF_INLINE void AddGradient(Strip*, const BatchView& view, size_t classes, size_t row, const float* slopes) {
  const uint32_t* index = view.index;
  const float* values = view.values;
  float* gradients = view.gradient;
  const size_t end = view.row_begin[row + 1];
  Strip slope, g;
  slope.Load(slopes, classes);
  for (size_t j = view.row_begin[row]; j < end; ++j) {
    float* gradient = gradients + index[j] * classes;
    const float x = values != nullptr ? values[j] : 1.0f;
    g.Load(gradient, classes);
    for (size_t b = 0; b < std::size(g.block); ++b) g.block[b] += slope.block[b] * x;
    g.Store(gradient, classes);
  }
}
SHEAF_INLINE void AddGradient(std::nullptr_t, const BatchView& view, size_t classes, size_t row, const float* slopes) {
  const size_t end = view.row_begin[row + 1];
  for (size_t j = view.row_begin[row]; j < end; ++j) {
    float* gradient = view.gradient + view.index[j] * classes;
    const float x = view.values != nullptr ? view.values[j] : 1.0f;
    SHEAF_INDEPENDENT
    for (size_t c = 0; c < classes; ++c) gradient[c] += slopes[c] * x;
  }
}

// Cross-entropy of one example; its derivatives by the scores go to `residuals` if that is not null. A label that is no
// class makes everything NaN: the example must be noticed, not learnt from. `work` has room for `classes` doubles.
SHEAF_INLINE double CrossEntropy(const float* scores, size_t classes, float label, double* work, float* residuals) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const bool known = label >= 0 && label < static_cast<float>(classes);
  const size_t target = known ? static_cast<size_t>(label) : 0;
  float greatest = scores[0];
  for (size_t c = 1; c < classes; ++c) greatest = scores[c] > greatest ? scores[c] : greatest;
  SHEAF_INDEPENDENT
  for (size_t c = 0; c < classes; ++c) {
    work[c] = ExpNonPositive(static_cast<double>(scores[c]) - static_cast<double>(greatest));
  }
  double sum = 0;
  for (size_t c = 0; c < classes; ++c) sum += work[c];
  if (residuals != nullptr) {
    const double inverse = known ? 1.0 / sum : kNan;
    for (size_t c = 0; c < classes; ++c) residuals[c] = static_cast<float>(work[c] * inverse);
    // One minus a probability near one, from the others' sum, keeps its digits.
    double others = 0;
    for (size_t c = 0; c < classes; ++c) others += c == target ? 0.0 : work[c];
    residuals[target] = static_cast<float>(-(others * inverse));
  }
  return known ? std::log(sum) + (static_cast<double>(greatest) - static_cast<double>(scores[target])) : kNan;
}

SHEAF_TARGET_CLONES double SoftmaxGradient(const BatchView& view, size_t classes, float* scores, float* residuals,
                                           double* work, double* bias_sums) {
  const float mean = 1.0f / static_cast<float>(view.rows);
  double loss_sum = 0;
  WithStrips(classes, [&](auto strip) __attribute__((always_inline)) {
    for (size_t row = 0; row < view.rows; ++row) {
      const float scale = RowScale(view, view.row_begin[row], view.row_begin[row + 1]);
      RowScores(strip, view, classes, row, scale, scores);
      loss_sum += CrossEntropy(scores, classes, view.labels[row], work, residuals);
      for (size_t c = 0; c < classes; ++c) bias_sums[c] += residuals[c];
      for (size_t c = 0; c < classes; ++c) residuals[c] = residuals[c] * mean * scale;
      AddGradient(strip, view, classes, row, residuals);
    }
  });
  if (view.bias_gradient != nullptr) {
    for (size_t c = 0; c < classes; ++c) view.bias_gradient[c] = static_cast<float>(bias_sums[c] * mean);
  }
  return loss_sum;
}

SHEAF_TARGET_CLONES void SoftmaxScores(const BatchView& view, size_t classes, float* scores) {
  WithStrips(classes, [&](auto strip) __attribute__((always_inline)) {
    for (size_t row = 0; row < view.rows; ++row) {
      const float scale = RowScale(view, view.row_begin[row], view.row_begin[row + 1]);
      RowScores(strip, view, classes, row, scale, scores + row * classes);
    }
  });
}

class SoftmaxModel final : public Model {
 public:
  explicit SoftmaxModel(const pb::ModelSpec& spec)
      : classes_(spec.classes()), bias_dim_(spec.bias() ? spec.classes() : 0), normalize_(spec.normalize_rows()) {}

  int row_dim() const override { return static_cast<int>(classes_); }
  int bias_dim() const override { return static_cast<int>(bias_dim_); }
  int output_dim() const override { return static_cast<int>(classes_); }

  void Score(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
             std::span<float> scores) const override {
    SHEAF_CHECK(scores.size() == batch.size() * classes_, "room for ", scores.size(), " scores of ", batch.size(),
                " x ", classes_);
    BatchView view = ViewOf(batch, classes_, bias_dim_, weights, bias);
    view.normalize = normalize_;
    SoftmaxScores(view, classes_, scores.data());
  }

  double Gradient(const Batch& batch, std::span<const float> weights, std::span<const float> bias,
                  std::span<float> gradient, std::span<float> bias_gradient) const override {
    BatchView view = GradientViewOf(batch, classes_, bias_dim_, weights, bias, gradient, bias_gradient);
    if (view.rows == 0) return 0;
    view.normalize = normalize_;
    std::vector<float> scores(classes_), residuals(classes_);
    std::vector<double> work(classes_), bias_sums(classes_);
    return SoftmaxGradient(view, classes_, scores.data(), residuals.data(), work.data(), bias_sums.data());
  }

  double Loss(std::span<const float> scores, float label) const override {
    constexpr size_t kOnStack = 64;
    double few[kOnStack];
    std::vector<double> many(classes_ > kOnStack ? classes_ : 0);
    return CrossEntropy(scores.data(), classes_, label, classes_ > kOnStack ? many.data() : few, nullptr);
  }

 private:
  const size_t classes_;
  const size_t bias_dim_;
  const bool normalize_;
};

}  // namespace

std::unique_ptr<Model> MakeSoftmaxModel(const pb::ModelSpec& spec) { return std::make_unique<SoftmaxModel>(spec); }

}  // namespace sheaf
