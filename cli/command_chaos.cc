// sheaf chaos: breaks a cluster on this machine, a process at a time, and tells what it makes of that.
#include <algorithm>
#include <cstdio>
#include <map>

#include "cli/chaos_acts.h"
#include "cli/chaos_cut.h"
#include "cli/commands.h"
#include "cli/connection.h"
#include "cli/nearest.h"
#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

constexpr char kChaosNotes[] =
    "NAME is one of sheaf status, or scheduler. The cluster is one that sheaf run or docker-compose started here:\n"
    "what is killed is started again by sheaf run, and by docker-compose up -d. A partition needs root and iptables,\n"
    "and SHEAF_LOCAL_SOCKETS=false in the environment of a cluster that is not in containers. random leaves alone\n"
    "what would lose something: a server without --data_dir while there are no copies, a scheduler without it.\n";

const std::vector<std::string>& ActNames() {
  static const std::vector<std::string> names{"kill", "pause", "partition"};  // as in ChaosAct
  return names;
}

// One act after the other, drawn from a seed, each told as it goes; then a table.
class RandomChaos {
 public:
  RandomChaos(Chaos& chaos, uint64_t seed) : chaos_(chaos), random_(seed), cuts_(NetworkCut::Possible()) {}

  Status Run(Duration duration, const Watch& watch) {
    const SystemClock clock;
    const TimePoint end = clock.Now() + duration;
    if (!cuts_) std::printf("nothing is cut off: %s\n", cuts_.error().message.c_str());
    while (clock.Now() < end) {
      SHEAF_RETURN_IF_ERROR(One());
      SHEAF_RETURN_IF_ERROR(watch.Sleep(Milliseconds(static_cast<int64_t>(200 + random_.Below(1500)))));
    }
    for (const auto& [act, tally] : tallies_) {
      std::printf("%-9s %3d times, longest pause of training %s\n", ActNames()[static_cast<size_t>(act)].c_str(),
                  tally.times, FormatSeconds(tally.longest).c_str());
    }
    return {};
  }

 private:
  struct Tally {
    int times = 0;
    Duration longest{};
  };

  Status One() {
    SHEAF_ASSIGN_OR_RETURN(const Scene scene, chaos_.Look());
    std::vector<std::string> names{"scheduler"};
    for (const auto& [name, node] : scene.nodes) {
      if (node.state == "alive") names.push_back(name);
    }
    const std::string name = names[random_.Below(names.size())];
    const ChaosAct act = ChaosAct{static_cast<int>(random_.Below(cuts_ ? 3 : 2))};
    const Duration lasts = Milliseconds(static_cast<int64_t>(100 + random_.Below(3900)));
    SHEAF_ASSIGN_OR_RETURN(const ChaosTarget target, chaos_.Find(scene, name));
    if (!Chaos::Harmless(act, scene, target)) return {};  // the next draw is another
    const auto stood = chaos_.Do(act, name, lasts);
    if (!stood && act == ChaosAct::kPartition && stood.error().code == ErrorCode::kInvalidArgument) {
      std::printf("nothing is cut off: %s\n", stood.error().message.c_str());
      cuts_ = Failure{stood.error()};
      return {};
    }
    if (!stood) return Failure{stood.error()};
    Tally& tally = tallies_[act];
    ++tally.times;
    tally.longest = std::max(tally.longest, *stood);
    return {};
  }

  Chaos& chaos_;
  Random random_;
  Status cuts_;
  std::map<ChaosAct, Tally> tallies_;
};

int RunChaos(const Args& args) {
  const std::string& act = args.operands()[0];
  const bool random = act == "random";
  const auto which = std::ranges::find(ActNames(), act) - ActNames().begin();
  if (!random && which == static_cast<ptrdiff_t>(ActNames().size())) {
    std::vector<std::string> known = ActNames();
    known.push_back("random");
    return Complain(kExitUsage, StrCat("sheaf chaos: no act \"", act, "\"", Suggestion(act, known)));
  }
  if (args.operands().size() != (random ? 1 : 2)) {
    return Complain(kExitUsage, random ? std::string("sheaf chaos random chooses by itself: no name")
                                       : StrCat("sheaf chaos ", act, " needs a name, as in sheaf status"));
  }
  const auto lasts = ParseDuration(args.Text("for"));
  if (!lasts || *lasts <= Duration::zero()) {
    return Complain(kExitUsage, StrCat("--for is \"", args.Text("for"), "\"; it must be a time such as 5s or 500ms"));
  }
  const auto scheduler = Connection::Open(args);
  if (!scheduler) return Complain(scheduler.error());
  const Watch& watch = (*scheduler)->watch();
  Chaos chaos((*scheduler)->client(), SchedulerAddress(args), Timeout(args), watch);
  Status done;
  if (random) {
    const std::chrono::duration<double, std::ratio<60>> minutes(args.Number("minutes"));
    RandomChaos by_chance(chaos, static_cast<uint64_t>(args.Integer("seed")));
    done = by_chance.Run(std::chrono::duration_cast<Duration>(minutes), watch);
  } else if (const auto stood = chaos.Do(ChaosAct{static_cast<int>(which)}, args.operands()[1], *lasts); !stood) {
    done = Failure{stood.error()};
  }
  if (done) return kExitOk;
  // What cannot be cut as it is, is no wrong configuration of ours.
  return done.error().code == ErrorCode::kInvalidArgument ? Complain(kExitFailed, done.error().message)
                                                          : Complain(done.error());
}

}  // namespace

Command ChaosCommand() {
  return {{.name = "sheaf chaos",
           .operands = "kill|pause|partition NAME, or random",
           .summary = "breaks processes of a cluster on this machine, and tells what happens",
           .least_operands = 1,
           .most_operands = 2,
           .options = {{.name = "for",
                        .value_name = "TIME",
                        .fallback = "3s",
                        .help = "how long a pause or a partition lasts: 500ms, 5s"},
                       {.name = "minutes",
                        .kind = Option::kNumber,
                        .value_name = "N",
                        .fallback = "2",
                        .help = "random: for how long",
                        .least = 0.01,
                        .most = 10000},
                       {.name = "seed",
                        .kind = Option::kInteger,
                        .value_name = "N",
                        .fallback = "1",
                        .help = "random: of what is done",
                        .least = 0,
                        .most = 1e18},
                       SchedulerOption(),
                       {.name = "timeout",
                        .kind = Option::kNumber,
                        .value_name = "SECONDS",
                        .fallback = "30",
                        .help = "how long to wait for an answer, and for training to go on",
                        .least = 0.1,
                        .most = 86400}},
           .notes = kChaosNotes},
          RunChaos};
}

}  // namespace sheaf::cli
