#include "compute/model/model.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "common/base/random.h"
#include "compute/model/losses.h"

namespace sheaf {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

std::unique_ptr<Model> Make(const pb::ModelSpec& spec) {
  auto model = MakeModel(spec);
  EXPECT_TRUE(model.has_value());
  return std::move(model).value();
}

Batch RandomBatch(Random& random, size_t rows, size_t keys, bool values, const std::function<float()>& label) {
  Batch batch;
  batch.row_begin = {0};
  std::vector<HashedKey> list(keys);
  std::iota(list.begin(), list.end(), 0);
  batch.keys = std::make_shared<const std::vector<HashedKey>>(std::move(list));
  for (size_t row = 0; row < rows; ++row) {
    const uint64_t features = row == 1 ? 0 : random.Below(2 * keys);  // an empty row, and keys that repeat in a row
    for (uint64_t j = 0; j < features; ++j) {
      batch.index.push_back(static_cast<uint32_t>(random.Below(keys)));
      if (values) batch.values.push_back(static_cast<float>(random.NextGaussian()));
    }
    batch.row_begin.push_back(static_cast<uint32_t>(batch.index.size()));
    batch.labels.push_back(label());
  }
  return batch;
}

// Losses and scores in double precision, straight from the definitions: the reference for everything below.
struct Reference {
  const pb::ModelSpec& spec;
  const Model& model;
  const Batch& batch;

  std::vector<double> Scores(size_t row, const std::vector<double>& weights, const std::vector<double>& bias) const {
    const size_t outputs = model.output_dim(), dim = model.row_dim();
    std::vector<double> x(batch.index.size());
    double squares = 0;
    for (size_t j = batch.row_begin[row]; j < batch.row_begin[row + 1]; ++j) {
      x[j] = batch.values.empty() ? 1.0 : static_cast<double>(batch.values[j]);
      squares += x[j] * x[j];
    }
    const double scale = spec.normalize_rows() && squares > 0 ? 1 / std::sqrt(squares) : 1;
    std::vector<double> scores(outputs, 0.0);
    for (size_t c = 0; c < outputs; ++c) scores[c] = bias.empty() ? 0.0 : bias[c];
    for (size_t j = batch.row_begin[row]; j < batch.row_begin[row + 1]; ++j) {
      for (size_t c = 0; c < outputs; ++c) scores[c] += weights[batch.index[j] * dim + c] * x[j] * scale;
      if (spec.kind() != pb::ModelSpec::FACTORIZATION_MACHINE) continue;
      for (size_t i = batch.row_begin[row]; i < j; ++i) {  // pairs one by one
        double product = 0;
        for (size_t f = 1; f < dim; ++f)
          product += weights[batch.index[i] * dim + f] * weights[batch.index[j] * dim + f];
        scores[0] += product * x[i] * x[j] * scale * scale;
      }
    }
    return scores;
  }

  double Loss(const std::vector<double>& s, double y) const {
    switch (spec.loss()) {
      case pb::ModelSpec::LOGISTIC:
        return std::log1p(std::exp(s[0])) - y * s[0];
      case pb::ModelSpec::SQUARED:
        return (s[0] - y) * (s[0] - y) / 2;
      case pb::ModelSpec::HUBER: {
        const double error = std::abs(s[0] - y), delta = spec.huber_delta();
        return error <= delta ? error * error / 2 : delta * (error - delta / 2);
      }
      case pb::ModelSpec::SOFTMAX: {
        double sum = 0;
        for (const double score : s) sum += std::exp(score);
        return std::log(sum) - s[static_cast<size_t>(y)];
      }
    }
    return 0;
  }

