// sheaf checkpoint: makes checkpoints of a running job, lists and verifies those of a folder, removes old ones, and
// lets a job go on from one.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/nearest.h"
#include "cli/report.h"
#include "cli/terminal.h"
#include "common/base/strings.h"
#include "common/checkpoint/catalog.h"
#include "common/checkpoint/disk_space.h"
#include "common/runtime/signals.h"
#include "common/storage/folder_lock.h"

namespace sheaf::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr Duration kLookAtCheckpointEvery = Milliseconds(50);

int ComplainOfName(const Error& error) {
  return Complain(error.code == ErrorCode::kInvalidArgument ? kExitUsage : ExitCodeOf(error.code), error.message);
}

Result<std::unique_ptr<FileSpace>> OpenFolder(const Args& args) {
  const std::string folder = CheckpointFolder(args);
  if (folder.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "which folder? Give --checkpoint_dir, or SHEAF_CHECKPOINT_DIR");
  }
  return OpenDiskSpace(folder, IfAbsent::kFail);
}

double AgeSeconds(FileSpace& space, const std::string& name) {
  std::error_code failed;
  const auto made = std::filesystem::last_write_time(space.PathOf(name, kManifestFile), failed);
  if (failed) return 0;
  return std::chrono::duration<double>(std::filesystem::file_time_type::clock::now() - made).count();
}

// What its own files take, beside those that it shares with the one it builds upon.
uint64_t OwnBytes(const pb::CheckpointManifest& manifest) {
  uint64_t bytes = 0;
  for (const pb::ManifestPartition& partition : manifest.partition()) {
    if (!partition.file().empty()) bytes += partition.file(partition.file_size() - 1).bytes();
  }
  return bytes;
}

int List(const Args& args) {
  const auto space = OpenFolder(args);
  if (!space) return Complain(space.error());
  const auto entries = ListCheckpoints(**space);
  if (!entries) return Complain(entries.error());
  const bool as_json = args.Text("output") == "json";
  json list = json::array();
  std::vector<std::vector<std::string>> rows = {{"NAME", "AGE", "SIZE", "OWN", "JOB", "PASS", "MADE BY", "STATE"}};
  for (const CatalogEntry& entry : *entries) {
    const pb::CheckpointManifest& manifest = entry.manifest;
    const double age = AgeSeconds(**space, entry.name);
    const std::string state = entry.readable ? "committed" : "damaged: " + entry.readable.error().message;
    const std::string job = StrCat(manifest.job(), " (", manifest.submission().spec().name(), ")");
    if (as_json) {
      list.push_back({{"name", entry.name}, {"id", manifest.id()}, {"age_seconds", age},
                      {"bytes", BytesOf(manifest)}, {"own_bytes", OwnBytes(manifest)}, {"job", manifest.job()},
                      {"job_name", manifest.submission().spec().name()}, {"pass", manifest.state().pass()},
                      {"periodic", manifest.periodic()}, {"partitions", manifest.partition_count()},
                      {"build", manifest.build()}, {"state", state}});
      continue;
    }
    rows.push_back({entry.name, FormatDuration(Milliseconds(static_cast<int64_t>(age * 1000))),
                    FormatBytes(BytesOf(manifest)), FormatBytes(OwnBytes(manifest)),
                    entry.readable ? Printable(job) : "-", std::to_string(manifest.state().pass()),
                    manifest.periodic() ? "the job" : "hand", Printable(state)});
  }
  if (as_json) {
    std::printf("%s\n", list.dump(2, ' ', false, json::error_handler_t::replace).c_str());
  } else {
    std::fputs(entries->empty() ? "no checkpoints\n" : AlignedTable(rows).c_str(), stdout);
  }
  return kExitOk;
}

int Verify(const Args& args, const std::string& wanted) {
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const auto space = OpenFolder(args);
  if (!space) return Complain(space.error());
  const auto name = ResolveCheckpoint(**space, wanted);
  if (!name) return ComplainOfName(name.error());
  uint64_t bytes = 0;
  const Status whole = VerifyCheckpoint(**space, *name, [&](size_t more) {
    bytes += more;
    return CheckInterrupted(**signals);
  });
  if (!whole) return Complain(whole.error());
  std::printf("%s: every byte is as it was written (%s)\n", name->c_str(), FormatBytes(bytes).c_str());
  return kExitOk;
}

int Collect(const Args& args) {
  const auto space = OpenFolder(args);
  if (!space) return Complain(space.error());
  // A scheduler that uses the folder clears up after itself, and may be making one.
  const auto lock = FolderLock::Take(CheckpointFolder(args), "scheduler");
  if (lock) {
    if (const Status swept = SweepCheckpoints(**space); !swept) return Complain(swept.error());
  } else if (lock.error().code != ErrorCode::kAlreadyExists) {
    return Complain(lock.error());
  }
  const auto entries = ListCheckpoints(**space);
  if (!entries) return Complain(entries.error());
  const auto keep = static_cast<size_t>(args.Integer("keep"));
  size_t removed = 0, kept = 0;
  for (auto entry = entries->rbegin(); entry != entries->rend(); ++entry) {
    if (!entry->readable || ++kept <= keep) continue;  // a damaged one is for a person to look at
    if (const Status gone = RemoveCheckpoint(**space, entry->name); !gone) return Complain(gone.error());
    ++removed;
  }
  std::printf("%zu removed, %zu left\n", removed, entries->size() - removed);
  return kExitOk;
}

