// The ranges of one pass: which is free, leased or done, by whom, and how far.
//
// A state machine without I/O, owned by Job. Ranges are handed out once each; one comes back when its holder is gone,
// to be continued at the first batch that nobody acknowledged. Whatever happens, a range is counted done exactly once.
//
// Two ways to hand out:
// - static (BSP): range r belongs to lane r mod L for the whole pass. A lane is held by one worker at a time, so which
//   batch is computed at which clock is a function of the seed and L alone.
// - dynamic (SSP, ASP, statistics, evaluation): a free range goes to whoever asks, preferably to the worker that
//   had it in an earlier pass and so may still have its rows in memory. Each worker has a lane of its own. When none is
//   free any more, a worker without work takes over a range that another holds but has not begun, so that at a pass's
//   end nobody waits for more than the range that somebody slower is at.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "proto/control.pb.h"
#include "proto/meta.pb.h"

namespace sheaf {

struct PlannedRange {
  pb::RangeSpec rows;
  uint32_t batches = 0;
};

class LeaseBook {
 public:
  enum class Policy { kStatic, kDynamic };

  struct Range {
    PlannedRange plan;
    uint32_t order = 0;        // static: position in its lane's queue; dynamic: in the pass
    LaneId lane;               // static
    uint64_t first_clock = 0;  // static: of its batch 0
    bool done = false;
    uint64_t lease = 0;  // number of the current grant; 0: not leased
    NodeId holder;
    uint32_t batches_done = 0;  // acknowledged, from the start
    uint32_t first_batch = 0;   // of the current grant
    // Counted under earlier grants, and under the current one so far.
    uint64_t base_examples = 0, examples = 0;
    double base_loss = 0, loss = 0;
    uint64_t base_bad_rows = 0, bad_rows = 0;
    uint64_t base_refused = 0, refused = 0;  // batches whose gradients were
  };

  // `order[i]` is the range handed out i-th. `lanes` > 0 for kStatic only. `previous_holder` may be empty.
  LeaseBook(Policy policy, std::vector<PlannedRange> ranges, const std::vector<uint32_t>& order, uint32_t lanes,
            std::vector<NodeId> previous_holder);

  // Takes a worker's word about a lease. Returns true if the range was finished by it just now.
  bool Update(NodeId worker, const pb::LeaseState& state);
  // What an earlier scheduler granted to a worker is its again, if the range is free and the lease begins where the
  // next one would: so whatever the worker reports of it adds to what is known.
  bool TakeUp(NodeId worker, const pb::LeaseState& state);
  // Gives back what a worker held.
  void Release(NodeId worker);
  // Leases more ranges to a worker until it holds `ahead` of them (static: of each of its lanes, as a lane without a
  // lease would hold all others back); returns whether it got any.
  bool Grant(NodeId worker, uint32_t ahead, uint64_t& next_lease);
  size_t holders() const { return held_.size(); }  // workers that hold something, or did
  size_t CountHeld(NodeId worker) const;
  uint32_t CountLanes(NodeId worker) const;         // static
  // The ranges a worker should be holding now, in the order it should work on them.
  std::vector<RangeId> Held(NodeId worker) const;
  // Static: assigns lanes nobody holds to workers that hold fewest. Returns whether anything changed. For when workers
  // have come or gone, not for every event: it walks all lanes.
  bool AssignLanes(const std::vector<NodeId>& workers);
  NodeId LaneHolder(LaneId lane) const { return lane_holder_.at(lane.value); }
  uint64_t LaneEnd(LaneId lane) const { return lane_end_.at(lane.value); }

