// The copies of a shard's partitions on other servers, from the primary's side: who has which, who is told of what
// comes, and up to where each must have it before it is answered. See docs/protocol.md, "Replicas".
//
// A partition that was handed over to us as planned is left to its copies as they are; who hands one over goes on with
// the streams to those that have copies of it, until they have all.
// A backup gets partitions one after the other: the image of each goes into the stream of what the shard does, so what
// came before it is in it and what comes after follows. When the backup has the image, nothing is answered any more
// that it does not have; when it also has what was answered until then, it is in sync, and the scheduler is told.
// A state machine without I/O, owned by Shard. Thread-safety: none. The core is lent for each call, always the same.
// Algorithm: primary-backup with a configuration manager (Lin et al., "PacificA", MSR-TR-2008-25).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "proto/control.pb.h"
#include "server/replica_stream.h"
#include "server/shard_core.h"

namespace sheaf {

class ReplicaSet {
 public:
  using Config = std::shared_ptr<const pb::ClusterConfig>;
  // How far each stream has to be taken: (name, bytes).
  using Marks = std::vector<std::pair<uint64_t, uint64_t>>;

  explicit ReplicaSet(PeerId self);

  // The core has taken this configuration, or what it hands over.
  void OnConfig(Config config, ShardCore& core);
  void OnReply(PeerId from, const pb::ReplicateReply& reply, TimePoint now, ShardCore& core);
  // Sends what the core has done since, and the next image to who is ready for it.
  void Flush(TimePoint now, ShardCore& core, Outbox& out);

  // Nothing that is said has to wait.
  bool idle() const { return backups_.empty() && !unsettled_; }
  // What must be taken before that may be told which the core has done until now.
  Marks Needed() const;
  bool Reached(const Marks& marks) const;
  // An heir will not get all that we did: what waits for it must not be answered any more.
  bool TakeVoided() { return std::exchange(voided_, false); }
  // What the scheduler's configuration does not say yet.
  std::vector<pb::SyncedReplica> Synced() const;
  // Rises whenever that changes.
  uint64_t news() const { return news_; }

  // Shards that must be reachable from now on, and those that nobody speaks to any more.
  std::vector<pb::ShardEndpoint> TakeConnections() { return std::exchange(connections_, {}); }
  std::vector<PeerId> TakeDisconnections() { return std::exchange(disconnections_, {}); }

 private:
  // Of one partition.
  struct Copy {
    pb::Replica replica;          // as the configuration has it
    bool given = false;           // its image is in the stream,
    uint64_t image_end = 0;       // up to here
    bool awaited = false;         // it has been taken: nothing is answered any more that this copy does not have,
    uint64_t answered_end = 0;    // but what came before this may have been
    bool synced = false;          // it has all that was answered
  };
  struct Backup {
    Backup(uint64_t name, PeerId to) : stream(name, to) {}

    ReplicaStream stream;
    std::map<uint32_t, Copy> copies;
    uint64_t last_image_end = 0;
    bool heir = false;            // it is to have all that we did to what we have handed over
    bool lost = false;            // it has lost what it had of the stream: the scheduler must say what it is now

    // The scheduler may make it a primary, now or when it hears our last report.
    bool InSync() const;
    bool Awaited() const;
    bool HasAll() const { return stream.taken() >= stream.written(); }
    // Returns whether a copy is in sync now that was not.
    bool OnTaken();
  };
  using Wanted = std::map<PeerId, std::map<uint32_t, pb::Replica>>;

  Wanted WantedBy(const pb::ClusterConfig& config);
  // Adds who is to have what we did to a partition that we hand over.
  void AddHeirs(const pb::ClusterConfig& config, uint32_t partition);
  void Begin(PeerId to, const std::map<uint32_t, pb::Replica>& wanted, ShardCore& core);
  void Change(Backup& backup, const std::map<uint32_t, pb::Replica>& wanted, ShardCore& core);
  void BeginAnew(Backup& backup, ShardCore& core);
  void LeaveKept(Backup& backup, ShardCore& core);
  void GiveNext(Backup& backup, ShardCore& core);
  // We speak to it no longer.
  void End(PeerId backup, ShardCore& core);

  const PeerId self_;
  Config config_;
  bool unsettled_ = false;                             // the scheduler does not know yet what we have taken over
  std::map<PeerId, std::unique_ptr<Backup>> backups_;  // by shard; never moved, as the core writes to their streams
  std::map<PeerId, pb::ShardEndpoint> endpoints_;      // of those that the configuration wants
  std::set<PeerId> heirs_;
  std::set<PeerId> present_;                           // all shards of the cluster
  uint64_t next_name_;                                 // of a stream: none of a process before had it
  uint64_t news_ = 0;
  bool voided_ = false;
  std::vector<pb::ShardEndpoint> connections_;
  std::vector<PeerId> disconnections_;
};

}  // namespace sheaf
