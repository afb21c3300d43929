// How much there is in each partition, and how often it is asked for: what servers report, smoothed.
//
// Owned by Rebalancer. Thread-safety: none.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/clock.h"
#include "proto/control.pb.h"

namespace sheaf {

class PartitionLoads {
 public:
  explicit PartitionLoads(uint32_t partition_count) : partitions_(partition_count) {}

  void Note(NodeId server, const pb::PartitionLoads& reported, TimePoint now);

  // Shares of all, about 1 on average: a partition has something of each load even if there is nothing in it.
  double OfBytes(uint32_t partition) const;
  double OfKeys(uint32_t partition) const;
  double OfOnlyCopy(uint32_t partition) const;  // which also serves all that is asked for
  uint64_t KeysPerSecond(uint32_t partition) const { return static_cast<uint64_t>(partitions_.at(partition).rate); }

 private:
  struct Load {
    NodeId server;         // that has reported it
    uint64_t bytes = 0;
    uint64_t keys = 0;     // as reported last
    TimePoint at{};
    double rate = 0;       // keys a second
  };

  std::vector<Load> partitions_;
  double bytes_ = 0, rate_ = 0;  // of all
};

}  // namespace sheaf
