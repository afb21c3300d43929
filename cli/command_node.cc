// sheaf node: what is on a server goes to others before it is stopped.
#include <cstdio>
#include <optional>

#include "cli/commands.h"
#include "cli/complain.h"
#include "common/base/strings.h"
#include "common/runtime/signals.h"

namespace sheaf::cli {
namespace {

constexpr Duration kLookEvery = Milliseconds(200);
constexpr char kNotes[] =
    "drain: others take over what the server has, while jobs go on; then it may be stopped.\n"
    "keep:  it is not to be drained any more.\n"
    "rm:    drain, then the server's process ends.\n"
    "A server is added by starting sheaf-server with --scheduler: it is given its share.\n";

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
    if (const Status slept = watch.Sleep(kLookEvery); !slept) break;
  }
  return Complain(kExitInterrupted, StrCat("no longer watching; ", name, " goes on being drained (sheaf node keep ",
                                           name, " ends that)"));
}

int ChangeNode(const Args& args) {
  const std::string& what = args.operands()[0];
  const std::string& name = args.operands()[1];
  const bool stops = what == "rm";
  if (what != "drain" && what != "keep" && !stops) {
    return Complain(kExitUsage, StrCat("\"", what, "\" is not what can be done to a node: drain, keep or rm"));
  }
  auto signals = SignalFd::Create();
  if (!signals) return Complain(signals.error());
  const Watch watch = WatchSignals(**signals);
  ZmqContext context;
  auto client = ConnectTo(context, SchedulerAddress(args), Timeout(args), watch);
  if (!client) return Complain(client.error());
  Message request;
  request.header.mutable_change_node()->set_name(name);
  request.header.mutable_change_node()->set_change(stops             ? pb::ChangeNode::STOP
                                                   : what == "drain" ? pb::ChangeNode::DRAIN
                                                                     : pb::ChangeNode::UNCHANGED);
  const auto answer = (*client)->Ask(std::move(request), Timeout(args));
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
  return Await(**client, name, stops, watch);
}

}  // namespace

Command NodeCommand() {
  return {{.name = "sheaf node",
           .operands = "drain|keep|rm SERVER",
           .summary = "takes a server out of a running cluster, or keeps it",
           .least_operands = 2,
           .most_operands = 2,
           .options = {{.name = "no_wait",
                        .kind = Option::kFlag,
                        .help = "does not wait until the server has nothing left"},
                       SchedulerOption(),
                       TimeoutOption()},
           .notes = kNotes},
          ChangeNode};
}

}  // namespace sheaf::cli
