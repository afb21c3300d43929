#include "common/net/config_update.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

// How each kind of element is told apart, and compared.
uint32_t KeyOf(const pb::ServerInfo& server) { return server.node(); }
uint32_t KeyOf(const pb::TableSpec& table) { return table.id(); }
uint32_t KeyOf(const pb::Lane& lane) { return lane.lane(); }
std::pair<uint64_t, uint32_t> KeyOf(const pb::Roster& roster) { return {roster.job(), roster.pass()}; }
std::pair<uint64_t, uint32_t> KeyOf(const pb::RosterUpdate& roster) { return KeyOf(roster.roster()); }

bool Same(const pb::Lane& a, const pb::Lane& b) {
  return a.start_clock() == b.start_clock() && a.has_end_clock() == b.has_end_clock() && a.end_clock() == b.end_clock();
}
bool Same(const pb::Replica& a, const pb::Replica& b) {
  return a.node() == b.node() && a.since() == b.since() && a.in_sync() == b.in_sync();
}
bool Same(const pb::PartitionConfig& a, const pb::PartitionConfig& b) {
  return a.epoch() == b.epoch() && a.primary() == b.primary() && a.former() == b.former() &&
         a.taking_over() == b.taking_over() && a.handed_over() == b.handed_over() &&
         std::equal(a.replica().begin(), a.replica().end(), b.replica().begin(), b.replica().end(),
                    [](const pb::Replica& one, const pb::Replica& other) { return Same(one, other); });
}
bool Same(const pb::ServerInfo& a, const pb::ServerInfo& b) {
  if (a.name() != b.name() || a.shard_size() != b.shard_size()) return false;
  for (int i = 0; i < a.shard_size(); ++i) {
    const pb::ShardEndpoint &one = a.shard(i), &other = b.shard(i);
    if (one.peer() != other.peer() || one.address() != other.address() || one.host() != other.host()) return false;
  }
  return true;
}
bool Same(const pb::TableSpec& a, const pb::TableSpec& b) { return a.SerializeAsString() == b.SerializeAsString(); }

// Walks two ascending lists: changed(new element) for what is new or other, gone(key) for what is no more.
template <typename List, typename Changed, typename Gone>
void Compare(const List& from, const List& to, const Changed& changed, const Gone& gone) {
  auto old = from.begin();
  for (const auto& element : to) {
    while (old != from.end() && KeyOf(*old) < KeyOf(element)) gone(KeyOf(*old++));
    if (old != from.end() && KeyOf(*old) == KeyOf(element)) {
      if (!Same(*old++, element)) changed(element);
    } else {
      changed(element);
    }
  }
  for (; old != from.end(); ++old) gone(KeyOf(*old));
}

// The reverse: `list` with the changed elements in their places and without the gone ones. Both are ascending.
template <typename List, typename Keys>
void Merge(const List& changed, const Keys& gone, List& list) {
  if (changed.empty() && gone.empty()) return;
  List merged;
  merged.Reserve(list.size() + changed.size());
  auto next = changed.begin();
  auto leaves = gone.begin();
  for (auto& element : list) {
    const auto key = KeyOf(element);
    while (next != changed.end() && KeyOf(*next) < key) *merged.Add() = *next++;
    while (leaves != gone.end() && *leaves < key) ++leaves;
    if (next != changed.end() && KeyOf(*next) == key) {
      *merged.Add() = *next++;
    } else if (leaves == gone.end() || *leaves != key) {
      merged.Add(std::move(element));
    }
  }
  while (next != changed.end()) *merged.Add() = *next++;
  list.Swap(&merged);
}

// All of a roster but its lanes.
pb::Roster Heading(const pb::Roster& roster) {
  pb::Roster heading;
  heading.set_job(roster.job());
  if (roster.has_pass()) heading.set_pass(roster.pass());
  if (roster.has_mode()) heading.set_mode(roster.mode());
  if (roster.has_staleness()) heading.set_staleness(roster.staleness());
  if (roster.has_learning_rate_scale()) heading.set_learning_rate_scale(roster.learning_rate_scale());
  return heading;
}

const pb::Roster* FindRoster(const pb::ClusterConfig& config, const std::pair<uint64_t, uint32_t>& key) {
  for (const pb::Roster& roster : config.roster()) {
    if (KeyOf(roster) == key) return &roster;
  }
  return nullptr;
}

