#include "scheduler/rebalancer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/base/strings.h"

namespace sheaf {
namespace {

// Further copies on their way, from a server or to it: each takes of what clients are served with.
constexpr uint32_t kLearnersAtOnce = 2;
// Whoever is about to use a partition that is handed over stands still for a few milliseconds: who uses many of them is
// not to stand still for all, one after the other.
constexpr uint32_t kHandOversAtOnce = 4;
constexpr Duration kWaveEvery = Milliseconds(40);
// Then something is wrong between the two: it goes back.
constexpr Duration kHandOverWithin = std::chrono::seconds(2);
constexpr Duration kAgainAfter = std::chrono::seconds(1);
// How often a partition is used is only known after a while.
constexpr Duration kLevelAgainAfter = std::chrono::seconds(10);
// Differences that are not worth a move, of the mean.
constexpr double kToleratedCopies = 0.05;
constexpr double kToleratedPrimaries = 0.10;

using Loads = std::map<NodeId, double>;

uint32_t InSync(const Placement::Home& home) {
  return 1 + static_cast<uint32_t>(std::ranges::count_if(home.replicas, &Placement::Replica::in_sync));
}

bool HasCopy(const Placement::Home& home, NodeId node) {
  return home.primary == node ||
         std::ranges::find(home.replicas, node, &Placement::Replica::node) != home.replicas.end();
}

bool HasInSync(const Placement::Home& home, NodeId node) {
  return std::ranges::any_of(home.replicas, [&](const auto& each) { return each.in_sync && each.node == node; });
}

// From the one that has most to the one that has least: the best of what can be moved, and that only if it is worth it.
struct Gap {
  NodeId from, to;
  double size = 0;
  double mean = 0;

