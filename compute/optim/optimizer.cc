#include "compute/optim/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "compute/optim/rules.h"

namespace sheaf {
namespace {

// The kernels. One function each, so that each is compiled for every instruction set.
SHEAF_TARGET_CLONES void Run(const SumRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}
SHEAF_TARGET_CLONES void Run(const SgdRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}
SHEAF_TARGET_CLONES void Run(const MomentumRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}
SHEAF_TARGET_CLONES void Run(const AdagradRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}
SHEAF_TARGET_CLONES void Run(const AdamRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}
SHEAF_TARGET_CLONES void Run(const FtrlRule& rule, const Regularizer& regularizer, const RowUpdates& updates) {
  UpdateRows(rule, regularizer, updates);
}

// What all optimizers share: their constants, and state of `slots` floats a weight that starts at zero.
class ElementwiseOptimizer : public Optimizer {
 public:
  ElementwiseOptimizer(const pb::OptimizerSpec& spec, uint32_t slots) : spec_(spec), slots_(slots) {}

  uint32_t StateDim(uint32_t dim) const override { return slots_ * dim; }
  void InitState(float* row, uint32_t dim) const override { std::fill_n(row + dim, StateDim(dim), 0.0f); }

 protected:
  float rate(float rate_scale) const { return static_cast<float>(spec_.learning_rate() * rate_scale); }
  Regularizer regularizer(float rate_scale) const {
    return {static_cast<float>(spec_.l2()), static_cast<float>(spec_.learning_rate() * rate_scale * spec_.l1())};
  }
  RowUpdates updates(std::span<float* const> rows, const float* gradients, uint32_t dim) const {
    return {rows.data(), rows.size(), gradients, dim, dim + StateDim(dim)};
  }

  const pb::OptimizerSpec spec_;
  const uint32_t slots_;
};

class Sum final : public ElementwiseOptimizer {
 public:
  Sum() : ElementwiseOptimizer({}, 0) {}
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float) const override {
    Run(SumRule{}, Regularizer{}, updates(rows, gradients, dim));
  }
};

class Sgd final : public ElementwiseOptimizer {
 public:
  explicit Sgd(const pb::OptimizerSpec& spec) : ElementwiseOptimizer(spec, 0) {}
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float rate_scale) const override {
    Run(SgdRule{rate(rate_scale)}, regularizer(rate_scale), updates(rows, gradients, dim));
  }
};

class Momentum final : public ElementwiseOptimizer {
 public:
  explicit Momentum(const pb::OptimizerSpec& spec) : ElementwiseOptimizer(spec, 1) {}
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float rate_scale) const override {
    Run(MomentumRule{rate(rate_scale), static_cast<float>(spec_.momentum())}, regularizer(rate_scale),
        updates(rows, gradients, dim));
  }
};

class Adagrad final : public ElementwiseOptimizer {
 public:
  explicit Adagrad(const pb::OptimizerSpec& spec) : ElementwiseOptimizer(spec, 1) {}
  void InitState(float* row, uint32_t dim) const override {
    std::fill_n(row + dim, dim, static_cast<float>(spec_.initial_accumulator()));
  }
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float rate_scale) const override {
    Run(AdagradRule{rate(rate_scale), static_cast<float>(spec_.epsilon())}, regularizer(rate_scale),
        updates(rows, gradients, dim));
  }
};

// By squaring, not by std::pow: libraries differ in its last bit from machine to machine.
double Power(double base, uint32_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if (exponent & 1) result *= base;
  }
  return result;
}

class Adam final : public ElementwiseOptimizer {
 public:
  explicit Adam(const pb::OptimizerSpec& spec) : ElementwiseOptimizer(spec, 2) {
    // Up to where both corrections are 1 in float arithmetic (some 17,000 steps for beta2 0.999), or nearly so.
    constexpr uint32_t kMaxEntries = 1 << 18;
    corrections_.push_back({});
    for (uint32_t step = 1; step < kMaxEntries; ++step) {
      const AdamCorrection correction{
          static_cast<float>(1 / (1 - Power(spec.beta1(), step))),
          static_cast<float>(1 / std::sqrt(1 - Power(spec.beta2(), step)))};
      corrections_.push_back(correction);
      if (correction.first == 1 && correction.second == 1) break;
    }
  }
  // The row's step count is its last float.
  uint32_t StateDim(uint32_t dim) const override { return 2 * dim + 1; }
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float rate_scale) const override {
    const double decay = spec_.kind() == pb::OptimizerSpec::ADAMW ? spec_.weight_decay() : 0;
    const AdamRowRule constants{.rate = rate(rate_scale),
                                .beta1 = static_cast<float>(spec_.beta1()),
                                .one_minus_beta1 = static_cast<float>(1 - spec_.beta1()),
                                .beta2 = static_cast<float>(spec_.beta2()),
                                .one_minus_beta2 = static_cast<float>(1 - spec_.beta2()),
                                .epsilon = static_cast<float>(spec_.epsilon()),
                                .keep = static_cast<float>(1 - spec_.learning_rate() * rate_scale * decay),
                                .second = 1};
    Run(AdamRule{constants, corrections_.data(), static_cast<uint32_t>(corrections_.size())}, regularizer(rate_scale),
        RowUpdates{rows.data(), rows.size(), gradients, dim, dim + StateDim(dim)});
  }

 private:
  std::vector<AdamCorrection> corrections_;  // [step]
};

