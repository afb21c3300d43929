// Job files of any text, with settings and environment: an error that says where, or a job that scheduler, servers and
// workers can run. Lines of the input that begin with "--set " or "SHEAF_JOB_" are settings and environment, the rest
// is the file.
#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <sstream>
#include <string>

#include "cli/job_file.h"
#include "common/base/check.h"
#include "common/job/job_validate.h"
#include "compute/model/model.h"
#include "compute/optim/optimizer.h"
#include "worker/data/row_parser.h"

namespace sheaf::cli {
namespace {

constexpr std::string_view kSet = "--set ";
constexpr size_t kLargestSpec = 1 << 16;

void Use(const JobFile& job) {
  for (const FieldProblem& problem : FindProblems(job.spec)) {
    SHEAF_CHECK(!problem.path.empty() && !problem.text.empty(), "a problem without a place");
    (void)job.OriginOf(problem.path);
  }
  if (!ValidateJob(job.spec)) return;
  (void)MakeModel(job.spec.model());
  SHEAF_CHECK(MakeOptimizer(job.spec.optimizer()).has_value(), "a valid job's optimizer cannot be made");
  (void)MakeRowParser(job.spec);
}

}  // namespace
}  // namespace sheaf::cli

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf::cli;
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  std::string text;
  std::vector<std::string> settings;
  Environment environment;
  std::istringstream lines(std::string(reinterpret_cast<const char*>(data), size));
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kSet)) {
      settings.push_back(line.substr(kSet.size()));
    } else if (const size_t equals = line.find('='); line.starts_with("SHEAF_JOB_") && equals != std::string::npos) {
      environment.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    } else {
      text += line + '\n';
    }
  }
  auto job = ParseJobText(text, "fuzz.job.textproto");
  if (!job) {
    SHEAF_CHECK(!job.error().message.empty(), "an error without a text");
    return 0;
  }
  if (!ApplyEnvironment(environment, *job)) return 0;
  for (const std::string& setting : settings) {
    if (const auto applied = ApplySetting(setting, *job); !applied) SHEAF_CHECK(!applied.error().message.empty());
  }
  if (job->spec.ByteSizeLong() <= kLargestSpec) Use(*job);
  return 0;
}
