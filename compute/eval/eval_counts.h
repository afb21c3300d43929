// Mergeable evaluation: workers count ranges, the scheduler adds the counts up and reads the metrics off them.
//
// AUC comes from a histogram of scores over the top kScoreBits bits of the logit's order-preserving integer form;
// examples of one bin count as tied, so the error is below the share of pairs that fall into one bin.
#pragma once

#include <span>

#include "compute/model/model.h"
#include "proto/control.pb.h"

namespace sheaf {

inline constexpr int kScoreBits = 21;

// Order-preserving: a < b implies ScoreBin(a) <= ScoreBin(b). NaN sorts above everything.
uint32_t ScoreBin(float logit);

// Counts the examples of a batch from their scores [labels.size(), output_dim].
void CountScores(const Model& model, const pb::ModelSpec& spec, std::span<const float> scores,
                 std::span<const float> labels, pb::EvalCounts& counts);
void MergeCounts(const pb::EvalCounts& from, pb::EvalCounts& into);
// Fills loss, accuracy, auc, precision, recall, f1, confusion, rmse. Undefined ratios (0/0) are 0; AUC without both classes is 0.5.
void ComputeMetrics(const pb::EvalCounts& counts, const pb::ModelSpec& spec, pb::EvalResult& result);

}  // namespace sheaf
