// What a cluster of thousands costs the scheduler, and how fast all members hear of a change.
//
// For scripts/bench.sh growth 1,000 servers and 10,000 workers, and the scheduler's processor time counts; else a tenth
// of them, as what is judged then is only whether all comes to all in time.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/sim/growth_cluster.h"

namespace sheaf::sim {
namespace {

constexpr Duration kReachesAllWithin = std::chrono::seconds(1);

// Whether the scheduler's processor time passes in the simulation and is held to its bars: scripts/bench.sh growth. The
// tests leave it out, as it depends on the machine and on what else runs there.
bool JudgesProcessor() { return std::getenv("SHEAF_GROWTH_JUDGE_CPU") != nullptr; }
const uint32_t kServers = JudgesProcessor() ? 1000 : 100, kWorkers = 10 * kServers;

double Kilobytes(uint64_t bytes) { return static_cast<double>(bytes) / 1000; }

class Growth : public testing::Test {
 protected:
  static GrowthOptions Size() {
    GrowthOptions options;
    options.servers = kServers;
    options.workers = kWorkers;
    options.scheduler_takes_time = JudgesProcessor();
    return options;
  }
  // Prints what the scheduler spent since the last call, over `time`.
  void Account(const char* what, Duration time) {
    const GrowthCost cost = cluster_.TakeCost();
    const double seconds = ToSeconds(time), worst = cluster_.TakeWorstSecond();
    std::printf(
        "  %-34s %6.2f s: %.3f CPU s a second (worst %.3f), %6.0f messages in and %6.0f out a second, "
        "%7.0f kB in and %7.0f kB out a second, largest %.1f kB\n",
        what, seconds, cost.cpu_seconds / seconds, worst, static_cast<double>(cost.messages_in) / seconds,
        static_cast<double>(cost.messages_out) / seconds, Kilobytes(cost.bytes_in) / seconds,
        Kilobytes(cost.bytes_out) / seconds, Kilobytes(cost.largest_message));
    std::fflush(stdout);
    if (JudgesProcessor()) {
      EXPECT_LE(cost.cpu_seconds / std::max(seconds, 1.0), 1.0) << what;
    }
  }
  // From the scheduler's next configuration until every member has it.
  void ExpectChangeReachesAll(const char* what, Duration to_happen) {
    const uint64_t before = cluster_.scheduler().config().generation();
    cluster_.RunUntil([&] { return cluster_.scheduler().config().generation() > before; }, to_happen);
    const uint64_t changed = cluster_.scheduler().config().generation();
    ASSERT_GT(changed, before) << what;
    (void)cluster_.TakeCost();
    const Duration time = cluster_.RunUntil([&] { return cluster_.AllHave(changed); }, 4 * kReachesAllWithin);
    Account(what, time);
    EXPECT_LE(time, kReachesAllWithin) << what;
  }

  GrowthCluster cluster_{Size()};
};

TEST_F(Growth, OfAThousandServersAndTenThousandWorkersLeavesTheSchedulerIdle) {
  std::printf("  %u servers, %u workers\n", kServers, kWorkers);
  cluster_.AddServers(kServers, std::chrono::seconds(2));
  cluster_.AddWorkers(kWorkers, std::chrono::seconds(5));
  cluster_.RunFor(Milliseconds(5500));
  Account("all arrive in 5 s", Milliseconds(5500));
  EXPECT_TRUE(cluster_.AllHave(cluster_.scheduler().config().generation()));
  std::printf("  whole configuration: %.1f kB\n", Kilobytes(cluster_.scheduler().config().ByteSizeLong()));

  cluster_.Submit(/*epochs=*/2);
  const auto all_work = [&] { return cluster_.leases_held() >= kWorkers; };
  cluster_.RunUntil([&] { return cluster_.scheduler().config().roster_size() > 0; }, std::chrono::seconds(2));
  (void)cluster_.TakeCost();
  const Duration until_work = cluster_.RunUntil(all_work, 4 * kReachesAllWithin);
  Account("a roster of all, until all work", until_work);
  std::printf("  whole configuration: %.1f kB\n", Kilobytes(cluster_.scheduler().config().ByteSizeLong()));
  EXPECT_LE(until_work, kReachesAllWithin);

  cluster_.RunFor(std::chrono::seconds(5));
  Account("all train", std::chrono::seconds(5));

  cluster_.KillWorkers(kWorkers / 100);
  ExpectChangeReachesAll("one worker of a hundred dies", std::chrono::seconds(5));
  cluster_.AddServers(1, {});
  ExpectChangeReachesAll("a server joins", std::chrono::seconds(2));
  cluster_.AddWorkers(kWorkers / 100, {});
  ExpectChangeReachesAll("workers join in mid-pass", std::chrono::seconds(2));

  const TimePoint begin = cluster_.now();
  cluster_.RunUntil([&] { return cluster_.Job().phase() >= pb::FINISHED; }, std::chrono::minutes(2));
  Account("until the job's end", cluster_.now() - begin);
  EXPECT_EQ(cluster_.Job().phase(), pb::FINISHED) << cluster_.Job().ShortDebugString();
  EXPECT_EQ(cluster_.Job().examples_total(), 2 * cluster_.Job().train_rows());

  cluster_.KillServers(2);  // the newest holds nothing
  ExpectChangeReachesAll("servers die", std::chrono::seconds(15));
}

}  // namespace
}  // namespace sheaf::sim
