#include "compute/features/weighting.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/base/check.h"
#include "compute/key_index.h"

namespace sheaf {
namespace {

bool IsNaiveBayes(const pb::DataSpec& spec) { return spec.text().weighting() == pb::TextSpec::NB_LOG_COUNT_RATIO; }

// Where kTotalsKey stands, or would stand, in ascending keys.
size_t TotalsPlace(std::span<const HashedKey> keys) {
  return static_cast<size_t>(std::lower_bound(keys.begin(), keys.end(), kTotalsKey) - keys.begin());
}
// A word can hash to the key of the totals, once in 2^64: then they share a row, and that word's weight is off.
bool TotalsPresent(std::span<const HashedKey> keys, size_t place) {
  return place < keys.size() && keys[place] == kTotalsKey;
}

// The part of a feature's weight that depends on the corpus; NaN: the feature is dropped.
struct CorpusWeight {
  const pb::TextSpec& text;
  bool by_class;
  double documents;          // N
  double class_counts[2];    // N0, N1

  CorpusWeight(const pb::DataSpec& spec, std::span<const float> totals)
      : text(spec.text()), by_class(IsNaiveBayes(spec)), documents(totals[0]), class_counts{1, 1} {
    if (!by_class) return;
    documents = static_cast<double>(totals[0]) + totals[1];
    // A class without documents says nothing; do not let its logarithm say infinity.
    for (int c = 0; c < 2; ++c) class_counts[c] = std::max<double>(totals[c], 1);
  }

