// sheaf-worker: computes gradients on leased data. Keeps nothing that matters; may be killed at any time.
#include <gflags/gflags.h>
#include <glog/logging.h>

#include <filesystem>
#include <system_error>

#include "common/base/build_info.h"
#include "common/net/scheduler_list.h"
#include "common/runtime/exit_codes.h"
#include "common/runtime/file_limit.h"
#include "common/runtime/flags_env.h"
#include "common/runtime/logging.h"
#include "common/runtime/memory.h"
#include "common/runtime/signals.h"
#include "worker/worker_shell.h"

DEFINE_string(scheduler, "tcp://127.0.0.1:7070", "address of the scheduler; of several, all of them");
DEFINE_string(data, ".", "folder that the data paths of jobs are relative to");
DEFINE_uint64(cache_mb, 1024, "memory for rows kept for later epochs, in MiB");
DEFINE_uint32(scheduler_timeout_s, 30, "give up when the scheduler was silent for so long, in seconds");

int main(int argc, char** argv) {
  sheaf::RaiseFileLimit();
  sheaf::KeepFreedMemory();
  const auto flags = sheaf::ParseFlags(
      argc, argv, {"sheaf-worker", "[--scheduler=ADDRESS] [--data=DIR] [flags]", "Computes gradients on leased data."});
  if (flags.exit_code) return *flags.exit_code;
  auto signals = sheaf::SignalFd::Create();
  sheaf::SetUpLogging(argv[0], "worker");
  if (!signals) {
    LOG(ERROR) << signals.error().message;
    return sheaf::kExitFailed;
  }
  if (FLAGS_data.empty()) FLAGS_data = ".";  // ${VAR} of a compose file that nobody has set
  std::error_code error;
  if (const auto data = std::filesystem::status(FLAGS_data, error); !std::filesystem::is_directory(data)) {
    const std::string why = !std::filesystem::status_known(data) ? ": " + error.message()
                            : std::filesystem::exists(data)      ? " is a file"
                                                                 : " does not exist";
    LOG(ERROR) << "the data folder " << FLAGS_data << why << " (--data or SHEAF_DATA)";
    return sheaf::kExitNotFound;
  }
  if (const auto list = sheaf::SchedulerList::Check(FLAGS_scheduler); !list) {
    LOG(ERROR) << list.error().message;
    return sheaf::kExitUsage;
  }
  LOG(INFO) << sheaf::BuildText() << " scheduler=" << FLAGS_scheduler << " data=" << FLAGS_data;
  const sheaf::SystemClock clock;
  sheaf::ZmqContext context;
  sheaf::WorkerShellOptions options;
  options.scheduler = FLAGS_scheduler;
  options.data_dir = FLAGS_data;
  options.cache_bytes = static_cast<size_t>(FLAGS_cache_mb) << 20;
  options.scheduler_timeout = std::chrono::seconds(FLAGS_scheduler_timeout_s);
  sheaf::WorkerShell worker(context, clock, std::move(options));
  const sheaf::Status outcome = worker.Run((*signals)->fd(), [&] { (void)(*signals)->Take(); });
  if (!outcome) {
    LOG(ERROR) << outcome.error().message;
    return sheaf::ExitCodeOf(outcome.error().code);
  }
  LOG(INFO) << "left";
  return sheaf::kExitOk;
}
