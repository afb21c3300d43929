// A batch as kernels see it: bare pointers, and the checks that make them safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "common/base/check.h"
#include "compute/batch.h"
#include "compute/kernel.h"

namespace sheaf {

struct BatchView {
  size_t rows;
  const uint32_t* row_begin;
  const uint32_t* index;
  const float* values;        // null: all are 1
  const float* labels;
  const float* weights;       // [keys, row_dim]
  const float* bias;          // [bias_dim], null without bias
  float* gradient = nullptr;  // as weights; zero at the start
  float* bias_gradient = nullptr;
  bool normalize = false;     // scale each row's values to L2 norm 1
};

inline BatchView ViewOf(const Batch& batch, size_t row_dim, size_t bias_dim, std::span<const float> weights,
                        std::span<const float> bias) {
  SHEAF_CHECK(weights.size() == batch.keys->size() * row_dim, weights.size(), " weights for ", batch.keys->size(),
              " keys with rows of ", row_dim);
  SHEAF_CHECK(bias.size() == bias_dim, "a bias of ", bias.size(), " where the model has ", bias_dim);
  SHEAF_CHECK(batch.size() == 0 || batch.row_begin.size() == batch.size() + 1, "row_begin of ", batch.row_begin.size(),
              " for ", batch.size(), " rows");
  SHEAF_CHECK(batch.values.empty() || batch.values.size() == batch.index.size(), batch.values.size(), " values for ",
              batch.index.size(), " indexes");
  return {.rows = batch.size(),
          .row_begin = batch.row_begin.data(),
          .index = batch.index.data(),
          .values = batch.values.empty() ? nullptr : batch.values.data(),
          .labels = batch.labels.data(),
          .weights = weights.data(),
          .bias = bias_dim == 0 ? nullptr : bias.data()};
}

// The same, with gradients set to zero and ready to be added to.
inline BatchView GradientViewOf(const Batch& batch, size_t row_dim, size_t bias_dim, std::span<const float> weights,
                                std::span<const float> bias, std::span<float> gradient,
                                std::span<float> bias_gradient) {
  SHEAF_CHECK(gradient.size() == weights.size() && bias_gradient.size() == bias.size(), "gradient of ",
              gradient.size(), " + ", bias_gradient.size(), " for ", weights.size(), " + ", bias.size());
  BatchView view = ViewOf(batch, row_dim, bias_dim, weights, bias);
  std::fill(gradient.begin(), gradient.end(), 0.0f);
  std::fill(bias_gradient.begin(), bias_gradient.end(), 0.0f);
  view.gradient = gradient.data();
  view.bias_gradient = bias_dim == 0 ? nullptr : bias_gradient.data();
  return view;
}

// What normalize multiplies a row by; an empty or all-zero row stays as it is.
SHEAF_INLINE float RowScale(const BatchView& view, size_t begin, size_t end) {
  if (!view.normalize) return 1.0f;
  double squares = 0;
  if (view.values == nullptr) {
    squares = static_cast<double>(end - begin);
  } else {
    for (size_t j = begin; j < end; ++j) squares += static_cast<double>(view.values[j]) * view.values[j];
  }
  return squares > 0 ? static_cast<float>(1.0 / std::sqrt(squares)) : 1.0f;
}

}  // namespace sheaf