void DiffRosters(const pb::ClusterConfig& from, const pb::ClusterConfig& to, pb::ConfigUpdate& update) {
  for (const pb::Roster& roster : to.roster()) {
    const pb::Roster* const old = FindRoster(from, KeyOf(roster));
    pb::RosterUpdate change;
    *change.mutable_roster() = Heading(roster);
    Compare(
        old == nullptr ? pb::Roster().lane() : old->lane(), roster.lane(),
        [&](const pb::Lane& lane) { *change.mutable_roster()->add_lane() = lane; },
        [&](uint32_t lane) { change.add_gone_lane(lane); });
    const bool other = old == nullptr || change.roster().lane_size() > 0 || change.gone_lane_size() > 0 ||
                       Heading(*old).SerializeAsString() != Heading(roster).SerializeAsString();
    if (other) *update.add_roster() = std::move(change);
  }
  for (const pb::Roster& roster : from.roster()) {
    if (FindRoster(to, KeyOf(roster)) != nullptr) continue;
    pb::RosterUpdate& gone = *update.add_roster();
    gone.mutable_roster()->set_job(roster.job());
    gone.mutable_roster()->set_pass(roster.pass());
    gone.set_gone(true);
  }
}

void ApplyRosters(const pb::ConfigUpdate& update, pb::ClusterConfig& config) {
  std::map<std::pair<uint64_t, uint32_t>, pb::Roster> rosters;
  for (pb::Roster& roster : *config.mutable_roster()) rosters[KeyOf(roster)] = std::move(roster);
  for (const pb::RosterUpdate& change : update.roster()) {
    if (change.gone()) {
      rosters.erase(KeyOf(change));
      continue;
    }
    pb::Roster& roster = rosters[KeyOf(change)];
    auto lanes = std::move(*roster.mutable_lane());
    Merge(change.roster().lane(), change.gone_lane(), lanes);
    roster = Heading(change.roster());
    *roster.mutable_lane() = std::move(lanes);
  }
  config.clear_roster();
  for (auto& [key, roster] : rosters) *config.add_roster() = std::move(roster);
}

}  // namespace

pb::ConfigUpdate WholeConfig(pb::ClusterConfig config) {
  pb::ConfigUpdate update;
  *update.mutable_config() = std::move(config);
  return update;
}

pb::ConfigUpdate DiffConfig(const pb::ClusterConfig& from, const pb::ClusterConfig& to) {
  pb::ConfigUpdate update;
  update.set_since(from.generation());
  pb::ClusterConfig& config = *update.mutable_config();
  config.set_generation(to.generation());
  config.set_partition_count(to.partition_count());
  Compare(
      from.server(), to.server(), [&](const pb::ServerInfo& server) { *config.add_server() = server; },
      [&](uint32_t server) { update.add_gone_server(server); });
  Compare(
      from.table(), to.table(), [&](const pb::TableSpec& table) { *config.add_table() = table; },
      [&](uint32_t table) { update.add_gone_table(table); });
  update.set_partition_size(static_cast<uint32_t>(to.partition_size()));
  for (int p = 0; p < to.partition_size(); ++p) {
    if (p < from.partition_size() && Same(from.partition(p), to.partition(p))) continue;
    update.add_partition_index(static_cast<uint32_t>(p));
    *config.add_partition() = to.partition(p);
  }
  DiffRosters(from, to, update);
  return update;
}

Status ApplyConfigUpdate(const pb::ConfigUpdate& update, pb::ClusterConfig& config) {
  if (update.since() == 0) {
    config = update.config();
    return {};
  }
  if (update.since() != config.generation() && !Planted(Bug::kUpdateOutOfTurn)) {
    return Fail(ErrorCode::kUnavailable, "an update of configuration ", update.since(), ", here is ",
                config.generation());
  }
  if (update.partition_index_size() != update.config().partition_size()) {
    return Fail(ErrorCode::kDataLoss, "an update of ", update.partition_index_size(), " partitions holds ",
                update.config().partition_size());
  }
  for (int i = 0; i < update.partition_index_size(); ++i) {
    if (update.partition_index(i) >= update.partition_size() || update.partition_size() > kMaxPartitions) {
      return Fail(ErrorCode::kDataLoss, "an update of partition ", update.partition_index(i), " of ",
                  update.partition_size());
    }
  }
  config.set_generation(update.config().generation());
  config.set_partition_count(update.config().partition_count());
  Merge(update.config().server(), update.gone_server(), *config.mutable_server());
  Merge(update.config().table(), update.gone_table(), *config.mutable_table());
  while (config.partition_size() > static_cast<int>(update.partition_size())) config.mutable_partition()->RemoveLast();
  while (config.partition_size() < static_cast<int>(update.partition_size())) config.add_partition();
  for (int i = 0; i < update.partition_index_size(); ++i) {
    *config.mutable_partition(static_cast<int>(update.partition_index(i))) = update.config().partition(i);
  }
  ApplyRosters(update, config);
  return {};
}

Status ApplyConfigUpdate(const std::string& encoded, pb::ClusterConfig& config) {
  pb::ConfigUpdate update;
  if (!update.ParseFromString(encoded))
    return Fail(ErrorCode::kDataLoss, "an update of the configuration that cannot be read");
  return ApplyConfigUpdate(update, config);
}

}  // namespace sheaf
