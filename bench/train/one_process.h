// The limit of training through processes: the same reader, batches, gradient and rows in one process, without a wire.
#pragma once

#include <string>

#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf::bench {

// Examples a second over all epochs. A reader thread parses ahead, as in a worker; batches are kept for later epochs.
// Sparse models without statistics pass only. `folder` holds the job's data.
Result<double> TrainInOneProcess(const pb::JobSpec& spec, const std::string& folder);

}  // namespace sheaf::bench
