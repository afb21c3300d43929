#include "scheduler/saved_state.h"

#include <charconv>
#include <optional>
#include <utility>

#include "common/base/partition.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr size_t kDigits = 10, kJobDigits = 20;

std::string Padded(uint64_t number, size_t digits) {
  const std::string text = std::to_string(number);
  return std::string(digits - std::min(digits, text.size()), '0') + text;
}

std::string JobKey(JobId job, const std::string& rest) { return kJobKeys + Padded(job.value, kJobDigits) + "/" + rest; }

std::optional<uint64_t> NumberOf(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

Failure Unreadable(const std::string& key) {
  return Fail(ErrorCode::kDataLoss, "the record ", key, " of the scheduler's store cannot be read: it is damaged");
}

template <typename Record>
Status Parse(const MetaEntry& entry, Record& record) {
  if (!record.ParseFromString(entry.value)) return Unreadable(entry.key);
  return {};
}

Status ReadJobEntry(const MetaEntry& entry, SavedState& state) {
  const std::string_view name = std::string_view(entry.key).substr(std::string_view(kJobKeys).size());
  if (name.size() <= kJobDigits || name[kJobDigits] != '/') return Unreadable(entry.key);
  const auto id = NumberOf(name.substr(0, kJobDigits));
  if (!id) return Unreadable(entry.key);
  SavedJob& job = state.jobs[JobId(*id)];
  const std::string_view rest = name.substr(kJobDigits + 1);
  if (rest == "submission") return Parse(entry, job.submission);
  if (rest == "plan") return Parse(entry, job.plan);
  if (rest == "state") return Parse(entry, job.state);
  if (rest == "evaluation") return Parse(entry, job.evaluation);
  if (rest.starts_with("ranges/")) return Parse(entry, job.ranges.emplace_back());
  if (!rest.starts_with("lane/")) return Unreadable(entry.key);
  const auto lane = NumberOf(rest.substr(std::string_view("lane/").size()));
  if (!lane) return Unreadable(entry.key);
  return Parse(entry, job.lanes[LaneId(static_cast<uint32_t>(*lane))]);
}

// Who the cluster is, and for how often it is started now. A store that is empty is made this cluster's.
Status TakeIdentity(MetaStore& store, uint32_t partition_count, uint64_t new_cluster_id, SavedState& state) {
  SHEAF_ASSIGN_OR_RETURN(const auto cluster, store.Get(kClusterKey));
  SHEAF_ASSIGN_OR_RETURN(const auto epoch, store.Get(kEpochKey));
  MetaTxn begin;
  begin.compares = {{kClusterKey, cluster}, {kEpochKey, epoch}};
  pb::ClusterRecord record;
  if (cluster) {
    SHEAF_RETURN_IF_ERROR(Parse({kClusterKey, *cluster}, record));
    if (record.format() != kSavedFormat) {
      return Fail(ErrorCode::kVersionMismatch, "the scheduler's store has format ", record.format(),
                  ", this build knows ", kSavedFormat, ": start the release that wrote it");
    }
    if (record.cluster() == 0 || !epoch) return Unreadable(kClusterKey);
    if (record.partition_count() != partition_count) {
      return Fail(ErrorCode::kInvalidArgument, "the scheduler's store is of --partitions=", record.partition_count(),
                  ", not ", partition_count, ": the number of partitions is fixed when a cluster is made");
    }
    const auto before = NumberOf(*epoch);
    if (!before) return Unreadable(kEpochKey);
    state.epoch = *before + 1;
  } else {
    if (epoch) return Unreadable(kClusterKey);
    record.set_format(kSavedFormat);
    record.set_cluster(new_cluster_id);
    record.set_partition_count(partition_count);
    Put(begin, kClusterKey, record);
    state.epoch = 1;
  }
  state.cluster_id = record.cluster();
  begin.puts.push_back({kEpochKey, std::to_string(state.epoch)});
  SHEAF_ASSIGN_OR_RETURN(const bool is_ours, store.Txn(begin));
  if (!is_ours) return Fail(ErrorCode::kAlreadyExists, "another scheduler has just taken over the scheduler's store");
  return {};
}

}  // namespace

std::string NodeKey(NodeId node) { return kNodeKeys + Padded(node.value, kDigits); }
std::string PartitionKey(uint32_t partition) { return kPartitionKeys + Padded(partition, kDigits); }
std::string SubmissionKey(JobId job) { return JobKey(job, "submission"); }
std::string PlanKey(JobId job) { return JobKey(job, "plan"); }
std::string JobStateKey(JobId job) { return JobKey(job, "state"); }
std::string LaneKeyOf(JobId job, LaneId lane) { return JobKey(job, "lane/" + Padded(lane.value, kDigits)); }
std::string RangesKey(JobId job, uint32_t block) { return JobKey(job, "ranges/" + Padded(block, kDigits)); }
std::string EvaluationKey(JobId job) { return JobKey(job, "evaluation"); }

Result<SavedState> TakeOver(MetaStore& store, uint32_t partition_count, uint64_t new_cluster_id) {
  SavedState state;
  SHEAF_RETURN_IF_ERROR(TakeIdentity(store, partition_count, new_cluster_id, state));
  SHEAF_ASSIGN_OR_RETURN(const auto counters, store.Get(kCountersKey));
  if (counters) SHEAF_RETURN_IF_ERROR(Parse({kCountersKey, *counters}, state.counters));
  SHEAF_ASSIGN_OR_RETURN(const auto checkpoints, store.Get(kCheckpointsKey));
  if (checkpoints) SHEAF_RETURN_IF_ERROR(Parse({kCheckpointsKey, *checkpoints}, state.checkpoints));
  SHEAF_ASSIGN_OR_RETURN(const auto nodes, store.List(kNodeKeys));
  for (const MetaEntry& entry : nodes) SHEAF_RETURN_IF_ERROR(Parse(entry, state.nodes.emplace_back()));
  SHEAF_ASSIGN_OR_RETURN(const auto partitions, store.List(kPartitionKeys));
  for (const MetaEntry& entry : partitions) {
    if (entry.key != PartitionKey(static_cast<uint32_t>(state.partitions.size()))) return Unreadable(entry.key);
    SHEAF_RETURN_IF_ERROR(Parse(entry, state.partitions.emplace_back()));
  }
  if (!state.partitions.empty() && state.partitions.size() != partition_count) {
    return Fail(ErrorCode::kDataLoss, "the scheduler's store has ", state.partitions.size(), " of ", partition_count,
                " partitions: it is damaged");
  }
  SHEAF_ASSIGN_OR_RETURN(const auto jobs, store.List(kJobKeys));
  for (const MetaEntry& entry : jobs) SHEAF_RETURN_IF_ERROR(ReadJobEntry(entry, state));
  return state;
}

}  // namespace sheaf
