// Which server holds which partition. Each change of a partition's home raises its epoch.
//
// Balanced: servers differ by at most one partition, and a new balance moves as few as it can.
// A state machine without I/O, owned by SchedulerCore.
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
  struct Home {
    NodeId primary;                 // NodeId(0): nobody
    Epoch epoch;
  };

  explicit Placement(uint32_t partition_count) : homes_(partition_count) {}

  // As saved (SavedState): index = partition.
  void Restore(const std::vector<pb::PartitionConfig>& saved);
  // What configurations and the store say of a home.
  static pb::PartitionConfig Describe(const Home& home);
  // Partitions that are other than at the last call. Whatever changes a home must note it.
  std::set<uint32_t> TakeChanged() { return std::exchange(changed_, {}); }

  // Spreads the partitions over `servers` (ascending ids). Returns whether anything moved.
  bool Balance(const std::vector<NodeId>& servers);
  // What it holds is held by another process of it now.
  void Renew(NodeId server);
  const std::vector<Home>& homes() const { return homes_; }
  uint32_t CountOn(NodeId server) const;

 private:
  void NoteChange(const Home& home) { changed_.insert(static_cast<uint32_t>(&home - homes_.data())); }

  std::vector<Home> homes_;
  std::set<uint32_t> changed_;
};

}  // namespace sheaf
