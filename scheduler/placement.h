// Which server holds which partition. Each change of a partition's home raises its epoch.
//
// Balanced: servers differ by at most one partition, and a new balance moves as few as it can.
// A state machine without I/O, owned by SchedulerCore.
#pragma once

#include <vector>

#include "common/base/ids.h"

namespace sheaf {

class Placement {
 public:
  struct Home {
    NodeId primary;                 // NodeId(0): nobody
    Epoch epoch;
  };

  explicit Placement(uint32_t partition_count) : homes_(partition_count) {}

  // Spreads the partitions over `servers` (ascending ids). Returns whether anything moved.
  bool Balance(const std::vector<NodeId>& servers);
  // What it holds is held by another process of it now.
  void Renew(NodeId server);
  const std::vector<Home>& homes() const { return homes_; }
  uint32_t CountOn(NodeId server) const;

 private:
  std::vector<Home> homes_;
};

}  // namespace sheaf
