// Which copies of partitions go where while there are rows in them: away from servers that are drained, to servers that
// have less, and who of those with a copy is the primary.
//
// All is made of two steps that lose nothing: a further copy is made, and when it is in sync a copy is let go; if that
// is the primary's, the partition is handed over first. What is to be done next is read from the placement alone, so it
// goes on as it was when the scheduler is started again.
// A state machine without I/O, owned by SchedulerCore. Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/clock.h"
#include "proto/control.pb.h"
#include "scheduler/partition_loads.h"
#include "scheduler/placement.h"

namespace sheaf {

class Rebalancer {
 public:
  struct Server {
    NodeId node;
    bool draining = false;
    bool silent = false;    // it may be dead
    bool unfit = false;     // its disk is slow or full: it can hold copies, but answers late or not at all as a primary
  };

  explicit Rebalancer(uint32_t partition_count) : loads_(partition_count) {}

  PartitionLoads& loads() { return loads_; }
  const PartitionLoads& loads() const { return loads_; }

  // What can be done now; the placement must be published before the next step. Returns whether it has changed.
  // `servers`: those alive, ascending; `copies`: that each partition should have.
  bool Step(Placement& placement, std::span<const Server> servers, uint32_t copies, TimePoint now);

  // When there will be more to do, without anything having happened meanwhile.
  std::optional<TimePoint> next_wave() const { return next_wave_; }

  // Lines for the log, since the last call.
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }

 private:
  // What is on its way, by server.
  struct UnderWay {
    std::map<NodeId, uint32_t> learners;  // to it or from it
    uint32_t handed_over = 0;
  };
  struct Sums {
    std::map<NodeId, double> copies, primaries;  // loads of servers that stay; of primaries, and are fit
  };
  UnderWay Look(Placement& placement, const std::set<NodeId>& heard, TimePoint now, bool& changed);
  Sums AddUp(const Placement& placement) const;
  // Of one copy.
  double WeightOf(uint32_t partition) const {
    return alone_ ? loads_.OfOnlyCopy(partition) : loads_.OfBytes(partition);
  }
  bool Shed(Placement& placement, uint32_t partition, TimePoint now);
  bool Relieve(Placement& placement, uint32_t partition, TimePoint now);
  bool LeaveDraining(Placement& placement, uint32_t partition);
  bool LevelCopies(Placement& placement);
  bool LevelPrimaries(Placement& placement, TimePoint now);
  bool Learn(Placement& placement, uint32_t partition, NodeId node);
  bool HandOver(Placement& placement, uint32_t partition, NodeId to, bool stays, TimePoint now);
  bool Stays(NodeId node) const { return staying_.contains(node); }

  PartitionLoads loads_;
  std::map<uint32_t, TimePoint> handed_over_at_;  // those that are not settled yet
  std::map<uint32_t, TimePoint> not_before_;      // that they are handed over again: they had to be taken back
  std::map<uint32_t, TimePoint> levelled_at_;     // handed over only because another server had less to do
  std::optional<TimePoint> wave_at_;              // the last hand-overs began
  // Of the step that is made.
  std::optional<TimePoint> next_wave_;
  std::set<NodeId> staying_, unfit_;
  uint32_t needed_ = 0;
  bool alone_ = false;  // each partition has one copy only
  UnderWay under_way_;
  Sums sums_;
  std::vector<std::string> events_;
};

}  // namespace sheaf
