#include "cli/follow.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/progress_line.h"
#include "cli/terminal.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

// Shows lines of progress: on a terminal over each other, otherwise now and then below each other.
class Display {
 public:
  explicit Display(const FollowOptions& options) : options_(options) {}
  ~Display() { Clear(); }

  void Show(const pb::ClusterStatus& cluster, const pb::JobStatus& job, TimePoint now) {
    if (options_.news) {
      for (const std::string& line : options_.news()) Say(line);
    }
    if (options_.quiet) return;
    const size_t width = TerminalWidth(STDERR_FILENO);
    const std::string waits = FirstWait(cluster);
    if (width > 0) {
      const std::string line = Printable(ProgressLine(job, waits, width - 1));
      std::fprintf(stderr, "\r%s\x1b[K", line.c_str());
      shown_ = true;
      return;
    }
    if (job.phase() == phase_ && now < next_line_) return;
    if (IsOver(job)) return;  // the final table tells
    phase_ = job.phase();
    next_line_ = now + options_.line_every;
    std::fprintf(stderr, "%s\n", Printable(ProgressLine(job, waits, 0)).c_str());
  }

  void Say(const std::string& line) {
    Clear();
    std::fprintf(stderr, "%s\n", line.c_str());
  }

  void Clear() {
    if (shown_) std::fputs("\r\x1b[K", stderr);
    shown_ = false;
  }

 private:
  const FollowOptions& options_;
  bool shown_ = false;
  int phase_ = -1;  // waiting, planning, running: not epochs, of which there may be many a second
  TimePoint next_line_{};
};

}  // namespace

Result<pb::JobStatus> Follow(BlockingClient& client, JobId job, const Watch& watch, const FollowOptions& options) {
  const SystemClock clock;
  const TimePoint end = clock.Now() + options.time_limit;
  Display display(options);
  uint64_t epoch = 0;  // of the scheduler
  for (;;) {
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus cluster, client.GetStatus(job));
    if (options.each_poll) SHEAF_RETURN_IF_ERROR(options.each_poll());
    const pb::JobStatus* status = nullptr;
    for (const pb::JobStatus& each : cluster.job()) {
      if (each.job() == job.value) status = &each;
    }
    if (status == nullptr) return Fail(ErrorCode::kNotFound, "the scheduler does not know job ", job);
    if (epoch > 0 && cluster.scheduler_epoch() > epoch) display.Say("the scheduler was started again and goes on");
    epoch = std::max(epoch, cluster.scheduler_epoch());
    display.Show(cluster, *status, clock.Now());
    if (IsOver(*status)) return *status;
    if (options.time_limit > Duration::zero() && clock.Now() >= end) {
      return Fail(ErrorCode::kTimeout, "job ", job, " (", status->name(), ") has not ended within ",
                  FormatSeconds(options.time_limit), ": ", ProgressLine(*status, FirstWait(cluster), 0));
    }
    SHEAF_RETURN_IF_ERROR(watch.Sleep(options.poll_every));
  }
}

}  // namespace sheaf::cli