class Ftrl final : public ElementwiseOptimizer {
 public:
  explicit Ftrl(const pb::OptimizerSpec& spec) : ElementwiseOptimizer(spec, 2) {}
  // A weight is a function of z and n = 0; z becomes what gives the weight that the row has.
  void InitState(float* row, uint32_t dim) const override {
    const float slope = static_cast<float>(spec_.ftrl_beta() / spec_.ftrl_alpha());
    const float l1 = static_cast<float>(spec_.l1());
    for (uint32_t k = 0; k < dim; ++k) {
      const float w = row[k];
      row[dim + k] = w == 0 ? 0 : -w * slope - std::copysign(l1, w);
      row[2 * dim + k] = 0;
    }
  }
  void Apply(std::span<float* const> rows, const float* gradients, uint32_t dim, float) const override {
    const FtrlRule rule{static_cast<float>(1 / spec_.ftrl_alpha()), static_cast<float>(spec_.ftrl_beta()),
                        static_cast<float>(spec_.l1())};
    Run(rule, Regularizer{static_cast<float>(spec_.l2()), 0}, updates(rows, gradients, dim));
  }
};

struct Range {
  const char* field;
  double value;
  bool ok;
  const char* must;
};

// Limits are those within which float arithmetic neither overflows nor divides by zero.
Status CheckSpec(const pb::OptimizerSpec& spec) {
  const auto positive = [](double value) { return value >= 1e-30 && value <= 1e6; };
  const auto amount = [](double value) { return value >= 0 && value <= 1e6; };
  const auto fraction = [](double value) { return value >= 0 && value < 1 && static_cast<float>(value) < 1; };
  const char* const kPositive = "> 0 (from 1e-30 to 1e6)";
  const char* const kAmount = ">= 0 (at most 1e6)";
  const char* const kFraction = ">= 0 and < 1";
  const std::array<Range, 12> ranges = {{
      {"learning_rate", spec.learning_rate(), positive(spec.learning_rate()), kPositive},
      {"learning_rate_decay", spec.learning_rate_decay(),
       spec.learning_rate_decay() > 0 && spec.learning_rate_decay() <= 1, "> 0 and <= 1"},
      {"momentum", spec.momentum(), fraction(spec.momentum()), kFraction},
      {"beta1", spec.beta1(), fraction(spec.beta1()), kFraction},
      {"beta2", spec.beta2(), fraction(spec.beta2()), kFraction},
      {"epsilon", spec.epsilon(), positive(spec.epsilon()), kPositive},
      {"l1", spec.l1(), amount(spec.l1()), kAmount},
      {"l2", spec.l2(), amount(spec.l2()), kAmount},
      {"weight_decay", spec.weight_decay(), amount(spec.weight_decay()), kAmount},
      {"ftrl_alpha", spec.ftrl_alpha(), positive(spec.ftrl_alpha()), kPositive},
      {"ftrl_beta", spec.ftrl_beta(), positive(spec.ftrl_beta()), kPositive},
      {"initial_accumulator", spec.initial_accumulator(), amount(spec.initial_accumulator()), kAmount},
  }};
  for (const Range& range : ranges) {
    if (!range.ok) {
      return Fail(ErrorCode::kInvalidArgument, "optimizer.", range.field, " is ", range.value,
                  "; it must be ", range.must);
    }
  }
  if (spec.weight_decay() != 0 && spec.kind() != pb::OptimizerSpec::ADAMW) {
    return Fail(ErrorCode::kInvalidArgument, "optimizer.weight_decay is ", spec.weight_decay(),
                ", but only ADAMW decays weights; set optimizer.kind to ADAMW, or use optimizer.l2");
  }
  if (spec.learning_rate_decay() != 1 && spec.kind() == pb::OptimizerSpec::FTRL) {
    return Fail(ErrorCode::kInvalidArgument, "optimizer.learning_rate_decay is ", spec.learning_rate_decay(),
                ", but FTRL takes its rates from ftrl_alpha and ftrl_beta; remove it, or change optimizer.kind");
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Optimizer>> MakeOptimizer(const pb::OptimizerSpec& spec) {
  SHEAF_RETURN_IF_ERROR(CheckSpec(spec));
  std::unique_ptr<Optimizer> optimizer;
  switch (spec.kind()) {
    case pb::OptimizerSpec::SGD: optimizer = std::make_unique<Sgd>(spec); break;
    case pb::OptimizerSpec::MOMENTUM: optimizer = std::make_unique<Momentum>(spec); break;
    case pb::OptimizerSpec::ADAGRAD: optimizer = std::make_unique<Adagrad>(spec); break;
    case pb::OptimizerSpec::ADAM:
    case pb::OptimizerSpec::ADAMW: optimizer = std::make_unique<Adam>(spec); break;
    case pb::OptimizerSpec::FTRL: optimizer = std::make_unique<Ftrl>(spec); break;
  }
  if (!optimizer) {
    return Fail(ErrorCode::kInvalidArgument, "optimizer.kind is ", static_cast<int>(spec.kind()),
                "; it must be SGD, MOMENTUM, ADAGRAD, ADAM, ADAMW or FTRL");
  }
  return optimizer;
}

std::unique_ptr<Optimizer> MakeSumOptimizer() { return std::make_unique<Sum>(); }

}  // namespace sheaf
