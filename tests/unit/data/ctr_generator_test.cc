#include "worker/data/ctr_generator.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace sheaf {
namespace {

using ::testing::HasSubstr;

std::string Generate(const CtrOptions& options, CtrSummary* summary = nullptr) {
  std::string all;
  const auto result = GenerateCtr(options, [&](std::string_view lines) -> Status {
    EXPECT_TRUE(lines.ends_with('\n'));
    all += lines;
    return {};
  });
  EXPECT_TRUE(result);
  if (summary != nullptr) *summary = *result;
  return all;
}

TEST(CtrGenerator, IsAFunctionOfItsOptions) {
  CtrOptions options{.rows = 2000, .fields = 4};
  const std::string text = Generate(options);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2000);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\t'), 2000 * 4);
  EXPECT_EQ(Generate(options), text);
  options.seed = 2;
  EXPECT_NE(Generate(options), text);
  options.seed = 1;
  options.rows = 1000;
  EXPECT_TRUE(text.starts_with(Generate(options)));
  options.stream = 2;
  EXPECT_FALSE(text.starts_with(Generate(options)));
}

TEST(CtrGenerator, PlantsOneModelForAllStreams) {
  // The same values have the same probability in both streams: few values, so that rows repeat.
  const auto probabilities = [](uint64_t stream) {
    CtrOptions options{.fields = 2, .cardinality = {3, 3}, .stream = stream};
    auto generator = CtrGenerator::Make(options).value();
    std::set<std::pair<std::string, double>> found;
    for (int i = 0; i < 3000; ++i) {
      std::string line;
      const double probability = generator.AppendRow(line).probability;
      found.emplace(line.substr(2), probability);
    }
    return found;
  };
  EXPECT_EQ(probabilities(0).size(), 9u);
  EXPECT_EQ(probabilities(0), probabilities(1));
}

TEST(CtrGenerator, HasTheBaseRateAndABestAucWorthLearning) {
  CtrSummary summary;
  Generate({.rows = 200'000}, &summary);
  EXPECT_EQ(summary.rows, 200'000u);
  EXPECT_NEAR(static_cast<double>(summary.clicks) / 200'000, 0.25, 0.01);
  EXPECT_GT(summary.best_auc, 0.80);
  EXPECT_LT(summary.best_auc, 0.86);
  EXPECT_LT(summary.best_logloss, 0.50);   // the base rate alone: 0.562
}

TEST(CtrGenerator, LosesAucByNoise) {
  CtrSummary clean, noisy, nothing;
  Generate({.rows = 50'000}, &clean);
  Generate({.rows = 50'000, .label_noise = 0.1}, &noisy);
  Generate({.rows = 50'000, .linear_stddev = 0, .pairwise_stddev = 0}, &nothing);
  EXPECT_LT(noisy.best_auc, clean.best_auc - 0.02);
  EXPECT_NEAR(nothing.best_auc, 0.5, 1e-9);
}

TEST(CtrGenerator, DrawsPlantedProbabilitiesHonestly) {
  auto generator = CtrGenerator::Make({.label_noise = 0.05}).value();
  double expected = 0, variance = 0, clicks = 0;
  std::string line;
  for (int i = 0; i < 100'000; ++i) {
    line.clear();
    const CtrRow row = generator.AppendRow(line);
    EXPECT_EQ(line[0], row.click ? '1' : '0');
    expected += row.probability;
    variance += row.probability * (1 - row.probability);
    clicks += row.click ? 1 : 0;
  }
  EXPECT_LT(std::abs(clicks - expected), 5 * std::sqrt(variance));
}

TEST(CtrGenerator, DrawsValuesByZipf) {
  auto generator = CtrGenerator::Make({.fields = 1, .cardinality = {50}, .zipf_exponent = 1.0}).value();
  std::vector<int> counts(51);
  for (int i = 0; i < 100'000; ++i) {
    std::string line;
    generator.AppendRow(line);
    ++counts.at(static_cast<size_t>(std::stoi(line.substr(2))));
  }
  const double harmonic = 4.4992;   // sum of 1/k for k = 1..50
  for (const int k : {1, 2, 10, 50}) {
    const double expected = 100'000 / (k * harmonic);
    EXPECT_NEAR(counts[static_cast<size_t>(k)], expected, 6 * std::sqrt(expected)) << k;
  }
}

TEST(CtrGenerator, HandsOnTheErrorOfItsSink) {
  const auto result =
      GenerateCtr({.rows = 10}, [](std::string_view) -> Status { return Fail(ErrorCode::kResourceExhausted, "full"); });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message, "full");
}

TEST(CtrGenerator, NamesTheOptionOutOfRange) {
  const auto error = [](const CtrOptions& options) {
    const auto generator = CtrGenerator::Make(options);
    return generator ? "no error" : generator.error().message;
  };
  EXPECT_THAT(error({.fields = 0}), HasSubstr("fields"));
  EXPECT_THAT(error({.fields = 2, .cardinality = {5}}), HasSubstr("cardinality has 1"));
  EXPECT_THAT(error({.fields = 1, .cardinality = {0}}), HasSubstr("cardinality is 0"));
  EXPECT_THAT(error({.fields = 1, .cardinality = {4'000'000'000u}}), HasSubstr("at most"));
  EXPECT_THAT(error({.zipf_exponent = -1}), HasSubstr("zipf_exponent"));
  EXPECT_THAT(error({.factors = 0}), HasSubstr("factors"));
  EXPECT_THAT(error({.linear_stddev = NAN}), HasSubstr("linear_stddev"));
  EXPECT_THAT(error({.pairwise_stddev = -1}), HasSubstr("pairwise_stddev"));
  EXPECT_THAT(error({.base_rate = 1}), HasSubstr("base_rate"));
  EXPECT_THAT(error({.label_noise = 0.6}), HasSubstr("label_noise"));
  EXPECT_EQ(error({.fields = 1, .cardinality = {1}}), "no error");
}

}  // namespace
}  // namespace sheaf
