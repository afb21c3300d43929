#include "common/job/job_validate.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr uint32_t kMaxRowFloats = 65536;  // docs/protocol.md, "Limits"

// Collects problems; each rule is one call.
class Checker {
 public:
  void Problem(std::string path, std::string text) { problems_.push_back({std::move(path), std::move(text)}); }

  void Range(const std::string& path, uint64_t value, uint64_t least, uint64_t most) {
    if (value < least || value > most) Problem(path, StrCat("is ", value, ", must be from ", least, " to ", most));
  }
  enum class Least { kIncluded, kExcluded };
  enum class Most { kIncluded, kExcluded };
  void Range(const std::string& path, double value, double least, Least low, double most, Most high) {
    const bool fits = (low == Least::kIncluded ? value >= least : value > least) &&
                      (high == Most::kIncluded ? value <= most : value < most);
    if (fits) return;  // NaN fits nowhere
    Problem(path, StrCat("is ", value, ", must be ", low == Least::kIncluded ? "at least " : "greater than ", least,
                            high == Most::kIncluded ? " and at most " : " and less than ", most));
  }
  void Positive(const std::string& path, double value, double most) {
    Range(path, value, 0, Least::kExcluded, most, Most::kIncluded);
  }
  void NotNegative(const std::string& path, double value, double most) {
    Range(path, value, 0, Least::kIncluded, most, Most::kIncluded);
  }
  void Fraction(const std::string& path, double value) { Range(path, value, 0, Least::kIncluded, 1, Most::kExcluded); }

  std::vector<FieldProblem> Take() { return std::move(problems_); }

