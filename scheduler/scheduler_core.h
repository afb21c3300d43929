// The cluster's brain: who is in, where partitions live, what each worker should do next.
//
// A state machine without I/O: messages and ticks in, messages out. Every conversation is state-based: a report carries
// all that its sender knows of itself and the answer all that it should do, so lost, repeated and overtaken messages
// only cost time. Owned by the scheduler's event loop (or the simulator); not thread-safe.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "scheduler/checkpoint_book.h"
#include "scheduler/config_log.h"
#include "scheduler/job.h"
#include "scheduler/membership.h"
#include "scheduler/placement.h"
#include "scheduler/rebalancer.h"
#include "scheduler/saved_state.h"
#include "scheduler/trace_hub.h"

namespace sheaf {

struct SchedulerOptions {
  std::string cluster = "sheaf";
  uint64_t incarnation = 1;            // random at each start
  uint32_t partition_count = 64;
  Duration report_every = Milliseconds(200);
  Duration worker_dead_after = std::chrono::seconds(3);
  Duration server_dead_after = std::chrono::seconds(10);
  Duration take_over_after = std::chrono::seconds(1);      // the same of one that backups can stand in for
  Duration server_back_within = std::chrono::minutes(10);  // one with a store; then its jobs fail
  uint32_t replicas = 1;               // of each partition, where there are as many servers
  Duration back_within{};              // how long members wait for this scheduler to be started again; 0: they do not
  Duration save_behind = Milliseconds(200);  // progress that may be made again is saved so often
  uint32_t kept_jobs = 4;              // finished jobs whose tables stay on the servers
  CheckpointsFound checkpoints;        // in the folder for them, if there is one
  JobOptions job;
};

class SchedulerCore {
 public:
  // `saved`: what earlier schedulers of this cluster knew.
  SchedulerCore(SchedulerOptions options, TimePoint now, SavedState saved = {});

  void OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnTick(TimePoint now, Outbox& out);
  // The connection to a member has ended. If nothing is heard over another one soon, it is dead.
  void OnDisconnected(PeerId peer, TimePoint now);

  // What the store must have before anything leaves that was put out since the last call. Adds to `txn`.
  void Save(TimePoint now, MetaTxn& txn);

  // What is to be done with the files of checkpoints, in order, once all that Save has added is in the store; and what
  // came of the first that was taken and is not done.
  std::optional<CheckpointWork> TakeCheckpointWork();
  CheckpointBook::Phase checkpoint_phase() const { return checkpoints_.phase(); }
  void OnCheckpointDone(CheckpointResult result, TimePoint now, Outbox& out);

  // State changes since the last call, a line each: for the log.
  std::vector<std::string> TakeEvents();

  const pb::ClusterConfig& config() const { return configs_.latest(); }
  const Membership& members() const { return members_; }
  const Job* FindJob(JobId id) const;
  pb::ClusterStatus Describe(TimePoint now) const;
  // Pushes of it that servers refused as poison, as far as they remember.
  uint64_t PoisonOf(PeerId worker) const;

