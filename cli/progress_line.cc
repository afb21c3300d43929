#include "cli/progress_line.h"

#include <algorithm>
#include <cmath>

#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

const char* PassName(pb::PassKind kind) {
  switch (kind) {
    case pb::STATISTICS:
      return "count";
    case pb::TRAIN:
      return "train";
    case pb::VALIDATE:
      return "valid";
    case pb::TEST:
      return "test";
    default:
      return "run";
  }
}

const char* PhaseName(const pb::JobStatus& status) {
  switch (status.phase()) {
    case pb::WAITING:
      return "wait";
    case pb::PLANNING:
      return "plan";
    case pb::RUNNING:
      return PassName(status.pass_kind());
    case pb::FINISHED:
      return "done";
    case pb::FAILED:
      return "failed";
    case pb::CANCELLED:
      return "cancelled";
    default:
      return "job";
  }
}

std::string StaleText(const pb::JobStatus& status) {
  const pb::ConsistencySpec& consistency = status.brief().spec().consistency();
  std::string text = "stale " + std::to_string(status.staleness());
  if (consistency.mode() == pb::ConsistencySpec::SSP) text += " (max " + std::to_string(consistency.staleness()) + ")";
  if (consistency.mode() == pb::ConsistencySpec::ASP) text += " (no max)";
  return text;
}

std::string Fitted(std::string line, size_t width) {
  if (width == 0 || line.size() <= width) return line;
  if (width < 4) return line.substr(0, width);
  return line.substr(0, width - 3) + "...";
}

}  // namespace

bool IsOver(const pb::JobStatus& status) {
  return status.phase() == pb::FINISHED || status.phase() == pb::FAILED || status.phase() == pb::CANCELLED;
}

double SecondsLeft(const pb::JobStatus& status) {
  if (status.work_done() == 0 || status.work_total() < status.work_done()) return -1;
  const auto left = static_cast<double>(status.work_total() - status.work_done());
  return left * status.elapsed_seconds() / static_cast<double>(status.work_done());
}

std::string FirstWait(const pb::ClusterStatus& status) {
  for (const pb::NodeStatus& node : status.node()) {
    if (!node.waiting_for().empty() && node.state() == "alive") return node.name() + ": " + node.waiting_for();
  }
  return "";
}

std::string PhaseText(const pb::JobStatus& status) {
  std::string text = std::string("[") + PhaseName(status) + " " + status.name() + "]";
  if (status.phase() == pb::RUNNING) {
    if (status.pass_kind() == pb::TRAIN || status.pass_kind() == pb::VALIDATE) {
      text += " epoch " + std::to_string(status.epoch()) + "/" + std::to_string(status.epochs());
    }
  } else if (!status.detail().empty()) {
    text += " " + status.detail();
  }
  return text;
}

std::string ProgressLine(const pb::JobStatus& status, const std::string& waits, size_t width) {
  std::string line = PhaseText(status);
  if (status.phase() != pb::RUNNING) return Fitted(line, width);
  const double share =
      status.rows_total() == 0 ? 0 : static_cast<double>(status.rows_done()) / static_cast<double>(status.rows_total());
  line += (line.back() == ']' ? " " : "  ") + std::to_string(static_cast<int>(std::floor(std::min(share, 1.0) * 100))) +
          " %";
  if (status.pass_kind() == pb::TRAIN && status.rows_done() > 0)
    line += "  loss " + FormatFixed(status.train_loss(), 4);
  line += "  " + FormatCount(static_cast<uint64_t>(std::max(0.0, status.examples_per_second()))) + " ex/s";
  // What is most asked for first: a terminal of 80 columns has no room for the rest.
  const double left = SecondsLeft(status);
  if (left >= 0 && left < 1e8) line += "  ETA " + FormatDuration(Milliseconds(static_cast<int64_t>(left * 1000)));
  if (status.pass_kind() == pb::TRAIN) line += "  " + StaleText(status);
  line += "  waits: " + (waits.empty() ? "-" : waits);
  return Fitted(line, width);
}

}  // namespace sheaf::cli