 private:
  std::vector<FieldProblem> problems_;
};

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}
bool IsIndex(const std::string& text) {
  return !text.empty() && text.size() <= 6 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void CheckName(const pb::JobSpec& spec, Checker& check) {
  const std::string& name = spec.name();
  if (name.empty()) return check.Problem("name", "is missing: letters, digits, '-', '_', '.'");
  if (name.size() > 64) check.Problem("name", StrCat("has ", name.size(), " characters, at most 64 are allowed"));
  if (!std::all_of(name.begin(), name.end(), IsNameCharacter) || !std::isalnum(static_cast<unsigned char>(name[0]))) {
    check.Problem("name", "is \"" + name + "\", must be letters, digits, '-', '_', '.', with a letter or digit first");
  }
}

void CheckPaths(const std::string& path, const google::protobuf::RepeatedPtrField<std::string>& files, Checker& check) {
  for (int i = 0; i < files.size(); ++i) {
    const std::string at = StrCat(path, "[", i, "]");
    if (files[i].empty()) check.Problem(at, "is empty, must be a file or folder");
    if (files[i].find('\0') != std::string::npos) check.Problem(at, "holds a NUL byte");
  }
}

void CheckClicks(const pb::ClickSpec& clicks, Checker& check) {
  if (clicks.separator().size() != 1 || clicks.separator() == "\n") {
    check.Problem("data.clicks.separator", "must be one character");
  }
  if (clicks.has_multi_value_separator() && clicks.multi_value_separator().empty()) {
    check.Problem("data.clicks.multi_value_separator", "is empty; leave it out if no field holds several values");
  }
  if (clicks.multi_value_separator() == clicks.separator()) {
    check.Problem("data.clicks.multi_value_separator", "is the separator of columns too");
  }
  const auto column = [&](const std::string& path, const std::string& name) {
    if (name.empty())
      check.Problem(path, "is empty, must be a column's name or 0-based index");
    else if (!clicks.header() && !IsIndex(name)) {
      check.Problem(path, "is \"" + name + "\", must be a 0-based index as long as data.clicks.header is false");
    }
  };
  if (clicks.has_label_column()) column("data.clicks.label_column", clicks.label_column());
  for (int i = 0; i < clicks.categorical_size(); ++i)
    column(StrCat("data.clicks.categorical[", i, "]"), clicks.categorical(i));
  for (int i = 0; i < clicks.integer_size(); ++i) column(StrCat("data.clicks.integer[", i, "]"), clicks.integer(i));
  for (int i = 0; i < clicks.ignore_size(); ++i) column(StrCat("data.clicks.ignore[", i, "]"), clicks.ignore(i));
  for (int i = 0; i < clicks.cross_size(); ++i) {
    const std::string path = StrCat("data.clicks.cross[", i, "]");
    const size_t star = clicks.cross(i).find('*');
    if (star == std::string::npos || clicks.cross(i).find('*', star + 1) != std::string::npos) {
      check.Problem(path, "is \"" + clicks.cross(i) + "\", must be two columns: \"a*b\"");
      continue;
    }
    column(path, clicks.cross(i).substr(0, star));
    column(path, clicks.cross(i).substr(star + 1));
  }
}

void CheckTextSpec(const pb::JobSpec& spec, Checker& check) {
  const pb::TextSpec& text = spec.data().text();
  check.Range("data.text.ngrams", text.ngrams(), 1, 8);
  check.Range("data.text.min_document_count", text.min_document_count(), 1, 1'000'000'000);
  check.Positive("data.text.nb_smoothing", text.nb_smoothing(), 1e6);
  if (text.weighting() == pb::TextSpec::NB_LOG_COUNT_RATIO && spec.model().loss() != pb::ModelSpec::LOGISTIC) {
    check.Problem("data.text.weighting",
                  "is NB_LOG_COUNT_RATIO, which compares two classes: it needs model.loss LOGISTIC, not " +
                      pb::ModelSpec::Loss_Name(spec.model().loss()));
  }
}

void CheckData(const pb::JobSpec& spec, Checker& check) {
  const pb::DataSpec& data = spec.data();
  if (!data.has_format()) check.Problem("data.format", "is missing: LIBSVM, CLICKS or TEXT");
  if (data.train().empty()) check.Problem("data.train", "is missing: the files or folders to train on");
  CheckPaths("data.train", data.train(), check);
  CheckPaths("data.valid", data.valid(), check);
  CheckPaths("data.test", data.test(), check);
  check.Range("data.max_line_bytes", data.max_line_bytes(), 16, 1u << 30);
  if (data.has_clicks() && data.has_format() && data.format() != pb::DataSpec::CLICKS) {
    check.Problem("data.clicks", "is for data.format CLICKS, which is " + pb::DataSpec::Format_Name(data.format()));
  }
  if (data.has_text() && data.has_format() && data.format() != pb::DataSpec::TEXT) {
    check.Problem("data.text", "is for data.format TEXT, which is " + pb::DataSpec::Format_Name(data.format()));
  }
  if (data.format() == pb::DataSpec::CLICKS) CheckClicks(data.clicks(), check);
  if (data.format() == pb::DataSpec::TEXT) CheckTextSpec(spec, check);
}

void CheckModel(const pb::ModelSpec& model, Checker& check) {
  const bool machine = model.kind() == pb::ModelSpec::FACTORIZATION_MACHINE;
  if (machine && model.loss() == pb::ModelSpec::SOFTMAX) {
    check.Problem("model.loss",
                  "is SOFTMAX, which FACTORIZATION_MACHINE does not know: use LOGISTIC, SQUARED or HUBER, or LINEAR");
  }
  if (model.loss() == pb::ModelSpec::SOFTMAX) {
    if (!model.has_classes())
      check.Problem("model.classes",
                    StrCat("is missing: SOFTMAX needs the number of classes, from 2 to ", kMaxRowFloats));
    check.Range("model.classes", model.classes(), 2, kMaxRowFloats);
  } else if (model.classes() != 2) {
    check.Problem("model.classes",
                  StrCat("is ", model.classes(), ", but model.loss ", pb::ModelSpec::Loss_Name(model.loss()),
                            " has no classes to choose from: use SOFTMAX"));
  }
  if (machine) check.Range("model.factors", model.factors(), 1, kMaxRowFloats - 1);
  check.NotNegative("model.init_stddev", model.init_stddev(), 10);
  check.Positive("model.huber_delta", model.huber_delta(), 1e6);
}

void CheckOptimizer(const pb::OptimizerSpec& optimizer, Checker& check) {
  check.Positive("optimizer.learning_rate", optimizer.learning_rate(), 1000);
  check.Positive("optimizer.learning_rate_decay", optimizer.learning_rate_decay(), 1);
  check.Fraction("optimizer.momentum", optimizer.momentum());
  check.Fraction("optimizer.beta1", optimizer.beta1());
  check.Fraction("optimizer.beta2", optimizer.beta2());
  check.Positive("optimizer.epsilon", optimizer.epsilon(), 1);
  check.NotNegative("optimizer.l1", optimizer.l1(), 1e6);
  check.NotNegative("optimizer.l2", optimizer.l2(), 1e6);
  check.Range("optimizer.weight_decay", optimizer.weight_decay(), 0, Checker::Least::kIncluded, 1,
              Checker::Most::kExcluded);
  if (optimizer.weight_decay() > 0 && optimizer.kind() != pb::OptimizerSpec::ADAMW) {
    check.Problem("optimizer.weight_decay", "is for optimizer.kind ADAMW, not " +
                                                pb::OptimizerSpec::Kind_Name(optimizer.kind()) + ": use optimizer.l2");
  }
  check.Positive("optimizer.ftrl_alpha", optimizer.ftrl_alpha(), 1000);
  check.NotNegative("optimizer.ftrl_beta", optimizer.ftrl_beta(), 1e6);
  check.NotNegative("optimizer.initial_accumulator", optimizer.initial_accumulator(), 1e6);
  check.NotNegative("optimizer.max_gradient_norm", optimizer.max_gradient_norm(), 1e30);
}

void CheckTrain(const pb::TrainSpec& train, Checker& check) {
  check.Range("train.epochs", train.epochs(), 1, 100'000);
  check.Range("train.batch_size", train.batch_size(), 1, 1u << 20);
  check.Range("train.range_batches", train.range_batches(), 1, 1024);  // a push stream's window
  check.Range("train.workers", train.workers(), 0, 65'536);
  check.Range("train.quarantine_after", train.quarantine_after(), 0, 1'000'000);
}

void CheckConsistencyAndWire(const pb::JobSpec& spec, Checker& check) {
  check.Range("consistency.staleness", spec.consistency().staleness(), 0, 1024);
  if (spec.wire().pull() == pb::WireSpec::INT8) {
    check.Problem("wire.pull", "is INT8, which is for pushes only: use FP32, BF16 or FP16");
  }
}

}  // namespace

std::vector<FieldProblem> FindProblems(const pb::JobSpec& spec) {
  Checker check;
  CheckName(spec, check);
  CheckData(spec, check);
  CheckModel(spec.model(), check);
  CheckOptimizer(spec.optimizer(), check);
  CheckTrain(spec.train(), check);
  CheckConsistencyAndWire(spec, check);
  check.Range("rows.admit_after", spec.rows().admit_after(), 1, 200);
  check.Range("checkpoint.keep", spec.checkpoint().keep(), 1, 1'000'000);
  return check.Take();
}

Status ValidateJob(const pb::JobSpec& spec, const FieldOrigin& origin) {
  const std::vector<FieldProblem> problems = FindProblems(spec);
  if (problems.empty()) return {};
  std::string text;
  for (const FieldProblem& problem : problems) {
    if (!text.empty()) text += '\n';
    const std::string where = origin ? origin(problem.path) : "";
    text += where.empty() ? "" : where + ": ";
    text += problem.path + " " + problem.text;
  }
  return Fail(ErrorCode::kInvalidArgument, text);
}

}  // namespace sheaf
