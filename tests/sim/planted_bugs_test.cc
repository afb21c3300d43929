// The simulator tested: a bug is planted into the product, and a rough run must find it within 2,000 seeds.
// Only in builds with SHEAF_PLANTED_BUGS; scripts/planted_bugs.sh builds one and prints a table. One seed again:
//   SHEAF_SIM_SEED=N sim_cluster_test --gtest_filter='*PlantedBug*/NoDedup'
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <string>

#include "common/base/planted_bug.h"
#include "tests/sim/rough.h"

namespace sheaf::sim {
namespace {

constexpr uint64_t kSeeds = 2000;

struct PlantedCase {
  Bug bug;
  const char* name;
};
std::ostream& operator<<(std::ostream& out, const PlantedCase& planted) { return out << planted.name; }

#define SHEAF_BUG(name) PlantedCase{Bug::k##name, #name}
constexpr PlantedCase kCases[] = {
    SHEAF_BUG(AckWithoutApply), SHEAF_BUG(NoDedup), SHEAF_BUG(DedupIgnoresRange), SHEAF_BUG(DedupAcrossPasses),
    SHEAF_BUG(WindowForgetsNewest), SHEAF_BUG(MixedAttempts), SHEAF_BUG(DuplicateStopsClock),
    SHEAF_BUG(AwaitedPushRefused), SHEAF_BUG(StaleSlicesKept),
    SHEAF_BUG(SspBoundIgnored), SHEAF_BUG(SspBoundOffByOne), SHEAF_BUG(BspPullTooEarly), SHEAF_BUG(JoinerNotAwaited),
    SHEAF_BUG(ClockCountsPushes), SHEAF_BUG(BarrierCountsMessages), SHEAF_BUG(SumInArrivalOrder),
    SHEAF_BUG(MeanOverAllLanes), SHEAF_BUG(NoUndo),
    SHEAF_BUG(ParkedNeverWoken), SHEAF_BUG(ServerTakesOldConfig), SHEAF_BUG(UpdateOutOfTurn),
    SHEAF_BUG(SentBeforeLogged), SHEAF_BUG(ClockUnlogged), SHEAF_BUG(UnlistedDropsAll),
    SHEAF_BUG(BackupsNotAwaited), SHEAF_BUG(SyncedBeforeImage), SHEAF_BUG(SyncedByImage),
    SHEAF_BUG(StreamNamesRepeat),
    SHEAF_BUG(HandedOverUnfinished),
    SHEAF_BUG(HeirsForgotten),
    SHEAF_BUG(KeptTooLate),
    SHEAF_BUG(HandOverTakenBack),
    SHEAF_BUG(MovedCopyConfirms),
    SHEAF_BUG(HeldAnswersSurvive), SHEAF_BUG(PromotedLearner), SHEAF_BUG(SyncOutdated), SHEAF_BUG(FormerDrops),
    SHEAF_BUG(UnsettledAnswers), SHEAF_BUG(TakesOverNothing),
    SHEAF_BUG(ImageWithoutWindows), SHEAF_BUG(TrimmedBeforeFlush), SHEAF_BUG(NeverSleeps),
    SHEAF_BUG(ListsNamedAcrossRounds), SHEAF_BUG(StateAfterMark),
    SHEAF_BUG(ChangedRowsLeave), SHEAF_BUG(LeaveBeforeFlush), SHEAF_BUG(ColdTakenForAbsent), SHEAF_BUG(KeptRowsLeave),
    SHEAF_BUG(AheadDoneAgain), SHEAF_BUG(UndoneRowsAhead), SHEAF_BUG(LeaveBeforeLog),
    SHEAF_BUG(CreditLeak), SHEAF_BUG(ParkedKeepsCredit), SHEAF_BUG(RetryUnderNewName),
    SHEAF_BUG(AckedByOneShard),
    SHEAF_BUG(ReportsUnacknowledged), SHEAF_BUG(LanesBlockEachOther), SHEAF_BUG(LanesByArrival),
    SHEAF_BUG(ClockLeftOut), SHEAF_BUG(SkipUntold), SHEAF_BUG(FrontUnbounded), SHEAF_BUG(PushesOvertake),
    SHEAF_BUG(ClockAwaitedWhereRowsAre),
    SHEAF_BUG(LeaseNumberReused), SHEAF_BUG(ProgressForgotten), SHEAF_BUG(ReissuedFromMemory),
    SHEAF_BUG(FinishedTwice), SHEAF_BUG(EvalCountedAgain),
    SHEAF_BUG(DeadKeepsLane), SHEAF_BUG(GrantsUnpublished), SHEAF_BUG(LeaverKept),
    SHEAF_BUG(SentBeforeSaved), SHEAF_BUG(LeasesNumberedAnew), SHEAF_BUG(GenerationGoesBack),
    SHEAF_BUG(LanesNumberedAnew), SHEAF_BUG(SavedRangesForgotten), SHEAF_BUG(TakesUpAnywhere),
    SHEAF_BUG(PlacementUnsaved),
    SHEAF_BUG(CutWithoutWaiting), SHEAF_BUG(CommittedBeforeWritten), SHEAF_BUG(CutSeesLaterRows),
    SHEAF_BUG(ReleasedUnheard),
};
#undef SHEAF_BUG

class SimPlantedBug : public testing::TestWithParam<PlantedCase> {
 protected:
  void SetUp() override { planted_bug = GetParam().bug; }
  void TearDown() override { planted_bug = Bug::kNone; }
};

TEST_P(SimPlantedBug, IsFound) {
  const auto begin = std::chrono::steady_clock::now();
  uint64_t first = 1, last = kSeeds;
  if (const char* only = std::getenv("SHEAF_SIM_SEED")) first = last = std::strtoull(only, nullptr, 10);
  RoughCounts counts;
  for (uint64_t seed = first; seed <= last; ++seed) {
    std::cout << "seed " << seed << "\r" << std::flush;   // should the product's own checks end this process
    std::string wrong;
    try {
      wrong = RunRough(seed, counts);
    } catch (const std::exception& error) {  // Protobuf's own checks throw
      wrong = std::string("an exception: ") + error.what();
    }
    if (wrong.empty()) continue;
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    std::cout << "found " << GetParam().name << " at seed " << seed << " in " << seconds.count() << " s by " << wrong
              << "\n";
    return;
  }
  ADD_FAILURE() << GetParam().name << " was not found in seeds " << first << " to " << last;
}

INSTANTIATE_TEST_SUITE_P(All, SimPlantedBug, testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sheaf::sim
