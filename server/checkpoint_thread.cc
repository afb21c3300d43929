#include "server/checkpoint_thread.h"

#include <string>
#include <utility>

#include "common/base/check.h"

namespace sheaf {

void CheckpointThread::Put(Work work) {
  if (!thread_.joinable()) thread_ = Thread("files-" + std::to_string(shard_), [this] { Run(); });
  SHEAF_CHECK(to_do_.TryPut(std::move(work)).has_value(), "a checkpoint has too much work under way");
}

void CheckpointThread::Stop() {
  to_do_.Close();
  if (thread_.joinable()) thread_.Join();
}

void CheckpointThread::Run() {
  while (true) {
    const std::optional<Work> work = to_do_.Take(std::chrono::hours(1));
    if (!work && to_do_.closed()) return;
    if (!work) continue;
    const auto* const part = std::get_if<PartWork>(&*work);
    Done done = part != nullptr ? Done(files_.Write(*part)) : Done(files_.Read(std::get<ReadWork>(*work)));
    SHEAF_CHECK(done_.TryPut(std::move(done)).has_value(), "nobody takes what is done");
  }
}

}  // namespace sheaf
