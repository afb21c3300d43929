// A rough run: everything about it, from the job's shape to what goes wrong, is drawn from one seed.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/sim_cluster.h"

namespace sheaf::sim {

SimOptions RoughOptions(uint64_t seed);

// What happened in one run or in many.
struct RoughCounts {
  FaultCounts faults{};
  NetworkCounts network;
  uint64_t staleness_checks = 0, statistics_checks = 0, replica_checks = 0;
  uint64_t tool_pushes = 0;
  uint64_t bsp_runs = 0;    // compared bit by bit with an undisturbed one
  uint64_t duplicates = 0;  // pushes that servers recognised

  void Add(SimCluster& cluster);
  // Every kind of fault, and of what only faults bring about.
  std::vector<std::pair<const char*, uint64_t>> Faults() const;
};

// Runs the seed's cluster; a BSP job once more without faults, on one shard: not one bit of the rows may differ.
// Empty, or what went wrong: "CHECKER: TEXT". `counts` is added to.
std::string RunRough(uint64_t seed, RoughCounts& counts);

}  // namespace sheaf::sim
