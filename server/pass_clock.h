// How far each lane of a pass has come, as one partition sees it. See docs/protocol.md, "Lanes and clocks".
//
// A lane's clock is the next one it has to finish; pushes may arrive in any order, so finished clocks are a SeqWindow.
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/base/seq_window.h"
#include "proto/control.pb.h"
#include "proto/storage.pb.h"

namespace sheaf {

// A window as images have it; nothing: those are no window's bits.
void SaveWindow(const SeqWindow& window, pb::SeqWindowBits& image);
std::optional<SeqWindow> RestoreWindow(const pb::SeqWindowBits& image);

class PassClock {
 public:
  // No lane has anything left to finish.
  static constexpr uint64_t kEnded = std::numeric_limits<uint64_t>::max();

  // Takes the roster's lanes: new ones start at their start clock, those that left are forgotten.
  void SetLanes(const pb::Roster& roster);

  // Lanes and front, for an image of the partition; and back again. False: that is no clock.
  void Save(pb::ImagePass& image) const;
  bool Restore(const pb::ImagePass& image);

  bool WouldExceed(LaneId lane, uint64_t clock) const;
  bool Finished(LaneId lane, uint64_t clock) const;
  // The lane has finished the clocks from `first` to `last`. It is on the roster, and they are within its window.
  void Finish(LaneId lane, uint64_t first, uint64_t last);

  // Every lane has finished all clocks below: the least of the lanes' clocks. A lane that is at its end does not count.
  uint64_t frontier() const { return frontier_; }
  // The clock after the last that any lane will finish (BSP: known in advance).
  uint64_t last_end() const;
  // Lanes that compute clock `clock`.
  uint32_t LanesAt(uint64_t clock) const;
  // The furthest clock that a lane has come to by finishing the one before: a lane that joins ahead of the others has
  // been nowhere yet. 0 before the first.
  uint64_t front() const { return front_; }
  // The first lane that stands at the frontier: the one that others wait for.
  std::optional<LaneId> Slowest() const;

 private:
  struct Lane {
    LaneId id;
    uint64_t start;
    uint64_t end;
    SeqWindow finished;

    uint64_t clock() const { return finished.floor() >= end ? kEnded : finished.floor(); }
  };
  Lane* Find(LaneId id);
  const Lane* Find(LaneId id) const { return const_cast<PassClock*>(this)->Find(id); }
  void UpdateFrontier();

  std::vector<Lane> lanes_;   // ascending by id
  uint64_t frontier_ = kEnded;
  uint64_t front_ = 0;
};

}  // namespace sheaf
