#include "bench/failover/moves_suite.h"

#include <algorithm>
#include <numeric>

#include "bench/failover/training_cluster.h"
#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

constexpr int kServers = 2;  // and the one that is added
constexpr double kGapBar = 0.05, kSlowerBar = 3, kUnevenBar = 1.1;
constexpr Duration kQuiet = std::chrono::seconds(5);
constexpr Duration kMovesWithin = std::chrono::seconds(60);
constexpr Duration kLookEvery = Milliseconds(100);

// How long pushes take to all partitions, one after the other, until `done`, which is asked now and then.
class Pusher {
 public:
  explicit Pusher(TrainingCluster& cluster) : cluster_(cluster), all_(cluster.client().config().partition_count()) {
    std::iota(all_.begin(), all_.end(), 0);
  }

  Result<std::vector<double>> Until(const std::function<Result<bool>()>& done) {
    std::vector<double> seconds;
    const TimePoint end = cluster_.clock().Now() + kMovesWithin;
    TimePoint look = cluster_.clock().Now();
    while (true) {
      const TimePoint sent = cluster_.clock().Now();
      SHEAF_RETURN_IF_ERROR(cluster_.Push(all_));
      const TimePoint now = cluster_.clock().Now();
      seconds.push_back(ToSeconds(now - sent));
      if (now < look) continue;
      SHEAF_ASSIGN_OR_RETURN(const bool is_done, done());
      if (is_done) return seconds;
      if (now > end) return Fail(ErrorCode::kTimeout, "partitions move for longer than ", FormatSeconds(kMovesWithin));
      look = cluster_.clock().Now() + kLookEvery;
    }
  }

 private:
  TrainingCluster& cluster_;
  std::vector<uint32_t> all_;
};

Row Judged(const Suite& suite, std::string name, std::string params, std::string unit, const Series& ours,
           std::string limit_name, double limit, double bar) {
  return suite.Measured(std::move(name), std::move(params), std::move(unit), ours, std::move(limit_name), One(limit),
                      ours.median / limit, Bar::AtMost(bar));
}

}  // namespace

Status RunMoves(const MovesOptions& options, Suite& suite) {
  TrainingCluster cluster;
  SHEAF_RETURN_IF_ERROR(cluster.Start({.servers = kServers}));
  SHEAF_RETURN_IF_ERROR(cluster.Settle(kServers));
  Pusher pusher(cluster);
  const TimePoint begin = cluster.clock().Now();
  SHEAF_ASSIGN_OR_RETURN(const auto quiet,
                         pusher.Until([&] { return Result<bool>(cluster.clock().Now() - begin > kQuiet); }));

  // All partitions are where they should be, and those of all servers alike.
  const auto level = [&]() -> Result<bool> {
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, cluster.client().GetStatus(JobId(0)));
    std::vector<uint32_t> held;
    for (const pb::NodeStatus& node : status.node()) {
      if (node.role() == pb::SERVER && node.state() == "alive") held.push_back(node.partitions() + node.copies());
    }
    if (held.size() != kServers + 1 || status.moving() != 0) return false;
    const auto [least, most] = std::ranges::minmax(held);
    return most - least <= most / 10;
  };
  std::vector<double> moving, longest;
  const auto take = [&](const std::vector<double>& seconds) {
    moving.insert(moving.end(), seconds.begin(), seconds.end());
    longest.push_back(*std::ranges::max_element(seconds));
  };
  SHEAF_RETURN_IF_ERROR(cluster.AddServer());
  {
    SHEAF_ASSIGN_OR_RETURN(const auto seconds, pusher.Until(level));
    take(seconds);
  }
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus after, cluster.client().GetStatus(JobId(0)));
  std::vector<double> memory;
  for (const pb::NodeStatus& node : after.node()) {
    if (node.role() == pb::SERVER) memory.push_back(static_cast<double>(node.memory_bytes()) / 1e6);
  }
  for (int i = 0; i < options.drains; ++i) {
    const std::string name = "server-" + std::to_string(i % (kServers + 1));
    SHEAF_RETURN_IF_ERROR(cluster.ChangeNode(name, pb::ChangeNode::DRAIN));
    SHEAF_ASSIGN_OR_RETURN(const auto away, pusher.Until([&]() -> Result<bool> {
      SHEAF_ASSIGN_OR_RETURN(const pb::NodeStatus node, cluster.FindServer(name));
      return node.partitions() + node.copies() == 0;
    }));
    take(away);
    SHEAF_RETURN_IF_ERROR(cluster.ChangeNode(name, pb::ChangeNode::UNCHANGED));
    SHEAF_ASSIGN_OR_RETURN(const auto back, pusher.Until(level));
    take(back);
  }
  const auto [least_gap, most_gap] = std::ranges::minmax(longest);
  Row gap = Judged(suite, "planned moves, longest push", StrCat("p50 of ", longest.size()), "s",
                   {Quantile(longest, 0.5), least_gap, most_gap}, "target", kGapBar, 1);
  gap.remark = StrCat(moving.size(), " pushes while partitions moved, none failed");
  suite.Add(std::move(gap));
  suite.Add(Judged(suite, "planned moves, longest push", StrCat("p99 of ", longest.size()), "s",
                   One(Quantile(longest, 0.99)), "target", kGapBar, 1));
  suite.Add(Judged(suite, "push p99 while partitions move", StrCat(moving.size(), " pushes"), "s",
                   One(Quantile(moving, 0.99)), "quiet", Quantile(quiet, 0.99), kSlowerBar));
  suite.Add(Judged(suite, "memory of servers after one was added", "most beside least", "MB",
                   One(*std::ranges::max_element(memory)), "least", *std::ranges::min_element(memory), kUnevenBar));
  return {};
}

}  // namespace sheaf::bench