  float operator()(std::span<const float> counts) const {
    const double document_count = by_class ? static_cast<double>(counts[0]) + counts[1] : counts[0];
    // A key that the statistics pass never saw has no weight to learn: not even min_document_count 0 keeps it.
    if (!(document_count >= std::max<double>(text.min_document_count(), 1))) {
      return std::numeric_limits<float>::quiet_NaN();
    }
    switch (text.weighting()) {
      case pb::TextSpec::TF_IDF: return static_cast<float>(std::log((1 + documents) / (1 + document_count)) + 1);
      case pb::TextSpec::NB_LOG_COUNT_RATIO: {
        // One logarithm of products of counts: a key that says nothing gets exactly 0, not noise to be normalised to 1.
        const double with = (text.nb_smoothing() + counts[1]) * class_counts[0];
        const double without = (text.nb_smoothing() + counts[0]) * class_counts[1];
        return static_cast<float>(std::log(with / without));
      }
      default: return 1;
    }
  }
};

// The part that depends on the document.
float TermWeight(pb::TextSpec::Weighting weighting, float term_count) {
  switch (weighting) {
    case pb::TextSpec::TF_IDF: return term_count > 1 ? 1 + std::log(term_count) : 1;
    case pb::TextSpec::COUNT: return term_count;
    default: return 1;
  }
}

void NormalizeRows(RowBlock& block) {
  if (block.values.empty()) block.values.assign(block.keys.size(), 1.0f);
  for (size_t row = 0; row < block.size(); ++row) {
    double squares = 0;
    for (uint32_t j = block.row_begin[row]; j < block.row_begin[row + 1]; ++j) {
      squares += static_cast<double>(block.values[j]) * block.values[j];
    }
    if (!(squares > 0)) continue;
    const float scale = static_cast<float>(1 / std::sqrt(squares));
    for (uint32_t j = block.row_begin[row]; j < block.row_begin[row + 1]; ++j) block.values[j] *= scale;
  }
}

// `weights` by index; keeps what has one, in place.
void KeepWeighted(pb::TextSpec::Weighting weighting, const std::vector<float>& weights,
                  const std::vector<uint32_t>& index, RowBlock& block) {
  const bool had_values = !block.values.empty();
  block.values.resize(block.keys.size());
  uint32_t kept = 0;
  uint32_t begin = block.row_begin.empty() ? 0 : block.row_begin[0];
  if (!block.row_begin.empty()) block.row_begin[0] = 0;
  for (size_t row = 0; row < block.size(); ++row) {
    const uint32_t end = block.row_begin[row + 1];
    for (uint32_t j = begin; j < end; ++j) {
      const float weight = weights[index[j]];
      if (std::isnan(weight)) continue;
      block.values[kept] = weight * TermWeight(weighting, had_values ? block.values[j] : 1.0f);
      block.keys[kept] = block.keys[j];
      ++kept;
    }
    begin = end;
    block.row_begin[row + 1] = kept;
  }
  block.keys.resize(kept);
  block.values.resize(kept);
}

}  // namespace

uint32_t StatisticsDim(const pb::DataSpec& spec) {
  if (spec.format() != pb::DataSpec::TEXT) return 0;
  if (IsNaiveBayes(spec)) return 2;
  return spec.text().weighting() == pb::TextSpec::TF_IDF || spec.text().min_document_count() > 1 ? 1 : 0;
}

Statistics CountStatistics(const pb::DataSpec& spec, const Batch& batch) {
  const uint32_t dim = StatisticsDim(spec);
  Statistics statistics;
  if (dim == 0) return statistics;
  const size_t place = TotalsPlace(*batch.keys);
  const size_t inserted = TotalsPresent(*batch.keys, place) ? 0 : 1;
  statistics.keys.reserve(batch.keys->size() + inserted);
  statistics.keys = *batch.keys;
  if (inserted == 1) statistics.keys.insert(statistics.keys.begin() + static_cast<ptrdiff_t>(place), kTotalsKey);
  statistics.counts.assign(statistics.keys.size() * dim, 0.0f);
  for (size_t row = 0; row < batch.size(); ++row) {
    const size_t column = dim == 2 && batch.labels[row] > 0.5f ? 1 : 0;
    statistics.counts[place * dim + column] += 1;
    for (uint32_t j = batch.row_begin[row]; j < batch.row_begin[row + 1]; ++j) {
      const size_t key = batch.index[j] + (batch.index[j] >= place ? inserted : 0);
      statistics.counts[key * dim + column] += 1;
    }
  }
  return statistics;
}

std::vector<HashedKey> StatisticsKeys(const RowBlock& block) {
  std::vector<HashedKey> keys;
  std::vector<uint32_t> index(block.keys.size());
  IndexKeys(block.keys, index, keys);
  const size_t place = TotalsPlace(keys);
  if (!TotalsPresent(keys, place)) keys.insert(keys.begin() + static_cast<ptrdiff_t>(place), kTotalsKey);
  return keys;
}

void WeightRows(const pb::DataSpec& spec, std::span<const HashedKey> keys, std::span<const float> statistics,
                RowBlock& block) {
  if (spec.format() != pb::DataSpec::TEXT) return;
  const uint32_t dim = StatisticsDim(spec);
  if (dim > 0) {
    SHEAF_CHECK(statistics.size() == keys.size() * dim, statistics.size(), " statistics for ", keys.size(), " keys");
    std::vector<HashedKey> distinct;
    std::vector<uint32_t> index(block.keys.size());
    IndexKeys(block.keys, index, distinct);
    const size_t place = TotalsPlace(distinct);
    const size_t inserted = TotalsPresent(distinct, place) ? 0 : 1;
    SHEAF_CHECK(keys.size() == distinct.size() + inserted && keys[place] == kTotalsKey, keys.size(),
                " keys, where the block has ", distinct.size());
    const CorpusWeight corpus_weight(spec, statistics.subspan(place * dim, dim));
    std::vector<float> weights(distinct.size());
    for (size_t i = 0; i < distinct.size(); ++i) {
      weights[i] = corpus_weight(statistics.subspan((i + (i >= place ? inserted : 0)) * dim, dim));
    }
    KeepWeighted(spec.text().weighting(), weights, index, block);
  }
  if (spec.text().normalize()) NormalizeRows(block);
}

}  // namespace sheaf
