#include "compute/optim/optimizer.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <functional>

#include "common/base/random.h"

namespace sheaf {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Spec = pb::OptimizerSpec;

std::unique_ptr<Optimizer> Make(const Spec& spec) {
  auto optimizer = MakeOptimizer(spec);
  EXPECT_TRUE(optimizer.has_value()) << (optimizer ? "" : optimizer.error().message);
  return std::move(optimizer).value();
}

Spec SpecOf(Spec::Kind kind) {
  Spec spec;
  spec.set_kind(kind);
  spec.set_learning_rate(0.05);
  spec.set_ftrl_alpha(0.2);
  return spec;
}

constexpr Spec::Kind kAllKinds[] = {Spec::SGD, Spec::MOMENTUM, Spec::ADAGRAD, Spec::ADAM, Spec::ADAMW, Spec::FTRL};

// One weight, updated with the same operations in the same order as documented, in plain scalar code. Template on the
// number type: float must give the optimizer's bits, double the textbook's numbers.
template <typename T>
struct ScalarWeight {
  T w = 0, first = 0, second = 0;
  int steps = 0;

  static ScalarWeight Start(const Spec& spec, T w) {
    ScalarWeight weight;
    weight.w = w;
    if (spec.kind() == Spec::ADAGRAD) weight.first = T(spec.initial_accumulator());
    if (spec.kind() == Spec::FTRL && w != 0) {
      weight.first = -w * T(spec.ftrl_beta() / spec.ftrl_alpha()) - std::copysign(T(spec.l1()), w);
    }
    return weight;
  }
  static T Shrink(T value, T by) {
    if (value > by) return value - by;
    if (value < -by) return value + by;
    return value - value;  // zero, but NaN for NaN
  }
  void Update(const Spec& spec, T g, float rate_scale) {
    const T rate = T(spec.learning_rate() * rate_scale);
    g = g + T(spec.l2()) * w;
    ++steps;
    switch (spec.kind()) {
      case Spec::SGD:
        w = w - rate * g;
        break;
      case Spec::MOMENTUM:
        first = T(spec.momentum()) * first + g;
        w = w - rate * first;
        break;
      case Spec::ADAGRAD:
        first = first + g * g;
        w = w - rate * g / (std::sqrt(first) + T(spec.epsilon()));
        break;
      case Spec::ADAM:
      case Spec::ADAMW: {
        double power1 = 1, power2 = 1;
        for (int i = 0; i < steps; ++i) power1 *= spec.beta1(), power2 *= spec.beta2();
        first = T(spec.beta1()) * first + T(1 - spec.beta1()) * g;
        second = T(spec.beta2()) * second + T(1 - spec.beta2()) * (g * g);
        const double decay = spec.kind() == Spec::ADAMW ? spec.weight_decay() : 0;
        const T keep = T(1 - spec.learning_rate() * rate_scale * decay);
        const T corrected_rate = rate * T(1 / (1 - power1));
        w = keep * w - corrected_rate * first / (std::sqrt(second) * T(1 / std::sqrt(1 - power2)) + T(spec.epsilon()));
        break;
      }
      case Spec::FTRL: {
        const T inverse_alpha = T(1 / spec.ftrl_alpha());
        const T sum = second + g * g;
        const T sigma = (std::sqrt(sum) - std::sqrt(second)) * inverse_alpha;
        first = first + (g - sigma * w);
        second = sum;
        w = -Shrink(first, T(spec.l1())) / ((T(spec.ftrl_beta()) + std::sqrt(sum)) * inverse_alpha);
        break;
      }
    }
    if (spec.kind() != Spec::FTRL && spec.l1() > 0) w = Shrink(w, T(spec.learning_rate() * rate_scale * spec.l1()));
  }
};

// A table of rows [weights | state] and the same weights one by one.
template <typename T>
struct Bench {
  Bench(const Spec& spec, size_t row_count, uint32_t dim, uint64_t seed)
      : spec(spec), optimizer(Make(spec)), dim(dim), row_floats(dim + optimizer->StateDim(dim)) {
    Random random(seed);
    for (size_t r = 0; r < row_count; ++r) {
      // A guard float before and after: kernels must not touch their neighbours.
      std::vector<float> row(row_floats + 2, 77.0f);
      std::vector<ScalarWeight<T>> own;
      for (uint32_t k = 0; k < dim; ++k) {
        row[1 + k] = r % 3 == 0 ? 0.0f : static_cast<float>(0.1 * random.NextGaussian());
        own.push_back(ScalarWeight<T>::Start(spec, row[1 + k]));
      }
      optimizer->InitState(row.data() + 1, dim);
      rows.push_back(row);
      scalars.push_back(own);
    }
  }
  // Applies random gradients to these rows, on both sides.
  void Step(const std::vector<size_t>& touched, Random& random, float rate_scale = 1) {
    std::vector<float*> pointers;
    std::vector<float> gradients;
    for (const size_t r : touched) {
      pointers.push_back(rows[r].data() + 1);
      for (uint32_t k = 0; k < dim; ++k) {
        gradients.push_back(static_cast<float>(random.NextGaussian() * std::pow(10.0, random.NextDouble() * 4 - 3)));
        scalars[r][k].Update(spec, T(gradients.back()), rate_scale);
      }
    }
    optimizer->Apply(pointers, gradients.data(), dim, rate_scale);
    for (const std::vector<float>& row : rows) {
      ASSERT_EQ(row.front(), 77.0f);
      ASSERT_EQ(row.back(), 77.0f);
    }
  }
  float weight(size_t r, uint32_t k) const { return rows[r][1 + k]; }

