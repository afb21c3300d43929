#include "scheduler/lease_book.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/base/check.h"
#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

// As an entry of LeaseBook::free_by_count_.
std::pair<size_t, uint32_t> CountOf(NodeId holder, size_t count) { return {count, ~holder.value}; }

}  // namespace

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
      auto& free = free_[last_holder_[order[position]]];
      free.insert(free.end(), {position, order[position]});
    }
    for (const auto& [holder, free] : free_) {
      if (holder != NodeId()) free_by_count_.insert(CountOf(holder, free.size()));
    }
    free_count_ = ranges_.size();
    return;
  }
  queue_.resize(lanes);
  lane_holder_.resize(lanes);
  lane_end_.resize(lanes);
  first_open_.resize(lanes);
  for (uint32_t lane = 0; lane < lanes; ++lane) lanes_of_[NodeId()].insert(lane);
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

void LeaseBook::AddFree(uint32_t index) {
  const NodeId holder = last_holder_[index];
  auto& ranges = free_[holder];
  if (holder != NodeId()) free_by_count_.erase(CountOf(holder, ranges.size()));
  ranges.insert({ranges_[index].order, index});
  if (holder != NodeId()) free_by_count_.insert(CountOf(holder, ranges.size()));
  ++free_count_;
}

void LeaseBook::RemoveFree(uint32_t index) {
  const auto from = free_.find(last_holder_[index]);
  auto& [holder, ranges] = *from;
  if (holder != NodeId()) free_by_count_.erase(CountOf(holder, ranges.size()));
  ranges.erase({ranges_[index].order, index});
  if (holder != NodeId() && !ranges.empty()) free_by_count_.insert(CountOf(holder, ranges.size()));
  if (ranges.empty()) free_.erase(from);
  --free_count_;
}

// The first range of that list.
uint32_t LeaseBook::TakeFree(FreeOf from) {
  auto& [holder, ranges] = *from;
  if (holder != NodeId()) free_by_count_.erase(CountOf(holder, ranges.size()));
  const uint32_t index = ranges.extract(ranges.begin()).value().second;
  if (holder != NodeId() && !ranges.empty()) free_by_count_.insert(CountOf(holder, ranges.size()));
  if (ranges.empty()) free_.erase(from);
  --free_count_;
  return index;
}

bool LeaseBook::Update(NodeId worker, const pb::LeaseState& state) {
  if (state.range() >= ranges_.size()) return false;
  Range& range = ranges_[state.range()];
  if ((range.done && !Planted(Bug::kFinishedTwice)) || range.lease != state.lease() || range.lease == 0 ||
      range.holder != worker)
    return false;
  if (state.batches_done() < range.batches_done || state.batches_done() > range.plan.batches) return false;
  examples_ += state.examples() - range.examples;
  bad_rows_ += state.bad_rows() - range.bad_rows;
  refused_batches_ += state.refused_batches() - range.refused;
  running_loss_ += state.loss_sum() - range.loss;
  range.batches_done = state.batches_done();
  range.examples = state.examples();
  range.loss = state.loss_sum();
  range.bad_rows = state.bad_rows();
  range.refused = state.refused_batches();
  if (!state.finished()) {
    NoteSpare(worker);
    return false;
  }
  range.done = true;
  unsaved_.insert(state.range() / kBlock);
  if (!Planted(Bug::kFinishedTwice)) range.lease = 0;
  held_[worker].erase({range.order, state.range()});
  last_holder_[state.range()] = worker;
  NoteSpare(worker);
  ++done_count_;
  return true;
}

void LeaseBook::Free(uint32_t index) {
  Range& range = ranges_[index];
  if (range.batches_done > range.first_batch) unsaved_.insert(index / kBlock);
  range.lease = 0;
  range.holder = NodeId();
  range.base_examples += range.examples;
  range.base_loss += range.loss;
  range.base_bad_rows += range.bad_rows;
  range.base_refused += range.refused;
  range.examples = 0;
  range.loss = 0;
  range.bad_rows = 0;
  range.refused = 0;
  if (policy_ == Policy::kDynamic) AddFree(index);
}

