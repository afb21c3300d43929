// A job's state as one line for people. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "proto/control.pb.h"

namespace sheaf::cli {

// [train adult] epoch 2/5  63 %  loss 0.2817  128 400 ex/s  stale 2 (max 8)  waits: -  ETA 00:00:12
// `waits`: whom the slowest process waits for; empty: nobody. `width` 0: no limit; a longer line ends in "...".
std::string ProgressLine(const pb::JobStatus& status, const std::string& waits, size_t width);

// What the job is doing, without numbers that change all the time: a new text is worth a new line in a log.
std::string PhaseText(const pb::JobStatus& status);

// Seconds left, or less than 0 if that cannot be told yet.
double SecondsLeft(const pb::JobStatus& status);

// The first process of the cluster that waits: "worker-1: lane 1 waits for lane 0 at clock 41"; empty: none.
std::string FirstWait(const pb::ClusterStatus& status);

bool IsOver(const pb::JobStatus& status);

}  // namespace sheaf::cli
