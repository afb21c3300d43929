#include "bench/failover/failover_suite.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <set>

#include "bench/train/sample_rows.h"
#include "bench/train/temp_folder.h"
#include "client/blocking_client.h"
#include "common/base/partition.h"
#include "common/base/strings.h"
#include "common/runtime/process.h"

namespace sheaf::bench {
namespace {

constexpr int kServers = 3;
constexpr size_t kRows = 200'000;
constexpr Duration kStartsWithin = std::chrono::seconds(60);
constexpr Duration kSettlesWithin = std::chrono::seconds(60);
constexpr Duration kLookEvery = Milliseconds(50);
// What a release has to show; a stop is told in advance, and may be as quick as a move one day.
constexpr double kMedianBar = 0.8, kWorstPercentBar = 3.0;

void Pause() { poll(nullptr, 0, static_cast<int>(std::chrono::milliseconds(kLookEvery / Milliseconds(1)).count())); }

// The value that a share of them does not exceed.
double Quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

// A cluster that trains without an end, and a client of it.
class Cluster {
 public:
  Status Start() {
    const std::string sheaf = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "sheaf";
    if (!std::filesystem::exists(sheaf)) return Fail(ErrorCode::kNotFound, "no ", sheaf, ": build all of the release");
    std::ofstream(folder_.path() + "/rows") << LibsvmRows(kRows, LibsvmValues::kOnes, 1);
    std::ofstream(folder_.path() + "/job.textproto")
        << "name: \"failover\"\ndata { format: LIBSVM train: \"rows\" }\nmodel { loss: LOGISTIC }\n"
        << "optimizer { kind: ADAGRAD }\ntrain { epochs: 10000 batch_size: 1000 }\n"
        << "consistency { mode: SSP staleness: 8 }\n";
    const std::string logs = folder_.path() + "/logs";
    SHEAF_ASSIGN_OR_RETURN(
        run_, ChildProcess::Spawn({.argv = {sheaf, "run", folder_.path() + "/job.textproto", "--data", folder_.path(),
                                            "--servers", StrCat(kServers), "--workers", "2", "--replicas", "2",
                                            "--log_dir", logs, "--quiet"},
                                   .log_path = folder_.path() + "/out"}));
    const TimePoint end = clock_.Now() + kStartsWithin;
    std::string address;
    while (address.empty()) {
      std::ifstream(logs + "/scheduler.address") >> address;
      SHEAF_RETURN_IF_ERROR(Wait(end, "the scheduler starts"));
    }
    SHEAF_ASSIGN_OR_RETURN(client_, BlockingClient::Connect(context_, address));
    while (true) {
      SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, client_->GetStatus(JobId(0)));
      if (status.job_size() > 0 && status.job(0).phase() == pb::RUNNING && status.job(0).examples_total() > 0) break;
      SHEAF_RETURN_IF_ERROR(Wait(end, "training begins"));
    }
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client_->GetConfig());
    for (const pb::TableSpec& table : config.table()) {
      if (table.name() == "weights") table_ = TableId(table.id());
    }
    return {};
  }

  // Sends the signal to the server that serves the most partitions, once all have copies again. Answers the gap, in
  // seconds.
  Result<double> GapAfter(int signal) {
    SHEAF_RETURN_IF_ERROR(Settle());
    std::map<uint32_t, std::vector<uint32_t>> served;
    const pb::ClusterConfig& config = client_->config();
    for (int p = 0; p < config.partition_size(); ++p) served[config.partition(p).primary()].push_back(p);
    const auto victim = std::ranges::max_element(
        served, {}, [](const auto& each) { return std::pair(each.second.size(), each.first); });
    std::vector<HashedKey> keys;
    for (const uint32_t p : victim->second) {
      keys.push_back(PartitionFirstKey(PartitionId(p), config.partition_count()) + 1);
    }
    const auto shared = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
    SHEAF_RETURN_IF_ERROR(Push(shared));
    SHEAF_ASSIGN_OR_RETURN(const pid_t pid, PidOf(victim->first));
    const TimePoint begin = clock_.Now();
    if (kill(pid, signal) != 0) return Fail(ErrorCode::kInternal, "kill ", pid, ": ", std::strerror(errno));
    if (signal == SIGTERM) {
      // It still takes pushes while it leaves: those that come through before it has gone prove nothing.
      Duration longest{};
      for (TimePoint sent = clock_.Now(); sent - begin < kStopLasts; sent = clock_.Now()) {
        SHEAF_RETURN_IF_ERROR(Push(shared));
        longest = std::max(longest, clock_.Now() - sent);
      }
      return ToSeconds(longest);
    }
    SHEAF_RETURN_IF_ERROR(Push(shared));
    return ToSeconds(clock_.Now() - begin);
  }

