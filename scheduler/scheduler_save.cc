// What of the scheduler is in the store, and a scheduler that goes on from there. Which key holds what: saved_state.h.
#include <algorithm>
#include <utility>

#include "common/base/planted_bug.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {
namespace {

// Reserved in the store ahead of need: few writes, and no number is ever given twice.
constexpr uint64_t kLeasesAhead = 4096, kGenerationsAhead = 64;
// So many reports of a worker may be lost, and it is still waited for before what it holds is leased to others.
constexpr int kReportsToRecover = 5;

}  // namespace

void SchedulerCore::Restore(SavedState saved) {
  const pb::CountersRecord& counters = saved.counters;
  next_job_ = std::max<uint64_t>(1, counters.next_job());
  if (!Planted(Bug::kLeasesNumberedAnew)) next_lease_ = std::max<uint64_t>(1, counters.lease_limit());
  lease_limit_ = counters.lease_limit();
  generation_limit_ = counters.generation_limit();
  saved_counters_ = counters.SerializeAsString();
  members_.Restore(saved.nodes, counters, started_);
  placement_.Restore(saved.partitions);
  for (const auto& [id, node] : members_.nodes()) {
    if (node.role == pb::SERVER) members_.Find(id)->partitions = placement_.CountOn(id);
  }
  for (auto& [id, record] : saved.jobs) {
    tokens_.emplace(record.submission.token(), id);
    auto made = std::make_unique<Job>(id, std::move(record), Job::From::kStore, options_.job, started_);
    const Job& job = *jobs_.emplace(id, std::move(made)).first->second;
    if (job.ended()) {
      touched_.insert(id);
    } else {
      open_.push_back(id);
    }
  }
  if (generation_limit_ == 0) return;
  events_.push_back("scheduler epoch=" + std::to_string(epoch_) + " goes on with " +
                    std::to_string(members_.CountAlive(pb::SERVER)) + " servers, " +
                    std::to_string(members_.CountAlive(pb::WORKER)) + " workers, " + std::to_string(open_.size()) +
                    " open jobs");
  // The first configuration that is sent is whole and new: none that was sent before had this number.
  const uint64_t generation = Planted(Bug::kGenerationGoesBack) ? 2 : std::max<uint64_t>(2, generation_limit_);
  configs_.Add(MakeConfig(generation));
}

bool SchedulerCore::Recovering(TimePoint now) const {
  const std::vector<Node*>& workers = members_.Alive(pb::WORKER);
  return now - started_ < kReportsToRecover * options_.report_every &&
         std::any_of(workers.begin(), workers.end(), [](const Node* worker) { return worker->returning; });
}

void SchedulerCore::Save(TimePoint now, MetaTxn& txn) {
  for (const NodeId id : members_.TakeChanged()) {
    const Node* const node = members_.Find(id);
    if (node != nullptr && Membership::Lasts(*node)) {
      Put(txn, NodeKey(id), Membership::Describe(*node));
    } else {
      txn.deletes.push_back(NodeKey(id));
    }
  }
  for (const uint32_t partition : placement_.TakeChanged()) {
    if (Planted(Bug::kPlacementUnsaved) && epoch_ > 1) continue;
    Put(txn, PartitionKey(partition), Placement::Describe(placement_.homes()[partition]));
  }
  const bool behind = now - saved_behind_ >= options_.save_behind;
  if (behind) saved_behind_ = now;
  SaveJobs(now, behind, txn);
  SaveCounters(txn);
  checkpoints_.Save(txn);
}

void SchedulerCore::SaveJobs(TimePoint now, bool behind, MetaTxn& txn) {
  for (const JobId id : open_) jobs_.at(id)->Save(now, behind, txn);
  for (const JobId id : std::exchange(touched_, {})) jobs_.at(id)->Save(now, behind, txn);
  const std::vector<std::string> gone = std::exchange(unsaved_keys_, {});
  txn.deletes.insert(txn.deletes.end(), gone.begin(), gone.end());
}

void SchedulerCore::SaveCounters(MetaTxn& txn) {
  if (next_lease_ > lease_limit_) lease_limit_ = next_lease_ + kLeasesAhead;
  if (config().generation() >= generation_limit_) generation_limit_ = config().generation() + kGenerationsAhead;
  pb::CountersRecord counters;
  members_.CountersTo(counters);
  counters.set_next_job(next_job_);
  counters.set_lease_limit(lease_limit_);
  counters.set_generation_limit(generation_limit_);
  std::string bytes = counters.SerializeAsString();
  if (bytes == saved_counters_) return;
  txn.puts.push_back({kCountersKey, bytes});
  saved_counters_ = std::move(bytes);
}

}  // namespace sheaf
