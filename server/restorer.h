// Makes a shard's partitions what a checkpoint says, when the scheduler orders it: one after the other, read on another
// thread, a few pieces at a time.
//
// State-based: whatever partitions are the shard's by the configuration that the order names, and were not restored in
// this epoch, are; so it does not matter which server begins it and which ends it. Nobody pushes meanwhile: the
// scheduler grants no lease before all are restored.
// A core: its owner calls Step, carries out the work, and says what came of it. Thread-safety: none; it belongs to the
// shard's thread. The core is lent.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "common/runtime/clock.h"
#include "proto/control.pb.h"
#include "server/checkpoint_files.h"
#include "server/shard_core.h"

namespace sheaf {

class Restorer {
 public:
  explicit Restorer(ShardCore& core) : core_(core) {}

  // Absent (job 0): nothing is to be restored any more.
  void OnOrder(const pb::RestoreOrder& order);
  // Finds what is to be done.
  void Step();
  std::optional<ReadWork> TakeWork();
  // The work that was taken is done.
  void OnDone(ReadDone done, TimePoint now);

  const pb::RestoreState& state() const { return state_; }

 private:
  void Fail(std::string why);

  ShardCore& core_;
  uint64_t job_ = 0;                       // whose restored_ are
  pb::RestoreOrder order_;
  pb::RestoreState state_;
  std::map<uint32_t, uint64_t> restored_;  // partitions, and the epochs in which they were
  std::optional<ReadWork> work_;           // to be taken
  std::optional<uint32_t> reading_;        // that was taken and is not done
  uint64_t reading_epoch_ = 0;
  std::string reading_from_;               // name of the checkpoint
};

}  // namespace sheaf
