// A worker's decisions: keep the leases the scheduler wants it to keep, and for each of their batches pull, compute,
// push.
//
//   lease granted -> loading -> (statistics pulled -> weighting) -> ready
//   batch of a ready lease:  pulling -> pulled -> computed -> pushing -> done
//
// Pull(n + 1) is sent before batch n is computed, so the network works while the processor does. A lease's progress is
// the number of its first batches that every server has acknowledged; that is what is reported, and what another worker
// starts from if this one dies. A lease whose operations fail because its lane or pass has ended is simply dropped: the
// next orders say what to do instead.
//
// worker_core.cc has leases and batches, worker_clocks.cc the clocks of lanes, worker_reports.cc the talk with the
// scheduler.
//
// A state machine without I/O or clock; the owner (shell or simulator) sends what is in the Outbox, connects what
// TakeConnections() names, and calls OnTick often. Not thread-safe.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/ps_client.h"
#include "common/net/message.h"
#include "common/net/scheduler_link.h"
#include "common/trace/trace_log.h"
#include "worker/bad_gradients.h"
#include "worker/range_loader.h"
#include "worker/train_step.h"

namespace sheaf {

struct WorkerOptions {
  MemberInfo self;
  SchedulerLinkOptions scheduler;
  ClientOptions client;
  // Batches being pulled or computed: at least, and at most where a pull takes longer than a batch is computed.
  uint32_t pulls_ahead = 2;
  uint32_t most_pulls_ahead = 4;
  uint32_t pushes_ahead = 4;                 // batches being pushed
  // Standing still for a checkpoint without a word from the scheduler: then it goes on by itself.
  Duration pause_unheard = std::chrono::seconds(2);
  TraceLog* trace = nullptr;                 // outlives the core; nullptr: nothing is traced
};

using TrainStepFactory = std::function<Result<std::unique_ptr<TrainStep>>(const pb::JobBrief&)>;

class WorkerCore {
 public:
  WorkerCore(WorkerOptions options, RangeLoader& loader, TrainStepFactory make_step);

  // As PsClient: the message's header is the caller's to use again.
  void OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out);
  void OnTick(TimePoint now, Outbox& out);

  void OnRangeReady(uint64_t lease, LoadedBatches batches, uint64_t bad_rows, TimePoint now, Outbox& out);
  void OnRangeNeedsStatistics(uint64_t lease, std::vector<HashedKey> keys, TimePoint now, Outbox& out);
  void OnLoadFailed(uint64_t lease, Error error, TimePoint now, Outbox& out);
  // Of the plan under way: so many rows of this file were seen.
  void OnPlanProgress(uint64_t job, const std::string& path, uint64_t rows);
  void OnPlan(const pb::DataPlan& plan, TimePoint now, Outbox& out);

  // Once a turn: StartBatches, send what it says, ComputeOne. Apart from the other events, so that the messages which
  // came while a batch was computed are heard before it is pushed and the next one is asked for.
  void StartBatches(TimePoint now, Outbox& out);
  // Computes one batch if one is ready; returns whether there was one.
  bool ComputeOne();
  bool has_ready_batch() const;

  // Finish nothing more, tell the scheduler, end.
  void Leave(TimePoint now, Outbox& out);

