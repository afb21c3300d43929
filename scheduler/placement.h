// Which server holds which partition, and who has copies of it. Each change of a partition's primary raises its epoch.
//
// Balanced: servers differ by at most one partition, and a new balance moves as few as it can.
// A copy begins as a learner; when the primary says that it has all, it is in sync, and may become the primary.
// A state machine without I/O, owned by SchedulerCore.
// Algorithm: the configuration manager of PacificA (Lin et al., MSR-TR-2008-25).
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "proto/control.pb.h"

namespace sheaf {

class Placement {
 public:
  struct Replica {
    NodeId node;
    uint64_t since = 0;             // the generation of the first configuration that lists it; 0: the next one
    bool in_sync = false;
  };
  struct Home {
    NodeId primary;                 // NodeId(0): nobody
    Epoch epoch;
    std::vector<Replica> replicas;
    // The primary before, until the primary is known to have taken over: until then it has answered nobody.
    NodeId former;
    bool taking_over = false;       // so it is; there is no former one that has no store
    bool handed_over = false;       // by the former one, which lives; copies that are in sync stay so
    uint64_t moved = 0;             // the generation of the first configuration that says so; 0: the next one
  };

  explicit Placement(uint32_t partition_count) : homes_(partition_count) {}

  // As saved (SavedState): index = partition.
  void Restore(const std::vector<pb::PartitionConfig>& saved);
  // What configurations and the store say of a home.
  static pb::PartitionConfig Describe(const Home& home);
  // Partitions that are other than at the last call. Whatever changes a home must note it.
  std::set<uint32_t> TakeChanged() { return std::exchange(changed_, {}); }

  // Spreads the partitions over `servers` (ascending ids). Returns whether anything moved. What has moved begins
  // empty: this is for partitions that nothing is in.
  bool Balance(const std::vector<NodeId>& servers);
  // What it holds is held by another process of it now.
  void Renew(NodeId server);

  // The server is gone, with all that it had in memory: a backup that is in sync takes its place; where there is none
  // its partitions stay with it. What it had not taken over yet goes back to who had it before.
  // `keeps`: it has a store, and may come back with what it had when it was primary.
  struct Lost {
    bool any = false;             // something went back, or could not
    std::set<NodeId> given_back;  // to these servers, which had gone before
    bool rows = false;            // there was nobody to give some back to
  };
  Lost Lose(NodeId server, bool keeps);
  // The server has taken that configuration, and has no copy of a partition that it should have taken over by it.
  Lost NoteAbsent(NodeId server, uint32_t partition, uint64_t generation);
  // The server has taken the configuration of this generation. Returns whether that settles a take-over.
  bool Settle(NodeId server, uint64_t generation);
  // Lists learners until each partition has so many copies, or all of `servers` (those that can have one) have it.
  // Returns whether any was listed.
  bool Replicate(const std::vector<NodeId>& servers, uint32_t copies);
  // The primary hands the partition over to `to`, which has a copy in sync; it keeps one itself if `stays`.
  void HandOver(uint32_t partition, NodeId to, bool stays);
  // What is being handed over, and is not settled, goes back.
  void TakeBack(uint32_t partition);
  // One more, or one less, has a copy of it. Who had one in sync is asked by no answer any more.
  void AddLearner(uint32_t partition, NodeId node);
  void DropReplica(uint32_t partition, NodeId node);
  // What `primary` says of a copy: it is in sync, or has lost what it had. False: it was outdated, or is known.
  bool Note(NodeId primary, uint32_t partition, NodeId node, uint64_t since, bool lost);
  // A configuration of this generation says all this.
  void Stamp(uint64_t generation);

  const std::vector<Home>& homes() const { return homes_; }
  uint32_t CountOn(NodeId server) const;  // whose primary it is
  uint64_t handed_over() const { return handed_over_; }  // and settled, since it was made
  // It has of no partition all that there is.
  bool CanLose(NodeId server) const;

 private:
  void GiveBack(Home& home, Lost& lost);
  static void BeginAnew(Home& home);  // all its copies
  void MoveTo(Home& home, NodeId next);
  NodeId LeastLoadedBackup(const Home& home) const;  // NodeId(0): none is in sync
  void NoteChange(const Home& home) { changed_.insert(static_cast<uint32_t>(&home - homes_.data())); }

  std::vector<Home> homes_;
  std::set<uint32_t> changed_;
  uint64_t handed_over_ = 0;
};

}  // namespace sheaf
