// The clocks of a worker's lanes: which one a batch is computed at, and under SSP which are left out.
#include <algorithm>

#include "common/base/planted_bug.h"
#include "common/base/seq_window.h"
#include "worker/worker_core.h"

namespace sheaf {

WorkerCore::LaneClock& WorkerCore::ClockOf(const Lease& lease) {
  const LaneKey key{lease.grant.job(), lease.grant.pass(), lease.grant.lane()};
  const auto [it, is_new] = clocks_.try_emplace(key);
  if (is_new) it->second.start = it->second.next = lease.grant.lane_start();
  return it->second;
}

pb::Progress WorkerCore::ProgressOf(const Lease& lease, const BatchState& state) const {
  pb::Progress progress;
  progress.set_job(lease.grant.job());
  progress.set_pass(lease.grant.pass());
  progress.set_lane(lease.grant.lane());
  progress.set_lane_start(lease.grant.lane_start());
  progress.set_clock(state.clock);
  return progress;
}

bool WorkerCore::MayLeaveClocksOut(const Lease& lease) const {
  constexpr uint32_t kLeastStaleness = 2;  // below it lanes are to keep step with each other
  const pb::ConsistencySpec& consistency = jobs_.at(lease.grant.job()).brief.spec().consistency();
  return lease.grant.kind() == pb::TRAIN && consistency.mode() == pb::ConsistencySpec::SSP &&
         consistency.staleness() >= kLeastStaleness;
}

uint64_t WorkerCore::LeaveOut(const Lease& lease, uint64_t clock, uint64_t wanted) {
  constexpr uint64_t kMost = SeqWindow::kWindow / 2;
  for (auto& [number, other] : leases_) {
    if (other.grant.job() != lease.grant.job() || other.grant.pass() != lease.grant.pass()) continue;
    for (uint32_t i = other.done; i < other.next; ++i) {
      BatchState& before = other.states[i];
      if (!before.has_clock || before.stage >= Stage::kPushing || before.clock + before.skipped + 1 != clock) continue;
      const uint64_t skipped = std::min(wanted, kMost - std::min(kMost, before.skipped));
      before.skipped += skipped;
      return skipped;
    }
  }
  return 0;
}

// The clock of a batch that is about to be pulled. Under SSP a lane that is behind leaves clocks out: the furthest lane
// does more batches than we do, and would have to wait for us for ever. The clock is never beyond the last that some
// lane has finished: that lane's pull at this clock was answered, so ours waits for nobody who could be waiting for us.
// What is left out is told by the push of the batch before, which is the soonest: no other push will come in between.
void WorkerCore::TakeClock(const Lease& lease, uint32_t batch, BatchState& state) {
  LaneClock& clock = ClockOf(lease);
  if (IsStatic(lease)) {
    state.clock = lease.grant.first_clock() + batch;
  } else if (!clock.unfinished.empty()) {
    state.clock = clock.unfinished.extract(clock.unfinished.begin()).value();
    while (MayLeaveClocksOut(lease) && state.skipped < SeqWindow::kWindow / 2 &&
           clock.unfinished.erase(state.clock + state.skipped + 1) > 0) {
      ++state.skipped;
    }
  } else {
    if (MayLeaveClocksOut(lease) && clock.front > clock.next + 1)
      clock.next += LeaveOut(lease, clock.next, clock.front - 1 - clock.next);
    state.clock = clock.next++;
  }
  state.has_clock = true;
}

// The rows of a pull are as new as those of a later clock: every shard that answered it knew a lane at `front`.
void WorkerCore::TakeLaterClock(const Lease& lease, BatchState& state, uint64_t front) {
  LaneClock& clock = ClockOf(lease);
  if (!state.has_clock || state.clock + 1 != clock.next || state.skipped > 0 || front <= clock.next) return;
  state.clock += LeaveOut(lease, state.clock, front - clock.next);
  clock.next = state.clock + 1;
}

// Batches that were asked for at later clocks than the lane now has to finish are to be started again, the least clock
// first: their pulls may wait for the very clocks that nothing else would finish.
void WorkerCore::ReturnLaterClocks(const Lease& dropped) {
  const auto job = jobs_.find(dropped.grant.job());
  if (job == jobs_.end() || job->second.brief.spec().consistency().mode() != pb::ConsistencySpec::SSP) return;
  LaneClock& lane = ClockOf(dropped);
  if (lane.unfinished.empty()) return;
  const uint64_t least = *lane.unfinished.begin();
  for (auto& [number, lease] : leases_) {
    if (lease.grant.job() != dropped.grant.job() || lease.grant.pass() != dropped.grant.pass()) continue;
    for (uint32_t i = lease.done; i < lease.next; ++i) {
      BatchState& state = lease.states[i];
      if ((state.stage != Stage::kPulling && state.stage != Stage::kPulled) || state.clock < least) continue;
      if (state.stage == Stage::kPulling) {
        client_.Cancel(state.operation);
        operations_.erase(state.operation);
      }
      for (uint64_t clock = state.clock; clock <= state.clock + state.skipped; ++clock) lane.unfinished.insert(clock);
      state = {};
      --pulling_;
    }
  }
}

}  // namespace sheaf
