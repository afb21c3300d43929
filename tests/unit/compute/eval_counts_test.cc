#include "compute/eval/eval_counts.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "common/base/random.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;

pb::ModelSpec SpecOf(pb::ModelSpec::Loss loss, uint32_t classes = 2) {
  pb::ModelSpec spec;
  spec.set_loss(loss);
  spec.set_classes(classes);
  return spec;
}

pb::EvalCounts Count(const pb::ModelSpec& spec, const std::vector<float>& scores, const std::vector<float>& labels) {
  auto model = MakeModel(spec);
  pb::EvalCounts counts;
  CountScores(**model, spec, scores, labels, counts);
  return counts;
}
pb::EvalResult Metrics(const pb::ModelSpec& spec, const std::vector<float>& scores, const std::vector<float>& labels) {
  pb::EvalResult result;
  ComputeMetrics(Count(spec, scores, labels), spec, result);
  return result;
}

TEST(ScoreBin, KeepsTheOrderOfScores) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> scores = {-infinity, -3e38f, -1.0f,    -0.5f, -1e-40f, 0.0f,    1e-40f,
                               1e-3f,     0.5f,   0.50013f, 1.0f,  3e38f,   infinity};
  for (size_t i = 1; i < scores.size(); ++i) EXPECT_LE(ScoreBin(scores[i - 1]), ScoreBin(scores[i])) << scores[i];
  EXPECT_LT(ScoreBin(-1e-3f), ScoreBin(1e-3f));
  EXPECT_EQ(ScoreBin(-0.0f), ScoreBin(0.0f));
  EXPECT_GT(ScoreBin(NAN), ScoreBin(infinity));
  EXPECT_GT(ScoreBin(-NAN), ScoreBin(infinity));
  EXPECT_LT(ScoreBin(NAN), 1u << kScoreBits);
}

TEST(EvalCounts, AucIsWithinTenThousandthOfAllPairs) {
  Random random(4);
  for (const double spread : {0.01, 1.0, 30.0}) {
    std::vector<float> scores, labels;
    for (int i = 0; i < 3000; ++i) {
      labels.push_back(random.Chance(0.3) ? 1.0f : 0.0f);
      scores.push_back(static_cast<float>(spread * (random.NextGaussian() + labels.back())));
      if (i % 10 == 0) scores.back() = static_cast<float>(spread);  // ties
    }
    double ordered = 0, pairs = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
      for (size_t j = 0; j < scores.size(); ++j) {
        if (labels[i] != 1 || labels[j] != 0) continue;
        ++pairs;
        ordered += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
      }
    }
    EXPECT_NEAR(Metrics(SpecOf(pb::ModelSpec::LOGISTIC), scores, labels).auc(), ordered / pairs, 1e-4);
  }
}

