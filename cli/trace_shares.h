// What a worker's time went into, by its spans. Pure functions.
#pragma once

#include <array>
#include <vector>

#include "common/trace/trace_log.h"

namespace sheaf::cli {

// Of the time from the begin of the first batch to the end of the last. Seconds.
struct WorkerShares {
  double total = 0;
  double compute = 0;
  std::array<double, pb::WaitCause_ARRAYSIZE> wait{};  // by cause
  // Summed over all pulls (pushes): how long they were under way, and how much of that the worker was computing.
  double pulls = 0, pulls_hidden = 0;
  double pushes = 0, pushes_hidden = 0;

  double idle() const;
};
WorkerShares SharesOf(const std::vector<Span>& spans);

}  // namespace sheaf::cli
