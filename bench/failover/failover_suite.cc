#include "bench/failover/failover_suite.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "bench/failover/training_cluster.h"
#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

constexpr int kServers = 3;
// What a release has to show; a stop is told in advance, and may be as quick as a move one day.
constexpr double kMedianBar = 0.8, kWorstPercentBar = 3.0;

constexpr Duration kStopLasts = std::chrono::seconds(5);

// Sends the signal to the server that serves the most partitions, once all have copies again. Answers the gap, in
// seconds.
Result<double> GapAfter(TrainingCluster& cluster, int signal) {
  SHEAF_RETURN_IF_ERROR(cluster.Settle(kServers));
  std::map<uint32_t, std::vector<uint32_t>> served;
  const pb::ClusterConfig& config = cluster.client().config();
  for (int p = 0; p < config.partition_size(); ++p) served[config.partition(p).primary()].push_back(p);
  const auto victim = std::ranges::max_element(
      served, {}, [](const auto& each) { return std::pair(each.second.size(), each.first); });
  SHEAF_RETURN_IF_ERROR(cluster.Push(victim->second));
  const auto server = std::ranges::find(config.server(), victim->first, &pb::ServerInfo::node);
  SHEAF_ASSIGN_OR_RETURN(const pb::NodeStatus process, cluster.FindServer(server->name()));
  const auto pid = static_cast<pid_t>(process.pid());
  const SystemClock& clock = cluster.clock();
  const TimePoint begin = clock.Now();
  if (kill(pid, signal) != 0) return Fail(ErrorCode::kInternal, "kill ", pid, ": ", std::strerror(errno));
  if (signal == SIGTERM) {
    // It still takes pushes while it leaves: those that come through before it has gone prove nothing.
    Duration longest{};
    for (TimePoint sent = clock.Now(); sent - begin < kStopLasts; sent = clock.Now()) {
      SHEAF_RETURN_IF_ERROR(cluster.Push(victim->second));
      longest = std::max(longest, clock.Now() - sent);
    }
    return ToSeconds(longest);
  }
  SHEAF_RETURN_IF_ERROR(cluster.Push(victim->second));
  return ToSeconds(clock.Now() - begin);
}

// A figure with the bar as its limit: the ratio is how much of it is used.
Row MakeRow(const Suite& suite, const std::string& name, const std::string& params, const Series& gaps, double bar) {
  if (bar <= 0) return suite.Measured(name, params, "s", gaps, "", std::nullopt, 0, {});
  return suite.Measured(name, params, "s", gaps, "target", One(bar), gaps.median / bar, Bar::AtMost(1));
}

Status Measure(TrainingCluster& cluster, int signal, int times, const std::string& name, Suite& suite) {
  if (!suite.Wanted(name, "p50")) return {};
  std::vector<double> gaps;
  for (int i = 0; i < times; ++i) {
    SHEAF_ASSIGN_OR_RETURN(const double gap, GapAfter(cluster, signal));
    gaps.push_back(gap);
  }
  const auto [least, most] = std::ranges::minmax(gaps);
  const bool judged = signal == SIGKILL;
  const double p99 = Quantile(gaps, 0.99);
  const Series all{Quantile(gaps, 0.5), least, most}, slow{p99, p99, p99};
  suite.Add(MakeRow(suite, name, StrCat("p50 of ", times), all, judged ? kMedianBar : 0));
  suite.Add(MakeRow(suite, name, StrCat("p99 of ", times), slow, judged ? kWorstPercentBar : 0));
  return {};
}

}  // namespace

Status RunFailover(const FailoverOptions& options, Suite& suite) {
  TrainingCluster cluster;
  SHEAF_RETURN_IF_ERROR(cluster.Start({.servers = kServers}));
  SHEAF_RETURN_IF_ERROR(Measure(cluster, SIGKILL, options.kills, "kill of a primary", suite));
  return Measure(cluster, SIGTERM, options.stops, "stop of a primary", suite);
}

}  // namespace sheaf::bench
