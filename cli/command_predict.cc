// sheaf predict: scores files with an exported model; no cluster needed.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "cli/atomic_file.h"
#include "cli/commands.h"
#include "cli/report.h"
#include "cli/scorer.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

enum class Format { kTable, kTsv, kJson };

struct Prediction {
  double label = 0;
  double score = 0;        // logit, or the prediction of a regression
  int predicted = -1;      // class
  double probability = 0;  // LOGISTIC: of class 1; SOFTMAX: of the predicted class
};

double Sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

Prediction Predict(std::span<const float> scores, float label, pb::ModelSpec::Loss loss) {
  Prediction prediction{.label = label, .score = scores[0]};
  if (loss == pb::ModelSpec::SOFTMAX) {
    const auto best = std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const float score : scores) sum += std::exp(static_cast<double>(score) - *best);
    prediction.predicted = static_cast<int>(best - scores.begin());
    prediction.score = *best;
    prediction.probability = 1 / sum;
  } else if (loss == pb::ModelSpec::LOGISTIC) {
    prediction.probability = Sigmoid(scores[0]);
    prediction.predicted = scores[0] > 0;
  }
  return prediction;
}

// Prints predictions row by row to a file or to stdout.
class Printer {
 public:
  Printer(Format format, bool regression, std::optional<AtomicFile> file)
      : format_(format), regression_(regression), file_(std::move(file)) {}

  Status Begin() {
    if (format_ == Format::kJson) return Write("[");
    if (format_ == Format::kTsv)
      return Write(regression_ ? "label\tprediction\n" : "label\tpredicted\tprobability\tscore\n");
    return Write(regression_ ? "       label  prediction\n" : "label  predicted  probability       score\n");
  }
  Status Add(const Prediction& row) {
    char line[160];
    if (format_ == Format::kJson && regression_) {
      std::snprintf(line, sizeof(line), "%s\n{\"label\": %.9g, \"prediction\": %.9g}", first_ ? "" : ",", row.label,
                    row.score);
    } else if (format_ == Format::kJson) {
      std::snprintf(line, sizeof(line),
                    "%s\n{\"label\": %.9g, \"predicted\": %d, \"probability\": %.9g, \"score\": %.9g}",
                    first_ ? "" : ",", row.label, row.predicted, row.probability, row.score);
    } else if (regression_) {
      std::snprintf(line, sizeof(line), format_ == Format::kTsv ? "%.9g\t%.9g\n" : "%12.6g  %10.6g\n", row.label,
                    row.score);
    } else {
      std::snprintf(line, sizeof(line),
                    format_ == Format::kTsv ? "%.9g\t%d\t%.9g\t%.9g\n" : "%5.6g  %9d  %11.6f  %10.5f\n", row.label,
                    row.predicted, row.probability, row.score);
    }
    first_ = false;
    return Write(line);
  }
  Status End() {
    if (format_ == Format::kJson) SHEAF_RETURN_IF_ERROR(Write("\n]\n"));
    SHEAF_RETURN_IF_ERROR(Flush());
    return file_ ? file_->Commit() : Status();
  }

 private:
  Status Write(std::string_view text) {
    buffer_ += text;
    return buffer_.size() < (1 << 16) ? Status() : Flush();
  }
  Status Flush() {
    if (file_)
      SHEAF_RETURN_IF_ERROR(file_->Write(buffer_));
    else if (std::fwrite(buffer_.data(), 1, buffer_.size(), stdout) != buffer_.size())
      return Fail(ErrorCode::kIo, "cannot write to standard output");
    buffer_.clear();
    return {};
  }

  const Format format_;
  const bool regression_;
  std::optional<AtomicFile> file_;
  std::string buffer_;
  bool first_ = true;
};

Format FormatOf(const std::string& name) {
  return name == "json" ? Format::kJson : name == "tsv" ? Format::kTsv : Format::kTable;
}

int PredictFiles(const Args& args) {
  for (const char* needed : {"model", "data"}) {
    if (!args.Given(needed)) return Complain(kExitUsage, StrCat("sheaf predict: --", needed, " FILE is missing"));
  }
  auto stored = LoadModel(args.Text("model"));
  if (!stored) return Complain(stored.error());
  auto scorer = Scorer::Make(std::move(*stored));
  if (!scorer) return Complain(ExitCodeOf(scorer.error().code), args.Text("model") + ": " + scorer.error().message);

  std::optional<AtomicFile> file;
  if (args.Given("out")) {
    auto created = AtomicFile::Create(args.Text("out"));
    if (!created) return Complain(created.error());
    file.emplace(std::move(*created));
  }
  const bool print_rows = file.has_value() || !args.Flag("metrics");
  const pb::ModelSpec::Loss loss = scorer->spec().loss();
  Printer printer(FormatOf(args.Text("output")), loss == pb::ModelSpec::SQUARED || loss == pb::ModelSpec::HUBER,
                  std::move(file));
  const auto score = [&]() -> Status {
    if (print_rows) SHEAF_RETURN_IF_ERROR(printer.Begin());
    SHEAF_RETURN_IF_ERROR(scorer->Score(args.List("data"), [&](const ScoredRows& rows) -> Status {
      const auto outputs = static_cast<size_t>(rows.output_dim);
      for (size_t i = 0; print_rows && i < rows.labels.size(); ++i) {
        SHEAF_RETURN_IF_ERROR(printer.Add(Predict(rows.scores.subspan(i * outputs, outputs), rows.labels[i], loss)));
      }
      return {};
    }));
    return print_rows ? printer.End() : Status();
  };
  if (const Status scored = score(); !scored) return Complain(scored.error());
  if (scorer->bad_rows() > 0)
    std::fprintf(stderr, "sheaf: %s bad rows skipped\n", FormatCount(scorer->bad_rows()).c_str());
  if (args.Flag("metrics")) {
    const pb::EvalResult metrics = scorer->Metrics();
    const std::string text = args.Text("output") == "json" ? MetricsJson(metrics, scorer->spec())
                                                           : MetricsLine(metrics, scorer->spec()) + "  (" +
                                                                 FormatCount(metrics.examples()) + " examples)";
    std::printf("%s\n", text.c_str());
  }
  return kExitOk;
}

}  // namespace

Command PredictCommand() {
  CommandLine line{.name = "sheaf predict", .summary = "scores files with an exported model"};
  line.options = {
      {.name = "model", .value_name = "FILE", .help = "from sheaf export or sheaf run --model"},
      {.name = "data",
       .kind = Option::kList,
       .value_name = "FILE",
       .help = "files or folders in the format the model was trained on",
       .greedy = true},
      {.name = "out", .value_name = "FILE", .help = "writes the rows there instead of to standard output"},
      {.name = "metrics", .kind = Option::kFlag, .help = "prints metrics against the labels; rows only with --out"},
      OutputOption({"table", "tsv", "json"}),
  };
  return {std::move(line), PredictFiles};
}

}  // namespace sheaf::cli
