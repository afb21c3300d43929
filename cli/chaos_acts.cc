#include "cli/chaos_acts.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>

#include "cli/chaos_cut.h"
#include "cli/nearest.h"
#include "common/base/strings.h"
#include "common/net/local_address.h"
#include "common/runtime/host_id.h"

namespace sheaf::cli {
namespace {

constexpr Duration kLookAtClusterEvery = Milliseconds(50);
constexpr Duration kQuietFor = std::chrono::seconds(2);  // nothing happened for so long: all is told
constexpr Duration kStandstill = Milliseconds(500);      // reports come five times a second

const char* Past(ChaosAct act) {
  return act == ChaosAct::kKill ? "killed" : act == ChaosAct::kPause ? "paused" : "cut off";
}

std::optional<uint16_t> PortOf(const std::string& address) {
  const auto port = ParseUint(address.substr(address.rfind(':') + 1));
  return port ? std::optional(static_cast<uint16_t>(*port)) : std::nullopt;
}

}  // namespace

// The end of a pause or a cut, at the latest when this goes out of scope.
class Chaos::Undo {
 public:
  Undo(const ChaosTarget& target, bool paused, std::unique_ptr<NetworkCut> cut)
      : target_(target), paused_(paused), cut_(std::move(cut)) {}
  ~Undo() { Now(); }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;

  // What to tell of it; empty if there was nothing to undo.
  std::string Now() {
    const std::string line = paused_ ? target_.name + " goes on" : cut_ ? target_.name + " is connected again" : "";
    if (paused_) (void)SendSignal(target_.process, SIGCONT);  // it may be gone: then there is nobody to wake
    paused_ = false;
    cut_.reset();
    return line;
  }

 private:
  const ChaosTarget& target_;
  bool paused_;
  std::unique_ptr<NetworkCut> cut_;
};

Result<Scene> Chaos::Look() {
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, client_.GetStatus(JobId(0)));
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client_.GetConfig());
  return MakeScene(status, config);
}

Result<ChaosTarget> Chaos::Find(const Scene& scene, const std::string& name) const {
  ChaosTarget target{.name = name, .process = {}};
  if (target.is_scheduler()) {
    SHEAF_ASSIGN_OR_RETURN(target.process, FindScheduler(client_.scheduler_address()));
    return target;
  }
  const auto node = scene.nodes.find(name);
  if (node == scene.nodes.end()) {
    std::vector<std::string> names{"scheduler"};
    for (const auto& [each, unused] : scene.nodes) names.push_back(each);
    return Fail(ErrorCode::kNotFound, "no process \"", name, "\" in the cluster", Suggestion(name, names));
  }
  if (node->second.state != "alive") {
    return Fail(ErrorCode::kNotFound, name, " is ", node->second.state, " already (sheaf status)");
  }
  const char* program = node->second.role == pb::SERVER ? "sheaf-server" : "sheaf-worker";
  SHEAF_ASSIGN_OR_RETURN(target.process, FindMember(program, node->second.host, node->second.pid));
  return target;
}

bool Chaos::Harmless(ChaosAct act, const Scene& scene, const ChaosTarget& target) {
  if (act != ChaosAct::kKill || target.process.keeps_store) return true;
  if (target.is_scheduler()) return false;
  const auto node = scene.nodes.find(target.name);
  return node == scene.nodes.end() || node->second.role != pb::SERVER || scene.Uncopied() == 0;
}

