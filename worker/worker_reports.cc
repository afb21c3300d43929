// A worker and its scheduler: reports of what it holds and how far it is, and the orders that answer them.
#include <algorithm>

#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "common/net/config_update.h"
#include "worker/worker_core.h"

namespace sheaf {
namespace {

constexpr Duration kWaitWorthSaying = Milliseconds(100);

}  // namespace

pb::LeaseState WorkerCore::StateOf(uint64_t number, const Lease& lease) {
  pb::LeaseState state;
  state.set_job(lease.grant.job());
  state.set_pass(lease.grant.pass());
  state.set_range(lease.grant.range());
  state.set_lease(number);
  state.set_first_batch(lease.grant.first_batch());
  state.set_finished(lease.finished);
  // An evaluated range counts as a whole or not at all: its counts travel with its end.
  const bool tell = Updates(lease.grant) || lease.finished;
  const uint32_t done = Planted(Bug::kReportsUnacknowledged) ? std::max(lease.done, lease.next) : lease.done;
  state.set_batches_done(tell ? done : lease.grant.first_batch());
  state.set_examples(tell ? lease.examples : 0);
  state.set_loss_sum(tell ? lease.loss_sum : 0);
  state.set_bad_rows(lease.finished ? lease.bad_rows : 0);
  state.set_refused_batches(tell ? lease.refused_batches : 0);
  return state;
}

void WorkerCore::SendReport(TimePoint now, Outbox& out) {
  report_now_ = false;
  awaiting_orders_ = true;
  reported_at_ = now;
  next_report_ = now + link_.report_every();
  if (now - rate_since_ > std::chrono::seconds(1)) {
    examples_per_second_ = static_cast<uint64_t>(static_cast<double>(examples_computed_ - examples_at_report_) /
                                                 ToSeconds(now - rate_since_));
    examples_at_report_ = examples_computed_;
    rate_since_ = now;
  }
  Message message;
  sequence_ = link_.NextRequest();
  message.header.set_request(sequence_);
  pb::WorkerReport& report = *message.header.mutable_worker_report();
  report.set_incarnation(options_.self.self.value);
  report.set_sequence(sequence_);
  report.set_seen_generation(client_.config().generation());
  if (plan_) *report.mutable_plan() = *plan_;
  PutFinishedAside();
  for (const auto& [number, lease] : leases_) *report.add_lease() = StateOf(number, lease);
  for (const auto& [number, finished] : finished_leases_) {
    *report.add_lease() = finished.state;
    if (!finished.eval) continue;
    pb::LeaseEval& eval = *report.add_eval();
    eval.set_lease(number);
    *eval.mutable_counts() = *finished.eval;
  }
  for (const auto& [number, grant] : waiting_leases_) {
    if (grant.first_batch() > 0) {
      pb::LeaseState& state = *report.add_lease();
      state.set_job(grant.job());
      state.set_pass(grant.pass());
      state.set_range(grant.range());
      state.set_lease(number);
      state.set_first_batch(grant.first_batch());
      state.set_batches_done(grant.first_batch());
      continue;
    }
    const int last = report.untouched_size() - 1;
    const bool same = last >= 0 && report.untouched(last).job() == grant.job() &&
                      report.untouched(last).pass() == grant.pass();
    pb::UntouchedLeases& leases = same ? *report.mutable_untouched(last) : *report.add_untouched();
    leases.set_job(grant.job());
    leases.set_pass(grant.pass());
    leases.add_lease(number);
    leases.add_range(grant.range());
  }
  for (const auto& [key, clock] : clocks_) {
    pb::LaneState& lane = *report.add_lane();
    lane.set_job(std::get<0>(key));
    lane.set_pass(std::get<1>(key));
    lane.set_lane(std::get<2>(key));
    lane.set_clock(clock.start + clock.acknowledged);
  }
  report.set_waiting_for(WaitingFor(now));
  report.set_leaving(leaving_);
  told_paused_ = Paused();
  report.set_paused(told_paused_);
  report.set_examples_per_second(examples_per_second_);
  bad_gradients_.AddTo(report);
  report.set_scheduler_epoch(link_.scheduler_epoch());
  if (failure_) *report.mutable_failure() = *failure_;
  failure_told_ = failure_.has_value();
  if (pb::TraceSpans spans; options_.trace != nullptr && options_.trace->Drain(spans)) {
    report.mutable_trace()->Swap(&spans);
  }
  out.Send(kSchedulerPeer, std::move(message));
}

void WorkerCore::OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  if (from != kSchedulerPeer) {
    client_.OnMessage(from, message, now, out);
    Pump(now, out);
    return;
  }
  if (!link_.Heeds(message)) return;
  report_now_ |= link_.OnMessage(message, now);
  for (std::string& line : link_.TakeEvents()) events_.push_back(std::move(line));
  if (message.header.has_report_now()) report_now_ = true;
  // Only the answer to the latest report: an older one was made without knowing what that report said.
  if (message.header.has_worker_orders() && message.header.worker_orders().sequence() == sequence_) {
    awaiting_orders_ = false;
    const pb::WorkerOrders& orders = message.header.worker_orders();
    if (options_.trace != nullptr) {
      if (!options_.trace->on()) wait_cause_ = pb::NO_WAIT;  // of an earlier trace
      options_.trace->Follow(orders.trace_ms(), orders.clock_ns(), reported_at_, now);
    }
    OnOrders(message.header.worker_orders(), now, out);
  }
  Pump(now, out);
}

