// What a cluster looked like at one moment, and what is worth telling of how it came from one to the next.
//
// Thread-safety: plain values and functions without state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/control.pb.h"

namespace sheaf::cli {

struct Scene {
  struct Node {
    pb::Role role = pb::ROLE_UNKNOWN;
    std::string state;       // alive, dead, left
    std::string host;
    uint32_t pid = 0;
    uint32_t node = 0;
  };
  std::map<std::string, Node> nodes;                 // by name
  std::map<uint32_t, std::string> names;             // of nodes
  std::vector<uint32_t> primaries;                   // by partition
  std::vector<bool> copied;                          // by partition: a replica is in sync
  uint64_t scheduler_epoch = 0;
  bool scheduler_comes_back = false;                 // it has said that it is worth waiting for
  bool training = false;                             // a job runs
  uint64_t work_done = 0;                            // of all jobs: grows while there is progress

  uint32_t PartitionsOf(uint32_t node) const;
  uint32_t Uncopied() const;                         // partitions without a replica in sync
};

Scene MakeScene(const pb::ClusterStatus& status, const pb::ClusterConfig& config);

// Lines such as "server-1 is dead", "server-0 took over 11 partitions", "server-1 is back (another process)".
std::vector<std::string> WhatHappened(const Scene& before, const Scene& after);

}  // namespace sheaf::cli
