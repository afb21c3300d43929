#include "compute/features/weighting.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

pb::DataSpec SpecOf(pb::TextSpec::Weighting weighting, bool normalize = false, uint32_t min_documents = 1) {
  pb::DataSpec spec;
  spec.set_format(pb::DataSpec::TEXT);
  spec.mutable_text()->set_weighting(weighting);
  spec.mutable_text()->set_normalize(normalize);
  spec.mutable_text()->set_min_document_count(min_documents);
  return spec;
}

// Words a, b, c with hashed keys on both sides of the totals'.
const HashedKey kA = kTotalsKey / 2, kB = kTotalsKey - 1, kC = kTotalsKey + 1;

// Documents: a a a (class 1); a b (class 0); b c (class 1); nothing (class 0); a (class 1).
RowBlock Documents() {
  RowBlock block;
  block.labels = {1, 0, 1, 0, 1};
  block.row_begin = {0, 1, 3, 5, 5, 6};
  block.keys = {kA, kA, kB, kC, kB, kA};
  block.values = {3, 1, 1, 1, 1, 1};
  return block;
}

// A table that adds pushes up.
struct Table {
  std::map<HashedKey, std::vector<float>> rows;
  uint32_t dim;
  void Push(const Statistics& statistics) {
    for (size_t i = 0; i < statistics.keys.size(); ++i) {
      std::vector<float>& row = rows.try_emplace(statistics.keys[i], dim).first->second;
      for (uint32_t c = 0; c < dim; ++c) row[c] += statistics.counts[i * dim + c];
    }
  }
  std::vector<float> Pull(const std::vector<HashedKey>& keys) {
    std::vector<float> values;
    for (const HashedKey key : keys) {
      const std::vector<float> row = rows.contains(key) ? rows[key] : std::vector<float>(dim);
      values.insert(values.end(), row.begin(), row.end());
    }
    return values;
  }
};

Table Counted(const pb::DataSpec& spec) {
  Table table{{}, StatisticsDim(spec)};
  const RowBlock block = Documents();
  for (const size_t first : {0, 2, 4}) {
    table.Push(CountStatistics(spec, MakeBatch(block, first, std::min<size_t>(2, 5 - first), {})));
  }
  return table;
}
RowBlock Weighted(const pb::DataSpec& spec, RowBlock block = Documents()) {
  Table table = Counted(spec);
  const std::vector<HashedKey> keys = StatisticsKeys(block);
  WeightRows(spec, keys, table.Pull(keys), block);
  return block;
}

TEST(Weighting, AsksForStatisticsOnlyWhereTheyAreNeeded) {
  EXPECT_EQ(StatisticsDim(SpecOf(pb::TextSpec::BINARY)), 0u);
  EXPECT_EQ(StatisticsDim(SpecOf(pb::TextSpec::COUNT)), 0u);
  EXPECT_EQ(StatisticsDim(SpecOf(pb::TextSpec::BINARY, false, 2)), 1u);
  EXPECT_EQ(StatisticsDim(SpecOf(pb::TextSpec::TF_IDF)), 1u);
  EXPECT_EQ(StatisticsDim(SpecOf(pb::TextSpec::NB_LOG_COUNT_RATIO, false, 5)), 2u);
  pb::DataSpec clicks = SpecOf(pb::TextSpec::TF_IDF);
  clicks.set_format(pb::DataSpec::CLICKS);
  EXPECT_EQ(StatisticsDim(clicks), 0u);
}

TEST(Weighting, CountsDocumentsByKeyAndInTotal) {
  const Statistics one = CountStatistics(SpecOf(pb::TextSpec::TF_IDF), MakeBatch(Documents(), 0, 5, {}));
  EXPECT_THAT(one.keys, ElementsAre(kA, kB, kTotalsKey, kC));
  EXPECT_THAT(one.counts, ElementsAre(3, 2, 5, 1));
  const Statistics two = CountStatistics(SpecOf(pb::TextSpec::NB_LOG_COUNT_RATIO), MakeBatch(Documents(), 0, 5, {}));
  EXPECT_THAT(two.keys, ElementsAre(kA, kB, kTotalsKey, kC));
  EXPECT_THAT(two.counts, ElementsAre(1, 2, 1, 1, 2, 3, 0, 1));
  EXPECT_THAT(StatisticsKeys(Documents()), ElementsAre(kA, kB, kTotalsKey, kC));
  EXPECT_THAT(StatisticsKeys(RowBlock()), ElementsAre(kTotalsKey));
}

TEST(Weighting, TfIdfFollowsItsFormula) {
  const RowBlock block = Weighted(SpecOf(pb::TextSpec::TF_IDF));
  const double idf_a = std::log(6.0 / 4) + 1, idf_b = std::log(6.0 / 3) + 1, idf_c = std::log(6.0 / 2) + 1;
  const double expected[] = {(1 + std::log(3.0)) * idf_a, idf_a, idf_b, idf_c, idf_b, idf_a};
  EXPECT_THAT(block.row_begin, ElementsAre(0, 1, 3, 5, 5, 6));
  for (size_t j = 0; j < 6; ++j) EXPECT_NEAR(block.values[j], expected[j], 1e-6) << j;
}