void LeaseBook::Release(NodeId worker) {
  const auto it = held_.find(worker);
  if (it != held_.end()) {
    for (const auto& [order, index] : it->second) Free(index);
    held_.erase(it);
    NoteSpare(worker);
  }
  if (const auto lanes = lanes_of_.find(worker); lanes != lanes_of_.end()) {
    const std::set<uint32_t> left = lanes->second;
    for (const uint32_t lane : left) GiveLane(lane, NodeId());
  }
  // What the departed had in memory is anybody's now.
  if (auto mine = free_.extract(worker)) {
    free_by_count_.erase(CountOf(worker, mine.mapped().size()));
    free_[NodeId()].merge(mine.mapped());
  }
  std::replace(last_holder_.begin(), last_holder_.end(), worker, NodeId());
}

void LeaseBook::Lease(NodeId worker, uint32_t index, uint64_t& next_lease) {
  Range& range = ranges_[index];
  range.lease = Planted(Bug::kLeaseNumberReused) ? index + 1 : next_lease++;
  range.holder = worker;
  range.first_batch = Planted(Bug::kProgressForgotten) ? 0 : range.batches_done;
  if (Planted(Bug::kReissuedFromMemory) && range.batches_done > 0)
    range.first_batch = std::min(range.batches_done + 1, range.plan.batches - 1);
  held_[worker].insert({range.order, index});
  NoteSpare(worker);
}

std::optional<uint32_t> LeaseBook::SpareOf(NodeId worker) const {
  const auto held = held_.find(worker);
  if (policy_ != Policy::kDynamic || held == held_.end() || held->second.size() < 2) return std::nullopt;
  const auto latest = std::max_element(held->second.begin(), held->second.end(), [&](const auto& a, const auto& b) {
    return ranges_[a.second].lease < ranges_[b.second].lease;
  });
  const Range& range = ranges_[latest->second];
  return range.batches_done == range.first_batch ? std::optional(latest->second) : std::nullopt;
}

void LeaseBook::NoteSpare(NodeId worker) {
  if (!note_spares_) return;
  if (const auto noted = spare_.find(worker); noted != spare_.end()) {
    spare_by_left_.erase({noted->second, worker});
    spare_.erase(noted);
  }
  if (!SpareOf(worker)) return;
  uint32_t left = 0;
  for (const auto& [order, index] : held_.at(worker)) left += ranges_[index].plan.batches - ranges_[index].batches_done;
  spare_.emplace(worker, left);
  spare_by_left_.emplace(left, worker);
}

void LeaseBook::NoteSpares() {
  if (note_spares_ || free_count_ > 0) return;
  note_spares_ = true;
  for (const auto& [worker, held] : held_) NoteSpare(worker);
}

bool LeaseBook::Relieve() {
  if (spare_by_left_.empty()) return false;
  const NodeId busiest = spare_by_left_.rbegin()->second;
  const uint32_t index = *SpareOf(busiest);
  held_.at(busiest).erase({ranges_[index].order, index});
  Free(index);
  NoteSpare(busiest);
  relieved_.push_back(busiest);
  return true;
}

