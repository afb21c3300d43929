#include "scheduler/placement.h"

#include <algorithm>
#include <map>

namespace sheaf {

void Placement::Restore(const std::vector<pb::PartitionConfig>& saved) {
  for (size_t p = 0; p < homes_.size() && p < saved.size(); ++p) {
    homes_[p] = {NodeId(saved[p].primary()), Epoch(saved[p].epoch())};
  }
}

pb::PartitionConfig Placement::Describe(const Home& home) {
  pb::PartitionConfig partition;
  partition.set_epoch(home.epoch.value);
  partition.set_primary(home.primary.value);
  return partition;
}

bool Placement::Balance(const std::vector<NodeId>& servers) {
  bool moved = false;
  const auto move = [&](Home& home, NodeId to) {
    home.primary = to;
    home.epoch = Epoch(home.epoch.value + 1);
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

void Placement::Renew(NodeId server) {
  for (Home& home : homes_) {
    if (home.primary != server) continue;
    home.epoch = Epoch(home.epoch.value + 1);
    NoteChange(home);
  }
}

uint32_t Placement::CountOn(NodeId server) const {
  return static_cast<uint32_t>(
      std::count_if(homes_.begin(), homes_.end(), [&](const Home& home) { return home.primary == server; }));
}

}  // namespace sheaf
