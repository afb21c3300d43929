#include "compute/eval/eval_counts.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "common/base/check.h"

namespace sheaf {
namespace {

bool IsBinary(const pb::ModelSpec& spec) {
  return spec.loss() == pb::ModelSpec::LOGISTIC || (spec.loss() == pb::ModelSpec::SOFTMAX && spec.classes() == 2);
}
bool IsRegression(const pb::ModelSpec& spec) {
  return spec.loss() == pb::ModelSpec::SQUARED || spec.loss() == pb::ModelSpec::HUBER;
}
size_t ClassCount(const pb::ModelSpec& spec) {
  return spec.loss() == pb::ModelSpec::SOFTMAX ? spec.classes() : IsRegression(spec) ? 0 : 2;
}

// One example's place in the histogram: sorts by bin.
constexpr uint32_t PackExample(uint32_t bin, bool positive) { return bin << 1 | (positive ? 1 : 0); }

uint32_t SaturatingAdd(uint32_t a, uint32_t b) {
  return b > std::numeric_limits<uint32_t>::max() - a ? std::numeric_limits<uint32_t>::max() : a + b;
}

// Adds a histogram with ascending bins to another, in one walk over both.
void AddBins(const pb::EvalCounts& from, pb::EvalCounts& into) {
  const int from_count = std::min({from.bin_size(), from.negatives_size(), from.positives_size()});
  const int into_count = std::min({into.bin_size(), into.negatives_size(), into.positives_size()});
  if (from_count == 0) return;
  pb::EvalCounts sum;
  sum.mutable_bin()->Reserve(from_count + into_count);
  sum.mutable_negatives()->Reserve(from_count + into_count);
  sum.mutable_positives()->Reserve(from_count + into_count);
  const auto append = [&sum](uint32_t bin, uint32_t negatives, uint32_t positives) {
    sum.add_bin(bin);
    sum.add_negatives(negatives);
    sum.add_positives(positives);
  };
  int a = 0;
  int b = 0;
  while (a < from_count || b < into_count) {
    if (b == into_count || (a < from_count && from.bin(a) < into.bin(b))) {
      append(from.bin(a), from.negatives(a), from.positives(a));
      ++a;
    } else if (a == from_count || into.bin(b) < from.bin(a)) {
      append(into.bin(b), into.negatives(b), into.positives(b));
      ++b;
    } else {
      append(from.bin(a), SaturatingAdd(from.negatives(a), into.negatives(b)),
             SaturatingAdd(from.positives(a), into.positives(b)));
      ++a;
      ++b;
    }
  }
  into.mutable_bin()->Swap(sum.mutable_bin());
  into.mutable_negatives()->Swap(sum.mutable_negatives());
  into.mutable_positives()->Swap(sum.mutable_positives());
}

void CountBins(std::vector<uint32_t> examples, pb::EvalCounts& counts) {
  std::sort(examples.begin(), examples.end());
  pb::EvalCounts batch;
  for (size_t i = 0; i < examples.size();) {
    const uint32_t bin = examples[i] >> 1;
    uint32_t sides[2] = {0, 0};
    for (; i < examples.size() && examples[i] >> 1 == bin; ++i) ++sides[examples[i] & 1];
    batch.add_bin(bin);
    batch.add_negatives(sides[0]);
    batch.add_positives(sides[1]);
  }
  AddBins(batch, counts);
}

size_t PredictedClass(std::span<const float> scores) {
  if (scores.size() == 1) return scores[0] > 0 ? 1 : 0;
  return static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

double Auc(const pb::EvalCounts& counts) {
  const int count = std::min({counts.bin_size(), counts.negatives_size(), counts.positives_size()});
  double negatives_below = 0;
  double positives = 0;
  double ordered_pairs = 0;  // pairs whose positive scores higher; ties are half a pair
  for (int i = 0; i < count; ++i) {
    ordered_pairs += counts.positives(i) * (negatives_below + 0.5 * counts.negatives(i));
    negatives_below += counts.negatives(i);
    positives += counts.positives(i);
  }
  const double pairs = negatives_below * positives;
  return pairs > 0 ? ordered_pairs / pairs : 0.5;
}

struct ClassMetrics {
  double precision = 0;
  double recall = 0;
  double f1 = 0;
};

// `confusion` is [true][predicted], [classes * classes].
ClassMetrics MetricsOf(const std::vector<double>& confusion, size_t classes, size_t c) {
  double predicted = 0;
  double actual = 0;
  for (size_t other = 0; other < classes; ++other) {
    predicted += confusion[other * classes + c];
    actual += confusion[c * classes + other];
  }
  const double hits = confusion[c * classes + c];
  return {Ratio(hits, predicted), Ratio(hits, actual), Ratio(2 * hits, predicted + actual)};
}

void ComputeClassMetrics(const pb::EvalCounts& counts, size_t classes, pb::EvalResult& result) {
  std::vector<double> confusion(classes * classes);  // what a peer sent may be shorter
  double hits = 0;
  double total = 0;
  for (size_t i = 0; i < confusion.size(); ++i) {
    const uint64_t count = i < static_cast<size_t>(counts.confusion_size()) ? counts.confusion(static_cast<int>(i)) : 0;
    result.add_confusion(count);
    confusion[i] = static_cast<double>(count);
    total += confusion[i];
    if (i / classes == i % classes) hits += confusion[i];
  }
  result.set_accuracy(Ratio(hits, total));
  ClassMetrics metrics;
  if (classes == 2) {
    metrics = MetricsOf(confusion, classes, 1);
  } else {
    for (size_t c = 0; c < classes; ++c) {
      const ClassMetrics one = MetricsOf(confusion, classes, c);
      metrics.precision += one.precision / static_cast<double>(classes);
      metrics.recall += one.recall / static_cast<double>(classes);
      metrics.f1 += one.f1 / static_cast<double>(classes);
    }
  }
  result.set_precision(metrics.precision);
  result.set_recall(metrics.recall);
  result.set_f1(metrics.f1);
}

}  // namespace

uint32_t ScoreBin(float logit) {
  if (std::isnan(logit)) return (1u << kScoreBits) - 1;
  const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.0f);  // + 0: minus zero is no less than zero
  const uint32_t ordered = (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
  return ordered >> (32 - kScoreBits);
}

void CountScores(const Model& model, const pb::ModelSpec& spec, std::span<const float> scores,
                 std::span<const float> labels, pb::EvalCounts& counts) {
  const size_t output_dim = static_cast<size_t>(model.output_dim());
  SHEAF_CHECK(scores.size() == labels.size() * output_dim, scores.size(), " scores of ", labels.size(), " x ",
              output_dim);
  const size_t classes = ClassCount(spec);
  const bool binary = IsBinary(spec);
  if (static_cast<size_t>(counts.confusion_size()) < classes * classes) {
    counts.mutable_confusion()->Resize(static_cast<int>(classes * classes), 0);
  }
  std::vector<uint32_t> examples;
  if (binary) examples.reserve(labels.size());
  double loss_sum = 0;
  double squared_error_sum = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::span<const float> own = scores.subspan(i * output_dim, output_dim);
    const float label = labels[i];
    loss_sum += model.Loss(own, label);
    if (IsRegression(spec)) {
      const double error = static_cast<double>(own[0]) - label;
      squared_error_sum += error * error;
      continue;
    }
    if (!(label >= 0 && label < static_cast<float>(classes))) continue;  // no class: it shows in the loss
    const size_t actual = static_cast<size_t>(label);
    const int cell = static_cast<int>(actual * classes + PredictedClass(own));
    counts.set_confusion(cell, counts.confusion(cell) + 1);
    if (binary) examples.push_back(PackExample(ScoreBin(output_dim == 1 ? own[0] : own[1] - own[0]), actual == 1));
  }
  counts.set_examples(counts.examples() + labels.size());
  counts.set_loss_sum(counts.loss_sum() + loss_sum);
  if (IsRegression(spec)) counts.set_squared_error_sum(counts.squared_error_sum() + squared_error_sum);
  if (binary) CountBins(std::move(examples), counts);
}

void MergeCounts(const pb::EvalCounts& from, pb::EvalCounts& into) {
  into.set_examples(into.examples() + from.examples());
  into.set_loss_sum(into.loss_sum() + from.loss_sum());
  if (from.has_squared_error_sum()) into.set_squared_error_sum(into.squared_error_sum() + from.squared_error_sum());
  if (into.confusion_size() < from.confusion_size()) into.mutable_confusion()->Resize(from.confusion_size(), 0);
  for (int i = 0; i < from.confusion_size(); ++i) into.set_confusion(i, into.confusion(i) + from.confusion(i));
  AddBins(from, into);
}

void ComputeMetrics(const pb::EvalCounts& counts, const pb::ModelSpec& spec, pb::EvalResult& result) {
  const double examples = static_cast<double>(counts.examples());
  result.set_examples(counts.examples());
  result.set_loss(Ratio(counts.loss_sum(), examples));
  result.clear_confusion();
  if (IsRegression(spec)) {
    result.set_rmse(std::sqrt(Ratio(counts.squared_error_sum(), examples)));
    return;
  }
  const size_t classes = ClassCount(spec);
  result.set_classes(static_cast<uint32_t>(classes));
  ComputeClassMetrics(counts, classes, result);
  if (IsBinary(spec)) result.set_auc(Auc(counts));
}

}  // namespace sheaf
