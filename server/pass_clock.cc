#include "server/pass_clock.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/base/planted_bug.h"

namespace sheaf {

void SaveWindow(const SeqWindow& window, pb::SeqWindowBits& image) {
  image.set_floor(window.floor());
  for (const uint64_t word : window.words()) image.add_word(word);
}

std::optional<SeqWindow> RestoreWindow(const pb::SeqWindowBits& image) {
  constexpr uint64_t kTop = std::numeric_limits<uint64_t>::max() - SeqWindow::kWindow;
  if (image.word_size() > static_cast<int>(SeqWindow::kWindow / 64) || image.floor() > kTop) return std::nullopt;
  return SeqWindow::FromWords(image.floor(), {image.word().data(), static_cast<size_t>(image.word_size())});
}

void PassClock::SetLanes(const pb::Roster& roster) {
  std::vector<Lane> lanes;
  lanes.reserve(static_cast<size_t>(roster.lane_size()));
  for (const pb::Lane& lane : roster.lane()) {
    Lane* known = Find(LaneId(lane.lane()));
    const uint64_t end = lane.has_end_clock() ? lane.end_clock() : kEnded;
    SeqWindow finished = known != nullptr ? std::move(known->finished) : SeqWindow(lane.start_clock());
    lanes.push_back({LaneId(lane.lane()), lane.start_clock(), end, std::move(finished)});
  }
  std::sort(lanes.begin(), lanes.end(), [](const Lane& a, const Lane& b) { return a.id < b.id; });
  lanes_ = std::move(lanes);
  UpdateFrontier();
}

void PassClock::Save(pb::ImagePass& image) const {
  image.set_front(front_);
  for (const Lane& lane : lanes_) {
    pb::ImageLane& saved = *image.add_lane();
    saved.set_lane(lane.id.value);
    saved.set_start(lane.start);
    if (lane.end != kEnded) saved.set_end(lane.end);
    SaveWindow(lane.finished, *saved.mutable_finished());
  }
}

bool PassClock::Restore(const pb::ImagePass& image) {
  std::vector<Lane> lanes;
  for (const pb::ImageLane& saved : image.lane()) {
    auto finished = RestoreWindow(saved.finished());
    if (!finished || (!lanes.empty() && lanes.back().id.value >= saved.lane())) return false;
    lanes.push_back({LaneId(saved.lane()), saved.start(), saved.has_end() ? saved.end() : kEnded, {}});
    lanes.back().finished = std::move(*finished);
  }
  lanes_ = std::move(lanes);
  front_ = image.front();
  UpdateFrontier();
  return true;
}

PassClock::Lane* PassClock::Find(LaneId id) {
  const auto at = std::lower_bound(lanes_.begin(), lanes_.end(), id,
                                   [](const Lane& lane, LaneId wanted) { return lane.id < wanted; });
  return at != lanes_.end() && at->id == id ? &*at : nullptr;
}

bool PassClock::WouldExceed(LaneId lane, uint64_t clock) const {
  const Lane* found = Find(lane);
  return found != nullptr && found->finished.WouldExceed(clock);
}

bool PassClock::Finished(LaneId lane, uint64_t clock) const {
  const Lane* found = Find(lane);
  return found != nullptr && found->finished.Contains(clock);
}

void PassClock::Finish(LaneId lane, uint64_t first, uint64_t last) {
  Lane* found = Find(lane);
  SHEAF_CHECK(found != nullptr, "lane ", lane, " is not on the roster");
  const bool at_frontier = found->clock() == frontier_;
  for (uint64_t clock = first; clock <= last; ++clock)
    found->finished.Mark(Planted(Bug::kClockCountsPushes) ? found->finished.floor() : clock);
  if (found->clock() != kEnded) front_ = std::max(front_, found->clock());
  if ((at_frontier && found->clock() != frontier_) || Planted(Bug::kBarrierCountsMessages)) UpdateFrontier();
}

void PassClock::UpdateFrontier() {
  frontier_ = kEnded;
  if (Planted(Bug::kBarrierCountsMessages)) {
    uint64_t pushes = 0, lanes = 0;
    for (const Lane& lane : lanes_) {
      if (lane.clock() == kEnded) continue;
      pushes += lane.clock();
      ++lanes;
    }
    if (lanes > 0) frontier_ = pushes / lanes;
    return;
  }
  for (const Lane& lane : lanes_) {
    if (Planted(Bug::kJoinerNotAwaited) && lane.clock() == lane.start) continue;
    frontier_ = std::min(frontier_, lane.clock());
  }
}

uint64_t PassClock::last_end() const {
  uint64_t end = 0;
  for (const Lane& lane : lanes_) end = std::max(end, lane.end);
  return end;
}

uint32_t PassClock::LanesAt(uint64_t clock) const {
  return static_cast<uint32_t>(std::count_if(
      lanes_.begin(), lanes_.end(), [clock](const Lane& lane) { return lane.start <= clock && clock < lane.end; }));
}

std::optional<LaneId> PassClock::Slowest() const {
  for (const Lane& lane : lanes_) {
    if (lane.clock() == frontier_ && frontier_ != kEnded) return lane.id;
  }
  return std::nullopt;
}

}  // namespace sheaf