int Create(const Args& args, const std::string& name) {
  if (!name.empty()) {
    if (const Status fits = CheckCheckpointName(name); !fits) return Complain(kExitUsage, fits.error().message);
  }
  const auto scheduler = Connection::Open(args);
  if (!scheduler) return Complain(scheduler.error());
  BlockingClient& client = (*scheduler)->client();
  auto status = client.CreateCheckpoint(name, args.Flag("whole"));
  while (status && status->phase() == pb::CheckpointStatus::RUNNING) {
    if (const Status slept = (*scheduler)->watch().Sleep(kLookAtCheckpointEvery); !slept) {
      return Complain(kExitInterrupted, StrCat("no longer waiting; the checkpoint ", status->name(), " is still made"));
    }
    status = client.GetCheckpoint(status->id());
  }
  if (!status) return Complain(status.error());
  if (status->phase() != pb::CheckpointStatus::COMMITTED) {
    return Complain(kExitFailed, StrCat("the checkpoint ", status->name(), " was not made: ", status->detail()));
  }
  const auto text = [](double seconds) {
    return FormatSeconds(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)));
  };
  std::printf("%s: job %llu, %s written in %s; workers stood still for %s\n", status->name().c_str(),
              static_cast<unsigned long long>(status->job()), FormatBytes(status->bytes()).c_str(),
              text(status->seconds()).c_str(), text(status->pause_seconds()).c_str());
  return kExitOk;
}

int Restore(const Args& args, const std::string& name) {
  if (name != "latest") {
    if (const Status fits = CheckCheckpointName(name); !fits) return Complain(kExitUsage, fits.error().message);
  }
  const auto scheduler = Connection::Open(args);
  if (!scheduler) return Complain(scheduler.error());
  const auto job = (*scheduler)->client().RestoreJob(name);
  if (!job) return Complain(job.error());
  std::printf("%llu\n", static_cast<unsigned long long>(job->value));
  return kExitOk;
}

int Checkpoint(const Args& args) {
  const std::string& action = args.operands()[0];
  const std::string name = args.operands().size() > 1 ? args.operands()[1] : "";
  if (action == "create") return Create(args, name);
  if (action == "verify") return Verify(args, name.empty() ? "latest" : name);
  if (action == "restore") return Restore(args, name.empty() ? "latest" : name);
  if (!name.empty()) return Complain(kExitUsage, StrCat("sheaf checkpoint ", action, " takes no name"));
  if (action == "ls") return List(args);
  if (action == "gc") return Collect(args);
  return Complain(kExitUsage, StrCat("no action \"", action, "\"",
                                     Suggestion(action, {"create", "ls", "verify", "restore", "gc"})));
}

}  // namespace

Option CheckpointDirOption() {
  return {.name = "checkpoint_dir", .value_name = "DIR", .help = "the folder of checkpoints (SHEAF_CHECKPOINT_DIR)"};
}

std::string CheckpointFolder(const Args& args) {
  if (args.Given("checkpoint_dir")) return args.Text("checkpoint_dir");
  const char* const variable = std::getenv("SHEAF_CHECKPOINT_DIR");
  return variable == nullptr ? "" : variable;
}

Command CheckpointCommand() {
  CommandLine line;
  line.name = "sheaf checkpoint";
  line.operands = "create|ls|verify|restore|gc [NAME]";
  line.summary = "saves a running job as a whole, and lets it go on from there";
  line.least_operands = 1;
  line.most_operands = 2;
  line.options = {CheckpointDirOption(),
                  {.name = "whole", .kind = Option::kFlag, .help = "create: builds upon no other checkpoint"},
                  {.name = "keep",
                   .kind = Option::kInteger,
                   .value_name = "N",
                   .fallback = "3",
                   .help = "gc: so many of the newest stay",
                   .least = 1,
                   .most = 1e6},
                  SchedulerOption(),
                  TimeoutOption(),
                  OutputOption()};
  line.notes =
      "create [NAME]   saves the running job; waits until all of it is on the disk (--scheduler)\n"
      "ls              what there is in the folder (--checkpoint_dir)\n"
      "verify [NAME]   reads every file and compares it with what was written; the newest without a name\n"
      "restore [NAME]  lets the job go on in a new cluster, of any number of servers (--scheduler); prints its number\n"
      "gc              removes all but the newest, and what is left of those that were never finished\n"
      "A name is 1 to 63 of a-z, 0-9, '.', '_', '-'; \"latest\" is the newest.\n";
  return {std::move(line), Checkpoint};
}

}  // namespace sheaf::cli
