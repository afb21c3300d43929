// Synthetic click logs of any size from a planted factorization machine (Rendle, ICDM 2010), so that what a model can
// reach at best is known: the planted probability of every row comes with it.
//
// A row has one value a field, drawn by Zipf's law. Its log-odds are a constant, plus a weight a value, plus the dot
// products of all pairs of the values' factors. Weights and factors are centred within each field, so the pairwise part
// is uncorrelated with every single value: a linear model can learn the linear part only.
// A function of the options alone. Thread-safety: none.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/random.h"
#include "common/base/result.h"

namespace sheaf {

struct CtrOptions {
  uint64_t rows = 1'000'000;
  uint32_t fields = 10;                // 1..256
  // Values of each field; empty: from 100 to 5,000 in equal ratios, few enough that five million rows teach them all.
  std::vector<uint32_t> cardinality = {};
  double zipf_exponent = 1.1;          // the k-th value is drawn in proportion to k^-exponent
  uint32_t factors = 4;                // of the planted machine; 1..64
  double linear_stddev = 1.2;          // of the linear part of the log-odds, over rows
  double pairwise_stddev = 1.2;        // of the pairwise part
  double base_rate = 0.25;             // share of clicks
  double label_noise = 0.0;            // share of labels that are flipped; the planted probability takes it in
  uint64_t seed = 1;                   // of the machine and the rows
  uint64_t stream = 0;                 // other rows of the same machine: 0 train, 1 valid, 2 test
};

struct CtrRow {
  bool click = false;
  double probability = 0;              // of a click, given the row's values
};

class CtrGenerator {
 public:
  // kInvalidArgument names the option that is out of range.
  static Result<CtrGenerator> Make(const CtrOptions& options);

  // Draws a row and appends its line, "label<TAB>c1<TAB>...<TAB>cN\n"; values are numbers from 1.
  CtrRow AppendRow(std::string& line);

 private:
  // Draws from a fixed distribution in O(1): alias method (Walker 1977, Vose 1991).
  struct AliasTable {
    std::vector<double> keep;
    std::vector<uint32_t> other;
    uint32_t Draw(Random& random) const;
  };
  struct Field {
    AliasTable values;
    std::vector<float> weight;         // [cardinality]
    std::vector<float> factors;        // [cardinality, factors]
  };
  struct LogOdds {
    double linear = 0;
    double pairwise = 0;
  };

  explicit CtrGenerator(const CtrOptions& options) : options_(options), random_(0) {}
  void Plant(Random& random);
  void Calibrate(Random& random);
  LogOdds Draw(Random& random);

  static AliasTable MakeAliasTable(const std::vector<double>& shares);

  CtrOptions options_;
  Random random_;                      // of the rows
  std::vector<Field> fields_;
  double intercept_ = 0;
  std::vector<uint32_t> row_;          // [fields] the current row's values
  std::vector<double> sum_;            // [factors] scratch
};

struct CtrSummary {
  uint64_t rows = 0;
  uint64_t clicks = 0;
  double best_auc = 0;                 // of the planted probabilities against the drawn labels
  double best_logloss = 0;             // mean, natural logarithm
};

// Takes whole lines, about a MiB at a time. An error ends the generation.
using CtrSink = std::function<Status(std::string_view lines)>;
// Generates all rows of the options.
Result<CtrSummary> GenerateCtr(const CtrOptions& options, const CtrSink& sink);

}  // namespace sheaf
