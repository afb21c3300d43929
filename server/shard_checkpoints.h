// What a shard does for checkpoints of the cluster: its part in those that are made, and what it restores from one.
//
// A core, beside the Shard: its owner hands it orders, calls Step when all that the shard has taken is committed,
// carries out the work in order, and says what came of it. Thread-safety: none; it belongs to the shard's thread. The
// shard is lent.
#pragma once

#include <cstddef>
#include <optional>
#include <variant>

#include "common/runtime/clock.h"
#include "proto/control.pb.h"
#include "server/checkpoint_files.h"
#include "server/checkpointer.h"
#include "server/restorer.h"
#include "server/shard.h"

namespace sheaf {

// What the scheduler wants of the shards of a server; the latest counts.
struct CheckpointTasks {
  pb::CheckpointOrder checkpoint;
  pb::RestoreOrder restore;
};

class ShardCheckpoints {
 public:
  using Work = std::variant<PartWork, ReadWork>;
  using Done = std::variant<PartDone, ReadDone>;
  static constexpr size_t kRowsAStep = 2048;

  ShardCheckpoints(Shard& shard, size_t rows_a_step)
      : shard_(shard), checkpointer_(shard.core(), rows_a_step), restorer_(shard.core()) {}

  void OnTasks(const CheckpointTasks& tasks);
  // Does a bounded piece of what there is to do. True: there is something new to be reported.
  bool Step();
  bool eager() const { return checkpointer_.eager(); }
  bool frozen() const { return checkpointer_.state().phase() == pb::CheckpointState::PREPARED; }
  std::optional<Work> TakeWork();
  void OnDone(Done done, TimePoint now);
  // For the report.
  void AddTo(ShardStats& stats) const;

 private:
  Shard& shard_;
  Checkpointer checkpointer_;
  Restorer restorer_;
  // What was restored is told when the log and all copies that count have it.
  std::optional<ReplicaSet::Marks> restored_at_;
  pb::RestoreState restored_;                       // that may be told
  pb::CheckpointState::Phase told_ = pb::CheckpointState::NO_PHASE;
};

}  // namespace sheaf
