#include "server/shard_checkpoints.h"

#include <utility>

namespace sheaf {

void ShardCheckpoints::OnTasks(const CheckpointTasks& tasks) {
  checkpointer_.OnOrder(tasks.checkpoint);
  restorer_.OnOrder(tasks.restore);
  if (tasks.restore.job() != 0) return;
  restored_.Clear();
  restored_at_.reset();
}

bool ShardCheckpoints::Step() {
  checkpointer_.Step();
  restorer_.Step();
  const bool news = std::exchange(told_, checkpointer_.state().phase()) != checkpointer_.state().phase();
  const pb::RestoreState& made = restorer_.state();
  if (made.job() == restored_.job() && made.generation() == restored_.generation() &&
      made.error() == restored_.error()) {
    return news;
  }
  if (!restored_at_) restored_at_ = shard_.SafePoint();
  if (made.error().empty() && !shard_.IsSafe(*restored_at_)) return news;
  restored_at_.reset();
  restored_ = made;
  return true;
}

std::optional<ShardCheckpoints::Work> ShardCheckpoints::TakeWork() {
  if (auto part = checkpointer_.TakeWork()) return Work(std::move(*part));
  if (auto read = restorer_.TakeWork()) return Work(std::move(*read));
  return std::nullopt;
}

void ShardCheckpoints::OnDone(Done done, TimePoint now) {
  if (const auto* part = std::get_if<PartDone>(&done)) return checkpointer_.OnDone(*part);
  restorer_.OnDone(std::move(std::get<ReadDone>(done)), now);
}

void ShardCheckpoints::AddTo(ShardStats& stats) const {
  stats.checkpoint = checkpointer_.state();
  stats.restore = restored_;
}

}  // namespace sheaf