  double LossSum(const std::vector<double>& weights, const std::vector<double>& bias) const {
    double sum = 0;
    for (size_t row = 0; row < batch.size(); ++row) sum += Loss(Scores(row, weights, bias), batch.labels[row]);
    return sum;
  }
};

// Compares with the reference: scores and losses directly, gradients by central differences of the reference's loss.
// Differences are taken in double with step 1e-5 (error about 1e-9); what is left is the kernel's single precision.
void CheckModel(const pb::ModelSpec& spec, bool values, uint64_t seed) {
  SCOPED_TRACE(spec.ShortDebugString() + (values ? " values" : " ones"));
  Random random(seed);
  const std::unique_ptr<Model> model = Make(spec);
  const Batch batch = RandomBatch(random, 9, 6, values, [&] {
    if (spec.loss() == pb::ModelSpec::LOGISTIC) return static_cast<float>(random.Below(2));
    if (spec.loss() == pb::ModelSpec::SOFTMAX) return static_cast<float>(random.Below(spec.classes()));
    return static_cast<float>(2 * random.NextGaussian());
  });
  const Reference reference{spec, *model, batch};
  std::vector<float> weights(batch.keys->size() * model->row_dim()), bias(model->bias_dim());
  for (float& w : weights) w = static_cast<float>(0.3 * random.NextGaussian());
  for (float& b : bias) b = static_cast<float>(random.NextGaussian());
  std::vector<double> wide_weights(weights.begin(), weights.end()), wide_bias(bias.begin(), bias.end());

  std::vector<float> scores(batch.size() * model->output_dim());
  model->Score(batch, weights, bias, scores);
  for (size_t row = 0; row < batch.size(); ++row) {
    const std::vector<double> expected = reference.Scores(row, wide_weights, wide_bias);
    const std::span<const float> own(scores.data() + row * model->output_dim(), model->output_dim());
    for (size_t c = 0; c < expected.size(); ++c) EXPECT_NEAR(own[c], expected[c], 2e-5 * (1 + std::abs(expected[c])));
    const double loss = reference.Loss(expected, batch.labels[row]);
    EXPECT_NEAR(model->Loss(own, batch.labels[row]), loss, 1e-4 * (1 + loss));
  }

  std::vector<float> gradient(weights.size(), 99), bias_gradient(bias.size(), 99);  // must be overwritten
  const double loss_sum = model->Gradient(batch, weights, bias, gradient, bias_gradient);
  const double expected_sum = reference.LossSum(wide_weights, wide_bias);
  EXPECT_NEAR(loss_sum, expected_sum, 1e-4 * (1 + expected_sum));
  const auto slope = [&](double& parameter) {
    constexpr double kStep = 1e-5;
    const double at = parameter;
    parameter = at + kStep;
    const double above = reference.LossSum(wide_weights, wide_bias);
    parameter = at - kStep;
    const double below = reference.LossSum(wide_weights, wide_bias);
    parameter = at;
    return (above - below) / (2 * kStep) / static_cast<double>(batch.size());
  };
  for (size_t i = 0; i < weights.size(); ++i) {
    const double expected = slope(wide_weights[i]);
    ASSERT_NEAR(gradient[i], expected, 1e-5 + 1e-4 * std::abs(expected)) << "weight " << i;
  }
  for (size_t i = 0; i < bias.size(); ++i) {
    const double expected = slope(wide_bias[i]);
    ASSERT_NEAR(bias_gradient[i], expected, 1e-5 + 1e-4 * std::abs(expected)) << "bias " << i;
  }
}

TEST(Model, LinearGradientsAreTheSlopesOfEveryLoss) {
  for (const auto loss :
       {pb::ModelSpec::LOGISTIC, pb::ModelSpec::SQUARED, pb::ModelSpec::HUBER, pb::ModelSpec::SOFTMAX}) {
    for (int variant = 0; variant < 8; ++variant) {
      pb::ModelSpec spec;
      spec.set_loss(loss);
      spec.set_huber_delta(0.7);
      spec.set_bias(variant & 1);
      spec.set_normalize_rows(variant & 2);
      spec.set_classes(variant < 4 ? 3 : 17);
      CheckModel(spec, variant & 4, 10 + variant);
    }
  }
}

TEST(Model, SoftmaxGradientsAreTheSlopesForAnyNumberOfClasses) {
  for (uint32_t classes = 2; classes <= 34; ++classes) {
    pb::ModelSpec spec;
    spec.set_loss(pb::ModelSpec::SOFTMAX);
    spec.set_classes(classes);
    CheckModel(spec, true, classes);
  }
}

TEST(Model, FactorizationMachineGradientsAreTheSlopesForAnyNumberOfFactors) {
  for (const uint32_t factors : {1, 2, 3, 4, 7, 8, 9, 16, 31, 32, 33}) {
    for (const auto loss : {pb::ModelSpec::LOGISTIC, pb::ModelSpec::SQUARED, pb::ModelSpec::HUBER}) {
      pb::ModelSpec spec;
      spec.set_kind(pb::ModelSpec::FACTORIZATION_MACHINE);
      spec.set_loss(loss);
      spec.set_factors(factors);
      spec.set_bias(factors % 2 == 0);
      spec.set_normalize_rows(factors % 3 == 0);
      CheckModel(spec, loss != pb::ModelSpec::SQUARED, factors);
    }
  }
}

TEST(Model, HasTheDocumentedDimensions) {
  pb::ModelSpec spec;
  EXPECT_EQ(Make(spec)->row_dim(), 1);
  EXPECT_EQ(Make(spec)->bias_dim(), 1);
  EXPECT_EQ(Make(spec)->output_dim(), 1);
  spec.set_kind(pb::ModelSpec::FACTORIZATION_MACHINE);
  EXPECT_EQ(Make(spec)->row_dim(), 9);
  EXPECT_EQ(Make(spec)->bias_dim(), 1);
  EXPECT_EQ(Make(spec)->output_dim(), 1);
  spec.set_kind(pb::ModelSpec::LINEAR);
  spec.set_loss(pb::ModelSpec::SOFTMAX);
  spec.set_classes(20);
  EXPECT_EQ(Make(spec)->row_dim(), 20);
  EXPECT_EQ(Make(spec)->bias_dim(), 20);
  EXPECT_EQ(Make(spec)->output_dim(), 20);
  spec.set_bias(false);
  EXPECT_EQ(Make(spec)->bias_dim(), 0);
}

TEST(Model, RefusesFieldsOutOfRangeByName) {
  const auto message = [](const std::function<void(pb::ModelSpec&)>& change) {
    pb::ModelSpec spec;
    change(spec);
    const auto model = MakeModel(spec);
    return model ? std::string("accepted") : model.error().message;
  };
  using Spec = pb::ModelSpec;
  EXPECT_EQ(message([](Spec& s) {
              s.set_loss(Spec::SOFTMAX);
              s.set_classes(1);
            }),
            "model.classes is 1; it must be from 2 to 1024");
  EXPECT_THAT(message([](Spec& s) {
                s.set_kind(Spec::FACTORIZATION_MACHINE);
                s.set_factors(0);
              }),
              HasSubstr("model.factors is 0"));
  EXPECT_THAT(message([](Spec& s) {
                s.set_kind(Spec::FACTORIZATION_MACHINE);
                s.set_init_stddev(-1);
              }),
              HasSubstr("model.init_stddev is -1"));
  EXPECT_THAT(message([](Spec& s) {
                s.set_kind(Spec::FACTORIZATION_MACHINE);
                s.set_loss(Spec::SOFTMAX);
              }),
              HasSubstr("model.loss is SOFTMAX"));
  EXPECT_THAT(message([](Spec& s) {
                s.set_loss(Spec::HUBER);
                s.set_huber_delta(0);
              }),
              HasSubstr("model.huber_delta is 0"));
  EXPECT_THAT(message([](Spec& s) {
                s.set_loss(Spec::HUBER);
                s.set_huber_delta(NAN);
              }),
              HasSubstr("model.huber_delta is nan"));
}

TEST(Model, HasNoLossAndNoGradientOnAnEmptyBatch) {
  for (const auto kind : {pb::ModelSpec::LINEAR, pb::ModelSpec::FACTORIZATION_MACHINE}) {
    pb::ModelSpec spec;
    spec.set_kind(kind);
    const std::unique_ptr<Model> model = Make(spec);
    Batch batch;
    batch.row_begin = {0};
    std::vector<float> bias = {1}, bias_gradient = {5};
    EXPECT_EQ(model->Gradient(batch, {}, bias, {}, bias_gradient), 0);
    EXPECT_THAT(bias_gradient, Each(0.0f));
    model->Score(batch, {}, bias, {});
  }
}

TEST(Model, StaysFiniteAtExtremeScores) {
  pb::ModelSpec spec;
  spec.set_bias(false);
  const std::unique_ptr<Model> logistic = Make(spec);
  for (const float score : {-3e38f, -1e6f, -800.0f, 0.0f, 800.0f, 1e6f, 3e38f}) {
    for (const float label : {0.0f, 1.0f}) {
      Batch batch;
      batch.labels = {label};
      batch.row_begin = {0, 1};
      batch.index = {0};
      batch.keys = std::make_shared<const std::vector<HashedKey>>(1, 1);
      const std::vector<float> weights = {score};
      std::vector<float> gradient(1);
      const double loss = logistic->Gradient(batch, weights, {}, gradient, {});
      EXPECT_TRUE(std::isfinite(loss)) << score;
      EXPECT_NEAR(loss, score == 0 ? std::log(2.0) : std::max(score, 0.0f) - label * score,
                  1e-12 * (1 + std::abs(score)));
      EXPECT_NEAR(gradient[0], (score == 0 ? 0.5 : score > 0) - label, 1e-30);
    }
  }
  spec.set_loss(pb::ModelSpec::SOFTMAX);
  spec.set_classes(3);
  const std::unique_ptr<Model> softmax = Make(spec);
  EXPECT_DOUBLE_EQ(softmax->Loss(std::vector<float>{1e6f, 0, -1e6f}, 0), 0);
  EXPECT_DOUBLE_EQ(softmax->Loss(std::vector<float>{1e6f, 0, -1e6f}, 2), 2e6);
}

TEST(Model, ShowsANanWeightInTheLoss) {
  for (const auto loss :
       {pb::ModelSpec::LOGISTIC, pb::ModelSpec::SQUARED, pb::ModelSpec::HUBER, pb::ModelSpec::SOFTMAX}) {
    pb::ModelSpec spec;
    spec.set_loss(loss);
    const std::unique_ptr<Model> model = Make(spec);
    for (int c = 0; c < model->output_dim(); ++c) {
      std::vector<float> scores(model->output_dim(), 0.5f);
      scores[c] = NAN;
      EXPECT_TRUE(std::isnan(model->Loss(scores, 1))) << loss << " " << c;
    }
  }
}

TEST(Model, MakesALabelThatIsNoClassVisible) {
  pb::ModelSpec spec;
  spec.set_loss(pb::ModelSpec::SOFTMAX);
  spec.set_classes(3);
  const std::unique_ptr<Model> model = Make(spec);
  for (const float label : {-1.0f, 3.0f, 1e30f, NAN}) {
    EXPECT_TRUE(std::isnan(model->Loss(std::vector<float>{1, 2, 3}, label)));
    Batch batch;
    batch.labels = {label};
    batch.row_begin = {0, 1};
    batch.index = {0};
    batch.keys = std::make_shared<const std::vector<HashedKey>>(1, 1);
    std::vector<float> gradient(3), bias_gradient(3);
    EXPECT_TRUE(
        std::isnan(model->Gradient(batch, std::vector<float>(3), std::vector<float>(3), gradient, bias_gradient)));
    EXPECT_THAT(gradient, Each(testing::IsNan()));
  }
}

TEST(Losses, ExponentialAndLogarithmAgreeWithTheLibrary) {
  Random random(3);
  EXPECT_EQ(ExpNonPositive(0), 1.0);
  for (int i = 0; i < 20000; ++i) {
    const double x = -std::exp(random.NextDouble() * 26 - 20);  // from -2e-9 to -400
    EXPECT_NEAR(ExpNonPositive(x) / std::exp(x), 1, 2e-14) << x;
    const double e = random.NextDouble();
    EXPECT_NEAR(Log1pUnit(e) / std::log1p(e), 1, 1e-12) << e;
  }
  EXPECT_LT(ExpNonPositive(-std::numeric_limits<double>::infinity()), 1e-300);
  EXPECT_TRUE(std::isnan(ExpNonPositive(NAN)));
}

}  // namespace
}  // namespace sheaf