  bool may_leave() const { return may_leave_; }         // it has left, or it never was a member
  // Shards that are new since the last call.
  std::vector<pb::ShardEndpoint> TakeConnections();
  // Shards that are gone since the last call: their addresses may be other shards' next. Before the connections.
  std::vector<PeerId> TakeDisconnections();
  // The worker cannot go on; the text says why.
  const std::optional<Error>& fatal() const { return fatal_ ? fatal_ : link_.fatal(); }
  // What people should see in the log, since the last call.
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }
  // Pushed and not acknowledged, or computed and not pushed.
  uint32_t pushes_under_way() const { return pushing_ + computed_; }
  const SchedulerLink& link() const { return link_; }
  const PsClient& client() const { return client_; }

 private:
  enum class Stage { kWaiting, kPulling, kPulled, kComputed, kPushing, kDone };
  struct BatchState {
    Stage stage = Stage::kWaiting;
    uint64_t clock = 0;
    bool has_clock = false;
    uint64_t skipped = 0;                    // clocks right after it that the lane leaves out
    OperationId operation = 0;
    TimePoint asked{};                       // when its pull was sent
    TimePoint sent;                          // of the operation, if it is traced
    std::vector<Floats> pulled;
    StepResult result;                       // kComputed
    double loss_sum = 0;
    bool refused = false;                    // its gradient: it pushes nothing
  };
  struct Lease {
    pb::LeaseGrant grant;
    bool ready = false;
    LoadedBatches batches;
    std::vector<BatchState> states;          // one a batch
    size_t statistics_keys = 0;              // of the pull of its statistics
    uint32_t next = 0;                       // the first batch not started
    uint32_t done = 0;                       // contiguous from the start
    bool finished = false;
    uint64_t examples = 0, bad_rows = 0;
    uint32_t refused_batches = 0;
    double loss_sum = 0;
    pb::EvalCounts eval;
    uint64_t sequence = 0;                   // order of arrival
  };
  struct JobState {
    pb::JobBrief brief;
    std::unique_ptr<TrainStep> step;
  };
  struct LaneClock {
    uint64_t start = 0;
    uint64_t next = 0;
    std::set<uint64_t> unfinished;           // of leases dropped half-way: a lane must leave no clock out
    uint64_t front = 0;                      // SSP: of the lane that has come furthest, as last heard
    uint64_t acknowledged = 0;               // clocks acknowledged so far: for the scheduler's picture only
  };
  struct OperationOf {
    uint64_t lease;
    uint32_t batch;                          // kStatistics: the pull of a range's statistics
  };
  // Deadlines that passed in a row without anything going well in between.
  struct Trouble {
    uint32_t deadlines = 0;
    TimePoint last;                          // several operations that end at one deadline are one
  };
  static constexpr uint32_t kStatistics = ~0U;
  // Four for each of the most lanes a job may have; more orders than that are no work but a mistake.
  static constexpr size_t kMostLeases = 4 * 4096;
  using LaneKey = std::tuple<uint64_t, uint32_t, uint32_t>;  // job, pass, lane

  void SendReport(TimePoint now, Outbox& out);
  void OnOrders(const pb::WorkerOrders& orders, TimePoint now, Outbox& out);
  void TakeConfig(const std::string& update);
  void TakeBrief(const pb::JobBrief& brief);
  void AddLease(const pb::LeaseGrant& grant);
  // Begins with the next few leases, as far as the loader is to be ahead.
  void LoadAhead();
  void Begin(const pb::LeaseGrant& grant);
  void PutFinishedAside();
  // As it is reported.
  static pb::LeaseState StateOf(uint64_t number, const Lease& lease);
  void DropLease(uint64_t lease);
  void FailJob(uint64_t job, const Error& error);
  bool TakeGradient(Lease& lease, uint32_t batch);
  // The batch's gradient must not be applied: it pushes nothing then, or, if the job is to fail, it is over (false).
  bool LeaveOut(Lease& lease, uint32_t batch, const std::string& why);
  // ---- standing still for a checkpoint
  void TakePause(uint64_t pause, TimePoint now);
  void EndPauseUnheard(TimePoint now);
  bool pausing() const { return pause_ != 0; }
  // As WorkerReport.paused.
  uint64_t Paused() const { return pushes_under_way() == 0 ? pause_ : 0; }
  // Starts what can be started, takes in what has ended, reports if something is worth it.
  void Pump(TimePoint now, Outbox& out);
  bool StartNext(TimePoint now, Outbox& out);
  bool Before(const Lease& a, uint32_t a_batch, const Lease& b, uint32_t b_batch) const;
  void StartPush(Lease& lease, uint32_t batch, StepResult result, TimePoint now, Outbox& out);
  void Complete(Completion completion, TimePoint now);
  // Whether this is more than passes by itself.
  bool NoteTrouble(Trouble& trouble, TimePoint now) const;
  void DropLane(const LaneKey& lane);
  void BatchDone(Lease& lease, uint32_t batch);
  bool IsStatic(const Lease& lease) const;
  bool IsStatic(const pb::LeaseGrant& grant) const;
  static LaneKey LaneOf(const pb::LeaseGrant& grant) { return {grant.job(), grant.pass(), grant.lane()}; }
  static LaneKey LaneOf(const Lease& lease) { return LaneOf(lease.grant); }
  // BSP: this batch is the first of its lane that is not acknowledged everywhere.
  bool IsLanesTurn(const Lease& lease, uint32_t batch) const;
  static bool Updates(const pb::LeaseGrant& grant);
  pb::Progress ProgressOf(const Lease& lease, const BatchState& state) const;
  LaneClock& ClockOf(const Lease& lease);
  void ReturnLaterClocks(const Lease& dropped);
  // A batch that was returned, or the first that was never started; may be past the last.
  static uint32_t NextToStart(const Lease& lease);
  uint32_t PullsAhead(const Lease& lease) const;
  void TakeClock(const Lease& lease, uint32_t batch, BatchState& state);
  bool MayLeaveClocksOut(const Lease& lease) const;
  void TakeLaterClock(const Lease& lease, BatchState& state, uint64_t front);
  // Lets the batch before `clock` finish up to `wanted` clocks from `clock` on; answers how many.
  uint64_t LeaveOut(const Lease& lease, uint64_t clock, uint64_t wanted);
  std::string WaitingFor(TimePoint now) const;
  bool tracing() const { return options_.trace != nullptr && options_.trace->on(); }
  pb::WaitCause CauseOfWait() const;
  // Ends the span of waiting that is under way, unless it goes on for the same cause.
  void TraceWait(pb::WaitCause cause);

  const WorkerOptions options_;
  RangeLoader& loader_;
  const TrainStepFactory make_step_;
  PsClient client_;

  SchedulerLink link_;
  TimePoint next_report_;
  uint64_t sequence_ = 0;                    // of the latest report
  bool report_now_ = false;
  bool awaiting_orders_ = false;             // of the report sent at reported_at_
  TimePoint reported_at_;
  bool leaving_ = false, may_leave_ = false;
  uint64_t pause_ = 0;                       // as ordered; 0: it works
  TimePoint pause_until_{};                  // without a word from the scheduler
  uint64_t given_up_ = 0;                    // the checkpoint for which it stands still no more
  uint64_t told_paused_ = 0;                 // by the latest report
  std::set<PeerId> connected_;
  std::vector<pb::ShardEndpoint> to_connect_;
  std::vector<PeerId> to_disconnect_;

  // By lease number. A worker holds leases for a minute's work: those that come later wait.
  std::map<uint64_t, Lease> leases_;
  std::map<uint64_t, pb::LeaseGrant> waiting_leases_;
  // Done, and not yet let go by the scheduler: thousands, if there was none for a while.
  struct FinishedLease {
    pb::LeaseState state;
    std::optional<pb::EvalCounts> eval;
  };
  std::map<uint64_t, FinishedLease> finished_leases_;
  uint64_t next_lease_sequence_ = 0;
  bool leases_changed_ = false;              // since LoadAhead()
  std::map<uint64_t, JobState> jobs_;
  std::map<LaneKey, LaneClock> clocks_;
  std::map<OperationId, OperationOf> operations_;
  // The least that a pull takes, and what computing a batch takes on average; 0 while unknown.
  Duration round_trip_{}, compute_time_{};
  TimePoint turn_began_{};
  // Batches at these stages; kPulled counts as pulling.
  uint32_t pulling_ = 0, computed_ = 0, pushing_ = 0;
  Trouble silence_, overload_;
  std::optional<Error> fatal_;
  std::vector<std::string> events_;
  std::optional<pb::JobFailure> failure_;
  bool failure_told_ = false;                // it is in the latest report

  std::optional<uint64_t> planning_job_;
  std::string planning_seen_;                // for people
  std::optional<pb::DataPlan> plan_;

  pb::WaitCause wait_cause_ = pb::NO_WAIT;   // while tracing: since wait_since_
  TimePoint wait_since_;

  BadGradients bad_gradients_;
  uint64_t examples_computed_ = 0;
  uint64_t examples_at_report_ = 0;
  TimePoint rate_since_;
  uint64_t examples_per_second_ = 0;
};

}  // namespace sheaf
