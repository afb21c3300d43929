// Whole clusters under seeds. A failing seed is printed and replays alone:
//   SHEAF_SIM_SEED=N sim_cluster_test --gtest_filter=...
// That the checkers would find a bug is shown by planted_bugs_test.cc.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "tests/sim/rough.h"

namespace sheaf::sim {
namespace {

constexpr uint64_t kSeeds = 200;

// A run in which nothing went wrong proves nothing.
void ExpectEveryFault(const RoughCounts& counts) {
  const std::pair<const char*, uint64_t> kinds[] = {
      {"workers crashed", counts.faults.crashes},
      {"workers left", counts.faults.leaves},
      {"workers joined in mid-run", counts.faults.joins},
      {"workers stopped", counts.faults.pauses},
      {"servers or schedulers stopped", counts.faults.server_pauses},
      {"links cut one way", counts.faults.cuts},
      {"jobs cancelled at work, with another behind", counts.faults.cancels},
      {"messages lost", counts.network.lost},
      {"messages duplicated", counts.network.duplicated},
      {"messages out of order", counts.network.reordered},
      {"messages late by 0.5 s or more", counts.network.late},
      {"pushes recognised as duplicates", counts.duplicates},
      {"looks at a pull's staleness", counts.staleness_checks},
  };
  for (const auto& [kind, count] : kinds) {
    std::cout << "  " << count << " " << kind << "\n";
    EXPECT_GE(count, 100u) << kind;
  }
  std::cout << "  " << counts.bsp_runs << " BSP runs compared with undisturbed ones; " << counts.network.delivered
            << " messages delivered\n";
}

TEST(SimCluster, KeepsItsWordUnderFaultsOfEveryKind) {
  RoughCounts counts;
  const char* seeds = std::getenv("SHEAF_SIM_SEEDS");
  uint64_t first = 1, last = seeds == nullptr ? kSeeds : std::strtoull(seeds, nullptr, 10);
  if (const char* only = std::getenv("SHEAF_SIM_SEED")) first = last = std::strtoull(only, nullptr, 10);
  for (uint64_t seed = first; seed <= last; ++seed) {
    const std::string wrong = RunRough(seed, counts);
    ASSERT_TRUE(wrong.empty()) << "SHEAF_SIM_SEED=" << seed << ": " << wrong;
  }
  if (last >= kSeeds && first == 1) ExpectEveryFault(counts);
}

TEST(SimCluster, DoesTheSameAgainUnderTheSameSeed) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SimCluster first(RoughOptions(seed)), second(RoughOptions(seed));
    EXPECT_EQ(first.Run(), second.Run());
    EXPECT_EQ(first.fingerprint(), second.fingerprint()) << "SHEAF_SIM_SEED=" << seed;
  }
}

TEST(SimCluster, FinishesAnUndisturbedJobInEveryMode) {
  for (auto mode : {pb::ConsistencySpec::BSP, pb::ConsistencySpec::SSP, pb::ConsistencySpec::ASP}) {
    SimOptions options;
    options.mode = mode;
    options.workers = 4;
    options.faults_for = {};
    SimCluster cluster(options);
    EXPECT_EQ(cluster.Run(), "") << pb::ConsistencySpec::Mode_Name(mode);
    EXPECT_EQ(cluster.JobStatusNow().pushes_deduplicated(), 0u);
  }
}

}  // namespace
}  // namespace sheaf::sim