  explicit Gap(const Loads& loads) {
    for (const auto& [node, load] : loads) {
      if (from == NodeId() || load > loads.at(from)) from = node;
      if (to == NodeId() || load < loads.at(to)) to = node;
      mean += load / static_cast<double>(loads.size());
    }
    if (!loads.empty()) size = loads.at(from) - loads.at(to);
  }
  double LeftBy(double moved) const { return std::abs(size - 2 * moved); }
  bool Worth(double moved, double tolerated) const {
    return size > tolerated * mean && LeftBy(moved) <= size - moved / 2;
  }
};

}  // namespace

bool Rebalancer::Step(Placement& placement, std::span<const Server> servers, uint32_t copies, TimePoint now) {
  bool changed = false;
  staying_.clear();
  unfit_.clear();
  next_wave_.reset();
  std::set<NodeId> heard;
  for (const Server& server : servers) {
    if (!server.draining) staying_.insert(server.node);
    if (server.unfit) unfit_.insert(server.node);
    if (!server.silent) heard.insert(server.node);
  }
  under_way_ = Look(placement, heard, now, changed);
  if (staying_.empty()) return changed;
  // What is drained is let go when others have as many copies as there should be, not before.
  needed_ = std::min(copies, static_cast<uint32_t>(servers.size()));
  alone_ = copies <= 1;
  sums_ = AddUp(placement);

  const auto& homes = placement.homes();
  bool all_safe = true, all_stay = true;
  for (uint32_t p = 0; p < homes.size(); ++p) {
    if (homes[p].primary == NodeId()) return changed;
    all_safe &= !homes[p].taking_over && InSync(homes[p]) >= needed_;
    if (homes[p].taking_over) continue;
    changed |= Relieve(placement, p, now);
    if (homes[p].taking_over) continue;
    changed |= Shed(placement, p, now) || LeaveDraining(placement, p);
    all_stay &= Stays(homes[p].primary) && std::ranges::all_of(homes[p].replicas, [&](const auto& replica) {
      return Stays(replica.node);
    });
  }
  // One thing after the other: what is safe and where it is to be is levelled.
  if (changed || !all_safe || !all_stay) return changed;
  while (LevelCopies(placement)) changed = true;
  if (changed || !under_way_.learners.empty()) return changed;
  while (LevelPrimaries(placement, now)) changed = true;
  return changed;
}

Rebalancer::UnderWay Rebalancer::Look(Placement& placement, const std::set<NodeId>& heard, TimePoint now,
                                      bool& changed) {
  UnderWay seen;
  std::map<uint32_t, TimePoint> still;
  for (uint32_t p = 0; p < placement.homes().size(); ++p) {
    const Placement::Home& home = placement.homes()[p];
    for (const Placement::Replica& replica : home.replicas) {
      if (replica.in_sync) continue;
      ++seen.learners[home.primary];
      ++seen.learners[replica.node];
    }
    if (!home.handed_over) continue;
    const auto known = handed_over_at_.find(p);
    const TimePoint since = known == handed_over_at_.end() ? now : known->second;
    // Who may be dead is not given anything back: soon it is, or is heard.
    if (now - since < kHandOverWithin || !heard.contains(home.former)) {
      ++seen.handed_over;
      still[p] = since;
      continue;
    }
    events_.push_back(StrCat("partition ", p, " goes back: it was not taken in ", FormatSeconds(now - since)));
    placement.TakeBack(p);
    not_before_[p] = now + kAgainAfter;
    changed = true;
  }
  handed_over_at_ = std::move(still);
  return seen;
}

Rebalancer::Sums Rebalancer::AddUp(const Placement& placement) const {
  Sums sums;
  for (const NodeId node : staying_) {
    sums.copies[node] = 0;
    if (!unfit_.contains(node)) sums.primaries[node] = 0;
  }
  for (uint32_t p = 0; p < placement.homes().size(); ++p) {
    const Placement::Home& home = placement.homes()[p];
    const double weight = WeightOf(p);
    const auto add = [&](NodeId node) {
      if (const auto load = sums.copies.find(node); load != sums.copies.end()) load->second += weight;
    };
    add(home.primary);
    for (const Placement::Replica& replica : home.replicas) add(replica.node);
    if (const auto load = sums.primaries.find(home.primary); load != sums.primaries.end()) {
      load->second += loads_.OfKeys(p);
    }
  }
  return sums;
}

// There are more copies than there have to be: the one goes that is where it should not be, or where most is.
bool Rebalancer::Shed(Placement& placement, uint32_t partition, TimePoint now) {
  const Placement::Home& home = placement.homes()[partition];
  if (InSync(home) <= needed_) return false;
  NodeId goes = home.primary;
  const auto burden = [&](NodeId node) { return Stays(node) ? sums_.copies.at(node) : HUGE_VAL; };
  for (const Placement::Replica& replica : home.replicas) {
    if (replica.in_sync && burden(replica.node) >= burden(goes)) goes = replica.node;
  }
  if (goes != home.primary) {
    placement.DropReplica(partition, goes);
    if (Stays(goes)) sums_.copies[goes] -= WeightOf(partition);
    return true;
  }
  std::optional<NodeId> heir;
  for (const Placement::Replica& replica : home.replicas) {
    if (!replica.in_sync || !Stays(replica.node)) continue;
    if (unfit_.contains(replica.node)) continue;
    if (!heir || sums_.primaries.at(replica.node) < sums_.primaries.at(*heir)) heir = replica.node;
  }
  return heir && HandOver(placement, partition, *heir, /*stays=*/false, now);
}

// Its primary cannot write, or takes long to, and another could. If none is fit, all stays as it is.
bool Rebalancer::Relieve(Placement& placement, uint32_t partition, TimePoint now) {
  const Placement::Home& home = placement.homes()[partition];
  if (!unfit_.contains(home.primary)) return false;
  std::optional<NodeId> heir;
  for (const Placement::Replica& replica : home.replicas) {
    if (!replica.in_sync || !sums_.primaries.contains(replica.node)) continue;
    if (!heir || sums_.primaries.at(replica.node) < sums_.primaries.at(*heir)) heir = replica.node;
  }
  return heir && HandOver(placement, partition, *heir, /*stays=*/Stays(home.primary), now);
}

// It has a copy on a server that is drained, and too few elsewhere.
bool Rebalancer::LeaveDraining(Placement& placement, uint32_t partition) {
  const Placement::Home& home = placement.homes()[partition];
  uint32_t staying = Stays(home.primary) ? 1 : 0;
  bool draining = staying == 0;
  for (const Placement::Replica& replica : home.replicas) {
    staying += Stays(replica.node) ? 1 : 0;
    draining |= !Stays(replica.node);
  }
  if (!draining || staying >= std::min<size_t>(needed_, staying_.size())) return false;
  std::optional<NodeId> least;
  for (const auto& [node, load] : sums_.copies) {
    if (!HasCopy(home, node) && (!least || load < sums_.copies.at(*least))) least = node;
  }
  return least && Learn(placement, partition, *least);
}

bool Rebalancer::LevelCopies(Placement& placement) {
  const Gap gap(sums_.copies);
  std::optional<uint32_t> best;
  for (uint32_t p = 0; p < placement.homes().size(); ++p) {
    const Placement::Home& home = placement.homes()[p];
    const bool at_rest = !home.taking_over && home.replicas.size() + 1 == needed_ && InSync(home) == needed_;
    if (!at_rest || !HasCopy(home, gap.from) || HasCopy(home, gap.to)) continue;
    if (!gap.Worth(WeightOf(p), kToleratedCopies)) continue;
    if (!best || gap.LeftBy(WeightOf(p)) < gap.LeftBy(WeightOf(*best))) best = p;
  }
  if (!best || !Learn(placement, *best, gap.to)) return false;
  // As it will be: the copy that goes is on the server that has most.
  sums_.copies[gap.from] -= WeightOf(*best);
  return true;
}

bool Rebalancer::LevelPrimaries(Placement& placement, TimePoint now) {
  const Gap gap(sums_.primaries);
  std::optional<uint32_t> best;
  for (uint32_t p = 0; p < placement.homes().size(); ++p) {
    const Placement::Home& home = placement.homes()[p];
    if (home.taking_over || home.primary != gap.from || !HasInSync(home, gap.to)) continue;
    if (!gap.Worth(loads_.OfKeys(p), kToleratedPrimaries)) continue;
    const auto levelled = levelled_at_.find(p);
    if (levelled != levelled_at_.end() && now < levelled->second + kLevelAgainAfter) continue;
    if (!best || gap.LeftBy(loads_.OfKeys(p)) < gap.LeftBy(loads_.OfKeys(*best))) best = p;
  }
  if (!best || !HandOver(placement, *best, gap.to, /*stays=*/true, now)) return false;
  levelled_at_[*best] = now;
  return true;
}

bool Rebalancer::Learn(Placement& placement, uint32_t partition, NodeId node) {
  const NodeId primary = placement.homes()[partition].primary;
  if (under_way_.learners[primary] >= kLearnersAtOnce || under_way_.learners[node] >= kLearnersAtOnce) return false;
  ++under_way_.learners[primary];
  ++under_way_.learners[node];
  sums_.copies[node] += WeightOf(partition);
  placement.AddLearner(partition, node);
  return true;
}

bool Rebalancer::HandOver(Placement& placement, uint32_t partition, NodeId to, bool stays, TimePoint now) {
  const auto wait = not_before_.find(partition);
  if (under_way_.handed_over >= kHandOversAtOnce || (wait != not_before_.end() && now < wait->second)) return false;
  if (wave_at_ && *wave_at_ != now && now < *wave_at_ + kWaveEvery) {
    next_wave_ = *wave_at_ + kWaveEvery;
    return false;
  }
  wave_at_ = now;
  ++under_way_.handed_over;
  handed_over_at_[partition] = now;
  const double load = loads_.OfKeys(partition);
  const NodeId from = placement.homes()[partition].primary;
  if (const auto sum = sums_.primaries.find(from); sum != sums_.primaries.end()) sum->second -= load;
  if (const auto sum = sums_.primaries.find(to); sum != sums_.primaries.end()) sum->second += load;
  placement.HandOver(partition, to, stays);
  return true;
}

}  // namespace sheaf
