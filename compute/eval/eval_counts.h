// Mergeable evaluation: workers count ranges, the scheduler adds the counts up and reads the metrics off them.
//
// AUC comes from a histogram of scores over the top kScoreBits bits of the logit's order-preserving integer form;
// examples of one bin count as tied, so the error is at most half the share of pairs that fall into one bin (a bin is a
// 4096th of its score wide). Counts from a peer may be of any shape: what is missing counts as zero.
#pragma once

#include <span>

#include "compute/model/model.h"
#include "proto/control.pb.h"

namespace sheaf {

inline constexpr int kScoreBits = 21;

// Order-preserving: a < b implies ScoreBin(a) <= ScoreBin(b). NaN sorts above everything.
uint32_t ScoreBin(float logit);

// Counts the examples of a batch from their scores [labels.size(), output_dim]. Binary is LOGISTIC, and SOFTMAX with
// two classes, whose logit is the scores' difference. An example whose label is no class counts in examples and loss
// (NaN for SOFTMAX) only.
void CountScores(const Model& model, const pb::ModelSpec& spec, std::span<const float> scores,
                 std::span<const float> labels, pb::EvalCounts& counts);
// Adds `from` to `into`: linear in the bins of both. A bin's count stays at the greatest uint32.
void MergeCounts(const pb::EvalCounts& from, pb::EvalCounts& into);
// Fills examples, loss, and what the loss's kind has: accuracy, precision, recall, f1, confusion, classes and (binary)
// auc; or rmse. Undefined ratios (0/0) are 0; AUC without both classes is 0.5. `spec` is one that MakeModel takes.
void ComputeMetrics(const pb::EvalCounts& counts, const pb::ModelSpec& spec, pb::EvalResult& result);

}  // namespace sheaf
