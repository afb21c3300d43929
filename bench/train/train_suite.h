// The train and scale suites: reading, and training through real processes.
#pragma once

#include "bench/harness.h"

namespace sheaf::bench {

struct TrainOptions {
  double seconds = 0.25;  // of one sample of the readers; a job is run whole
};

// Readers, and a linear model through one server and one worker beside the same in one process.
Status RunTrain(const TrainOptions& options, Suite& suite);
// Two servers and two workers beside one of each, for a job that its workers bound.
Status RunScale(Suite& suite);

}  // namespace sheaf::bench
