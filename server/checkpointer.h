// A shard's part in the checkpoints of the cluster (docs/checkpoints.md): freeze, say so, write, say so; drop it all
// when told to, or not told to go on.
//
//   idle --order, and the configuration is in force--> PREPARED --last file is synced--> WRITTEN
//     ^                                                   |                                |
//     |                                                   +-- an error --> FAILED          |
//     +---------- another order, or none (committed, aborted: it is all the same here) ----+
//
// To freeze takes a bit for each row and the state beside rows, in the turn in which the order is heard: the workers
// stand still meanwhile. Then rows are copied in bounded steps between which requests are served; a row that is about
// to change is kept as it was (RowStore). So much as is not written yet is bounded, but for rows that were kept.
//
// A core: its owner calls Step when all that the shard has taken is committed, carries out the work in order, and says
// what came of it. Thread-safety: none; it belongs to the shard's thread. The core is lent.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "proto/control.pb.h"
#include "server/checkpoint_files.h"
#include "server/partition_cut.h"
#include "server/shard_core.h"

namespace sheaf {

class Checkpointer {
 public:
  // `rows_a_step`: copied between two looks at what else there is to do.
  Checkpointer(ShardCore& core, size_t rows_a_step) : core_(core), rows_a_step_(rows_a_step) {}

  // What the scheduler wants; the latest counts. An order that was heard before changes nothing.
  void OnOrder(const pb::CheckpointOrder& order);
  // Does a bounded piece of what there is to do.
  void Step();
  // There is more to do at once.
  bool eager() const;
  // The next to be carried out; nothing: there is none now.
  std::optional<PartWork> TakeWork();
  // The first of the work that was taken and not done is.
  void OnDone(const PartDone& done);

  const pb::CheckpointState& state() const { return state_; }

 private:
  static constexpr size_t kMostUnderWay = 32;  // pieces of a step each

  void Freeze();
  void Copy();
  void Fail(std::string why);
  void Drop();

  ShardCore& core_;
  const size_t rows_a_step_;
  uint64_t latest_ = 0;                 // that was ordered
  pb::CheckpointOrder order_;           // of state_, or one that waits for its configuration
  pb::CheckpointState state_;
  std::vector<PartitionCut> cuts_;
  size_t next_ = 0;                     // of cuts_
  std::deque<PartWork> ready_;
  size_t under_way_ = 0;                // taken, or ready to be
};

}  // namespace sheaf
