// What of the scheduler outlives its process: which key of the MetaStore holds what, and all of it, read.
//
//   cluster                 ClusterRecord   who the cluster is; never changes
//   epoch                   decimal text    how often a scheduler was started; each transaction compares it, so that
//                                           one whose place another has taken can write nothing
//   counters                CountersRecord  numbers that are given once
//   checkpoints             CheckpointsRecord  the number of the next, and what became of the last
//   node/ID                 NodeRecord      members, and servers that can come back
//   partition/P             PartitionConfig where partition P lies, and its epoch
//   job/ID/submission       SubmitJob       what was submitted, with its token
//   job/ID/plan             DataPlan        how its rows lie in files; until it ends
//   job/ID/state            JobRecord       phase, pass, results
//   job/ID/lane/LANE        LaneRecord      the running pass's lanes, of a pass in which each worker has its own
//   job/ID/ranges/BLOCK     RangesRecord    progress of the running pass, by LeaseBook::kBlock ranges
//   job/ID/evaluation       EvalRecord      results of the ranges of a running evaluation that are done
//
// Numbers in keys have ten digits (jobs twenty), so that keys are in the order of their numbers. All but ranges and
// evaluations is in the store before anything leaves that depends on it; those are written behind (docs/storage.md says
// why nothing is lost).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/storage/meta_store.h"
#include "proto/control.pb.h"
#include "proto/meta.pb.h"

namespace sheaf {

inline constexpr uint32_t kSavedFormat = 1;

// The keys.
inline constexpr const char* kClusterKey = "cluster";
inline constexpr const char* kEpochKey = "epoch";
inline constexpr const char* kCountersKey = "counters";
inline constexpr const char* kCheckpointsKey = "checkpoints";
inline constexpr const char* kNodeKeys = "node/";
inline constexpr const char* kPartitionKeys = "partition/";
inline constexpr const char* kJobKeys = "job/";
std::string NodeKey(NodeId node);
std::string PartitionKey(uint32_t partition);
std::string SubmissionKey(JobId job);
std::string PlanKey(JobId job);
std::string JobStateKey(JobId job);
std::string LaneKeyOf(JobId job, LaneId lane);
std::string RangesKey(JobId job, uint32_t block);
std::string EvaluationKey(JobId job);

struct SavedJob {
  pb::SubmitJob submission;
  pb::DataPlan plan;
  pb::JobRecord state;
  std::map<LaneId, pb::LaneRecord> lanes;
  std::vector<pb::RangesRecord> ranges;
  pb::EvalRecord evaluation;
};

struct SavedState {
  uint64_t cluster_id = 0;
  uint64_t epoch = 0;  // of this start; 0: nothing is saved, as in tests of cores
  pb::CountersRecord counters;
  pb::CheckpointsRecord checkpoints;
  std::vector<pb::NodeRecord> nodes;              // ascending
  std::vector<pb::PartitionConfig> partitions;    // index = partition; empty: never placed
  std::map<JobId, SavedJob> jobs;
};

// All that is in the store, for a scheduler that begins now: its epoch is raised, and a store without a cluster is made
// one of `partition_count` partitions, named `new_cluster_id`. kInvalidArgument: it has another number of partitions;
// kVersionMismatch: another format; kDataLoss: something in it cannot be read.
Result<SavedState> TakeOver(MetaStore& store, uint32_t partition_count, uint64_t new_cluster_id);

// Puts a record into a transaction.
template <typename Record>
void Put(MetaTxn& txn, std::string key, const Record& record) {
  txn.puts.push_back({std::move(key), record.SerializeAsString()});
}

}  // namespace sheaf
