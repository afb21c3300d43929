#include "worker/worker_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "common/job/job_validate.h"
#include "common/net/envelope.h"
#include "compute/features/weighting.h"

namespace sheaf {
namespace {

constexpr uint32_t kMostDeadlines = 3;
// Of a lane, with those that are worked on: enough that rows are there when a worker comes to them.
constexpr uint32_t kLoadedLeases = 3;
constexpr uint64_t kLoadedBatches = 12;
constexpr size_t kLeasesAtEase = 16;

}  // namespace

WorkerCore::WorkerCore(WorkerOptions options, RangeLoader& loader, TrainStepFactory make_step)
    : options_(std::move(options)), loader_(loader), make_step_(std::move(make_step)),
      client_(options_.self.self, options_.client), link_(options_.self, options_.scheduler) {}

// ---- leases --------------------------------------------------------------------------------------------------------

bool WorkerCore::Updates(const pb::LeaseGrant& grant) {
  return grant.kind() == pb::TRAIN || grant.kind() == pb::STATISTICS;
}

bool WorkerCore::IsStatic(const pb::LeaseGrant& grant) const {
  return grant.kind() == pb::TRAIN &&
         jobs_.at(grant.job()).brief.spec().consistency().mode() == pb::ConsistencySpec::BSP;
}

bool WorkerCore::IsStatic(const Lease& lease) const { return IsStatic(lease.grant); }

// Once a job: how its leases are worked on must not change under them. Checked as the scheduler has checked it, as
// nothing that comes over the wire is taken for granted.
void WorkerCore::TakeBrief(const pb::JobBrief& brief) {
  JobState& job = jobs_[brief.job()];
  if (job.step != nullptr) return;
  if (const Status valid = ValidateJob(brief.spec()); !valid) return FailJob(brief.job(), valid.error());
  auto step = make_step_(brief);
  if (!step) return FailJob(brief.job(), step.error());
  job.brief = brief;
  job.step = std::move(*step);
}

void WorkerCore::AddLease(const pb::LeaseGrant& grant) {
  const auto job = jobs_.find(grant.job());
  if (job == jobs_.end() || job->second.step == nullptr) return;
  waiting_leases_[grant.lease()] = grant;
  leases_changed_ = true;
}

void WorkerCore::Begin(const pb::LeaseGrant& grant) {
  Lease& lease = leases_[grant.lease()];
  lease.grant = grant;
  lease.done = lease.next = grant.first_batch();
  lease.sequence = next_lease_sequence_++;
  loader_.Load(grant, jobs_.at(grant.job()).brief);
}

void WorkerCore::PutFinishedAside() {
  for (auto it = leases_.begin(); it != leases_.end();) {
    auto& [number, lease] = *it;
    if (!lease.finished) {
      ++it;
      continue;
    }
    FinishedLease& finished = finished_leases_[number];
    finished.state = StateOf(number, lease);
    if (!Updates(lease.grant)) finished.eval = std::move(lease.eval);
    loader_.Forget(number);
    it = leases_.erase(it);
  }
}

void WorkerCore::LoadAhead() {
  if (!std::exchange(leases_changed_, false)) return;
  PutFinishedAside();
  if (waiting_leases_.empty()) return;
  struct Ahead {
    uint32_t leases = 0;
    uint64_t batches = 0;
    uint64_t last_clock = 0;  // BSP: the first of its last lease
  };
  std::map<LaneKey, Ahead> ahead;
  const auto add = [&](const pb::LeaseGrant& grant, uint32_t done) {
    Ahead& lane = ahead[LaneOf(grant)];
    const uint32_t rows = grant.rows().row_count();
    const uint32_t batch = std::max(1U, jobs_.at(grant.job()).brief.spec().train().batch_size());
    ++lane.leases;
    lane.batches += rows / batch + (rows % batch != 0 ? 1 : 0) - std::min(done, rows / batch);
    lane.last_clock = std::max(lane.last_clock, grant.first_clock());
  };
  for (const auto& [number, lease] : leases_) add(lease.grant, lease.done);
  std::vector<pb::LeaseGrant> next;
  const auto enough = [&](const pb::LeaseGrant& grant) {
    const Ahead& lane = ahead[LaneOf(grant)];
    return lane.leases >= kLoadedLeases && lane.batches >= kLoadedBatches;
  };
  const auto take = [&](const pb::LeaseGrant& grant) {
    add(grant, grant.first_batch());
    next.push_back(grant);
  };
  if (!IsStatic(waiting_leases_.begin()->second)) {
    for (const auto& [number, grant] : waiting_leases_) {
      if (enough(grant)) break;
      take(grant);
    }
  } else {
    // By their clocks. A range that comes back to its lane is not to wait behind later clocks, which wait for its own.
    std::vector<const pb::LeaseGrant*> waiting;
    for (const auto& [number, grant] : waiting_leases_) waiting.push_back(&grant);
    std::ranges::stable_sort(waiting, {}, &pb::LeaseGrant::first_clock);
    for (const pb::LeaseGrant* const grant : waiting) {
      if (!enough(*grant) || grant->first_clock() < ahead[LaneOf(*grant)].last_clock) take(*grant);
    }
  }
  for (const pb::LeaseGrant& grant : next) {
    waiting_leases_.erase(grant.lease());
    Begin(grant);
  }
}

void WorkerCore::DropLease(uint64_t number) {
  const auto it = leases_.find(number);
  SHEAF_CHECK(it != leases_.end());
  for (auto op = operations_.begin(); op != operations_.end();) {
    if (op->second.lease == number) {
      client_.Cancel(op->first);
      op = operations_.erase(op);
    } else {
      ++op;
    }
  }
  const bool counts_on = Updates(it->second.grant) && !IsStatic(it->second) && !Planted(Bug::kClockLeftOut);
  for (const BatchState& state : it->second.states) {
    if (counts_on && state.has_clock && state.stage != Stage::kDone) {
      std::set<uint64_t>& unfinished = ClockOf(it->second).unfinished;
      for (uint64_t clock = state.clock; clock <= state.clock + state.skipped; ++clock) unfinished.insert(clock);
    }
    pulling_ -= state.stage == Stage::kPulling || state.stage == Stage::kPulled;
    computed_ -= state.stage == Stage::kComputed;
    pushing_ -= state.stage == Stage::kPushing;
  }
  const Lease dropped = std::move(it->second);
  loader_.Forget(number);
  leases_.erase(it);
  leases_changed_ = true;
  if (counts_on) ReturnLaterClocks(dropped);
}

void WorkerCore::OnRangeReady(uint64_t number, LoadedBatches batches, uint64_t bad_rows, TimePoint now, Outbox& out) {
  const auto it = leases_.find(number);
  if (it == leases_.end() || it->second.ready) return;
  Lease& lease = it->second;
  lease.ready = true;
  lease.batches = std::move(batches);
  lease.states.resize(lease.batches.size());
  lease.bad_rows = bad_rows;
  if (lease.done >= lease.batches.size()) {
    lease.done = lease.next = static_cast<uint32_t>(lease.batches.size());
    lease.finished = true;
    leases_changed_ = true;
    report_now_ = true;
  }
  Pump(now, out);
}

void WorkerCore::OnRangeNeedsStatistics(uint64_t number, std::vector<HashedKey> keys, TimePoint now, Outbox& out) {
  const auto it = leases_.find(number);
  if (it == leases_.end() || it->second.ready) return;
  const TableId table(jobs_.at(it->second.grant.job()).brief.statistics_table());
  auto shared = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
  it->second.statistics_keys = shared->size();
  const OperationId operation = client_.Pull({{table, std::move(shared)}}, {}, now, out);
  operations_[operation] = {number, kStatistics};
  Pump(now, out);
}

void WorkerCore::OnLoadFailed(uint64_t number, Error error, TimePoint now, Outbox& out) {
  const auto it = leases_.find(number);
  if (it == leases_.end()) return;
  FailJob(it->second.grant.job(), error);
  Pump(now, out);
}

void WorkerCore::OnPlanProgress(uint64_t job, const std::string& path, uint64_t rows) {
  if (planning_job_ == job) planning_seen_ = StrCat("data: ", rows, " rows of ", path, " seen");
}

void WorkerCore::OnPlan(const pb::DataPlan& plan, TimePoint now, Outbox& out) {
  if (planning_job_ != plan.job()) return;  // of a job that is no longer planned
  planning_job_.reset();
  plan_ = plan;
  constexpr size_t kLargestPlan = kMaxPayloadBytes - (256 << 10);  // evaluation counts travel with it
  if (plan.ByteSizeLong() > kLargestPlan) {
    plan_.emplace();
    plan_->set_job(plan.job());
    plan_->set_error("the data falls into too many ranges: raise train.batch_size or train.range_batches");
    plan_->set_error_code(static_cast<uint32_t>(ErrorCode::kInvalidArgument));
  }
  report_now_ = true;
  Pump(now, out);
}

// ---- batches -------------------------------------------------------------------------------------------------------

// Which batch goes first. Static lanes: by clock, or a lane of ours could wait for another lane of ours.
bool WorkerCore::Before(const Lease& a, uint32_t a_batch, const Lease& b, uint32_t b_batch) const {
  if (IsStatic(a) && IsStatic(b) && !Planted(Bug::kLanesByArrival)) {
    return std::pair(a.grant.first_clock() + a_batch, a.grant.lane()) <
           std::pair(b.grant.first_clock() + b_batch, b.grant.lane());
  }
  return a.sequence < b.sequence;
}

uint32_t WorkerCore::NextToStart(const Lease& lease) {
  for (uint32_t i = lease.done; i < lease.next; ++i) {
    if (lease.states[i].stage == Stage::kWaiting) return i;
  }
  return lease.next;
}

// Small batches are computed faster than rows come: more of them are asked for ahead, up to half of what SSP allows, so
// that the wire is always busy. Large ones are not: rows that wait grow old.
uint32_t WorkerCore::PullsAhead(const Lease& lease) const {
  const uint32_t least = options_.pulls_ahead;
  if (IsStatic(lease) || round_trip_ == Duration::zero()) return least;
  uint32_t most = std::max(least, options_.most_pulls_ahead);
  const pb::ConsistencySpec& consistency = jobs_.at(lease.grant.job()).brief.spec().consistency();
  if (lease.grant.kind() == pb::TRAIN && consistency.mode() == pb::ConsistencySpec::SSP)
    most = std::clamp(consistency.staleness() / 2, least, most);
  if (compute_time_ == Duration::zero()) return most;
  return static_cast<uint32_t>(std::clamp<int64_t>(1 + round_trip_ / compute_time_, least, most));
}

bool WorkerCore::StartNext(TimePoint now, Outbox& out) {
  if (computed_ > 0 || pausing()) return false;  // what has come meanwhile is to be heard first
  Lease* first = nullptr;
  uint32_t batch = 0;
  for (auto& [number, lease] : leases_) {
    if (!lease.ready) continue;
    const uint32_t next = NextToStart(lease);
    if (next >= lease.batches.size()) continue;
    if (first != nullptr && !Before(lease, next, *first, batch)) continue;
    first = &lease;
    batch = next;
  }
  if (first == nullptr) return false;
  if (pushing_ >= options_.pushes_ahead) return false;
  if (pulling_ >= PullsAhead(*first)) {
    // Full of pulls that may wait for the very batch at hand: that one must still go.
    if (!IsStatic(*first) || Planted(Bug::kLanesBlockEachOther)) return false;
    const uint64_t clock = first->grant.first_clock() + batch;
    for (const auto& [number, lease] : leases_) {
      for (const BatchState& state : lease.states) {
        if (state.stage == Stage::kPulling || state.stage == Stage::kPulled) {
          if (state.clock <= clock) return false;
        }
      }
    }
  }
  first->next = std::max(first->next, batch + 1);
  BatchState& state = first->states[batch];
  if (Updates(first->grant)) {
    TakeClock(*first, batch, state);
  }
  ++pulling_;
  const std::vector<TableKeys> needs =
      jobs_.at(first->grant.job()).step->Needs(first->grant.kind(), *first->batches[batch]);
  if (needs.empty() && !IsStatic(*first)) {
    state.stage = Stage::kPulled;
    return true;
  }
  PullOptions options;
  options.codec = jobs_.at(first->grant.job()).brief.spec().wire().pull();
  if (first->grant.kind() == pb::TRAIN) options.progress = ProgressOf(*first, state);
  // BSP: no clock is computed before the one before is complete on every server, also where none of its rows are. So
  // none has applied more than one clock that another lacks, and a lane that is taken over finds its rows as they were.
  options.every_shard = IsStatic(*first) && !Planted(Bug::kClockAwaitedWhereRowsAre);
  state.stage = Stage::kPulling;
  state.asked = now;
  if (tracing()) state.sent = options_.trace->Now();
  state.operation = client_.Pull(needs, std::move(options), now, out);
  operations_[state.operation] = {first->grant.lease(), batch};
  return true;
}

bool WorkerCore::has_ready_batch() const {
  if (pulling_ == 0 || pausing()) return false;
  for (const auto& [number, lease] : leases_) {
    for (uint32_t i = lease.done; i < lease.next; ++i) {
      if (lease.states[i].stage == Stage::kPulled && IsLanesTurn(lease, i)) return true;
    }
  }
  return false;
}

// BSP: a lane's next push waits until the one before it is in everywhere. So no server is more than one clock ahead of
// another, and whoever takes a lane over can still be shown the rows of before its clock.
bool WorkerCore::IsLanesTurn(const Lease& lease, uint32_t batch) const {
  if (!IsStatic(lease) || Planted(Bug::kPushesOvertake)) return true;
  if (batch != lease.done) return false;
  return std::none_of(leases_.begin(), leases_.end(), [&](const auto& entry) {
    const Lease& other = entry.second;
    return !other.finished && LaneOf(other) == LaneOf(lease) && other.grant.first_clock() < lease.grant.first_clock();
  });
}

bool WorkerCore::ComputeOne() {
  if (pausing()) return false;
  Lease* first = nullptr;
  uint32_t first_batch = 0;
  for (auto& [number, lease] : leases_) {
    for (uint32_t i = lease.done; i < lease.next; ++i) {
      if (lease.states[i].stage != Stage::kPulled || !IsLanesTurn(lease, i)) continue;
      if (first == nullptr || Before(lease, i, *first, first_batch)) {
        first = &lease;
        first_batch = i;
      }
      break;
    }
  }
  if (first == nullptr) return false;
  BatchState& state = first->states[first_batch];
  const std::vector<Floats> pulled = std::move(state.pulled);
  const auto& step = *jobs_.at(first->grant.job()).step;
  const TimePoint begin = tracing() ? options_.trace->Now() : TimePoint();
  if (tracing()) TraceWait(pb::NO_WAIT);
  Result<StepResult> result = step.Run(first->grant.kind(), *first->batches[first_batch], pulled, first->eval);
  if (tracing()) options_.trace->End(pb::COMPUTE, 0, begin, first->grant.range(), first_batch);
  if (!result) {
    FailJob(first->grant.job(), result.error());
    DropLease(first->grant.lease());
    return true;
  }
  state.loss_sum = result->loss_sum;
  state.result = std::move(*result);
  if (first->grant.kind() == pb::TRAIN && !TakeGradient(*first, first_batch)) return true;
  examples_computed_ += first->batches[first_batch]->size();
  --pulling_;
  if (Updates(first->grant)) {
    state.stage = Stage::kComputed;
    ++computed_;
  } else {
    BatchDone(*first, first_batch);
  }
  return true;
}

// Looks at what a batch would push. False: its job fails, and the lease is gone.
bool WorkerCore::TakeGradient(Lease& lease, uint32_t batch) {
  const uint64_t job = lease.grant.job();
  if (const auto wrong = FindPoison(jobs_.at(job).brief.spec(), lease.states[batch].result)) {
    return LeaveOut(lease, batch, *wrong);
  }
  bad_gradients_.NoteGood(job);
  return true;
}

bool WorkerCore::LeaveOut(Lease& lease, uint32_t batch, const std::string& why) {
  const uint64_t job = lease.grant.job();
  const std::string text = StrCat(BatchText(lease.grant, batch), ": ", why);
  if (jobs_.at(job).brief.spec().train().on_bad_gradient() == pb::TrainSpec::FAIL) {
    FailJob(job, {ErrorCode::kInvalidArgument, text});
    DropLease(lease.grant.lease());
    return false;
  }
  BatchState& state = lease.states[batch];
  state.refused = true;
  state.result.gradients.clear();
  state.loss_sum = 0;  // it would hide the loss of all others
  if (auto line = bad_gradients_.NoteRefused(job, text)) events_.push_back(std::move(*line));
  return true;
}

void WorkerCore::StartBatches(TimePoint now, Outbox& out) {
  if (computed_ > 0) compute_time_ += (now - turn_began_ - compute_time_) / 8;
  turn_began_ = now;
  for (auto& [number, lease] : leases_) {
    for (uint32_t i = lease.done; i < lease.next; ++i) {
      if (lease.states[i].stage == Stage::kComputed) StartPush(lease, i, std::move(lease.states[i].result), now, out);
    }
  }
  Pump(now, out);
  if (tracing()) TraceWait(has_ready_batch() ? pb::NO_WAIT : CauseOfWait());
}

void WorkerCore::StartPush(Lease& lease, uint32_t batch, StepResult result, TimePoint now, Outbox& out) {
  BatchState& state = lease.states[batch];
  PushOptions options;
  options.progress = ProgressOf(lease, state);
  if (state.skipped > 0 && !Planted(Bug::kSkipUntold)) options.progress->set_skipped(state.skipped);
  options.identity = {lease.grant.job() << 32 | lease.grant.pass(), lease.grant.range(), batch};
  options.example_count = static_cast<uint32_t>(lease.batches[batch]->size());
  if (lease.grant.kind() == pb::TRAIN) options.codec = jobs_.at(lease.grant.job()).brief.spec().wire().push();
  options.error_feedback = !IsStatic(lease);
  state.stage = Stage::kPushing;
  --computed_;
  ++pushing_;
  if (tracing()) state.sent = options_.trace->Now();
  state.operation = client_.Push(std::move(result.gradients), std::move(options), now, out);
  operations_[state.operation] = {lease.grant.lease(), batch};
}

void WorkerCore::BatchDone(Lease& lease, uint32_t batch) {
  lease.states[batch].stage = Stage::kDone;
  while (lease.done < lease.states.size() && lease.states[lease.done].stage == Stage::kDone) {
    lease.examples += lease.batches[lease.done]->size();
    lease.loss_sum += lease.states[lease.done].loss_sum;
    lease.refused_batches += lease.states[lease.done].refused;
    ++lease.done;
  }
  if (lease.done == lease.states.size()) {
    lease.finished = true;
    lease.batches.clear();  // the loader may keep them
    lease.states.clear();
    lease.next = 0;
    leases_changed_ = true;
    // With many leases left there is no hurry to say so.
    report_now_ |= waiting_leases_.size() < kLeasesAtEase;
  }
}

bool WorkerCore::NoteTrouble(Trouble& trouble, TimePoint now) const {
  if (trouble.deadlines > 0 && now - trouble.last < options_.client.deadline / 2) return false;
  trouble.last = now;
  return ++trouble.deadlines >= kMostDeadlines;
}

void WorkerCore::DropLane(const LaneKey& lane) {
  std::vector<uint64_t> numbers;
  for (const auto& [number, lease] : leases_) {
    if (LaneOf(lease) == lane) numbers.push_back(number);
  }
  for (const uint64_t number : numbers) DropLease(number);
  std::erase_if(waiting_leases_, [&](const auto& waiting) { return LaneOf(waiting.second) == lane; });
}

void WorkerCore::Complete(Completion completion, TimePoint now) {
  const auto operation = operations_.find(completion.operation);
  if (operation == operations_.end()) return;
  const auto [number, batch] = operation->second;
  operations_.erase(operation);
  Lease& lease = leases_.at(number);
  if (!completion.status) {
    const Error& error = completion.status.error();
    if (completion.poison && batch != kStatistics && lease.grant.kind() == pb::TRAIN) {
      // What was finite here was not when it was encoded. Shards that have their part of it keep that, the others get
      // the same push without values.
      if (!LeaveOut(lease, batch, error.message)) return;
      --pushing_;
      ++computed_;
      lease.states[batch].stage = Stage::kComputed;
      return;
    }
    // Closed: the lane or pass has ended. Timed out or overloaded: perhaps it passes. Either way the lease is dropped
    // here, and if it is still ours the next orders bring it back. What does not pass must not go round for ever: a
    // server that refuses again and again has not the memory for this job; one that is silent to us, but not to the
    // scheduler, cannot be reached from here, and another worker may do better. A server behind the configuration is
    // for the scheduler to see.
    if (error.code == ErrorCode::kTimeout) {
      events_.push_back(error.message);
      if (NoteTrouble(silence_, now)) fatal_ = error;
    } else if (error.code == ErrorCode::kOverloaded) {
      events_.push_back(error.message);
      if (NoteTrouble(overload_, now)) {
        overload_ = {};   // it is this job's trouble, not the next one's
        FailJob(lease.grant.job(), error);
      }
    } else if (error.code == ErrorCode::kUnavailable) {
      events_.push_back(error.message);
    } else if (error.code != ErrorCode::kClosed) {
      FailJob(lease.grant.job(), error);
    }
    if (IsStatic(lease)) {
      DropLane(LaneOf(lease));   // its later batches must not overtake this one
      report_now_ = true;
      return;
    }
    DropLease(number);
    report_now_ = true;
    return;
  }
  if (batch == kStatistics) {
    const size_t dim = StatisticsDim(jobs_.at(lease.grant.job()).brief.spec().data());
    if (completion.values.front().size() != lease.statistics_keys * dim) {
      FailJob(lease.grant.job(), {ErrorCode::kInternal, StrCat("the statistics table does not have rows of ", dim)});
      return DropLease(number);
    }
    loader_.Weight(number, std::move(completion.values.front()));
    return;
  }
  BatchState& state = lease.states[batch];
  if (state.has_clock) {
    LaneClock& clock = ClockOf(lease);
    clock.front = std::max(clock.front, completion.front);
  }
  if (state.stage == Stage::kPulling) {
    if (tracing()) options_.trace->End(pb::PULL, 0, state.sent, lease.grant.range(), batch);
    if (!Updates(lease.grant)) silence_ = overload_ = {};   // where there are pushes, they tell: they go to every shard
    const Duration taken = now - state.asked;
    round_trip_ = round_trip_ == Duration::zero() ? taken : std::min(taken, round_trip_ + round_trip_ / 16);
    state.stage = Stage::kPulled;
    state.pulled = std::move(completion.values);
    if (MayLeaveClocksOut(lease)) TakeLaterClock(lease, state, completion.front);
    return;
  }
  --pushing_;
  if (tracing()) options_.trace->End(pb::PUSH, 0, state.sent, lease.grant.range(), batch);
  silence_ = overload_ = {};
  ClockOf(lease).acknowledged += 1 + state.skipped;
  BatchDone(lease, batch);
}

void WorkerCore::Pump(TimePoint now, Outbox& out) {
  LoadAhead();
  for (;;) {
    auto completions = client_.TakeCompletions();
    for (Completion& completion : completions) Complete(std::move(completion), now);
    bool started = false;
    while (StartNext(now, out)) started = true;
    if (completions.empty() && !started) break;
  }
  LoadAhead();
  if (pausing() && Paused() != told_paused_) report_now_ = true;
  // One report at a time: a newer one would make the answer under way worthless.
  if (link_.registered() && report_now_ && (!awaiting_orders_ || now - reported_at_ >= link_.report_every()))
    SendReport(now, out);
}

void WorkerCore::OnTick(TimePoint now, Outbox& out) {
  client_.OnTick(now, out);
  link_.OnTick(now, out);
  if (options_.trace != nullptr) options_.trace->OnTick(now);
  EndPauseUnheard(now);
  if (link_.registered() && (now >= next_report_ || (client_.wants_config() && !awaiting_orders_)))
    SendReport(now, out);
  Pump(now, out);
}

// Why there is nothing to compute, for the batch that would be the next.
pb::WaitCause WorkerCore::CauseOfWait() const {
  bool loading = false, unfinished = false;
  for (const auto& [number, lease] : leases_) {
    loading |= !lease.ready && !lease.finished;
    unfinished |= lease.ready && !lease.finished && lease.next < lease.batches.size();
  }
  if (pulling_ > 0) return pb::FOR_PULL;
  if (unfinished) return pb::FOR_PUSH;
  return loading ? pb::FOR_DATA : pb::FOR_LEASE;
}

void WorkerCore::TraceWait(pb::WaitCause cause) {
  if (cause == wait_cause_) return;
  const TimePoint now = options_.trace->Now();
  if (wait_cause_ != pb::NO_WAIT) {
    options_.trace->Add({pb::WAIT, 0, wait_since_, now - wait_since_, static_cast<uint64_t>(wait_cause_), 0});
  }
  wait_cause_ = cause;
  wait_since_ = now;
}

}  // namespace sheaf
