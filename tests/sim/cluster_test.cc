// Whole clusters under seeds. A failing seed is printed and replays alone:
//   SHEAF_SIM_SEED=N sim_cluster_test --gtest_filter=...
#include "tests/sim/sim_cluster.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace sheaf::sim {
namespace {

uint64_t Seeds() {
  const char* seeds = std::getenv("SHEAF_SIM_SEEDS");
  return seeds == nullptr ? 200 : std::strtoull(seeds, nullptr, 10);
}

// BSP divides a clock's sum by the lanes that have that clock. With lanes of equal length that is always the same number,
// and the rows stay whole.
void EvenLanes(SimOptions& options) {
  const uint32_t round = options.job.batch_size * options.job.range_batches * options.workers;
  options.job.rows = (options.job.rows + round - 1) / round * round;
}

SimOptions Rough(uint64_t seed) {
  SimOptions options;
  Random random(MixPair(seed, 77));
  options.seed = seed;
  options.servers = 1 + static_cast<uint32_t>(random.Below(3));
  options.shards = 1 + static_cast<uint32_t>(random.Below(2));
  options.workers = 1U << random.Below(3);  // BSP divides by it: powers of two keep the sums exact
  options.mode = static_cast<pb::ConsistencySpec::Mode>(random.Below(3));
  options.staleness = static_cast<uint32_t>(random.Below(4));
  options.job.rows = 100 + static_cast<uint32_t>(random.Below(200));
  options.job.batch_size = 3 + static_cast<uint32_t>(random.Below(5));
  options.job.range_batches = 1 + static_cast<uint32_t>(random.Below(5));
  if (options.mode == pb::ConsistencySpec::BSP) EvenLanes(options);
  options.loss = 0.2 * random.NextDouble();
  options.duplicate = 0.2 * random.NextDouble();
  options.reorder = 0.3 * random.NextDouble();
  options.crashes = random.Chance(0.7) ? 0.3 : 0;
  options.pauses = random.Chance(0.5) ? 0.2 : 0;
  options.cuts = random.Chance(0.5) ? 0.3 : 0;
  return options;
}

TEST(SimCluster, KeepsItsWordUnderFaultsOfEveryKind) {
  FaultCounts total;
  uint64_t lost = 0, checks = 0;
  uint64_t first = 1, last = Seeds();
  if (const char* only = std::getenv("SHEAF_SIM_SEED")) first = last = std::strtoull(only, nullptr, 10);
  for (uint64_t seed = first; seed <= last; ++seed) {
    SimCluster cluster(Rough(seed));
    const std::string wrong = cluster.Run();
    ASSERT_TRUE(wrong.empty()) << "SHEAF_SIM_SEED=" << seed << ": " << wrong;
    total.crashes += cluster.faults().crashes;
    total.pauses += cluster.faults().pauses;
    total.cuts += cluster.faults().cuts;
    lost += cluster.messages_lost();
    checks += cluster.staleness_checks();
  }
  if (first == last) return;
  // A run in which nothing went wrong proves nothing.
  EXPECT_GT(total.crashes, 50u);
  EXPECT_GT(total.pauses, 20u);
  EXPECT_GT(total.cuts, 20u);
  EXPECT_GT(lost, 1000u);
  EXPECT_GT(checks, 1000u);
}

TEST(SimCluster, DoesTheSameAgainUnderTheSameSeed) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SimCluster first(Rough(seed)), second(Rough(seed));
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
    if (mode == pb::ConsistencySpec::BSP) EvenLanes(options);
    SimCluster cluster(options);
    EXPECT_EQ(cluster.Run(), "") << pb::ConsistencySpec::Mode_Name(mode);
    EXPECT_EQ(cluster.JobStatusNow().pushes_deduplicated(), 0u);
  }
}

}  // namespace
}  // namespace sheaf::sim
