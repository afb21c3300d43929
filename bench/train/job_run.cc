#include "bench/train/job_run.h"

#include <google/protobuf/text_format.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/strings.h"
#include "common/runtime/process.h"

namespace sheaf::bench {

Result<double> ExamplesPerSecond(const pb::JobSpec& spec, const std::string& folder, const JobRun& run) {
  const std::string sheaf = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sheaf";
  if (!std::filesystem::exists(sheaf)) return Fail(ErrorCode::kNotFound, "no ", sheaf, ": build all of the release");
  const std::string job = folder + "/job.textproto", report = folder + "/report.json";
  std::string text;
  google::protobuf::TextFormat::PrintToString(spec, &text);
  std::ofstream(job) << text;
  const std::string out = folder + "/out";
  SHEAF_ASSIGN_OR_RETURN(
      const auto child,
      ChildProcess::Spawn({.argv = {sheaf, "run", job, "--data", folder, "--report", report, "--servers",
                                    StrCat(run.servers), "--workers", StrCat(run.workers), "--quiet"},
                           .log_path = out}));
  const auto exit = child->Wait(std::chrono::minutes(10));
  if (!exit || !exit->ok()) {
    std::ifstream said(out);
    return Fail(ErrorCode::kInternal, sheaf, " run ", job, ": ", exit ? exit->Text() : "still runs after 10 minutes",
                "\n", std::string(std::istreambuf_iterator<char>(said), {}));
  }
  std::ifstream file(report);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Fail(ErrorCode::kDataLoss, report, " is no report");
  return json.value("examples_per_second", 0.0);
}

}  // namespace sheaf::bench
