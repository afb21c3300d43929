// Breaks a process of a cluster on this machine, and tells on stdout what the cluster makes of it.
//
// Thread-safety: none; borrows client and watch. Errors: kNotFound (no such process in the cluster, or not on this
// machine), kPermissionDenied, kTimeout (work did not go on), kInvalidArgument (it cannot be cut off as it is; says
// what would make it so), those of the client.
#pragma once

#include <string>
#include <vector>

#include "cli/chaos_process.h"
#include "cli/chaos_scene.h"
#include "cli/watch.h"
#include "client/blocking_client.h"

namespace sheaf::cli {

enum class ChaosAct { kKill, kPause, kPartition };

// A process of the cluster, by the name that `sheaf status` shows, or "scheduler".
struct ChaosTarget {
  std::string name;
  LocalProcess process;
  bool is_scheduler() const { return name == "scheduler"; }
};

class Chaos {
 public:
  // `patience`: for work to go on, after the act is over.
  Chaos(BlockingClient& client, std::string address, Duration patience, const Watch& watch)
      : client_(client), address_(std::move(address)), patience_(patience), watch_(watch) {}

  Result<Scene> Look();
  Result<ChaosTarget> Find(const Scene& scene, const std::string& name) const;
  // Whether nothing is lost by it, as far as can be seen from here.
  static bool Harmless(ChaosAct act, const Scene& scene, const ChaosTarget& target);

  // Does it (for so long, unless it is a kill), and watches until the cluster is at work again and at rest. Answers for
  // how long training stood still.
  Result<Duration> Do(ChaosAct act, const std::string& name, Duration lasts);

 private:
  class Undo;
  Result<std::vector<uint16_t>> PortsToCut(const ChaosTarget& target);
  Result<Duration> Follow(const Scene& before, const ChaosTarget& target, TimePoint ends, Undo& undo);
  void Say(const std::string& line) const;

  BlockingClient& client_;
  const std::string address_;
  const Duration patience_;
  const Watch& watch_;
  const SystemClock clock_{};
  TimePoint began_{};
};

}  // namespace sheaf::cli