  const Range& range(RangeId id) const { return ranges_.at(id.value); }
  size_t size() const { return ranges_.size(); }
  bool all_done() const { return done_count_ == ranges_.size(); }
  // Dynamic: the holders that a range was taken from since the last call. The sooner they know, the less is computed
  // twice.
  std::vector<NodeId> TakeRelieved() { return std::exchange(relieved_, {}); }
  // Dynamic: ranges that nobody holds.
  size_t free_count() const { return free_count_; }
  // Dynamic: workers from whom an idle one could take over a range.
  size_t spare_count() const { return spare_.size(); }
  // True if there is nothing left to lease out to this worker.
  bool NothingFor(NodeId worker) const;

  // Ranges are saved by blocks of so many.
  static constexpr uint32_t kBlock = 64;
  // Those that have changed. What is lost before it is saved is only computed again: the next scheduler leases from
  // where it knows, and takes up no lease that begins elsewhere.
  std::set<uint32_t> TakeUnsaved() { return std::exchange(unsaved_, {}); }
  // Done ranges, and what the next lease of others starts from. kTaken: what is done of running leases is not in it, as
  // they may go on; kAll: as if nobody held any.
  enum class Progress { kTaken, kAll };
  pb::RangesRecord DescribeBlock(uint32_t block, Progress progress) const;
  uint32_t CountBlocks() const { return static_cast<uint32_t>((ranges_.size() + kBlock - 1) / kBlock); }
  // Into a new book. False: it is not of these ranges.
  bool RestoreBlock(const pb::RangesRecord& block);

  // Of all ranges, done and under way.
  uint64_t examples() const { return examples_; }
  uint64_t bad_rows() const { return bad_rows_; }
  uint64_t refused_batches() const { return refused_batches_; }
  double loss_sum() const;  // in the order of the ranges, so that equal runs print equal sums; walks all of them
  double running_loss() const { return running_loss_; }  // the same but for rounding, without the walk
  std::vector<NodeId> LastHolders() const { return last_holder_; }

 private:
  using FreeOf = std::map<NodeId, std::set<std::pair<uint32_t, uint32_t>>>::iterator;

  void Free(uint32_t index);
  void AddFree(uint32_t index);
  void RemoveFree(uint32_t index);
  uint32_t TakeFree(FreeOf from);
  void Lease(NodeId worker, uint32_t index, uint64_t& next_lease);
  // The range that a worker was granted last, if it has another one to work on and nothing of it is known to be done.
  std::optional<uint32_t> SpareOf(NodeId worker) const;
  void NoteSpare(NodeId worker);
  void NoteSpares();
  // Frees a spare range of whoever has most to do; false if there is none.
  bool Relieve();
  void GiveLane(uint32_t lane, NodeId worker);

  Policy policy_;
  std::vector<Range> ranges_;
  size_t done_count_ = 0;
  uint64_t examples_ = 0, bad_rows_ = 0, refused_batches_ = 0;
  double running_loss_ = 0;
  std::set<uint32_t> unsaved_;        // blocks
  std::vector<NodeId> last_holder_;
  std::map<NodeId, std::set<std::pair<uint32_t, uint32_t>>> held_;  // (order, range) by worker

  // Dynamic: free ranges as (order, range), by the worker that had them before (NodeId(0): nobody).
  std::map<NodeId, std::set<std::pair<uint32_t, uint32_t>>> free_;
  std::set<std::pair<size_t, uint32_t>> free_by_count_;  // how many each of them has; of equals the least id is last
  size_t free_count_ = 0;
  // Workers with a SpareOf(), and how many batches they have left in all; by that, too.
  bool note_spares_ = false;  // from when no range is free
  std::map<NodeId, uint32_t> spare_;
  std::set<std::pair<uint32_t, NodeId>> spare_by_left_;
  std::vector<NodeId> relieved_;

  // Static, by lane.
  std::vector<std::vector<uint32_t>> queue_;
  std::vector<uint32_t> first_open_;  // position in the queue of its first range that is not done
  std::vector<NodeId> lane_holder_;
  std::map<NodeId, std::set<uint32_t>> lanes_of_;  // by holder; NodeId(0): nobody's
  std::vector<uint64_t> lane_end_;
};

}  // namespace sheaf
