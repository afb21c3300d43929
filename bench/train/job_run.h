// A training job run as people run it: `sheaf run` with processes of its own, from the folder of this program.
#pragma once

#include <string>

#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf::bench {

struct JobRun {
  uint32_t servers = 1;
  uint32_t workers = 1;
};

// Training examples a second, of the passes alone: neither start nor planning nor end. `folder` holds the job's data,
// and takes its file and its report.
Result<double> ExamplesPerSecond(const pb::JobSpec& spec, const std::string& folder, const JobRun& run);

}  // namespace sheaf::bench