void WorkerCore::OnOrders(const pb::WorkerOrders& orders, TimePoint now, Outbox& out) {
  if (orders.unknown()) {
    // Declared dead (paused too long?): what we held is somebody else's. Come back as a new member.
    waiting_leases_.clear();
    finished_leases_.clear();
    while (!leases_.empty()) DropLease(leases_.begin()->first);
    may_leave_ = leaving_;
    if (!leaving_) link_.OnUnknown(now, out);
    return;
  }
  if (orders.has_config_update()) TakeConfig(orders.config_update());
  TakePause(orders.pause(), now);
  may_leave_ = orders.may_leave();
  if (failure_told_) failure_.reset();  // not one that came up after the report was sent
  if (orders.plan_received()) plan_.reset();
  for (const pb::JobBrief& brief : orders.job()) TakeBrief(brief);
  std::set<uint64_t> wanted(orders.keep().begin(), orders.keep().end());
  for (const pb::LeaseGrant& grant : orders.lease()) {
    wanted.insert(grant.lease());
    const bool has = leases_.contains(grant.lease()) || waiting_leases_.contains(grant.lease()) ||
                     finished_leases_.contains(grant.lease());
    const bool may_have_more = leases_.size() + waiting_leases_.size() < kMostLeases;
    if (!leaving_ && grant.has_job() && !has && may_have_more) AddLease(grant);
  }
  const auto unwanted = [&](const auto& entry) { return !wanted.contains(entry.first); };
  std::erase_if(waiting_leases_, unwanted);
  std::erase_if(finished_leases_, unwanted);
  for (auto it = leases_.begin(); it != leases_.end();) {
    const uint64_t number = (it++)->first;
    if (!wanted.contains(number)) DropLease(number);
  }
  // Clocks of ended passes and jobs without leases are history.
  std::set<std::pair<uint64_t, uint32_t>> passes;
  std::set<uint64_t> jobs;
  const auto note = [&](const auto& lease) {
    passes.insert({lease.job(), lease.pass()});
    jobs.insert(lease.job());
  };
  for (const auto& [number, lease] : leases_) note(lease.grant);
  for (const auto& [number, grant] : waiting_leases_) note(grant);
  for (const auto& [number, finished] : finished_leases_) note(finished.state);
  std::erase_if(clocks_, [&](const auto& entry) {
    return !passes.contains({std::get<0>(entry.first), std::get<1>(entry.first)});
  });
  std::erase_if(jobs_, [&](const auto& job) { return !jobs.contains(job.first); });
  if (orders.has_plan() && planning_job_ != orders.plan().job() && !plan_) {
    planning_job_ = orders.plan().job();
    planning_seen_ = "data: to be looked at";
    loader_.Plan(orders.plan());
  }
}

void WorkerCore::TakePause(uint64_t pause, TimePoint now) {
  const bool goes_on = pause / 2 == given_up_ && !Planted(Bug::kReleasedUnheard);
  pause_ = goes_on ? 0 : pause;
  pause_until_ = now + options_.pause_unheard;
}

// No scheduler: what it wanted is not worth a job that stands still. It will hear that we went on.
void WorkerCore::EndPauseUnheard(TimePoint now) {
  if (!pausing() || now < pause_until_) return;
  given_up_ = pause_ / 2;
  pause_ = 0;
  events_.push_back("nothing was heard of the checkpoint for which all stand still: going on");
}

void WorkerCore::TakeConfig(const std::string& update) {
  pb::ClusterConfig config = client_.config();
  // One that cannot be applied is left: the next report names the generation that is here.
  if (!ApplyConfigUpdate(update, config) || config.generation() <= client_.config().generation()) return;
  std::set<PeerId> listed;
  for (const pb::ServerInfo& server : config.server()) {
    for (const pb::ShardEndpoint& shard : server.shard()) {
      listed.insert(PeerId(shard.peer()));
      if (connected_.insert(PeerId(shard.peer())).second) to_connect_.push_back(shard);
    }
  }
  for (const PeerId peer : connected_) {
    if (!listed.contains(peer)) to_disconnect_.push_back(peer);
  }
  for (const PeerId peer : to_disconnect_) {
    connected_.erase(peer);
    std::erase_if(to_connect_, [peer](const pb::ShardEndpoint& shard) { return PeerId(shard.peer()) == peer; });
  }
  client_.OnConfig(config);
}

std::vector<pb::ShardEndpoint> WorkerCore::TakeConnections() { return std::exchange(to_connect_, {}); }
std::vector<PeerId> WorkerCore::TakeDisconnections() { return std::exchange(to_disconnect_, {}); }

void WorkerCore::Leave(TimePoint now, Outbox& out) {
  leaving_ = true;
  if (link_.registered()) SendReport(now, out);  // with the leases: what is done of them counts
  waiting_leases_.clear();
  finished_leases_.clear();
  while (!leases_.empty()) DropLease(leases_.begin()->first);
  may_leave_ = !link_.registered();
}

void WorkerCore::FailJob(uint64_t job, const Error& error) {
  if (failure_ && failure_->job() == job) return;  // the first says why; what follows, follows from it
  pb::JobFailure failure;
  failure.set_job(job);
  failure.set_code(static_cast<uint32_t>(error.code));
  failure.set_text(error.message);
  failure_ = std::move(failure);
  report_now_ = true;
}

std::string WorkerCore::WaitingFor(TimePoint now) const {
  if (planning_job_) return planning_seen_;
  if (leases_.empty()) return "the scheduler to give it work";
  if (has_ready_batch()) return "";
  if (std::string server = client_.WaitingFor(now, kWaitWorthSaying); !server.empty()) return server;
  for (const auto& [number, lease] : leases_) {
    if (!lease.ready && !lease.finished) return "data: " + lease.grant.rows().path();
  }
  return "";
}

}  // namespace sheaf
