// One job's life: wait for machines, plan the data, run the passes, account for every example, end.
//
//   WAITING --servers and workers are in--> PLANNING --a worker sent the plan--> RUNNING --last pass--> FINISHED
//       any of them --Cancel()--> CANCELLED        any of them --Fail()--> FAILED
//
// Within RUNNING, for each pass (statistics, training, validation, test):
//   settle: the configuration with the pass's roster is out; every server has applied it and has counted, in each of
//           its partitions, exactly the examples of the pass before; then
//   work:   ranges are leased until all are done.
//
// A state machine without I/O, owned by SchedulerCore and called on its thread only.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "proto/checkpoint.pb.h"
#include "proto/control.pb.h"
#include "scheduler/lease_book.h"
#include "scheduler/membership.h"
#include "scheduler/saved_state.h"

namespace sheaf {

struct JobOptions {
  uint32_t min_servers = 1;
  Duration settle_limit = std::chrono::seconds(30);   // for servers to apply and to agree; then the job fails
  // A worker may hold so many ranges, and more if they are so short that beside the one it is at they have fewer
  // batches: a lease, its rows and its first pull each take a turn to come, and a worker has one turn a batch.
  uint32_t leases_ahead = 2;
  uint32_t batches_ahead = 8;
  // And so much work at the rate that it has reported, so that it goes on while there is no scheduler, but no more than
  // its share of one half of the free ranges (the pass's end is for all), nor more leases than it can report at little
  // cost, or the scheduler hear of from all workers together.
  Duration work_ahead = std::chrono::seconds(60);
  uint32_t most_leases_ahead = 8192, leases_ahead_of_all = 1 << 15;
};

class Job {
 public:
  Job(JobId id, pb::SubmitJob submission, JobOptions options, TimePoint now);
  // As an earlier scheduler saved it, or a checkpoint has it. One that cannot go on from there has failed.
  enum class From { kStore, kCheckpoint };
  Job(JobId id, SavedJob saved, From from, JobOptions options, TimePoint now);

  // Lets it hold machines; called once it is this job's turn.
  void Begin() { may_begin_ = true; }
  // Moves on as far as it can. Sets config_dirty() if its tables or roster changed.
  void Advance(Membership& members, TimePoint now);
  // The configuration that holds its latest changes has this generation.
  void OnConfigPublished(uint64_t generation);

  // Leases that an earlier scheduler granted are the worker's again, as far as they can be.
  void TakeUp(const Node& worker, const pb::WorkerReport& report);
  // Until `allowed` nothing is leased and no lane changes hands: workers have not all been heard of again.
  void AllowGrants(bool allowed);
  void OnWorkerReport(Node& worker, const pb::WorkerReport& report, TimePoint now);
  void OnWorkerGone(NodeId worker, bool died);
  // Leases more to the worker if it asks, and adds all that it holds to its orders. Without `may_join` a worker that
  // would need a new lane gets nothing yet: MakeWantedLanes makes it one. Leases take their numbers from `next_lease`.
  void FillOrders(Node& worker, pb::WorkerOrders& orders, bool may_join, uint64_t& next_lease);
  bool wants_lanes() const { return !lanes_wanted_.empty(); }
  void MakeWantedLanes();
  // Workers whose orders have changed without their asking.
  std::vector<NodeId> TakeRelieved() { return book_ == nullptr ? std::vector<NodeId>() : book_->TakeRelieved(); }
  // True if an idle worker would be given something now. For a walk over all workers when work_version() has risen:
  // there may be work then for up to most_idle_wanted() of those that had none.
  bool HasWorkFor(const Node& worker) const;
  uint64_t work_version() const { return work_version_; }
  // A worker all of whose gradients are refused gets no more of it.
  bool IsQuarantined(NodeId worker) const { return quarantined_.contains(worker); }
  size_t most_idle_wanted() const;

  // What has changed since the last call, into a transaction. `behind`: also progress, of which the loss would cost
  // nothing but work done twice.
  void Save(TimePoint now, bool behind, MetaTxn& txn);

  void Fail(ErrorCode code, std::string text, TimePoint now);
  void Cancel(std::string reason, TimePoint now);
  // Its tables leave the servers.
  void DropTables();

