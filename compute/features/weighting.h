// Feature weights from corpus statistics: tf-idf and the naive Bayes log-count ratio (Wang and Manning, ACL 2012).
//
// In the statistics pass each batch pushes, per distinct key, in how many of its documents the key occurs (by class for
// NB); the servers add the pushes up. In later passes a range's rows are weighted once by the sums, and may be cached.
// A totals row under kTotalsKey counts documents (by class). Pure functions.
//
// Weights of a key that df = c0 + c1 of N = N0 + N1 documents have, in a document that has it tf times:
//   TF_IDF               (1 + log tf) (log((1 + N) / (1 + df)) + 1)
//   NB_LOG_COUNT_RATIO   log((a + c1) / (a + c0)) - log(N1 / N0), whatever tf; a = nb_smoothing, class 1: label > 0.5
//   BINARY, COUNT        1, tf
// Only TextSpec asks for weights: with any other data.format nothing is counted and nothing changed.
#pragma once

#include <span>
#include <vector>

#include "common/base/random.h"
#include "compute/batch.h"
#include "proto/job.pb.h"

namespace sheaf {

inline constexpr HashedKey kTotalsKey = MixKey(0xfffffffffffffffeULL);

// Floats of a statistics row: 0 if the job needs no statistics pass, 2 for NB (class 0, class 1), else 1.
uint32_t StatisticsDim(const pb::DataSpec& spec);

// What the statistics pass pushes for a batch: keys are batch.keys plus kTotalsKey in its sorted place.
struct Statistics {
  std::vector<HashedKey> keys;   // [u + 1] ascending
  std::vector<float> counts;     // [u + 1, StatisticsDim]
};
Statistics CountStatistics(const pb::DataSpec& spec, const Batch& batch);

// The distinct keys of a block, ascending, with kTotalsKey: what to pull before WeightRows.
std::vector<HashedKey> StatisticsKeys(const RowBlock& block);

// Drops keys rarer than min_document_count (and unseen ones), replaces values by their weight, and normalises rows if
// asked; a row may end up empty. `keys` are those of StatisticsKeys(block), `statistics` their rows of StatisticsDim.
// Also to be called if StatisticsDim is 0, as rows may still have to be normalised: then neither is looked at.
void WeightRows(const pb::DataSpec& spec, std::span<const HashedKey> keys, std::span<const float> statistics,
                RowBlock& block);

}  // namespace sheaf