bool LeaseBook::Grant(NodeId worker, uint32_t ahead, uint64_t& next_lease) {
  bool granted = false;
  if (policy_ == Policy::kDynamic) {
    const auto held = held_.find(worker);
    if (free_count_ == 0 && (held == held_.end() || held->second.empty())) Relieve();
    for (size_t count = held == held_.end() ? 0 : held->second.size(); count < ahead && free_count_ > 0; ++count) {
      // Its own first, then nobody's, then the ranges of whoever has most left.
      auto from = free_.find(worker);
      if (from == free_.end()) from = free_.find(NodeId());
      if (from == free_.end()) from = free_.find(NodeId(~free_by_count_.rbegin()->second));
      Lease(worker, TakeFree(from), next_lease);
      granted = true;
    }
    NoteSpares();
    return granted;
  }
  const auto lanes = lanes_of_.find(worker);
  if (lanes == lanes_of_.end()) return false;
  for (const uint32_t lane : lanes->second) {
    const std::vector<uint32_t>& queue = queue_[lane];
    uint32_t& first = first_open_[lane];
    while (first < queue.size() && ranges_[queue[first]].done) ++first;
    for (uint32_t at = first, open = 0; at < queue.size() && open < ahead; ++at) {
      const Range& range = ranges_[queue[at]];
      if (range.done) continue;
      ++open;
      if (range.lease != 0) continue;
      Lease(worker, queue[at], next_lease);
      granted = true;
    }
  }
  return granted;
}

bool LeaseBook::TakeUp(NodeId worker, const pb::LeaseState& state) {
  if (state.range() >= ranges_.size() || state.lease() == 0) return false;
  const uint32_t index = state.range();
  Range& range = ranges_[index];
  if (range.done || range.lease != 0) return false;
  if (state.first_batch() != range.batches_done && !Planted(Bug::kTakesUpAnywhere)) return false;
  if (policy_ == Policy::kStatic) {
    const NodeId holder = lane_holder_[range.lane.value];
    if (holder != NodeId() && holder != worker) return false;
    if (holder == NodeId()) GiveLane(range.lane.value, worker);
  } else {
    RemoveFree(index);
  }
  range.lease = state.lease();
  range.holder = worker;
  range.first_batch = state.first_batch();
  held_[worker].insert({range.order, index});
  NoteSpare(worker);
  return true;
}

pb::RangesRecord LeaseBook::DescribeBlock(uint32_t block, Progress progress) const {
  pb::RangesRecord record;
  const size_t end = std::min<size_t>(ranges_.size(), size_t{block + 1} * kBlock);
  for (size_t i = size_t{block} * kBlock; i < end; ++i) {
    const Range& range = ranges_[i];
    const bool all = range.done || progress == Progress::kAll;
    const uint32_t batches = all || range.lease == 0 ? range.batches_done : range.first_batch;
    if (!range.done && batches == 0) continue;
    record.add_range(static_cast<uint32_t>(i));
    record.add_done(range.done);
    record.add_batches(batches);
    record.add_examples(range.base_examples + (all ? range.examples : 0));
    record.add_loss(range.base_loss + (all ? range.loss : 0));
    record.add_bad_rows(range.base_bad_rows + (all ? range.bad_rows : 0));
    record.add_refused_batches(range.base_refused + (all ? range.refused : 0));
  }
  return record;
}

bool LeaseBook::RestoreBlock(const pb::RangesRecord& block) {
  const int count = block.range_size();
  if (block.done_size() != count || block.batches_size() != count || block.examples_size() != count ||
      block.loss_size() != count || block.bad_rows_size() != count) {
    return false;
  }
  const bool counts_refused = block.refused_batches_size() == count;  // builds before did not
  for (int i = 0; i < count; ++i) {
    if (block.range(i) >= ranges_.size() || ranges_[block.range(i)].done) return false;
    Range& range = ranges_[block.range(i)];
    if (block.batches(i) > range.plan.batches) return false;
    range.batches_done = range.first_batch = block.batches(i);
    range.base_examples = block.examples(i);
    range.base_loss = block.loss(i);
    range.base_bad_rows = block.bad_rows(i);
    range.base_refused = counts_refused ? block.refused_batches(i) : 0;
    examples_ += range.base_examples;
    bad_rows_ += range.base_bad_rows;
    refused_batches_ += range.base_refused;
    running_loss_ += range.base_loss;
    if (Planted(Bug::kSavedRangesForgotten)) range.batches_done = range.first_batch = 0;
    if (!block.done(i) || Planted(Bug::kSavedRangesForgotten)) continue;
    range.done = true;
    ++done_count_;
    if (policy_ == Policy::kDynamic) RemoveFree(block.range(i));
  }
  return true;
}