  // ---- checkpoints
  // What of it goes into one: as if nobody held a lease.
  void DescribeCheckpoint(pb::CheckpointManifest& manifest, TimePoint now) const;
  // It goes on from a checkpoint, as soon as servers have what is in that; until then nothing is leased.
  const pb::RestoreRecord* restoring() const { return restoring_ ? &restore_ : nullptr; }
  void OnRestored(TimePoint now);
  bool running() const { return phase_ == pb::RUNNING && !restoring_; }
  uint32_t train_passes_done() const { return static_cast<uint32_t>(epoch_loss_.size()); }
  const pb::JobSpec& spec() const { return spec_; }

  JobId id() const { return id_; }
  // Of the pass that is being worked on, if one is.
  bool working() const { return running() && step_ == Step::kWork; }
  pb::PassKind pass_kind() const { return pass().kind; }
  uint32_t pass_number() const { return pass_index_; }
  bool ended() const { return phase_ >= pb::FINISHED; }
  bool holds_tables() const { return !tables_.empty(); }
  // Servers with a store keep its rows beyond their end.
  bool outlives_servers() const { return spec_.durability() != pb::JobSpec::MEMORY; }
  // Its part of the configuration has changed; urgent: nothing is granted before that is out.
  bool config_dirty() const { return config_dirty_; }
  bool config_urgent() const { return config_urgent_; }
  void AddToConfig(pb::ClusterConfig& config) const;
  // For the log, since the last call.
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }
  // For the log: changes when the phase, the pass or its step does; state() tells so cheaply.
  std::string StateLine() const;
  using State = std::tuple<pb::JobPhase, uint32_t, int>;
  State state() const { return {phase_, pass_index_, static_cast<int>(step_)}; }
  // `whole`: with all that it was asked to do and all that came out, which may be large.
  pb::JobStatus Describe(const Membership& members, TimePoint now, bool whole) const;

 private:
  struct Pass {
    pb::PassKind kind = pb::PASS_UNKNOWN;
    uint32_t epoch = 0;                    // 1-based; 0: statistics, test
  };

  // What is saved of it at once when it changes, told cheaply; more goes with it.
  using Mark = std::tuple<pb::JobPhase, uint32_t, int, bool, bool, bool, uint64_t, uint32_t>;
  Mark MarkNow() const;
  pb::JobRecord DescribeState(TimePoint now) const;
  void SaveLanes(MetaTxn& txn);
  void SaveProgress(MetaTxn& txn);
  void SaveCheckpointed(MetaTxn& txn);
  void BeginRestore(TimePoint now);
  Status Restore(SavedJob saved, TimePoint now);
  Status RestorePass(const SavedJob& saved, TimePoint now);
  void MakePasses();
  bool OwnLanes() const { return Updates(pass().kind) && !(IsBsp() && pass().kind == pb::TRAIN); }

  void StartPlanning(Membership& members, TimePoint now);
  void TakePlan(const pb::DataPlan& plan, TimePoint now);
  Status UsePlan(const pb::DataPlan& plan);
  void MakeTables();
  void StartPass(TimePoint now);
  void EndPass(TimePoint now);
  bool ServersAgree(const Membership& members, std::string& disagreement);
  // Empty, or what this server has not done yet.
  std::string DisagreementOf(const Node& server) const;
  void End(pb::JobPhase phase, std::string detail, TimePoint now);
  // What the servers count of a pass beside its examples.
  struct PassCounts {
    uint64_t duplicates = 0;
    uint64_t staleness = 0;
  };
  // It may be given work.
  bool MayWork(const Node& worker) const { return !worker.worker_report.leaving() && !IsQuarantined(worker.id); }
  // Returns whether it is from now on.
  bool Quarantine(const Node& worker, const pb::WorkerReport& report);
  // Takes all that it holds from a worker which does nothing more.
  void LetGo(NodeId worker);
  PassCounts CountsOf(const Membership& members, uint32_t pass) const;
  void MarkUrgent() { config_dirty_ = config_urgent_ = true; }
  void MakeLanes(const Membership& members);
  void ShareLanes(const Membership& members);
  void TrimResults();
  const pb::Lane& JoinLane(NodeId worker);
  // Where it is, or belongs, in the roster.
  int LaneIndex(LaneId lane) const;
  void LeaveLane(NodeId worker);
  const Pass& pass() const { return passes_[pass_index_]; }
  uint32_t SplitOf(pb::PassKind kind) const;
  bool Updates(pb::PassKind kind) const { return kind == pb::TRAIN || kind == pb::STATISTICS; }
  bool IsBsp() const { return spec_.consistency().mode() == pb::ConsistencySpec::BSP; }
  std::vector<uint32_t> RangeOrder(uint32_t split) const;
  // How many leases a worker is to hold; static: of each of its lanes.
  uint32_t LeasesFor(const Node& worker) const;