 private:
  void OnDamaged(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnRegister(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnServerReport(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnWorkerReport(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnSubmit(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnCancel(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnGetTrace(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnGetStatus(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnChangeNode(PeerId from, const Message& message, TimePoint now, Outbox& out);
  // ---- checkpoints (scheduler_checkpoints.cc)
  void OnCreateCheckpoint(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnGetCheckpoint(PeerId from, const Message& message, Outbox& out);
  void OnRestoreJob(PeerId from, const Message& message, TimePoint now, Outbox& out);
  // The job goes on from a checkpoint.
  Status TakeCheckpoint(Manifest manifest, TimePoint now);
  void AdvanceCheckpoints(TimePoint now, Outbox& out);
  // A job that is restored goes on when all servers have what is in its checkpoint, as placed now.
  void AdvanceRestore(TimePoint now);
  void AddCheckpointOrders(const Node& server, pb::ServerOrders& orders);

  void Restore(SavedState saved);
  // Not all workers that an earlier scheduler had have told what they hold, and there is time left for them.
  bool Recovering(TimePoint now) const;
  void SaveJobs(TimePoint now, bool behind, MetaTxn& txn);
  void SaveCounters(MetaTxn& txn);
  pb::ClusterConfig MakeConfig(uint64_t generation);
  void NodeGone(const Node& node, bool died, TimePoint now);
  // What it had in memory is gone. Backups take over; `how` it went is told to jobs that lose rows by it.
  void LoseServer(const Node& server, const std::string& how, TimePoint now);
  void TakeLost(const Node& server, const Placement::Lost& lost, const std::string& how, TimePoint now);
  void CountPartitions();
  void TakeSynced(const Node& server, const pb::ServerReport& report, TimePoint now);
  // Jobs whose rows went with the server and will not come back. `all`: also those whose rows are on its disk.
  void FailJobsOf(const Node& server, bool all, const std::string& how, TimePoint now);
  Duration LimitOf(const Node& node, TimePoint now) const;
  void GiveUpAwaited(TimePoint now);

  // After every event: jobs move on, a changed configuration goes out, idle workers are asked to report. What it costs
  // must not grow with members or past jobs unless something has changed for them.
  void Settle(TimePoint now, Outbox& out);
  void TidyJobs();
  void NoteJob(JobId id);
  void Poke(Node& worker, Outbox& out);  // asks it to report, once
  void PokeIdle(Job& job, Outbox& out);
  // Every server can have taken the last configuration: another may follow.
  bool MayPublish(TimePoint now) const;
  void MarkPass(TimePoint now);
  void MarkLeases(NodeId worker, const pb::WorkerOrders& orders, TimePoint now);
  // Before there are rows in them partitions just follow the servers.
  void BalancePlacement();
  bool TablesHeld() const;
  bool AllSettled() const;  // no partition is on its way from one primary to another
  std::vector<NodeId> ServersToHold() const;
  void Rebalance(TimePoint now);
  bool MayStop(const Node& server) const;  // as it was asked to: it has nothing any more
  void DescribeMoves(pb::ClusterStatus& status) const;
  void Publish(TimePoint now, Outbox& out);
  // What takes a server from configuration `since` to the latest, to be sent now.
  const std::string& UpdateToSend(Node& server, uint64_t since, TimePoint now);
  Job* Current();                      // the job whose turn it is; nullptr if none
  void Refuse(PeerId to, uint64_t request, pb::Refusal::Reason reason, std::string text, Outbox& out);

  const SchedulerOptions options_;
  const TimePoint started_;
  const uint64_t cluster_id_, epoch_;
  bool recovering_;
  Membership members_;
  Placement placement_;
  Rebalancer rebalancer_;
  TimePoint rebalance_at_;
  std::map<JobId, std::unique_ptr<Job>> jobs_;
  std::deque<JobId> open_;             // those that had not ended when last looked at
  std::map<uint64_t, JobId> tokens_;   // submissions already taken
  uint64_t next_job_ = 1;
  uint64_t next_lease_ = 1;            // of all jobs: a worker may still hold leases of the one before
  uint64_t lease_limit_ = 0, generation_limit_ = 0;  // reserved in the store
  std::string saved_counters_;
  std::set<JobId> touched_;            // jobs that have changed though they are not open
  std::vector<std::string> unsaved_keys_;  // of jobs that are forgotten
  ConfigLog configs_;
  TimePoint saved_behind_;
  bool servers_changed_ = false;
  bool replicas_changed_ = false;
  bool tables_changed_ = false;        // of jobs that have ended
  TimePoint published_at_;
  std::map<JobId, Job::State> noted_;  // open jobs, as last logged
  std::pair<JobId, uint64_t> poked_for_;  // idle workers were told of this job's work, at this version
  TraceHub traces_;
  uint64_t marked_lease_ = 0;          // the latest that the trace shows
  std::pair<JobId, uint32_t> marked_pass_{};
  CheckpointBook checkpoints_;
  // Who asks for a job to be restored, until its checkpoint has been read.
  struct Asked {
    PeerId from;
    uint64_t request = 0;
    uint64_t token = 0;
  };
  std::optional<Asked> restore_asked_;
  std::optional<CheckpointWork> restore_work_;
  std::vector<std::string> events_;
};

// Whether a job can be run at all: what the scheduler and the servers rely on.
Status CheckJob(const pb::JobSpec& spec);

}  // namespace sheaf
