#include "scheduler/lease_book.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/planted_bug.h"

namespace sheaf {

LeaseBook::LeaseBook(Policy policy, std::vector<PlannedRange> ranges, const std::vector<uint32_t>& order,
                     uint32_t lanes, std::vector<NodeId> previous_holder)
    : policy_(policy), last_holder_(std::move(previous_holder)) {
  SHEAF_CHECK(order.size() == ranges.size());
  SHEAF_CHECK((policy == Policy::kStatic) == (lanes > 0));
  last_holder_.resize(ranges.size());
  ranges_.resize(ranges.size());
  for (size_t i = 0; i < ranges.size(); ++i) ranges_[i].plan = std::move(ranges[i]);
  if (policy_ == Policy::kDynamic) {
    for (uint32_t position = 0; position < order.size(); ++position) {
      ranges_[order[position]].order = position;
      free_[last_holder_[order[position]]].insert({position, order[position]});
    }
    free_count_ = ranges_.size();
    return;
  }
  queue_.resize(lanes);
  lane_holder_.resize(lanes);
  lane_end_.resize(lanes);
  for (uint32_t index : order) {
    const uint32_t lane = index % lanes;
    Range& range = ranges_[index];
    range.lane = LaneId(lane);
    range.order = static_cast<uint32_t>(queue_[lane].size());
    range.first_clock = lane_end_[lane];
    lane_end_[lane] += range.plan.batches;
    queue_[lane].push_back(index);
  }
}

bool LeaseBook::Update(NodeId worker, const pb::LeaseState& state) {
  if (state.range() >= ranges_.size()) return false;
  Range& range = ranges_[state.range()];
  if ((range.done && !Planted(Bug::kFinishedTwice)) || range.lease != state.lease() || range.lease == 0 || range.holder != worker) return false;
  if (state.batches_done() < range.batches_done || state.batches_done() > range.plan.batches) return false;
  range.batches_done = state.batches_done();
  range.examples = state.examples();
  range.loss = state.loss_sum();
  range.bad_rows = state.bad_rows();
  if (!state.finished()) return false;
  range.done = true;
  if (!Planted(Bug::kFinishedTwice)) range.lease = 0;
  held_[worker].erase({range.order, state.range()});
  last_holder_[state.range()] = worker;
  ++done_count_;
  return true;
}

void LeaseBook::Free(uint32_t index) {
  Range& range = ranges_[index];
  range.lease = 0;
  range.holder = NodeId();
  range.base_examples += range.examples;
  range.base_loss += range.loss;
  range.base_bad_rows += range.bad_rows;
  range.examples = 0;
  range.loss = 0;
  range.bad_rows = 0;
  if (policy_ == Policy::kDynamic) {
    free_[last_holder_[index]].insert({range.order, index});
    ++free_count_;
  }
}

void LeaseBook::Release(NodeId worker) {
  const auto it = held_.find(worker);
  if (it != held_.end()) {
    for (const auto& [order, index] : it->second) Free(index);
    held_.erase(it);
  }
  for (NodeId& holder : lane_holder_) {
    if (holder == worker) holder = NodeId();
  }
  // What the departed had in memory is anybody's now.
  if (const auto mine = free_.find(worker); mine != free_.end()) {
    free_[NodeId()].merge(mine->second);
    free_.erase(worker);
  }
  std::replace(last_holder_.begin(), last_holder_.end(), worker, NodeId());
}

bool LeaseBook::Grant(NodeId worker, uint32_t count, uint64_t& next_lease) {
  bool granted = false;
  const auto lease = [&](uint32_t index) {
    Range& range = ranges_[index];
    range.lease = Planted(Bug::kLeaseNumberReused) ? index + 1 : next_lease++;
    range.holder = worker;
    range.first_batch = Planted(Bug::kProgressForgotten) ? 0 : range.batches_done;
    held_[worker].insert({range.order, index});
    granted = true;
  };
  if (policy_ == Policy::kDynamic) {
    for (; count > 0 && free_count_ > 0; --count) {
      // Its own first, then nobody's, then the ranges of whoever has most left.
      auto from = free_.find(worker);
      if (from == free_.end() || from->second.empty()) from = free_.find(NodeId());
      if (from == free_.end() || from->second.empty()) {
        from = std::max_element(free_.begin(), free_.end(),
                                [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
      }
      const uint32_t index = from->second.begin()->second;
      from->second.erase(from->second.begin());
      --free_count_;
      lease(index);
    }
    return granted;
  }
  // Each lane of the worker is served in turn: a lane without a lease would hold all others back.
  for (uint32_t lane = 0; lane < queue_.size(); ++lane) {
    if (lane_holder_[lane] != worker) continue;
    uint32_t ahead = std::max(count, 2U);
    for (uint32_t index : queue_[lane]) {
      const Range& range = ranges_[index];
      if (range.done) continue;
      if (ahead-- == 0) break;
      if (range.lease == 0) lease(index);
    }
  }
  return granted;
}

std::vector<RangeId> LeaseBook::Held(NodeId worker) const {
  std::vector<RangeId> held;
  if (const auto it = held_.find(worker); it != held_.end()) {
    for (const auto& [order, index] : it->second) held.push_back(RangeId(index));
  }
  return held;
}

bool LeaseBook::AssignLanes(const std::vector<NodeId>& workers) {
  if (policy_ != Policy::kStatic || workers.empty()) return false;
  bool changed = false;
  const auto load = [&](NodeId worker) { return std::count(lane_holder_.begin(), lane_holder_.end(), worker); };
  const auto idlest = [&] {
    return *std::min_element(workers.begin(), workers.end(), [&](NodeId a, NodeId b) { return load(a) < load(b); });
  };
  for (NodeId& holder : lane_holder_) {
    if (holder == NodeId()) {
      holder = idlest();
      changed = true;
    }
  }
  // A newcomer relieves a worker that stands in for the dead: lanes move until loads differ by at most one.
  for (;;) {
    const NodeId light = idlest();
    const NodeId heavy =
        *std::max_element(workers.begin(), workers.end(), [&](NodeId a, NodeId b) { return load(a) < load(b); });
    if (load(heavy) - load(light) < 2) return changed;
    const auto lane = std::find(lane_holder_.rbegin(), lane_holder_.rend(), heavy);
    const uint32_t lane_number = static_cast<uint32_t>(std::distance(lane, lane_holder_.rend())) - 1;
    for (uint32_t index : queue_[lane_number]) {
      Range& range = ranges_[index];
      if (range.lease != 0) {
        held_[heavy].erase({range.order, index});
        Free(index);
      }
    }
    *lane = light;
    changed = true;
  }
}

bool LeaseBook::NothingFor(NodeId worker) const {
  if (policy_ == Policy::kDynamic) return free_count_ == 0;
  for (uint32_t lane = 0; lane < queue_.size(); ++lane) {
    if (lane_holder_[lane] != worker) continue;
    for (uint32_t index : queue_[lane]) {
      if (!ranges_[index].done) return false;
    }
  }
  return true;
}

uint64_t LeaseBook::examples() const {
  uint64_t sum = 0;
  for (const Range& range : ranges_) sum += range.base_examples + range.examples;
  return sum;
}

double LeaseBook::loss_sum() const {
  double sum = 0;
  for (const Range& range : ranges_) sum += range.base_loss + range.loss;
  return sum;
}

uint64_t LeaseBook::bad_rows() const {
  uint64_t sum = 0;
  for (const Range& range : ranges_) sum += range.base_bad_rows + range.bad_rows;
  return sum;
}

}  // namespace sheaf