std::vector<RangeId> LeaseBook::Held(NodeId worker) const {
  std::vector<RangeId> held;
  if (const auto it = held_.find(worker); it != held_.end()) {
    for (const auto& [order, index] : it->second) held.push_back(RangeId(index));
  }
  // Workers begin with what is listed first, so that what was granted last is what they begin last.
  if (policy_ == Policy::kDynamic)
    std::ranges::sort(held, {}, [this](RangeId range) { return ranges_[range.value].lease; });
  return held;
}

size_t LeaseBook::CountHeld(NodeId worker) const {
  const auto held = held_.find(worker);
  return held == held_.end() ? 0 : held->second.size();
}

uint32_t LeaseBook::CountLanes(NodeId worker) const {
  const auto lanes = lanes_of_.find(worker);
  return lanes == lanes_of_.end() ? 0 : static_cast<uint32_t>(lanes->second.size());
}

void LeaseBook::GiveLane(uint32_t lane, NodeId worker) {
  NodeId& holder = lane_holder_[lane];
  const auto from = lanes_of_.find(holder);
  from->second.erase(lane);
  if (from->second.empty()) lanes_of_.erase(from);
  lanes_of_[worker].insert(lane);
  holder = worker;
}

bool LeaseBook::AssignLanes(const std::vector<NodeId>& workers) {
  if (policy_ != Policy::kStatic || workers.empty()) return false;
  // By load, then by the workers' order: the same every time.
  std::set<std::tuple<size_t, size_t, NodeId>> by_load;
  for (size_t i = 0; i < workers.size(); ++i) {
    const auto lanes = lanes_of_.find(workers[i]);
    by_load.insert({lanes == lanes_of_.end() ? 0 : lanes->second.size(), i, workers[i]});
  }
  const auto change_load = [&](std::tuple<size_t, size_t, NodeId> entry, int by) {
    by_load.erase(entry);
    std::get<0>(entry) += static_cast<size_t>(by);
    by_load.insert(entry);
  };
  bool changed = false;
  while (lanes_of_.contains(NodeId())) {
    const auto light = *by_load.begin();
    GiveLane(*lanes_of_.at(NodeId()).begin(), std::get<2>(light));
    change_load(light, 1);
    changed = true;
  }
  // A newcomer relieves a worker that stands in for the dead: lanes move until loads differ by at most one.
  while (std::get<0>(*by_load.rbegin()) - std::get<0>(*by_load.begin()) >= 2) {
    const auto light = *by_load.begin(), heavy = *by_load.rbegin();
    const NodeId from = std::get<2>(heavy);
    const uint32_t lane = *lanes_of_.at(from).rbegin();
    for (uint32_t at = first_open_[lane]; at < queue_[lane].size(); ++at) {
      const uint32_t index = queue_[lane][at];
      if (ranges_[index].lease == 0) continue;
      held_[from].erase({ranges_[index].order, index});
      Free(index);
    }
    GiveLane(lane, std::get<2>(light));
    change_load(light, 1);
    change_load(heavy, -1);
    changed = true;
  }
  return changed;
}

bool LeaseBook::NothingFor(NodeId worker) const {
  if (policy_ == Policy::kDynamic) return free_count_ == 0 && spare_.empty();
  const auto lanes = lanes_of_.find(worker);
  if (lanes == lanes_of_.end()) return true;
  return std::all_of(lanes->second.begin(), lanes->second.end(), [&](uint32_t lane) {
    return std::all_of(queue_[lane].begin() + first_open_[lane], queue_[lane].end(),
                       [&](uint32_t index) { return ranges_[index].done; });
  });
}

double LeaseBook::loss_sum() const {
  double sum = 0;
  for (const Range& range : ranges_) sum += range.base_loss + range.loss;
  return sum;
}

}  // namespace sheaf
