// sheaf node: what is on a server goes to others before it is stopped; another is started and given its share.
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>

#include "cli/commands.h"
#include "cli/complain.h"
#include "cli/connection.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/net/member_info.h"
#include "common/runtime/process.h"

namespace sheaf::cli {
namespace {

constexpr Duration kLookAtNodesEvery = Milliseconds(200);
constexpr Duration kAtRest = std::chrono::seconds(2);  // the scheduler looks once a second for what could be moved
constexpr char kNodeNotes[] =
    "drain: others take over what the server has, while jobs go on; then it may be stopped.\n"
    "keep:  it is not to be drained any more.\n"
    "rm:    drain, then the server's process ends.\n"
    "add:   starts a sheaf-server on this host that outlives this command, and waits until it has its share. What\n"
    "       follows -- is given to it. (One that is started otherwise, with --scheduler, is given its share too.)\n";

std::optional<pb::NodeStatus> FindNode(const pb::ClusterStatus& status, const std::string& name) {
  for (const pb::NodeStatus& node : status.node()) {
    if (node.name() == name) return node;
  }
  return std::nullopt;
}

std::string WhatIsLeft(const pb::NodeStatus& node) {
  return StrCat(node.partitions(), " partitions and ", node.copies(), " copies of others' left");
}

// Until it has nothing any more, and, if it is to be stopped, is gone.
int Await(BlockingClient& client, const std::string& name, bool stops, const Watch& watch) {
  const SystemClock clock;
  const TimePoint began = clock.Now();
  std::string said;
  for (;;) {
    const auto status = client.GetStatus(JobId(0));
    if (!status && status.error().code == ErrorCode::kCancelled) break;
    if (!status) return Complain(status.error());
    const auto node = FindNode(*status, name);
    const bool gone = !node || node->state() != "alive";
    if (gone || (!stops && node->partitions() + node->copies() == 0)) {
      if (gone && !stops) return Complain(kExitFailed, StrCat(name, " is ", node ? node->state() : "gone"));
      std::printf("%s has %s (%s)\n", name.c_str(), stops ? "been stopped" : "nothing any more: it may be stopped",
                  FormatSeconds(clock.Now() - began).c_str());
      return kExitOk;
    }
    if (!node->draining()) return Complain(kExitFailed, StrCat(name, " is not to be drained any more"));
    if (const std::string left = WhatIsLeft(*node); left != said) {
      std::fprintf(stderr, "%s: %s, %u on their way\n", name.c_str(), left.c_str(), status->moving());
      said = left;
    }
    if (const Status slept = watch.Sleep(kLookAtNodesEvery); !slept) break;
  }
  return Complain(kExitInterrupted, StrCat("no longer watching; ", name, " goes on being drained (sheaf node keep ",
                                           name, " ends that)"));
}

std::optional<pb::NodeStatus> FindProcess(const pb::ClusterStatus& status, const std::string& host, pid_t pid) {
  for (const pb::NodeStatus& node : status.node()) {
    const bool same = node.host() == host && node.pid() == static_cast<uint32_t>(pid);
    if (node.role() == pb::SERVER && node.state() == "alive" && same) return node;
  }
  return std::nullopt;
}

std::string LastLine(const std::string& path) {
  std::ifstream file(path);
  std::string last;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) last = line;
  }
  return last;
}

// Until it is in and nothing has moved for a while; or, with `in_is_enough`, until it is in. (How much its share is
// only the scheduler knows: by bytes, and by how often partitions are used.)
int AwaitShare(BlockingClient& client, pid_t pid, const std::string& log, bool in_is_enough, const Watch& watch) {
  const SystemClock clock;
  const TimePoint began = clock.Now();
  TimePoint moved = began;
  const std::string host = HostName();
  std::string said;
  for (;;) {
    const auto status = client.GetStatus(JobId(0));
    if (!status && status.error().code == ErrorCode::kCancelled) break;
    if (!status) {
      return Complain(Wrap(status.error(), "the server (pid ", pid, ", log ", log, ") goes on by itself").error);
    }
    const auto node = FindProcess(*status, host, pid);
    if (waitpid(pid, nullptr, WNOHANG) != 0) {
      return Complain(kExitFailed, StrCat("the server (pid ", pid, ") has ended: ", LastLine(log), " (", log, ")"));
    }
    if (!node || status->moving() > 0) moved = clock.Now();
    if (node && (in_is_enough || clock.Now() - moved >= kAtRest)) {
      std::printf("%s is in (pid %d, log %s) and has %u partitions and %u copies (after %s)\n", node->name().c_str(),
                  pid, log.c_str(), node->partitions(), node->copies(), FormatSeconds(moved - began).c_str());
      return kExitOk;
    }
    if (const std::string now = node ? StrCat(node->name(), ": ", node->partitions(), " partitions, ", node->copies(),
                                              " copies")
                                     : StrCat("pid ", pid, " starts");
        now != said) {
      std::fprintf(stderr, "%s\n", now.c_str());
      said = now;
    }
    if (const Status slept = watch.Sleep(kLookAtNodesEvery); !slept) break;
  }
  return Complain(kExitInterrupted, StrCat("no longer watching; the server (pid ", pid, ") goes on"));
}

