#include "scheduler/placement.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/check.h"
#include "common/base/planted_bug.h"

namespace sheaf {

void Placement::Restore(const std::vector<pb::PartitionConfig>& saved) {
  for (size_t p = 0; p < homes_.size() && p < saved.size(); ++p) {
    Home& home = homes_[p];
    home.primary = NodeId(saved[p].primary());
    home.epoch = Epoch(saved[p].epoch());
    home.former = NodeId(saved[p].former());
    home.taking_over = saved[p].taking_over();  // whether that is settled by now we shall hear
    home.handed_over = saved[p].handed_over();
    home.replicas.clear();
    for (const pb::Replica& replica : saved[p].replica()) {
      home.replicas.push_back({NodeId(replica.node()), replica.since(), replica.in_sync()});
    }
  }
}

pb::PartitionConfig Placement::Describe(const Home& home) {
  pb::PartitionConfig partition;
  partition.set_epoch(home.epoch.value);
  partition.set_primary(home.primary.value);
  for (const Replica& replica : home.replicas) {
    pb::Replica& added = *partition.add_replica();
    added.set_node(replica.node.value);
    added.set_since(replica.since);
    added.set_in_sync(replica.in_sync);
  }
  if (home.former != NodeId()) partition.set_former(home.former.value);
  if (home.taking_over) partition.set_taking_over(true);
  if (home.handed_over) partition.set_handed_over(true);
  return partition;
}

bool Placement::Balance(const std::vector<NodeId>& servers) {
  bool moved = false;
  const auto move = [&](Home& home, NodeId to) {
    home.primary = to;
    home.epoch = Epoch(home.epoch.value + 1);
    home.replicas.clear();
    home.former = {};
    home.taking_over = home.handed_over = false;
    NoteChange(home);
    moved = true;
  };
  if (servers.empty()) {
    for (Home& home : homes_) {
      if (home.primary != NodeId(0)) move(home, NodeId(0));
    }
    return moved;
  }

  const size_t share = homes_.size() / servers.size();
  size_t with_one_more = homes_.size() % servers.size();
  std::map<NodeId, std::vector<Home*>> held;
  for (NodeId server : servers) held[server];
  std::vector<Home*> homeless;
  for (Home& home : homes_) {
    const auto it = held.find(home.primary);
    if (it == held.end()) {
      homeless.push_back(&home);
    } else {
      it->second.push_back(&home);
    }
  }

  // Those that hold most keep the extra partition, so that it does not move for nothing.
  std::vector<NodeId> by_load = servers;
  std::stable_sort(by_load.begin(), by_load.end(),
                   [&](NodeId a, NodeId b) { return held[a].size() > held[b].size(); });
  std::map<NodeId, size_t> quota;
  for (NodeId server : by_load) {
    quota[server] = share + (with_one_more > 0 ? 1 : 0);
    if (with_one_more > 0) --with_one_more;
  }
  for (NodeId server : servers) {
    auto& mine = held[server];
    while (mine.size() > quota[server]) {
      homeless.push_back(mine.back());
      mine.pop_back();
    }
  }
  // Neighbours stay together: a server's share of a sorted key list is then one stretch of it. (Not round robin, which
  // would also put all of a server's partitions on one shard when servers and shards have a common divisor.)
  std::sort(homeless.begin(), homeless.end());
  auto server = servers.begin();
  for (Home* home : homeless) {
    while (held[*server].size() >= quota[*server]) ++server;
    held[*server].push_back(home);
    move(*home, *server);
  }
  return moved;
}

// Copies are those of what the process before did: they begin anew.
void Placement::Renew(NodeId server) {
  for (Home& home : homes_) {
    if (home.primary != server) continue;
    home.epoch = Epoch(home.epoch.value + 1);
    NoteChange(home);
    BeginAnew(home);
  }
}

void Placement::BeginAnew(Home& home) {
  for (Replica& replica : home.replicas) replica = {.node = replica.node};
}

// So that what one server did is shared by several.
NodeId Placement::LeastLoadedBackup(const Home& home) const {
  NodeId least;
  for (const Replica& replica : home.replicas) {
    if (!replica.in_sync && !Planted(Bug::kPromotedLearner)) continue;
    if (least == NodeId() || CountOn(replica.node) < CountOn(least)) least = replica.node;
  }
  return least;
}

Placement::Lost Placement::Lose(NodeId server, bool keeps) {
  Lost lost;
  for (Home& home : homes_) {
    if (std::erase_if(home.replicas, [&](const Replica& replica) { return replica.node == server; }) > 0) {
      NoteChange(home);
    }
    if (home.former == server && home.handed_over) {
      // Who takes it over has all that was acknowledged; of the rest it may have more or less than other copies.
      home.handed_over = false;
      if (!keeps) home.former = {};
      BeginAnew(home);
      NoteChange(home);
    }
    if (home.primary != server) continue;
    if (home.taking_over) {
      GiveBack(home, lost);
    } else if (const NodeId next = LeastLoadedBackup(home); next != NodeId()) {
      home.former = keeps ? server : NodeId();
      home.taking_over = true;
      home.moved = 0;
      MoveTo(home, next);
    }
  }
  return lost;
}

// Who was to take it over has answered nobody.
void Placement::GiveBack(Home& home, Lost& lost) {
  const NodeId former = std::exchange(home.former, {});
  const bool former_lives = std::exchange(home.handed_over, false);
  home.taking_over = false;
  lost.any = true;
  if (former == NodeId()) {
    lost.rows = true;
    return NoteChange(home);
  }
  if (!former_lives) lost.given_back.insert(former);
  MoveTo(home, former);
}

void Placement::MoveTo(Home& home, NodeId next) {
  home.primary = next;
  home.epoch = Epoch(home.epoch.value + 1);
  std::erase_if(home.replicas, [&](const Replica& replica) { return replica.node == next; });
  // Others may have more or less of what was not acknowledged yet than the new primary.
  BeginAnew(home);
  NoteChange(home);
}

void Placement::HandOver(uint32_t partition, NodeId to, bool stays) {
  Home& home = homes_.at(partition);
  const auto heir = std::ranges::find(home.replicas, to, &Replica::node);
  SHEAF_CHECK(heir != home.replicas.end() && heir->in_sync && !home.taking_over, "partition ", partition);
  home.replicas.erase(heir);
  for (Replica& replica : home.replicas) {
    if (!replica.in_sync) replica = {.node = replica.node};
  }
  if (stays) home.replicas.push_back({.node = home.primary, .in_sync = true});
  home.former = std::exchange(home.primary, to);
  home.epoch = Epoch(home.epoch.value + 1);
  home.taking_over = home.handed_over = true;
  home.moved = 0;
  NoteChange(home);
}

void Placement::TakeBack(uint32_t partition) {
  SHEAF_CHECK(homes_.at(partition).handed_over, "partition ", partition);
  Lost nothing;
  GiveBack(homes_[partition], nothing);
}

void Placement::AddLearner(uint32_t partition, NodeId node) {
  homes_.at(partition).replicas.push_back({.node = node});
  NoteChange(homes_[partition]);
}

void Placement::DropReplica(uint32_t partition, NodeId node) {
  std::erase_if(homes_.at(partition).replicas, [&](const Replica& replica) { return replica.node == node; });
  NoteChange(homes_[partition]);
}

Placement::Lost Placement::NoteAbsent(NodeId server, uint32_t partition, uint64_t generation) {
  Lost lost;
  if (partition >= homes_.size()) return lost;
  Home& home = homes_[partition];
  if (home.primary != server || !home.taking_over || home.moved == 0 || home.moved > generation) return lost;
  GiveBack(home, lost);
  return lost;
}

bool Placement::Settle(NodeId server, uint64_t generation) {
  bool settled = false;
  for (Home& home : homes_) {
    if (home.primary != server || !home.taking_over || home.moved == 0 || home.moved > generation) continue;
    home.former = {};
    home.taking_over = false;
    if (std::exchange(home.handed_over, false)) ++handed_over_;
    NoteChange(home);
    settled = true;
  }
  return settled;
}

bool Placement::Replicate(const std::vector<NodeId>& servers, uint32_t copies) {
  bool listed = false;
  std::map<NodeId, size_t> load;  // copies of all kinds
  for (const NodeId server : servers) load[server];
  for (const Home& home : homes_) {
    if (const auto found = load.find(home.primary); found != load.end()) ++found->second;
    for (const Replica& replica : home.replicas) {
      if (const auto found = load.find(replica.node); found != load.end()) ++found->second;
    }
  }
  for (Home& home : homes_) {
    if (home.primary == NodeId()) continue;
    while (home.replicas.size() + 1 < copies) {
      const NodeId* least = nullptr;
      for (const NodeId& server : servers) {
        if (server == home.primary || std::ranges::find(home.replicas, server, &Replica::node) != home.replicas.end()) {
          continue;
        }
        if (least == nullptr || load[server] < load[*least]) least = &server;
      }
      if (least == nullptr) break;
      ++load[*least];
      home.replicas.push_back({.node = *least});
      NoteChange(home);
      listed = true;
    }
  }
  return listed;
}

bool Placement::Note(NodeId primary, uint32_t partition, NodeId node, uint64_t since, bool lost) {
  if (partition >= homes_.size() || homes_[partition].primary != primary) return false;
  std::vector<Replica>& replicas = homes_[partition].replicas;
  const auto found = std::ranges::find(replicas, node, &Replica::node);
  if (found == replicas.end() || found->since == 0) return false;
  if (found->since != since && !Planted(Bug::kSyncOutdated)) return false;
  if (!lost && found->in_sync) return false;
  NoteChange(homes_[partition]);
  if (lost) {
    *found = {.node = node};
  } else {
    found->in_sync = true;
  }
  return true;
}

void Placement::Stamp(uint64_t generation) {
  for (Home& home : homes_) {
    if (home.taking_over && home.moved == 0) home.moved = generation;
    for (Replica& replica : home.replicas) {
      if (replica.since != 0) continue;
      replica.since = generation;
      NoteChange(home);
    }
  }
}

bool Placement::CanLose(NodeId server) const {
  return std::ranges::all_of(homes_, [&](const Home& home) {
    if (home.primary != server) return true;
    // What it was about to be handed goes back to who has it.
    if (home.handed_over && home.former != NodeId()) return true;
    return !home.taking_over && std::ranges::any_of(home.replicas, &Replica::in_sync);
  });
}

uint32_t Placement::CountOn(NodeId server) const {
  return static_cast<uint32_t>(
      std::count_if(homes_.begin(), homes_.end(), [&](const Home& home) { return home.primary == server; }));
}

}  // namespace sheaf