  const JobId id_;
  const pb::JobSpec spec_;
  const uint64_t submission_token_;
  const JobOptions options_;
  pb::JobPhase phase_ = pb::WAITING;
  std::string detail_;                     // what it waits for, or how it ended
  ErrorCode error_code_{};
  bool may_begin_ = false;
  bool config_dirty_ = false, config_urgent_ = false;
  uint64_t published_generation_ = 0;

  NodeId planner_;
  bool plan_asked_ = false;                // the planner has its order
  uint64_t split_rows_[3] = {0, 0, 0};
  std::vector<PlannedRange> split_ranges_[3];
  std::vector<NodeId> split_holders_[3];   // who had each range last: its rows may still be in memory there
  std::vector<pb::TableSpec> tables_;
  pb::JobBrief brief_;

  std::vector<Pass> passes_;
  uint32_t pass_index_ = 0;
  uint32_t bsp_lanes_ = 0;
  enum class Step { kSettle, kWork } step_ = Step::kSettle;
  TimePoint settle_since_;
  NodeId disagrees_;                       // a server that has kept the job from settling
  uint64_t work_version_ = 0;
  std::unique_ptr<LeaseBook> book_;
  pb::Roster roster_;                      // of the current pass; lanes empty for evaluation
  std::map<NodeId, LaneId> lane_of_;       // dynamic passes
  std::set<NodeId> quarantined_;           // until it ends
  std::set<NodeId> lanes_wanted_;          // workers that wait for theirs
  std::set<LaneId> lanes_changed_;         // since they were saved
  uint32_t next_lane_ = 0;
  bool lanes_made_ = false;
  std::optional<uint64_t> lanes_shared_;   // BSP: for this version of the membership
  uint64_t max_clock_ = 0;                 // greatest clock any lane of the pass was reported at
  pb::EvalCounts eval_counts_;

  // The pass that servers still have to confirm.
  bool confirm_ = false;
  uint32_t confirm_pass_ = 0;
  uint64_t confirm_examples_ = 0;

  bool may_grant_ = true;

  // What the store has.
  Mark saved_{};
  bool submission_saved_ = false;
  pb::DataPlan plan_;                      // until it ends
  bool plan_unsaved_ = false, plan_saved_ = false;
  std::set<uint32_t> saved_blocks_;        // of ranges of pass saved_pass_
  uint32_t saved_pass_ = 0;
  bool evaluation_saved_ = false;

  // What it is to go on from, until there are machines; then `restoring_`, until servers have it, too.
  std::optional<SavedJob> from_checkpoint_;
  bool from_checkpoint_unsaved_ = false;
  pb::RestoreRecord restore_;
  bool restoring_ = false;

  // For the status and the report.
  TimePoint submitted_, began_, ended_at_, pass_began_;
  Duration train_time_{};
  uint64_t train_examples_ = 0;            // of finished training passes
  uint64_t work_done_ = 0;                 // rows of finished passes
  uint64_t bad_rows_ = 0;
  uint64_t refused_batches_ = 0;           // of finished passes
  uint64_t duplicates_ = 0;                // pushes that servers recognised, of confirmed passes
  uint64_t staleness_ = 0;                 // greatest of the confirmed training passes
  uint64_t workers_lost_ = 0;
  std::vector<double> epoch_loss_;
  std::vector<pb::EvalResult> results_;
  std::vector<std::string> events_;
};

}  // namespace sheaf
