#include "scheduler/state_keeper.h"

#include "common/base/planted_bug.h"

namespace sheaf {

Status StateKeeper::Commit(SchedulerCore& core, TimePoint now) {
  if (Planted(Bug::kSentBeforeSaved) && now.time_since_epoch() / Milliseconds(300) % 2 == 1) return {};
  if (pending_.empty()) core.Save(now, pending_);
  if (pending_.empty()) return {};
  // Another scheduler that has taken over the store has raised the epoch.
  pending_.compares = {{kEpochKey, epoch_}};
  SHEAF_ASSIGN_OR_RETURN(const bool is_ours, store_.Txn(pending_));
  if (!is_ours) {
    return Fail(ErrorCode::kAlreadyExists, "another scheduler has taken over this one's store: this one, of epoch ",
                epoch_, ", ends");
  }
  pending_ = {};
  return {};
}

}  // namespace sheaf
