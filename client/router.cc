#include "client/router.h"

#include <algorithm>

#include "common/base/partition.h"
#include "common/base/placement.h"

namespace sheaf {
namespace {

constexpr uint32_t kMaxDim = 65536;

std::string ServerName(const pb::ServerInfo& server) {
  return server.name().empty() ? "server " + std::to_string(server.node()) : server.name();
}

}  // namespace

Router::Router(const pb::ClusterConfig& config) : generation_(config.generation()) {
  for (const pb::TableSpec& table : config.table()) {
    if (table.dim() >= 1 && table.dim() <= kMaxDim) table_dim_[table.id()] = table.dim();
  }
  const uint32_t count = config.partition_count();
  if (config.partition_size() == 0) {
    obstacle_ = "no server has joined the cluster yet";
    return;
  }
  if (count == 0 || count > kMaxPartitions || static_cast<uint32_t>(config.partition_size()) != count) {
    obstacle_ = "the configuration names " + std::to_string(config.partition_size()) + " of " + std::to_string(count) +
                " partitions";
    return;
  }
  std::map<uint32_t, const pb::ServerInfo*> servers;
  for (const pb::ServerInfo& server : config.server()) servers[server.node()] = &server;

  std::map<std::pair<uint32_t, uint32_t>, std::shared_ptr<PartitionSet>> sets;   // by node and shard
  for (uint32_t p = 0; p < count; ++p) {
    const auto server = servers.find(config.partition(p).primary());
    if (server == servers.end() || server->second->shard_size() == 0) {
      obstacle_ = "partition " + std::to_string(p) + " has no server now";
      return;
    }
    auto& set = sets[{server->first, p % static_cast<uint32_t>(server->second->shard_size())}];
    if (!set) set = std::make_shared<PartitionSet>();
    set->ids.push_back(p);
    set->epochs.push_back(config.partition(p).epoch());
  }
  shard_of_.resize(count);
  epoch_of_.resize(count);
  first_key_.resize(count);
  for (auto& [where, set] : sets) {
    const pb::ServerInfo& server = *servers[where.first];
    const pb::ShardEndpoint& shard = server.shard(static_cast<int>(where.second));
    for (size_t i = 0; i < set->ids.size(); ++i) {
      shard_of_[set->ids[i]] = static_cast<uint32_t>(shards_.size());
      epoch_of_[set->ids[i]] = set->epochs[i];
    }
    set->placement = PlacementSignature(set->ids, set->epochs);
    shards_.push_back({PeerId(shard.peer()), ServerName(server), shard.address(), std::move(set)});
  }
  for (uint32_t p = 0; p < count; ++p) first_key_[p] = PartitionFirstKey(PartitionId(p), count);
  obstacle_.clear();
}

bool Router::IsWhole(const PartitionSet& partitions) const {
  return partitions.placement != 0 && partitions.ids.front() < partition_count() &&
         shards_[shard_of_[partitions.ids.front()]].partitions->placement == partitions.placement;
}

bool Router::StillAt(PeerId peer, const PartitionSet& partitions) const {
  for (size_t i = 0; i < partitions.ids.size(); ++i) {
    const uint32_t p = partitions.ids[i];
    if (p >= partition_count() || epoch_of_[p] != partitions.epochs[i] || shards_[shard_of_[p]].peer != peer) {
      return false;
    }
  }
  return true;
}

bool Router::SamePlacement(const Router& other) const {
  return routable() == other.routable() && partition_count() == other.partition_count() &&
         std::ranges::equal(shards_, other.shards_,
                            [](const ShardRoute& a, const ShardRoute& b) { return a.SamePlacement(b); });
}

uint32_t Router::TableDim(TableId table) const {
  const auto at = table_dim_.find(table.value);
  return at == table_dim_.end() ? 0 : at->second;
}

void Router::FindBounds(std::span<const HashedKey> keys, std::vector<uint32_t>& bounds) const {
  const uint32_t count = partition_count();
  const size_t n = keys.size();
  bounds.resize(count + 1);
  bounds[0] = 0;
  bounds[count] = static_cast<uint32_t>(n);
  if (n <= count) {  // more partitions than keys: one pass over both
    size_t at = 0;
    for (uint32_t p = 1; p < count; ++p) {
      while (at < n && keys[at] < first_key_[p]) ++at;
      bounds[p] = static_cast<uint32_t>(at);
    }
    return;
  }
  // Hashed keys are spread evenly: a boundary is near where it would be if they were spread exactly, and from the key
  // there one more step of interpolation leaves a few keys to look at. Lists that are not so are searched as any other.
  constexpr uint32_t kAhead = 4;
  constexpr size_t kMostSteps = 64;
  size_t at = 0;
  for (uint32_t p = 1; p < count; ++p) {
    const HashedKey first = first_key_[p];
    __builtin_prefetch(keys.data() + uint64_t{n} * std::min(p + kAhead, count - 1) / count);
    const size_t expected = uint64_t{n} * p / count;
    const HashedKey near = keys[expected];
    const auto distance = [n](HashedKey from, HashedKey to) {
      return static_cast<size_t>((static_cast<unsigned __int128>(to - from) * n) >> 64);
    };
    const size_t guess = near < first ? std::min(n, expected + distance(near, first))
                                      : expected - std::min(expected, distance(first, near));
    const size_t low = guess - std::min(guess, kMostSteps), high = std::min(n, guess + kMostSteps);
    at = guess;
    while (at < high && keys[at] < first) ++at;
    while (at > low && keys[at - 1] >= first) --at;
    const bool found = (at == n || keys[at] >= first) && (at == 0 || keys[at - 1] < first);
    if (!found) at = static_cast<size_t>(std::ranges::lower_bound(keys, first) - keys.begin());
    bounds[p] = static_cast<uint32_t>(at);
  }
}

}  // namespace sheaf