TEST(EvalCounts, BinaryMetricsAreOfClassOne) {
  // Predicted: 1 1 1 0 0 0; two of three positives found, one false alarm.
  const pb::EvalResult result = Metrics(SpecOf(pb::ModelSpec::LOGISTIC), {1, 2, 0.5f, -1, -2, 0}, {1, 1, 0, 1, 0, 0});
  EXPECT_THAT(result.confusion(), ElementsAre(2, 1, 1, 2));
  EXPECT_DOUBLE_EQ(result.accuracy(), 4.0 / 6);
  EXPECT_DOUBLE_EQ(result.precision(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(result.recall(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(result.f1(), 2.0 / 3);
  EXPECT_DOUBLE_EQ(result.auc(), 7.0 / 9);
  EXPECT_EQ(result.classes(), 2u);
  EXPECT_EQ(result.examples(), 6u);
  const double loss = (std::log1p(std::exp(-1.0)) + std::log1p(std::exp(-2.0)) + std::log1p(std::exp(0.5)) +
                       std::log1p(std::exp(1.0)) + std::log1p(std::exp(-2.0)) + std::log(2.0)) /
                      6;
  EXPECT_NEAR(result.loss(), loss, 1e-9);
}

TEST(EvalCounts, SoftmaxOfTwoClassesHasAnAucToo) {
  const pb::EvalResult result = Metrics(SpecOf(pb::ModelSpec::SOFTMAX), {0, 1, 5, 4, 2, 2.5f, 0, -3}, {1, 0, 0, 1});
  EXPECT_DOUBLE_EQ(result.auc(), 0.5);  // differences 1, -1, 0.5, -3 of which the first and last are positives
  EXPECT_DOUBLE_EQ(result.accuracy(), 0.5);
}

TEST(EvalCounts, ManyClassesAreMacroAveraged) {
  // Confusion: class 0: 2 right, 1 as class 1; class 1: 1 right; class 2: 1 as class 0.
  const pb::EvalResult result =
      Metrics(SpecOf(pb::ModelSpec::SOFTMAX, 3), {9, 0, 0, 9, 0, 0, 0, 9, 0, 0, 9, 0, 9, 0, 0}, {0, 0, 0, 1, 2});
  EXPECT_THAT(result.confusion(), ElementsAre(2, 1, 0, 0, 1, 0, 1, 0, 0));
  EXPECT_DOUBLE_EQ(result.accuracy(), 0.6);
  EXPECT_NEAR(result.precision(), (2.0 / 3 + 1.0 / 2 + 0) / 3, 1e-12);
  EXPECT_NEAR(result.recall(), (2.0 / 3 + 1 + 0) / 3, 1e-12);
  EXPECT_NEAR(result.f1(), (2.0 / 3 + 2.0 / 3 + 0) / 3, 1e-12);
  EXPECT_FALSE(result.has_auc());
  EXPECT_EQ(result.classes(), 3u);
}

TEST(EvalCounts, RegressionHasARootMeanSquare) {
  const pb::EvalResult result = Metrics(SpecOf(pb::ModelSpec::SQUARED), {1, 2, 3}, {1, 4, 2});
  EXPECT_DOUBLE_EQ(result.rmse(), std::sqrt(5.0 / 3));
  EXPECT_DOUBLE_EQ(result.loss(), 5.0 / 6);
  EXPECT_FALSE(result.has_accuracy());
  EXPECT_EQ(result.confusion_size(), 0);
}

TEST(EvalCounts, MergedPartsAreTheWhole) {
  Random random(5);
  for (const pb::ModelSpec& spec :
       {SpecOf(pb::ModelSpec::LOGISTIC), SpecOf(pb::ModelSpec::SOFTMAX, 4), SpecOf(pb::ModelSpec::HUBER)}) {
    auto made = MakeModel(spec);
    const Model& model = **made;
    pb::EvalCounts whole, merged;
    std::vector<float> all_scores, all_labels;
    for (int part = 0; part < 5; ++part) {
      std::vector<float> scores, labels;
      for (int i = 0; i < 100; ++i) {
        labels.push_back(static_cast<float>(random.Below(spec.loss() == pb::ModelSpec::SOFTMAX ? 4 : 2)));
        for (int c = 0; c < model.output_dim(); ++c) scores.push_back(static_cast<float>(random.Below(40)) - 20);
      }
      pb::EvalCounts own;
      CountScores(model, spec, scores, labels, own);
      MergeCounts(own, merged);
      CountScores(model, spec, scores, labels, whole);  // counting on is the same as merging
      all_scores.insert(all_scores.end(), scores.begin(), scores.end());
      all_labels.insert(all_labels.end(), labels.begin(), labels.end());
    }
    const pb::EvalCounts once = Count(spec, all_scores, all_labels);
    for (pb::EvalCounts* counts : {&whole, &merged}) {
      EXPECT_NEAR(counts->loss_sum(), once.loss_sum(), 1e-9 * once.loss_sum());
      counts->set_loss_sum(once.loss_sum());
      EXPECT_EQ(counts->SerializeAsString(), once.SerializeAsString());
    }
    for (int i = 1; i < once.bin_size(); ++i) EXPECT_LT(once.bin(i - 1), once.bin(i));
  }
}

TEST(EvalCounts, NothingCountedGivesDefinedMetrics) {
  for (const pb::ModelSpec& spec :
       {SpecOf(pb::ModelSpec::LOGISTIC), SpecOf(pb::ModelSpec::SOFTMAX, 3), SpecOf(pb::ModelSpec::SQUARED)}) {
    pb::EvalResult result;
    ComputeMetrics(pb::EvalCounts(), spec, result);
    EXPECT_EQ(result.loss(), 0);
    EXPECT_EQ(result.accuracy(), 0);
    EXPECT_EQ(result.f1(), 0);
    EXPECT_EQ(result.rmse(), 0);
  }
  EXPECT_EQ(Metrics(SpecOf(pb::ModelSpec::LOGISTIC), {1, 2}, {1, 1}).auc(), 0.5);  // one class only
}

TEST(EvalCounts, NanScoresAreCountedAndShowInTheLoss) {
  const pb::EvalResult result = Metrics(SpecOf(pb::ModelSpec::LOGISTIC), {NAN, 1}, {0, 1});
  EXPECT_TRUE(std::isnan(result.loss()));
  EXPECT_EQ(result.examples(), 2u);
  EXPECT_EQ(result.auc(), 0);  // NaN ranks above all
}

TEST(EvalCounts, LabelsThatAreNoClassAreLeftOutOfTheConfusion) {
  const pb::EvalCounts counts = Count(SpecOf(pb::ModelSpec::LOGISTIC), {1, 1, 1}, {-1, 2, 1});
  EXPECT_THAT(counts.confusion(), ElementsAre(0, 0, 0, 1));
  EXPECT_EQ(counts.examples(), 3u);
}

TEST(EvalCounts, DamagedCountsOfAPeerDoNoHarm) {
  pb::EvalCounts ragged;
  ragged.add_bin(5);
  ragged.add_bin(3);
  ragged.add_negatives(std::numeric_limits<uint32_t>::max());
  ragged.add_confusion(1);
  pb::EvalCounts into = Count(SpecOf(pb::ModelSpec::LOGISTIC), {1, -1}, {1, 0});
  MergeCounts(ragged, into);
  MergeCounts(into, ragged);
  pb::EvalResult result;
  ComputeMetrics(ragged, SpecOf(pb::ModelSpec::SOFTMAX, 3), result);
  ComputeMetrics(ragged, SpecOf(pb::ModelSpec::LOGISTIC), result);
  pb::EvalCounts full;
  full.add_bin(1);
  full.add_negatives(std::numeric_limits<uint32_t>::max() - 1);
  full.add_positives(7);
  pb::EvalCounts twice = full;
  MergeCounts(full, twice);
  EXPECT_EQ(twice.negatives(0), std::numeric_limits<uint32_t>::max());
  EXPECT_EQ(twice.positives(0), 14u);
}

}  // namespace
}  // namespace sheaf