  Spec spec;
  std::unique_ptr<Optimizer> optimizer;
  uint32_t dim, row_floats;
  std::vector<std::vector<float>> rows;
  std::vector<std::vector<ScalarWeight<T>>> scalars;
};

std::vector<Spec> Variants() {
  std::vector<Spec> specs;
  for (const Spec::Kind kind : kAllKinds) {
    specs.push_back(SpecOf(kind));
    Spec regularized = SpecOf(kind);
    regularized.set_l1(0.02);
    regularized.set_l2(0.3);
    regularized.set_initial_accumulator(0.1);
    if (kind == Spec::ADAMW) regularized.set_weight_decay(0.1);
    specs.push_back(regularized);
  }
  return specs;
}

TEST(Optimizer, GivesTheBitsOfPlainScalarCodeForEveryDim) {
  for (const Spec& spec : Variants()) {
    for (uint32_t dim = 1; dim <= 65; ++dim) {
      Bench<float> bench(spec, 20, dim, dim);
      Random random(dim);
      bench.Step({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}, random);
      bench.Step({4, 4, 4, 2, 19, 4}, random, 0.5f);  // repeated rows, in order
      bench.Step({}, random);
      bench.Step({7}, random, 0.25f);
      for (size_t r = 0; r < bench.rows.size(); ++r) {
        for (uint32_t k = 0; k < dim; ++k) {
          const ScalarWeight<float>& expected = bench.scalars[r][k];
          ASSERT_EQ(std::bit_cast<uint32_t>(bench.weight(r, k)), std::bit_cast<uint32_t>(expected.w))
              << spec.ShortDebugString() << " dim " << dim << " row " << r << " weight " << k << ": "
              << bench.weight(r, k) << " not " << expected.w;
          if (bench.row_floats > dim) {
            ASSERT_EQ(bench.rows[r][1 + dim + k], expected.first);
          }
          if (bench.row_floats > 2 * dim) {
            ASSERT_EQ(bench.rows[r][1 + 2 * dim + k], expected.second);
          }
        }
      }
    }
  }
}

// Single precision loses about 6e-8 an operation; over 300 steps 1e-4 of the weight is ample, and far below any
// mistake.
TEST(Optimizer, FollowsTheTextbookInDoublePrecisionOverManySteps) {
  for (const Spec& spec : Variants()) {
    Bench<double> bench(spec, 2, 3, 5);
    Random random(6);
    for (int step = 0; step < 300; ++step)
      bench.Step(step % 3 == 0 ? std::vector<size_t>{0, 1} : std::vector<size_t>{1}, random);
    for (size_t r = 0; r < 2; ++r) {
      for (uint32_t k = 0; k < 3; ++k) {
        const double expected = bench.scalars[r][k].w;
        EXPECT_NEAR(bench.weight(r, k), expected, 1e-5 + 1e-4 * std::abs(expected)) << spec.ShortDebugString();
      }
    }
  }
}

TEST(Optimizer, HasTheDocumentedStateAndStartsItThere) {
  const uint32_t expected[] = {0, 5, 5, 11, 11, 10};
  for (size_t i = 0; i < std::size(kAllKinds); ++i) EXPECT_EQ(Make(SpecOf(kAllKinds[i]))->StateDim(5), expected[i]);
  Spec spec = SpecOf(Spec::ADAGRAD);
  spec.set_initial_accumulator(0.25);
  std::vector<float> row = {1, 2, 9, 9};
  Make(spec)->InitState(row.data(), 2);
  EXPECT_THAT(row, testing::ElementsAre(1, 2, 0.25f, 0.25f));
}

TEST(Optimizer, FtrlKeepsTheWeightsThatARowStartsWith) {
  for (const double l1 : {0.0, 0.5}) {
    Spec spec = SpecOf(Spec::FTRL);
    spec.set_l1(l1);
    const std::unique_ptr<Optimizer> optimizer = Make(spec);
    std::vector<float> row = {0.125f, -0.5f, 0, 0, 0, 0, 0, 0, 0};
    optimizer->InitState(row.data(), 3);
    float* pointer = row.data();
    const std::vector<float> nothing(3, 0.0f);
    optimizer->Apply(std::span(&pointer, 1), nothing.data(), 3, 1);
    EXPECT_NEAR(row[0], 0.125f, 1e-6);
    EXPECT_NEAR(row[1], -0.5f, 1e-6);
    EXPECT_EQ(row[2], 0);
  }
}

TEST(Optimizer, L1MakesUselessWeightsExactlyZero) {
  for (const Spec::Kind kind : kAllKinds) {
    Spec spec = SpecOf(kind);
    spec.set_l1(1);
    const std::unique_ptr<Optimizer> optimizer = Make(spec);
    std::vector<float> row(1 + optimizer->StateDim(1));
    row[0] = kind == Spec::FTRL ? 0.0f : 0.02f;
    optimizer->InitState(row.data(), 1);
    float* pointer = row.data();
    const float gradient = 1e-9f;
    optimizer->Apply(std::span(&pointer, 1), &gradient, 1, 1);
    EXPECT_EQ(row[0], 0.0f) << kind;
  }
}

TEST(Optimizer, MovesTheMinimumOfAQuadraticWhereL1AndL2PutIt) {
  // min (w - 1)^2 / 2 + l2 w^2 / 2 + l1 |w| is at (1 - l1) / (1 + l2).
  for (const Spec::Kind kind : {Spec::SGD, Spec::MOMENTUM, Spec::FTRL}) {
    Spec spec = SpecOf(kind);
    spec.set_l1(kind == Spec::FTRL ? 0 : 0.25);
    spec.set_l2(0.5);
    spec.set_learning_rate(kind == Spec::MOMENTUM ? 0.001 : 0.01);
    if (kind == Spec::MOMENTUM) spec.set_l1(0.025);  // its step is ten times the rate, the threshold is not
    const std::unique_ptr<Optimizer> optimizer = Make(spec);
    std::vector<float> row(1 + optimizer->StateDim(1));
    optimizer->InitState(row.data(), 1);
    float* pointer = row.data();
    for (int step = 0; step < 20000; ++step) {
      const float gradient = row[0] - 1;
      optimizer->Apply(std::span(&pointer, 1), &gradient, 1, 1);
    }
    EXPECT_NEAR(row[0], kind == Spec::FTRL ? 1 / 1.5 : kind == Spec::SGD ? 0.75 / 1.5 : 1 / 1.5, 5e-3) << kind;
  }
}

TEST(Optimizer, SpoilsOnlyWhatANanTouches) {
  for (const Spec& spec : Variants()) {
    for (const uint32_t dim : {1u, 4u, 19u}) {
      Bench<float> bench(spec, 3, dim, 8);
      Random random(9);
      bench.Step({0, 1, 2}, random);
      const auto before = bench.rows;
      std::vector<float> gradient(dim, 0.5f);
      gradient[dim - 1] = NAN;
      float* pointer = bench.rows[1].data() + 1;
      bench.optimizer->Apply(std::span(&pointer, 1), gradient.data(), dim, 1);
      EXPECT_TRUE(std::isnan(bench.weight(1, dim - 1))) << spec.ShortDebugString();
      for (uint32_t k = 0; k + 1 < dim; ++k) EXPECT_TRUE(std::isfinite(bench.weight(1, k)));
      EXPECT_EQ(bench.rows[0], before[0]);
      EXPECT_EQ(bench.rows[2], before[2]);
    }
  }
}

TEST(Optimizer, AdamSurvivesADamagedStepCount) {
  const std::unique_ptr<Optimizer> optimizer = Make(SpecOf(Spec::ADAM));
  for (const float steps : {NAN, -5.0f, 1e30f, 16777216.0f}) {
    std::vector<float> row = {0.5f, 0, 0, steps};
    float* pointer = row.data();
    const float gradient = 1;
    optimizer->Apply(std::span(&pointer, 1), &gradient, 1, 1);
    EXPECT_TRUE(std::isfinite(row[0]));
    EXPECT_EQ(row[3], 16777216.0f);
  }
}

TEST(Optimizer, SumAddsAndIgnoresTheRate) {
  const std::unique_ptr<Optimizer> sum = MakeSumOptimizer();
  EXPECT_EQ(sum->StateDim(7), 0u);
  std::vector<float> row = {1, 2, 3};
  sum->InitState(row.data(), 3);
  float* rows[] = {row.data(), row.data()};
  const std::vector<float> pushed = {1, 1, 1, 10, 20, 30};
  sum->Apply(rows, pushed.data(), 3, 0.125f);
  EXPECT_THAT(row, testing::ElementsAre(12, 23, 34));
}

TEST(Optimizer, RefusesFieldsOutOfRangeByName) {
  const auto message = [](const std::function<void(Spec&)>& change) {
    Spec spec;
    change(spec);
    const auto optimizer = MakeOptimizer(spec);
    return optimizer ? std::string("accepted") : optimizer.error().message;
  };
  EXPECT_EQ(message([](Spec&) {}), "accepted");
  EXPECT_THAT(message([](Spec& s) { s.set_learning_rate(-1); }),
              HasSubstr("optimizer.learning_rate is -1; it must be > 0"));
  EXPECT_THAT(message([](Spec& s) { s.set_learning_rate(NAN); }), HasSubstr("optimizer.learning_rate is nan"));
  EXPECT_THAT(message([](Spec& s) { s.set_learning_rate_decay(0); }), HasSubstr("optimizer.learning_rate_decay is 0"));
  EXPECT_THAT(message([](Spec& s) { s.set_momentum(1); }),
              HasSubstr("optimizer.momentum is 1; it must be >= 0 and < 1"));
  EXPECT_THAT(message([](Spec& s) { s.set_beta1(-0.1); }), HasSubstr("optimizer.beta1 is -0.1"));
  EXPECT_THAT(message([](Spec& s) { s.set_beta2(1); }), HasSubstr("optimizer.beta2 is 1"));
  EXPECT_THAT(message([](Spec& s) { s.set_epsilon(0); }), HasSubstr("optimizer.epsilon is 0"));
  EXPECT_THAT(message([](Spec& s) { s.set_l1(-1); }), HasSubstr("optimizer.l1 is -1"));
  EXPECT_THAT(message([](Spec& s) { s.set_l2(INFINITY); }), HasSubstr("optimizer.l2 is inf"));
  EXPECT_THAT(message([](Spec& s) { s.set_ftrl_alpha(0); }), HasSubstr("optimizer.ftrl_alpha is 0"));
  EXPECT_THAT(message([](Spec& s) { s.set_ftrl_beta(0); }), HasSubstr("optimizer.ftrl_beta is 0"));
  EXPECT_THAT(message([](Spec& s) { s.set_initial_accumulator(-1); }),
              HasSubstr("optimizer.initial_accumulator is -1"));
  EXPECT_THAT(message([](Spec& s) { s.set_weight_decay(0.1); }), HasSubstr("only ADAMW"));
  EXPECT_THAT(message([](Spec& s) {
                s.set_kind(Spec::FTRL);
                s.set_learning_rate_decay(0.5);
              }),
              HasSubstr("FTRL"));
}

}  // namespace
}  // namespace sheaf
