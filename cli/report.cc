#include "cli/report.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/atomic_file.h"
#include "common/base/build_info.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

using json = nlohmann::ordered_json;

bool IsRegression(const pb::ModelSpec& model) {
  return model.loss() == pb::ModelSpec::SQUARED || model.loss() == pb::ModelSpec::HUBER;
}
bool IsBinary(const pb::ModelSpec& model) { return model.loss() == pb::ModelSpec::LOGISTIC; }

json Metrics(const pb::EvalResult& result, const pb::ModelSpec& model) {
  json metrics = {{"examples", result.examples()}};
  if (IsRegression(model)) {
    metrics["loss"] = result.loss();
    metrics["rmse"] = result.rmse();
    return metrics;
  }
  metrics["accuracy"] = result.accuracy();
  if (IsBinary(model)) metrics["auc"] = result.auc();
  metrics["logloss"] = result.loss();
  metrics["precision"] = result.precision();
  metrics["recall"] = result.recall();
  metrics["f1"] = result.f1();
  json confusion = json::array();  // [true class][predicted class]
  const auto classes = static_cast<int>(std::sqrt(static_cast<double>(result.confusion_size())) + 0.5);
  for (int row = 0; row < classes && classes * classes == result.confusion_size(); ++row) {
    json counts = json::array();
    for (int column = 0; column < classes; ++column) counts.push_back(result.confusion(row * classes + column));
    confusion.push_back(std::move(counts));
  }
  metrics["confusion"] = std::move(confusion);
  return metrics;
}

// The last evaluation of a kind, or null.
const pb::EvalResult* LastOf(const pb::JobStatus& status, pb::PassKind kind) {
  for (int i = status.eval_size() - 1; i >= 0; --i) {
    if (status.eval(i).kind() == kind) return &status.eval(i);
  }
  return nullptr;
}

double TrainRate(const pb::JobStatus& status) {
  return status.train_seconds() > 0 ? static_cast<double>(status.examples_total()) / status.train_seconds() : 0;
}

std::string Text(const json& value) { return value.dump(2, ' ', false, json::error_handler_t::replace); }

}  // namespace

std::string PhaseName(pb::JobPhase phase) {
  return phase == pb::JOB_UNKNOWN ? "unknown" : ToLower(pb::JobPhase_Name(phase));
}

std::string ReportJson(const pb::JobStatus& status, const RunFacts& facts) {
  const pb::JobSpec& spec = status.brief().spec();
  json report = {
      {"job", status.job()},
      {"name", status.name()},
      {"status", PhaseName(status.phase())},
      {"detail", status.detail()},
      {"examples_total", status.examples_total()},
      {"train_rows", status.train_rows()},
      {"epochs", status.epochs()},
      {"wall_seconds", facts.wall_seconds},
      {"train_seconds", status.train_seconds()},
      {"examples_per_second", TrainRate(status)},
      {"train_loss", json(std::vector<double>(status.epoch_train_loss().begin(), status.epoch_train_loss().end()))},
  };
  json valid = json::array();
  for (const pb::EvalResult& result : status.eval()) {
    if (result.kind() != pb::VALIDATE) continue;
    json metrics = Metrics(result, spec.model());
    metrics["epoch"] = result.epoch();
    valid.push_back(std::move(metrics));
  }
  const pb::EvalResult* last_valid = LastOf(status, pb::VALIDATE);
  report["valid"] = last_valid == nullptr ? json() : Metrics(*last_valid, spec.model());
  report["valid_by_epoch"] = std::move(valid);
  const pb::EvalResult* test = LastOf(status, pb::TEST);
  report["test"] = test == nullptr ? json() : Metrics(*test, spec.model());
  report["workers_lost"] = status.workers_lost();
  report["workers_restarted"] = facts.workers_restarted;
  report["servers_restarted"] = facts.servers_restarted;
  report["schedulers_restarted"] = facts.schedulers_restarted;
  report["pushes_deduplicated"] = status.pushes_deduplicated();
  report["bad_rows"] = status.bad_rows();
  report["refused_batches"] = status.refused_batches();
  report["servers"] = facts.servers;
  report["workers"] = facts.workers;
  report["mode"] = pb::ConsistencySpec::Mode_Name(spec.consistency().mode());
  if (spec.consistency().mode() == pb::ConsistencySpec::SSP) report["staleness"] = spec.consistency().staleness();
  report["staleness_seen"] = status.staleness();
  if (!facts.model_path.empty()) report["model"] = facts.model_path;
  report["version"] = BuildText();
  return Text(report) + "\n";
}

Status WriteReport(const std::string& path, const pb::JobStatus& status, const RunFacts& facts) {
  const Status written = WriteFileAtomically(path, ReportJson(status, facts));
  return written ? Status() : Status(Wrap(written.error(), "the report was not written"));
}

std::string MetricsJson(const pb::EvalResult& result, const pb::ModelSpec& model) {
  return Text(Metrics(result, model));
}

std::string MetricsLine(const pb::EvalResult& result, const pb::ModelSpec& model) {
  if (IsRegression(model)) return "loss " + FormatFixed(result.loss(), 4) + "  rmse " + FormatFixed(result.rmse(), 4);
  std::string line = "accuracy " + FormatFixed(result.accuracy(), 4);
  if (IsBinary(model)) line += "  AUC " + FormatFixed(result.auc(), 4);
  line += "  logloss " + FormatFixed(result.loss(), 4);
  line += "  precision " + FormatFixed(result.precision(), 4) + "  recall " + FormatFixed(result.recall(), 4);
  return line + "  F1 " + FormatFixed(result.f1(), 4);
}

std::string ReportTable(const pb::JobStatus& status, const RunFacts& facts) {
  const pb::ModelSpec& model = status.brief().spec().model();
  std::string text = "job " + std::to_string(status.job()) + " (" + status.name() + ") " + PhaseName(status.phase());
  if (!status.detail().empty() && status.phase() != pb::FINISHED) text += ": " + status.detail();
  text += "\n";
  for (const pb::EvalResult& result : status.eval()) {
    if (result.kind() == pb::VALIDATE)
      text += "  valid, epoch " + std::to_string(result.epoch()) + "  ";
    else
      text += "  test            ";
    text += MetricsLine(result, model) + "  (" + FormatCount(result.examples()) + " examples)\n";
  }
  if (status.epoch_train_loss_size() > 0) {
    text += "  train           loss";
    for (const double loss : status.epoch_train_loss()) text += " " + FormatFixed(loss, 4);
    text += "\n";
  }
  text += "  " + FormatCount(status.examples_total()) + " examples in " + FormatFixed(status.train_seconds(), 1) +
          " s of training: " + FormatCount(static_cast<uint64_t>(TrainRate(status))) + " ex/s; " +
          FormatFixed(facts.wall_seconds, 1) + " s in all\n";
  if (status.workers_lost() > 0) {
    text += "  " + std::to_string(status.workers_lost()) + " workers lost, " +
            std::to_string(status.pushes_deduplicated()) + " repeated pushes recognised\n";
  }
  if (status.refused_batches() > 0) {
    text += "  " + FormatCount(status.refused_batches()) + " batches left out: their gradients were NaN, infinite or " +
            "over optimizer.max_gradient_norm\n";
  }
  if (status.bad_rows() > 0) text += "  " + FormatCount(status.bad_rows()) + " bad rows skipped\n";
  return text;
}

}  // namespace sheaf::cli
