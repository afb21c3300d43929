// Watches a job to its end, and shows how it goes on stderr.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/watch.h"
#include "client/blocking_client.h"
#include "common/base/result.h"

namespace sheaf::cli {

struct FollowOptions {
  Duration poll_every = Milliseconds(200);
  Duration line_every = std::chrono::seconds(10);  // if stderr is no terminal; changes of phase come at once
  Duration time_limit = Duration::zero();          // zero: none
  bool quiet = false;
  std::function<Status()> each_poll;               // called at every look at the job; an error ends the watch
  std::function<std::vector<std::string>()> news;  // lines to show between the progress lines
};

// The job's last status: finished, failed or cancelled. kTimeout: it is still running; kCancelled: interrupted.
Result<pb::JobStatus> Follow(BlockingClient& client, JobId job, const Watch& watch, const FollowOptions& options);

}  // namespace sheaf::cli
