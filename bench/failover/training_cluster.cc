#include "bench/failover/training_cluster.h"

#include <poll.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "bench/train/sample_rows.h"
#include "common/base/partition.h"
#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

constexpr size_t kRows = 200'000;
constexpr Duration kStartsWithin = std::chrono::seconds(60);
constexpr Duration kSettlesWithin = std::chrono::seconds(60);
constexpr Duration kLookEvery = Milliseconds(50);

void Pause() { poll(nullptr, 0, static_cast<int>(kLookEvery / Milliseconds(1))); }

Result<std::string> ProgramBesideThis(const std::string& name) {
  const std::string path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
  if (!std::filesystem::exists(path)) return Fail(ErrorCode::kNotFound, "no ", path, ": build all of the release");
  return path;
}

}  // namespace

double Quantile(std::vector<double> values, double share) {
  std::ranges::sort(values);
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

Status TrainingCluster::Start(const TrainingClusterOptions& options) {
  SHEAF_ASSIGN_OR_RETURN(const std::string sheaf, ProgramBesideThis("sheaf"));
  std::ofstream(folder_.path() + "/rows") << LibsvmRows(kRows, LibsvmValues::kOnes, 1);
  std::ofstream(folder_.path() + "/job.textproto")
      << "name: \"failover\"\ndata { format: LIBSVM train: \"rows\" }\n" << options.model << "\n"
      << "optimizer { kind: ADAGRAD }\ntrain { epochs: 10000 batch_size: 1000 }\n"
      << "consistency { mode: SSP staleness: 8 }\n";
  const std::string logs = folder_.path() + "/logs";
  std::vector<std::string> argv = {
      sheaf, "run", folder_.path() + "/job.textproto", "--data", folder_.path(), "--servers", StrCat(options.servers),
      "--workers", "2", "--replicas", StrCat(options.replicas), "--log_dir", logs, "--quiet"};
  if (options.checkpoints) argv.insert(argv.end(), {"--checkpoint_dir", checkpoint_dir()});
  SHEAF_ASSIGN_OR_RETURN(
      run_, ChildProcess::Spawn({.argv = std::move(argv), .log_path = folder_.path() + "/out"}));
  const TimePoint end = clock_.Now() + kStartsWithin;
  while (address_.empty()) {
    std::ifstream(logs + "/scheduler.address") >> address_;
    SHEAF_RETURN_IF_ERROR(Wait(end, "the scheduler starts"));
  }
  SHEAF_ASSIGN_OR_RETURN(client_, BlockingClient::Connect(context_, address_));
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

Status TrainingCluster::AddServer() {
  SHEAF_ASSIGN_OR_RETURN(const std::string server, ProgramBesideThis("sheaf-server"));
  const std::string log = folder_.path() + "/added-" + std::to_string(added_.size());
  SHEAF_ASSIGN_OR_RETURN(auto child,
                         ChildProcess::Spawn({.argv = {server, "--scheduler=" + address_}, .log_path = log}));
  added_.push_back(std::move(child));
  return {};
}

Status TrainingCluster::Push(const std::vector<uint32_t>& partitions) {
  std::vector<HashedKey> keys;
  for (const uint32_t p : partitions) {
    keys.push_back(PartitionFirstKey(PartitionId(p), client_->config().partition_count()) + 1);
  }
  std::vector<float> zeros(keys.size());
  std::vector<TableGradients> tables;
  tables.push_back({table_, std::make_shared<const std::vector<HashedKey>>(std::move(keys)), std::move(zeros)});
  return client_->Push(std::move(tables));
}

Result<pb::NodeStatus> TrainingCluster::FindServer(const std::string& name) {
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, client_->GetStatus(JobId(0)));
  for (const pb::NodeStatus& each : status.node()) {
    if (each.name() == name && each.state() == "alive") return each;
  }
  return Fail(ErrorCode::kNotFound, "the scheduler does not know ", name, " any more");
}

Status TrainingCluster::ChangeNode(const std::string& name, pb::ChangeNode::Change change) {
  Message request;
  request.header.mutable_change_node()->set_name(name);
  request.header.mutable_change_node()->set_change(change);
  if (auto answer = client_->Ask(std::move(request), std::chrono::seconds(10)); !answer) {
    return Failure{answer.error()};
  }
  return {};
}

Status TrainingCluster::Settle(int servers) {
  const TimePoint end = clock_.Now() + kSettlesWithin;
  while (true) {
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client_->GetConfig());
    const bool copied = std::ranges::all_of(config.partition(), [](const pb::PartitionConfig& partition) {
      return !partition.has_former() && !partition.taking_over() &&
             std::ranges::any_of(partition.replica(), [](const pb::Replica& replica) { return replica.in_sync(); });
    });
    if (config.server_size() == servers && copied) return {};
    SHEAF_RETURN_IF_ERROR(Wait(end, "all partitions have copies again"));
  }
}

Status TrainingCluster::Wait(TimePoint end, const char* what) {
  if (const auto exit = run_->Poll()) return Fail(ErrorCode::kInternal, "sheaf run: ", exit->Text(), "\n", Said());
  if (clock_.Now() >= end) return Fail(ErrorCode::kTimeout, "waited too long: ", what, "\n", Said());
  Pause();
  return {};
}

std::string TrainingCluster::Said() const {
  std::ifstream said(folder_.path() + "/out");
  return std::string(std::istreambuf_iterator<char>(said), {});
}

}  // namespace sheaf::bench
