#include "server/replica_set.h"

#include <algorithm>

#include "common/base/planted_bug.h"
#include "common/base/random.h"

namespace sheaf {
namespace {

// Images are given while less than this is on its way: what comes to a shard meanwhile waits behind them.
constexpr uint64_t kImageBytesAhead = uint64_t{4} << 20;

constexpr uint64_t kSettled = 0;  // no stream's name: a mark that waits for the scheduler
// A backup that takes nothing for so long may be heard by the scheduler, and not by us, or be stuck.
constexpr Duration kStuckAfter = std::chrono::seconds(5);

const pb::ServerInfo* FindServer(const pb::ClusterConfig& config, uint32_t node) {
  for (const pb::ServerInfo& server : config.server()) {
    if (server.node() == node) return &server;
  }
  return nullptr;
}

}  // namespace

// Answers to a process that had our address before must not be taken for ones to us.
ReplicaSet::ReplicaSet(PeerId self)
    : self_(self), next_name_((Planted(Bug::kStreamNamesRepeat) ? 0 : MixKey(self.value) << 32) + 1) {}

bool ReplicaSet::Backup::InSync() const {
  return std::ranges::any_of(copies,
                             [](const auto& copy) { return copy.second.synced || copy.second.replica.in_sync(); });
}

bool ReplicaSet::Backup::Awaited() const {
  return InSync() || std::ranges::any_of(copies, [](const auto& copy) { return copy.second.awaited; });
}

bool ReplicaSet::Backup::OnTaken() {
  bool news = false;
  for (auto& [partition, copy] : copies) {
    if (copy.given && !copy.awaited && stream.taken() >= copy.image_end) {
      copy.awaited = true;
      copy.answered_end = Planted(Bug::kSyncedByImage) ? 0 : stream.written();
    }
    if (copy.synced || !copy.awaited || stream.taken() < copy.answered_end) continue;
    copy.synced = news = true;
  }
  return news;
}

// Which shard is to have which of our partitions.
ReplicaSet::Wanted ReplicaSet::WantedBy(const pb::ClusterConfig& config) {
  endpoints_.clear();
  heirs_.clear();
  present_.clear();
  unsettled_ = false;
  Wanted wanted;
  const pb::ServerInfo* us = nullptr;
  uint32_t place = 0;
  for (const pb::ServerInfo& server : config.server()) {
    for (int i = 0; i < server.shard_size(); ++i) {
      present_.insert(PeerId(server.shard(i).peer()));
      if (PeerId(server.shard(i).peer()) != self_) continue;
      us = &server;
      place = static_cast<uint32_t>(i);
    }
  }
  if (us == nullptr) return wanted;
  const auto count = static_cast<uint32_t>(config.partition_size());
  for (uint32_t p = place; p < count; p += static_cast<uint32_t>(us->shard_size())) {
    const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
    if (partition.handed_over() && partition.former() == us->node()) AddHeirs(config, p);
    if (partition.primary() != us->node()) continue;
    unsettled_ |= partition.taking_over() && !Planted(Bug::kUnsettledAnswers);
    for (const pb::Replica& replica : partition.replica()) {
      const pb::ServerInfo* const server = FindServer(config, replica.node());
      if (server == nullptr || server->shard_size() == 0) continue;
      const pb::ShardEndpoint& shard = server->shard(static_cast<int>(p) % server->shard_size());
      endpoints_[PeerId(shard.peer())] = shard;
      wanted[PeerId(shard.peer())][p] = replica;
    }
  }
  return wanted;
}

void ReplicaSet::AddHeirs(const pb::ClusterConfig& config, uint32_t p) {
  const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
  const auto add = [&](uint32_t node) {
    const pb::ServerInfo* const server = FindServer(config, node);
    if (server == nullptr || server->shard_size() == 0) return;
    heirs_.insert(PeerId(server->shard(static_cast<int>(p) % server->shard_size()).peer()));
  };
  add(partition.primary());
  for (const pb::Replica& replica : partition.replica()) {
    if (replica.in_sync()) add(replica.node());
  }
}

void ReplicaSet::OnConfig(Config config, ShardCore& core) {
  config_ = std::move(config);
  const Wanted wanted = WantedBy(*config_);
  ++news_;
  std::vector<PeerId> over;
  for (auto& [peer, backup] : backups_) {
    backup->heir |= heirs_.contains(peer) && !Planted(Bug::kHeirsForgotten);
    if (wanted.contains(peer)) continue;
    if (backup->heir && present_.contains(peer)) {
      Change(*backup, {}, core);
      if (heirs_.contains(peer) || !backup->HasAll()) continue;
    }
    over.push_back(peer);
  }
  for (const PeerId peer : over) End(peer, core);
  for (const auto& [peer, partitions] : wanted) {
    const auto found = backups_.find(peer);
    if (found == backups_.end()) {
      connections_.push_back(endpoints_.at(peer));
      Begin(peer, partitions, core);
    } else {
      Change(*found->second, partitions, core);
    }
    if (!Planted(Bug::kKeptTooLate)) LeaveKept(*backups_.at(peer), core);
  }
}

void ReplicaSet::Begin(PeerId to, const std::map<uint32_t, pb::Replica>& wanted, ShardCore& core) {
  auto& backup = backups_[to] = std::make_unique<Backup>(next_name_++, to);
  for (const auto& [partition, replica] : wanted) backup->copies[partition].replica = replica;
  core.BeginCopy(backup->stream.name(), *config_,
                 [stream = &backup->stream](const std::vector<Buffer>& pieces) { stream->Write(pieces); });
}

void ReplicaSet::Change(Backup& backup, const std::map<uint32_t, pb::Replica>& wanted, ShardCore& core) {
  std::set<uint32_t> gone;
  for (auto at = backup.copies.begin(); at != backup.copies.end();) {
    const auto now_it = wanted.find(at->first);
    if (now_it != wanted.end() && now_it->second.since() == at->second.replica.since()) {
      at->second.replica = now_it->second;
      ++at;
      continue;
    }
    gone.insert(at->first);
    at = backup.copies.erase(at);
  }
  if (backup.lost && !backup.InSync()) {
    voided_ |= backup.heir;
    const PeerId to = backup.stream.to();
    core.EndCopy(backup.stream.name());
    return Begin(to, wanted, core);
  }
  core.TakeFromCopy(backup.stream.name(), gone, *config_);
  for (const auto& [partition, replica] : wanted) backup.copies[partition].replica = replica;
}

void ReplicaSet::OnReply(PeerId from, const pb::ReplicateReply& reply, TimePoint now, ShardCore& core) {
  const auto found = backups_.find(from);
  if (found == backups_.end() || found->second->stream.name() != reply.stream()) return;
  Backup& backup = *found->second;
  if (reply.unknown()) {
    return BeginAnew(backup, core);
  }
  if (backup.lost) return;
  backup.stream.OnReply(reply, now);
  if (backup.OnTaken()) ++news_;
  if (backup.heir && backup.copies.empty() && backup.HasAll() && !heirs_.contains(from)) End(from, core);
}

void ReplicaSet::End(PeerId backup, ShardCore& core) {
  core.EndCopy(backups_.at(backup)->stream.name());
  backups_.erase(backup);
  disconnections_.push_back(backup);
}

// Nobody may be answered by its word any more. If others may believe that it has all, they must learn first.
void ReplicaSet::BeginAnew(Backup& backup, ShardCore& core) {
  if (backup.InSync()) {
    backup.lost = true;
    ++news_;
    return;
  }
  voided_ |= backup.heir;
  const PeerId to = backup.stream.to();
  std::map<uint32_t, pb::Replica> wanted;
  for (const auto& [partition, copy] : backup.copies) wanted[partition] = copy.replica;
  core.EndCopy(backup.stream.name());
  Begin(to, wanted, core);
}

// It has them from the primary before, who has handed them over to us: before anything comes to them.
void ReplicaSet::LeaveKept(Backup& backup, ShardCore& core) {
  if (backup.lost) return;
  for (auto& [partition, copy] : backup.copies) {
    if (copy.given || !copy.replica.in_sync() || !std::ranges::binary_search(core.owned(), partition)) continue;
    core.LeaveToCopy(backup.stream.name(), partition, *config_);
    copy.given = copy.awaited = copy.synced = true;
  }
}

void ReplicaSet::GiveNext(Backup& backup, ShardCore& core) {
  for (auto& [partition, copy] : backup.copies) {
    const uint64_t ahead = backup.last_image_end - std::min(backup.stream.taken(), backup.last_image_end);
    if (ahead >= kImageBytesAhead) return;
    const bool kept = copy.replica.in_sync();
    if (copy.given || kept || !std::ranges::binary_search(core.owned(), partition)) continue;
    if (!core.Thaw(partition)) return;  // its image is made at once, without waiting for the disk
    core.GiveToCopy(backup.stream.name(), partition);
    copy.given = true;
    copy.image_end = backup.last_image_end = backup.stream.written();
    if (Planted(Bug::kSyncedBeforeImage)) copy.awaited = copy.synced = true;
  }
}

void ReplicaSet::Flush(TimePoint now, ShardCore& core, Outbox& out) {
  for (auto& [peer, backup] : backups_) {
    if (!backup->lost && backup->stream.WaitsSince(now - kStuckAfter)) BeginAnew(*backup, core);
    if (backup->lost) continue;
    if (Planted(Bug::kKeptTooLate)) LeaveKept(*backup, core);
    GiveNext(*backup, core);
    backup->stream.Flush(now, out);
  }
}

ReplicaSet::Marks ReplicaSet::Needed() const {
  Marks marks;
  if (Planted(Bug::kBackupsNotAwaited)) return marks;
  if (unsettled_) marks.emplace_back(kSettled, 0);
  for (const auto& [peer, backup] : backups_) {
    if (backup->Awaited()) marks.emplace_back(backup->stream.name(), backup->stream.written());
  }
  return marks;
}

// A stream that is no more has been ended by a configuration, which does not count on it.
bool ReplicaSet::Reached(const Marks& marks) const {
  return std::ranges::all_of(marks, [this](const auto& mark) {
    if (mark.first == kSettled) return !unsettled_;
    for (const auto& [peer, backup] : backups_) {
      if (backup->stream.name() == mark.first) return backup->stream.taken() >= mark.second && !backup->lost;
    }
    return true;
  });
}

std::vector<pb::SyncedReplica> ReplicaSet::Synced() const {
  std::vector<pb::SyncedReplica> said;
  for (const auto& [peer, backup] : backups_) {
    for (const auto& [partition, copy] : backup->copies) {
      const bool news = backup->lost ? copy.synced || copy.replica.in_sync() : copy.synced && !copy.replica.in_sync();
      if (!news) continue;
      pb::SyncedReplica& replica = said.emplace_back();
      replica.set_partition(partition);
      replica.set_node(copy.replica.node());
      replica.set_since(copy.replica.since());
      if (backup->lost) replica.set_lost(true);
    }
  }
  return said;
}

}  // namespace sheaf