 private:
  static constexpr Duration kStopLasts = std::chrono::seconds(5);

  Status Push(const KeyVector& keys) {
    std::vector<TableGradients> tables;
    tables.push_back({table_, keys, std::vector<float>(keys->size())});
    return client_->Push(std::move(tables));
  }

  Result<pid_t> PidOf(uint32_t node) {
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, client_->GetStatus(JobId(0)));
    for (const pb::NodeStatus& each : status.node()) {
      if (each.node() == node && each.state() == "alive") return static_cast<pid_t>(each.pid());
    }
    return Fail(ErrorCode::kInternal, "the scheduler does not know node ", node, " any more");
  }

  // Until all servers are there and each partition has its copy.
  Status Settle() {
    const TimePoint end = clock_.Now() + kSettlesWithin;
    while (true) {
      SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client_->GetConfig());
      const bool copied = std::ranges::all_of(config.partition(), [](const pb::PartitionConfig& partition) {
        return !partition.has_former() && !partition.taking_over() &&
               std::ranges::any_of(partition.replica(), [](const pb::Replica& replica) { return replica.in_sync(); });
      });
      if (config.server_size() == kServers && copied) return {};
      SHEAF_RETURN_IF_ERROR(Wait(end, "all partitions have copies again"));
    }
  }

  Status Wait(TimePoint end, const char* what) {
    if (const auto exit = run_->Poll()) return Fail(ErrorCode::kInternal, "sheaf run: ", exit->Text(), "\n", Said());
    if (clock_.Now() >= end) return Fail(ErrorCode::kTimeout, "waited too long: ", what, "\n", Said());
    Pause();
    return {};
  }
  std::string Said() const {
    std::ifstream said(folder_.path() + "/out");
    return std::string(std::istreambuf_iterator<char>(said), {});
  }

  const TempFolder folder_;
  const SystemClock clock_{};
  ZmqContext context_;
  std::unique_ptr<ChildProcess> run_;
  std::unique_ptr<BlockingClient> client_;
  TableId table_;
};

// A figure with the bar as its limit: the ratio is how much of it is used.
Row MakeRow(const Suite& suite, const std::string& name, const std::string& params, const Series& gaps, double bar) {
  Row row;
  row.suite = suite.name();
  row.name = name;
  row.params = params;
  row.unit = "s";
  row.ours = gaps;
  if (bar > 0) {
    row.limit_name = "target";
    row.limit = {bar, bar, bar};
    row.ratio = gaps.median / bar;
    row.bar = Bar::AtMost(1);
  }
  return row;
}

Status Measure(Cluster& cluster, int signal, int times, const std::string& name, Suite& suite) {
  if (!suite.Wanted(name, "p50")) return {};
  std::vector<double> gaps;
  for (int i = 0; i < times; ++i) {
    SHEAF_ASSIGN_OR_RETURN(const double gap, cluster.GapAfter(signal));
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
  Cluster cluster;
  SHEAF_RETURN_IF_ERROR(cluster.Start());
  SHEAF_RETURN_IF_ERROR(Measure(cluster, SIGKILL, options.kills, "kill of a primary", suite));
  return Measure(cluster, SIGTERM, options.stops, "stop of a primary", suite);
}

}  // namespace sheaf::bench
