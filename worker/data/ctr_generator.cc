#include "worker/data/ctr_generator.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace sheaf {
namespace {

constexpr size_t kCalibrationRows = 50'000;
constexpr size_t kAucBins = 1 << 20;      // of the probability; rows of one bin count as tied
constexpr size_t kChunkBytes = 1 << 20;
constexpr uint64_t kMostValues = 1 << 26;

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Status Validate(const CtrOptions& options) {
  const ErrorCode code = ErrorCode::kInvalidArgument;
  const auto finite_and_positive = [](double x) { return std::isfinite(x) && x >= 0; };
  if (options.fields < 1 || options.fields > 256) return Fail(code, "fields is ", options.fields, "; use 1..256");
  if (options.factors < 1 || options.factors > 64) return Fail(code, "factors is ", options.factors, "; use 1..64");
  if (!options.cardinality.empty() && options.cardinality.size() != options.fields) {
    return Fail(code, "cardinality has ", options.cardinality.size(), " numbers for ", options.fields,
                " fields; give one a field");
  }
  uint64_t values = 0;
  for (const uint32_t cardinality : options.cardinality) {
    if (cardinality == 0) return Fail(code, "a cardinality is 0; every field needs a value");
    values += cardinality;
  }
  if (values > kMostValues) return Fail(code, "cardinalities add up to ", values, "; use at most ", kMostValues);
  if (!finite_and_positive(options.zipf_exponent))
    return Fail(code, "zipf_exponent is ", options.zipf_exponent, "; use 0 or more");
  if (!finite_and_positive(options.linear_stddev))
    return Fail(code, "linear_stddev is ", options.linear_stddev, "; use 0 or more");
  if (!finite_and_positive(options.pairwise_stddev)) {
    return Fail(code, "pairwise_stddev is ", options.pairwise_stddev, "; use 0 or more");
  }
  if (!(options.base_rate > 0 && options.base_rate < 1)) {
    return Fail(code, "base_rate is ", options.base_rate, "; it is the share of clicks: use a number between 0 and 1");
  }
  if (!(options.label_noise >= 0 && options.label_noise <= 0.5)) {
    return Fail(code, "label_noise is ", options.label_noise, "; it is the share of flipped labels: use 0..0.5");
  }
  return {};
}

std::vector<uint32_t> DefaultCardinalities(uint32_t fields) {
  std::vector<uint32_t> cardinalities(fields);
  for (uint32_t i = 0; i < fields; ++i) {
    const double part = fields == 1 ? 0.5 : static_cast<double>(i) / (fields - 1);
    cardinalities[i] = static_cast<uint32_t>(std::lround(100.0 * std::pow(50.0, part)));
  }
  return cardinalities;
}

std::vector<double> ZipfShares(uint32_t cardinality, double exponent) {
  std::vector<double> shares(cardinality);
  double sum = 0;
  for (uint32_t k = 0; k < cardinality; ++k) sum += shares[k] = std::pow(k + 1.0, -exponent);
  for (double& share : shares) share /= sum;
  return shares;
}

// Subtracts each column's mean under `shares` from a [shares.size(), width] matrix.
void Centre(const std::vector<double>& shares, size_t width, std::vector<float>& matrix) {
  for (size_t column = 0; column < width; ++column) {
    double mean = 0;
    for (size_t row = 0; row < shares.size(); ++row) mean += shares[row] * matrix[row * width + column];
    for (size_t row = 0; row < shares.size(); ++row) matrix[row * width + column] -= static_cast<float>(mean);
  }
}

double StandardDeviation(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
  }
  const double count = static_cast<double>(values.size());
  return std::sqrt(std::max(0.0, squares / count - sum / count * (sum / count)));
}

// The intercept at which the mean probability is `rate`.
double SolveIntercept(const std::vector<double>& log_odds, double rate) {
  double low = -40, high = 40;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    double sum = 0;
    for (const double x : log_odds) sum += Sigmoid(x + middle);
    (sum < rate * static_cast<double>(log_odds.size()) ? low : high) = middle;
  }
  return (low + high) / 2;
}

// AUC and logloss of probabilities, in constant memory.
class QualityMeter {
 public:
  QualityMeter() : clicks_(kAucBins), others_(kAucBins) {}

  void Add(const CtrRow& row) {
    const auto bin = std::min(kAucBins - 1, static_cast<size_t>(row.probability * kAucBins));
    ++(row.click ? clicks_ : others_)[bin];
    loss_ -= std::log(std::max(1e-300, row.click ? row.probability : 1 - row.probability));
  }
  CtrSummary Summary() const {
    CtrSummary summary;
    double below = 0, pairs = 0;
    for (size_t bin = 0; bin < kAucBins; ++bin) {
      const double clicks = static_cast<double>(clicks_[bin]), others = static_cast<double>(others_[bin]);
      pairs += clicks * (below + others / 2);
      below += others;
      summary.clicks += clicks_[bin];
    }
    summary.rows = summary.clicks + static_cast<uint64_t>(below);
    const double all_pairs = below * static_cast<double>(summary.clicks);
    summary.best_auc = all_pairs > 0 ? pairs / all_pairs : 0.5;
    summary.best_logloss = summary.rows > 0 ? loss_ / static_cast<double>(summary.rows) : 0;
    return summary;
  }

 private:
  std::vector<uint64_t> clicks_, others_;
  double loss_ = 0;
};

}  // namespace

