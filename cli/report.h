// The outcome of a job: as JSON for programs, as a table for people. Pure, but for WriteReport.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "proto/control.pb.h"

namespace sheaf::cli {

// What the scheduler does not know.
struct RunFacts {
  double wall_seconds = 0;  // of the whole command
  uint32_t servers = 0;
  uint32_t workers = 0;
  uint64_t workers_restarted = 0;
  uint64_t servers_restarted = 0;
  uint64_t schedulers_restarted = 0;
  std::string model_path{};  // empty: not exported
};

// Pretty-printed, ends with a newline. Numbers that are not finite become null.
std::string ReportJson(const pb::JobStatus& status, const RunFacts& facts);
Status WriteReport(const std::string& path, const pb::JobStatus& status, const RunFacts& facts);

// The final table: a line per evaluation, then throughput and losses.
std::string ReportTable(const pb::JobStatus& status, const RunFacts& facts);

// Metrics of one evaluation as a JSON object's text; for predict.
std::string MetricsJson(const pb::EvalResult& result, const pb::ModelSpec& model);
std::string MetricsLine(const pb::EvalResult& result, const pb::ModelSpec& model);

// "finished", "failed", "cancelled", "running", ...
std::string PhaseName(pb::JobPhase phase);

}  // namespace sheaf::cli
