#include "bench/train/job_run.h"

#include <google/protobuf/text_format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/strings.h"

namespace sheaf::bench {

Result<double> ExamplesPerSecond(const pb::JobSpec& spec, const std::string& folder, const JobRun& run) {
  const std::string sheaf = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sheaf";
  if (!std::filesystem::exists(sheaf)) return Fail(ErrorCode::kNotFound, "no ", sheaf, ": build all of the release");
  const std::string job = folder + "/job.textproto", report = folder + "/report.json";
  std::string text;
  google::protobuf::TextFormat::PrintToString(spec, &text);
  std::ofstream(job) << text;
  const std::string command = StrCat(sheaf, " run ", job, " --data ", folder, " --report ", report, " --servers ",
                                     run.servers, " --workers ", run.workers, " --quiet >", folder, "/out 2>&1");
  if (std::system(command.c_str()) != 0) {
    std::ifstream said(folder + "/out");
    return Fail(ErrorCode::kInternal, command, ": ", std::string(std::istreambuf_iterator<char>(said), {}));
  }
  std::ifstream file(report);
  const auto json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Fail(ErrorCode::kDataLoss, report, " is no report");
  return json.value("examples_per_second", 0.0);
}

}  // namespace sheaf::bench