int AddNode(const Args& args, BlockingClient& client, const Watch& watch) {
  const auto folder = ProgramFolder();
  if (!folder) return Complain(folder.error());
  std::error_code failed;
  const auto logs = std::filesystem::absolute(args.Text("log_dir"), failed);
  std::filesystem::create_directories(logs, failed);
  if (failed) return Complain(kExitFailed, StrCat("--log_dir ", logs.string(), ": ", failed.message()));
  const std::string log = logs / StrCat("sheaf-server-", EntropySeed() % 1'000'000, ".log");
  std::vector<std::string> argv = {*folder + "/sheaf-server", "--scheduler=" + SchedulerAddress(args)};
  argv.insert(argv.end(), args.operands().begin() + 1, args.operands().end());
  const auto pid =
      SpawnDetached({.argv = std::move(argv), .environment = {}, .working_directory = "", .log_path = log});
  if (!pid) return Complain(pid.error());
  return AwaitShare(client, *pid, log, args.Flag("no_wait"), watch);
}

int ChangeNode(const Args& args, BlockingClient& client, const Watch& watch) {
  const std::string& what = args.operands()[0];
  const std::string& name = args.operands()[1];
  const bool stops = what == "rm";
  Message request;
  request.header.mutable_change_node()->set_name(name);
  request.header.mutable_change_node()->set_change(stops             ? pb::ChangeNode::STOP
                                                   : what == "drain" ? pb::ChangeNode::DRAIN
                                                                     : pb::ChangeNode::UNCHANGED);
  const auto answer = client.Ask(std::move(request), Timeout(args));
  if (!answer) return Complain(answer.error());
  if (what == "keep") {
    std::printf("%s stays\n", name.c_str());
    return kExitOk;
  }
  if (args.Flag("no_wait")) {
    const auto node = FindNode(answer->header.status(), name);
    std::printf("%s is being drained: %s\n", name.c_str(), node ? WhatIsLeft(*node).c_str() : "");
    return kExitOk;
  }
  return Await(client, name, stops, watch);
}

int RunNode(const Args& args) {
  const std::vector<std::string>& words = args.operands();
  const bool adds = words[0] == "add";
  if (!adds && words[0] != "drain" && words[0] != "keep" && words[0] != "rm") {
    return Complain(kExitUsage, StrCat("\"", words[0], "\" is not what can be done to a node: add, drain, keep or rm"));
  }
  if (!adds && words.size() != 2) return Complain(kExitUsage, StrCat("sheaf node ", words[0], " takes one SERVER"));
  const auto scheduler = Connection::Open(args);
  if (!scheduler) return Complain(scheduler.error());
  Connection& to = **scheduler;
  return adds ? AddNode(args, to.client(), to.watch()) : ChangeNode(args, to.client(), to.watch());
}

}  // namespace

Command NodeCommand() {
  return {{.name = "sheaf node",
           .operands = "drain|keep|rm SERVER | add [-- FLAGS]",
           .summary = "takes a server out of a running cluster, keeps it, or adds one",
           .least_operands = 1,
           .most_operands = 100,
           .options = {{.name = "no_wait",
                        .kind = Option::kFlag,
                        .help = "does not wait until the server has nothing left, or its share"},
                       {.name = "log_dir",
                        .value_name = "DIR",
                        .fallback = ".",
                        .help = "add: folder for the server's log"},
                       SchedulerOption(),
                       TimeoutOption()},
           .notes = kNodeNotes},
          RunNode};
}

}  // namespace sheaf::cli