Result<Duration> Chaos::Do(ChaosAct act, const std::string& name, Duration lasts) {
  SHEAF_ASSIGN_OR_RETURN(const Scene before, Look());
  SHEAF_ASSIGN_OR_RETURN(const ChaosTarget target, Find(before, name));
  if (!Harmless(act, before, target)) {
    std::fprintf(stderr, "sheaf: %s has no --data_dir%s: jobs end with it\n", name.c_str(),
                 target.is_scheduler() ? "" : ", and there are no copies of all that it has");
  }
  std::unique_ptr<NetworkCut> cut;
  if (act == ChaosAct::kPartition) {
    SHEAF_ASSIGN_OR_RETURN(const std::vector<uint16_t> ports, PortsToCut(target));
    SHEAF_ASSIGN_OR_RETURN(cut, NetworkCut::Make(target.process, ports));
  } else {
    SHEAF_RETURN_IF_ERROR(SendSignal(target.process, act == ChaosAct::kKill ? SIGKILL : SIGSTOP));
  }
  Undo undo(target, act == ChaosAct::kPause, std::move(cut));
  began_ = clock_.Now();
  std::printf("%s %s (process %d)%s\n", Past(act), name.c_str(), static_cast<int>(target.process.pid),
              act == ChaosAct::kKill ? "" : StrCat(" for ", FormatSeconds(lasts)).c_str());
  std::fflush(stdout);
  if (act == ChaosAct::kKill) return Follow(before, target, began_, undo);
  if (target.is_scheduler()) {  // which could not be asked meanwhile
    SHEAF_RETURN_IF_ERROR(watch_.Sleep(lasts));
    Say(undo.Now());
    return Follow(before, target, clock_.Now(), undo);
  }
  return Follow(before, target, began_ + lasts, undo);
}

Result<std::vector<uint16_t>> Chaos::PortsToCut(const ChaosTarget& target) {
  SHEAF_RETURN_IF_ERROR(NetworkCut::Possible());
  std::vector<uint16_t> ports;
  if (target.process.own_network) return ports;
  if (const auto port = PortOf(address_)) ports.push_back(*port);
  for (const pb::ServerInfo& server : client_.config().server()) {
    for (const pb::ShardEndpoint& shard : server.shard()) {
      if (const auto port = PortOf(shard.address())) ports.push_back(*port);
      if (shard.host() != HostId() || !SomebodyListensAt(LocalAddress(PeerId(shard.peer())))) continue;
      return Fail(ErrorCode::kInvalidArgument, server.name(), " is reached over a Unix socket here, which no firewall ",
                  "cuts: start the cluster with SHEAF_LOCAL_SOCKETS=false in the environment, or pause it");
    }
  }
  return ports;
}

Result<Duration> Chaos::Follow(const Scene& before, const ChaosTarget& target, TimePoint ends, Undo& undo) {
  Scene last = before;
  TimePoint news = began_, worked = began_;
  Duration longest{};
  bool over = false, first = true;
  while (true) {
    if (!over && clock_.Now() >= ends) {
      over = true;
      news = clock_.Now();
      if (const std::string line = undo.Now(); !line.empty()) Say(line);
    }
    SHEAF_ASSIGN_OR_RETURN(const Scene seen, Look());
    const TimePoint now = clock_.Now();
    for (const std::string& line : WhatHappened(last, seen)) {
      Say(line);
      news = now;
    }
    // What workers did while the scheduler was away is only known now: nothing stood still.
    if (first && target.is_scheduler()) {
      Say(StrCat("the scheduler answers; ", FormatCount(seen.work_done - std::min(last.work_done, seen.work_done)),
                 " rows more are done"));
      worked = now;
    }
    first = false;
    if (seen.work_done > last.work_done || !seen.training) {
      const Duration stood = now - worked;
      if (stood >= kStandstill && seen.training) {
        Say(StrCat("training goes on, after it stood still for ", FormatSeconds(stood)));
        news = now;
      }
      if (seen.training) longest = std::max(longest, stood);
      worked = now;
    }
    last = seen;
    const bool works = now - worked < kStandstill;
    if (over && works && (now - news >= kQuietFor || now - ends >= patience_)) break;
    if (over && now - ends >= patience_) {
      return Fail(ErrorCode::kTimeout, "training has not gone on within ", FormatSeconds(patience_),
                  ": sheaf status says for whom it waits");
    }
    SHEAF_RETURN_IF_ERROR(watch_.Sleep(kLookAtClusterEvery));
  }
  if (!before.training) {
    Say("no job ran that could have stood still");
  } else if (longest < kStandstill) {
    Say("training went on all the time");
  }
  return longest;
}

void Chaos::Say(const std::string& line) const {
  std::printf("  + %-8s %s\n", FormatSeconds(clock_.Now() - began_).c_str(), line.c_str());
  std::fflush(stdout);
}

}  // namespace sheaf::cli