CtrGenerator::AliasTable CtrGenerator::MakeAliasTable(const std::vector<double>& shares) {
  const size_t n = shares.size();
  AliasTable table{std::vector<double>(n, 1.0), std::vector<uint32_t>(n, 0)};
  std::vector<double> rest(n);
  std::vector<uint32_t> small, large;
  for (size_t i = 0; i < n; ++i) {
    rest[i] = shares[i] * static_cast<double>(n);
    (rest[i] < 1 ? small : large).push_back(static_cast<uint32_t>(i));
  }
  while (!small.empty() && !large.empty()) {
    const uint32_t low = small.back(), high = large.back();
    small.pop_back();
    table.keep[low] = rest[low];
    table.other[low] = high;
    rest[high] -= 1 - rest[low];
    if (rest[high] >= 1) continue;
    large.pop_back();
    small.push_back(high);
  }
  return table;
}

uint32_t CtrGenerator::AliasTable::Draw(Random& random) const {
  const auto slot = static_cast<uint32_t>(random.Below(keep.size()));
  return random.NextDouble() < keep[slot] ? slot : other[slot];
}

Result<CtrGenerator> CtrGenerator::Make(const CtrOptions& options) {
  SHEAF_RETURN_IF_ERROR(Validate(options));
  CtrGenerator generator(options);
  if (options.cardinality.empty()) generator.options_.cardinality = DefaultCardinalities(options.fields);
  generator.row_.resize(options.fields);
  generator.sum_.resize(options.factors);
  Random model(MixPair(options.seed, 0x6d6f64656cULL));
  generator.Plant(model);
  generator.Calibrate(model);
  generator.random_ = Random(MixPair(MixKey(options.seed), options.stream));
  return generator;
}

void CtrGenerator::Plant(Random& random) {
  for (const uint32_t cardinality : options_.cardinality) {
    const std::vector<double> shares = ZipfShares(cardinality, options_.zipf_exponent);
    Field field{MakeAliasTable(shares), std::vector<float>(cardinality),
                std::vector<float>(size_t{cardinality} * options_.factors)};
    for (float& weight : field.weight) weight = static_cast<float>(random.NextGaussian());
    for (float& factor : field.factors) factor = static_cast<float>(random.NextGaussian());
    Centre(shares, 1, field.weight);
    Centre(shares, options_.factors, field.factors);
    fields_.push_back(std::move(field));
  }
}

// Scales both parts to the deviations asked for, then sets the intercept, all on a sample.
void CtrGenerator::Calibrate(Random& random) {
  std::vector<double> linear(kCalibrationRows), pairwise(kCalibrationRows), total(kCalibrationRows);
  for (size_t i = 0; i < kCalibrationRows; ++i) {
    const LogOdds drawn = Draw(random);
    linear[i] = drawn.linear;
    pairwise[i] = drawn.pairwise;
  }
  // A part without any spread (one value a field, one field) stays as it is: zero.
  const auto scale = [](double wanted, double found) { return found > 1e-9 ? wanted / found : 0.0; };
  const double linear_scale = scale(options_.linear_stddev, StandardDeviation(linear));
  const double pairwise_scale = scale(options_.pairwise_stddev, StandardDeviation(pairwise));
  for (size_t i = 0; i < kCalibrationRows; ++i) total[i] = linear[i] * linear_scale + pairwise[i] * pairwise_scale;
  for (Field& field : fields_) {
    for (float& weight : field.weight) weight *= static_cast<float>(linear_scale);
    for (float& factor : field.factors) factor *= static_cast<float>(std::sqrt(pairwise_scale));
  }
  intercept_ = SolveIntercept(total, options_.base_rate);
}

// Draws values into row_. The pairwise sum takes O(fields * factors): (|sum v|^2 - sum |v|^2) / 2.
CtrGenerator::LogOdds CtrGenerator::Draw(Random& random) {
  LogOdds odds;
  std::fill(sum_.begin(), sum_.end(), 0.0);
  double own = 0;
  for (size_t f = 0; f < fields_.size(); ++f) {
    const Field& field = fields_[f];
    row_[f] = field.values.Draw(random);
    odds.linear += field.weight[row_[f]];
    const float* const factors = field.factors.data() + size_t{row_[f]} * options_.factors;
    for (size_t k = 0; k < sum_.size(); ++k) {
      sum_[k] += factors[k];
      own += double{factors[k]} * factors[k];
    }
  }
  double square = 0;
  for (const double sum : sum_) square += sum * sum;
  odds.pairwise = (square - own) / 2;
  return odds;
}

CtrRow CtrGenerator::AppendRow(std::string& line) {
  const LogOdds odds = Draw(random_);
  const double clean = Sigmoid(intercept_ + odds.linear + odds.pairwise);
  CtrRow row;
  row.probability = clean + options_.label_noise * (1 - 2 * clean);
  row.click = random_.NextDouble() < row.probability;
  line += row.click ? '1' : '0';
  for (const uint32_t value : row_) {
    char text[16];
    const auto [end, code] = std::to_chars(text, text + sizeof text, value + 1);
    line += '\t';
    line.append(text, end);
  }
  line += '\n';
  return row;
}

Result<CtrSummary> GenerateCtr(const CtrOptions& options, const CtrSink& sink) {
  SHEAF_ASSIGN_OR_RETURN(CtrGenerator generator, CtrGenerator::Make(options));
  QualityMeter meter;
  std::string lines;
  for (uint64_t i = 0; i < options.rows; ++i) {
    meter.Add(generator.AppendRow(lines));
    if (lines.size() < kChunkBytes) continue;
    SHEAF_RETURN_IF_ERROR(sink(lines));
    lines.clear();
  }
  if (!lines.empty()) SHEAF_RETURN_IF_ERROR(sink(lines));
  return meter.Summary();
}

}  // namespace sheaf
