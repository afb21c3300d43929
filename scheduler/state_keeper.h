// Between a scheduler's core and its shell: nothing that the core puts out is sent before the store has what it depends
// on.
//
// Its owner feeds the core, then calls Commit, then sends. Thread-safety: none; the store holds up the caller for as
// long as a transaction takes (a sync of the disk), so commit once for all messages of a turn.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/storage/meta_store.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {

class StateKeeper {
 public:
  // The store outlives it. `epoch`: of the SavedState that the core was made of.
  StateKeeper(MetaStore& store, uint64_t epoch) : store_(store), epoch_(std::to_string(epoch)) {}

  // Success: all that the core has put out may be sent. kResourceExhausted: not yet, the disk is full; feed the core
  // nothing more and call again. Any other error: never; the scheduler must end and another one begin from the store.
  Status Commit(SchedulerCore& core, TimePoint now);

 private:
  MetaStore& store_;
  const std::string epoch_;
  MetaTxn pending_;  // made, and not known to be done
};

}  // namespace sheaf