TEST(Weighting, LogCountRatioReplacesCountsWithPresence) {
  const RowBlock block = Weighted(SpecOf(pb::TextSpec::NB_LOG_COUNT_RATIO));
  const double prior = std::log(3.0 / 2);
  const double a = std::log(3.0 / 2) - prior, b = std::log(2.0 / 2) - prior, c = std::log(2.0 / 1) - prior;
  const double expected[] = {a, a, b, c, b, a};
  for (size_t j = 0; j < 6; ++j) EXPECT_NEAR(block.values[j], expected[j], 1e-6) << j;
}

TEST(Weighting, DropsRareAndUnseenKeys) {
  RowBlock unseen = Documents();
  unseen.keys[5] = 12345;
  const RowBlock kept = Weighted(SpecOf(pb::TextSpec::TF_IDF), unseen);
  EXPECT_THAT(kept.row_begin, ElementsAre(0, 1, 3, 5, 5, 5));
  const RowBlock block = Weighted(SpecOf(pb::TextSpec::COUNT, false, 2));
  EXPECT_THAT(block.row_begin, ElementsAre(0, 1, 3, 4, 4, 5));
  EXPECT_THAT(block.keys, ElementsAre(kA, kA, kB, kB, kA));
  EXPECT_THAT(block.values, ElementsAre(3, 1, 1, 1, 1));
  const RowBlock none = Weighted(SpecOf(pb::TextSpec::BINARY, true, 10));
  EXPECT_THAT(none.row_begin, ElementsAre(0, 0, 0, 0, 0, 0));
  EXPECT_THAT(none.keys, IsEmpty());
}

TEST(Weighting, NormalizesDocumentsToLengthOne) {
  for (const auto weighting :
       {pb::TextSpec::TF_IDF, pb::TextSpec::NB_LOG_COUNT_RATIO, pb::TextSpec::BINARY, pb::TextSpec::COUNT}) {
    const RowBlock block = Weighted(SpecOf(weighting, true));
    for (size_t row = 0; row < block.size(); ++row) {
      double squares = 0;
      for (uint32_t j = block.row_begin[row]; j < block.row_begin[row + 1]; ++j)
        squares += block.values[j] * block.values[j];
      // With these counts the ratio of word a is 0: a document of a's alone has no length to normalise.
      const bool empty = row == 3 || (weighting == pb::TextSpec::NB_LOG_COUNT_RATIO && (row == 0 || row == 4));
      EXPECT_NEAR(squares, empty ? 0 : 1, 1e-6) << weighting << " " << row;
    }
  }
}

TEST(Weighting, NormalizesWithoutStatistics) {
  RowBlock block = Documents();
  block.values.clear();
  WeightRows(SpecOf(pb::TextSpec::BINARY, true), {}, {}, block);
  EXPECT_THAT(block.values, ElementsAre(1, testing::FloatEq(std::sqrt(0.5f)), testing::FloatEq(std::sqrt(0.5f)),
                                        testing::FloatEq(std::sqrt(0.5f)), testing::FloatEq(std::sqrt(0.5f)), 1));
}

TEST(Weighting, LeavesOtherDataAlone) {
  pb::DataSpec spec = SpecOf(pb::TextSpec::TF_IDF, true);
  spec.set_format(pb::DataSpec::LIBSVM);
  RowBlock block = Documents();
  WeightRows(spec, {}, {}, block);
  EXPECT_THAT(block.values, ElementsAre(3, 1, 1, 1, 1, 1));
  EXPECT_THAT(CountStatistics(spec, MakeBatch(block, 0, 5, {})).keys, IsEmpty());
}

TEST(Weighting, OneSidedCorpusGivesFiniteRatios) {
  RowBlock block = Documents();
  block.labels = {1, 1, 1, 1, 1};
  const pb::DataSpec spec = SpecOf(pb::TextSpec::NB_LOG_COUNT_RATIO);
  Table table{{}, 2};
  table.Push(CountStatistics(spec, MakeBatch(block, 0, 5, {})));
  const std::vector<HashedKey> keys = StatisticsKeys(block);
  WeightRows(spec, keys, table.Pull(keys), block);
  for (const float value : block.values) EXPECT_TRUE(std::isfinite(value));
}

TEST(Weighting, TakesABlockWithoutRows) {
  RowBlock block;
  block.row_begin = {0};
  const RowBlock weighted = Weighted(SpecOf(pb::TextSpec::TF_IDF, true), block);
  EXPECT_EQ(weighted.size(), 0u);
}

}  // namespace
}  // namespace sheaf
