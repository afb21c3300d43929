#include "scheduler/checkpoint_keeper.h"

#include <utility>

#include "common/base/check.h"
#include "common/checkpoint/disk_space.h"

namespace sheaf {

Result<std::unique_ptr<CheckpointKeeper>> CheckpointKeeper::Open(const std::string& folder, Lock lock) {
  auto space = OpenDiskSpace(folder, IfAbsent::kMake);
  if (!space) return Wrap(space.error(), "--checkpoint_dir");
  std::unique_ptr<FolderLock> locked;
  if (lock == Lock::kTake) {
    auto taken = FolderLock::Take(folder, "scheduler");
    if (!taken) return Wrap(taken.error(), "--checkpoint_dir ", folder);
    locked = std::move(*taken);
  }
  auto found = FindCheckpoints(**space);
  if (!found) return Wrap(found.error(), "--checkpoint_dir ", folder);
  return std::unique_ptr<CheckpointKeeper>(new CheckpointKeeper(std::move(locked), std::move(*space), *found));
}

CheckpointKeeper::CheckpointKeeper(std::unique_ptr<FolderLock> lock, std::unique_ptr<FileSpace> space,
                                   CheckpointsFound found)
    : lock_(std::move(lock)), space_(std::move(space)), found_(found), thread_("checkpoints", [this] { Run(); }) {}

CheckpointKeeper::~CheckpointKeeper() {
  to_do_.Close();
  thread_.Join();
}

void CheckpointKeeper::Put(CheckpointWork work) {
  SHEAF_CHECK(to_do_.TryPut(std::move(work)).has_value(), "a scheduler has too much to do with checkpoints");
}

void CheckpointKeeper::Run() {
  while (true) {
    const std::optional<CheckpointWork> work = to_do_.Take(std::chrono::hours(1));
    if (!work && to_do_.closed()) return;
    if (work) SHEAF_CHECK(done_.TryPut(CarryOut(*space_, *work)).has_value(), "nobody takes what is done");
  }
}

}  // namespace sheaf
