#include "scheduler/scheduler_core.h"

#include <algorithm>
#include <map>
#include <set>

#include "common/base/build_info.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "common/job/job_validate.h"
#include "compute/model/model.h"
#include "compute/optim/optimizer.h"

namespace sheaf {
namespace {

constexpr size_t kRememberedJobs = 256;  // for `sheaf jobs`
constexpr Duration kReconnect = std::chrono::seconds(3);
// Who lives, and lost only his connection, has reported again by then: a report period, and what connecting takes.
constexpr Duration kConnectAnew = Milliseconds(500);
constexpr Duration kDeafAfter = Milliseconds(300);  // without a word from anybody
constexpr Duration kPublishPerServer = std::chrono::microseconds(200);

pb::ClusterConfig FirstConfig(uint32_t partition_count) {
  pb::ClusterConfig config;
  config.set_generation(1);
  config.set_partition_count(partition_count);
  return config;
}

const char* StateName(NodeState state) {
  switch (state) {
    case NodeState::kAlive: return "alive";
    case NodeState::kDead: return "dead";
    case NodeState::kLeft: return "left";
  }
  return "?";
}

}  // namespace

Status CheckJob(const pb::JobSpec& spec) {
  SHEAF_RETURN_IF_ERROR(ValidateJob(spec));
  if (const auto model = MakeModel(spec.model()); !model) return Failure{model.error()};
  if (const auto optimizer = MakeOptimizer(spec.optimizer()); !optimizer) return Failure{optimizer.error()};
  return {};
}

SchedulerCore::SchedulerCore(SchedulerOptions options, TimePoint now, SavedState saved)
    : options_(std::move(options)), started_(now), cluster_id_(saved.cluster_id), epoch_(saved.epoch),
      recovering_(!saved.nodes.empty()), placement_(options_.partition_count), rebalancer_(options_.partition_count),
      configs_(FirstConfig(options_.partition_count)), saved_behind_(now),
      checkpoints_({.partition_count = options_.partition_count, .cluster = saved.cluster_id}, options_.checkpoints,
                   saved.checkpoints) {
  Restore(std::move(saved));
}

void SchedulerCore::OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  switch (message.header.body_case()) {
    case pb::Header::kRegisterNode: OnRegister(from, message, now, out); break;
    case pb::Header::kServerReport: OnServerReport(from, message, now, out); break;
    case pb::Header::kWorkerReport: OnWorkerReport(from, message, now, out); break;
    case pb::Header::kSubmit: OnSubmit(from, message, now, out); break;
    case pb::Header::kCancel: OnCancel(from, message, now, out); break;
    case pb::Header::kGetStatus: OnGetStatus(from, message, now, out); break;
    case pb::Header::kGetTrace: OnGetTrace(from, message, now, out); break;
    case pb::Header::kChangeNode: OnChangeNode(from, message, now, out); break;
    case pb::Header::kCreateCheckpoint: OnCreateCheckpoint(from, message, now, out); break;
    case pb::Header::kGetCheckpoint: OnGetCheckpoint(from, message, out); break;
    case pb::Header::kRestoreJob: OnRestoreJob(from, message, now, out); break;
    case pb::Header::kGetConfig: {
      Message reply = AnswerTo(message.header.request());
      *reply.header.mutable_config() = config();
      out.Send(from, std::move(reply));
      break;
    }
    default:
      Refuse(from, message.header.request(), pb::Refusal::INVALID, "not a request to a scheduler", out);
  }
  Settle(now, out);
}

void SchedulerCore::OnTick(TimePoint now, Outbox& out) {
  recovering_ = recovering_ && Recovering(now);
  const Duration least =
      std::min({options_.worker_dead_after, options_.take_over_after, options_.server_dead_after, kConnectAnew});
  members_.Expire(
      now, least, std::max(kDeafAfter, 2 * options_.report_every), [&](const Node& node) { return LimitOf(node, now); },
      [&](const Node& node) { NodeGone(node, /*died=*/true, now); });
  GiveUpAwaited(now);
  Settle(now, out);
}

void SchedulerCore::OnDisconnected(PeerId peer, TimePoint now) {
  if (Node* const node = members_.FindAlive(peer)) node->disconnected_at = now;
}

// A server that others can stand in for at once is not waited for: who is silent because he is slow loses little by it.
Duration SchedulerCore::LimitOf(const Node& node, TimePoint now) const {
  if (node.role != pb::SERVER) return options_.worker_dead_after;
  // After a start they have to find us again.
  const bool new_here = now - started_ < kReconnect && epoch_ > 1;
  const bool replaceable = options_.replicas > 1 && !new_here && placement_.CanLose(node.id);
  const bool cut_off = node.disconnected_at && *node.disconnected_at >= node.last_heard;
  if (replaceable && cut_off) return std::min(kConnectAnew, options_.take_over_after);
  return replaceable ? std::min(options_.take_over_after, options_.server_dead_after) : options_.server_dead_after;
}

void SchedulerCore::GiveUpAwaited(TimePoint now) {
  for (const Node* server : members_.Awaited()) {
    if (now - server->gone_at < options_.server_back_within) continue;
    FailJobsOf(*server, /*all=*/true, "has not come back in " + FormatSeconds(now - server->gone_at), now);
    members_.GiveUp(server->id);
    servers_changed_ = true;
  }
}

void SchedulerCore::OnRegister(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const pb::Register& registration = message.header.register_node();
  if (registration.wire_version() != kWireVersion) {
    return Refuse(from, message.header.request(), pb::Refusal::VERSION_MISMATCH,
                  "this cluster speaks wire version " + std::to_string(kWireVersion) + ", you speak " +
                      std::to_string(registration.wire_version()) + ": install the same release everywhere", out);
  }
  if ((registration.role() != pb::SERVER && registration.role() != pb::WORKER) ||
      (registration.role() == pb::SERVER && registration.shard_size() == 0 && !registration.has_damaged())) {
    return Refuse(from, message.header.request(), pb::Refusal::INVALID,
                  "a server (with shards) or a worker may register", out);
  }
  if (registration.store() != 0 && registration.role() != pb::SERVER) {
    return Refuse(from, message.header.request(), pb::Refusal::INVALID, "only a server has a store", out);
  }
  if (members_.IsSuperseded(from, registration)) {
    const Node* const now_it = members_.FindStore(registration.store());
    return Refuse(from, message.header.request(), pb::Refusal::INVALID,
                  "another process has taken over this server's store" +
                      (now_it == nullptr ? "" : " (" + now_it->registration.host() + ", pid " +
                                                    std::to_string(now_it->registration.pid()) + ")") +
                      ": was its --data_dir copied?", out);
  }
  if (registration.has_damaged()) return OnDamaged(from, message, now, out);
  const bool known = members_.FindAlive(from) != nullptr;
  const Node* const before = known || registration.store() == 0 ? nullptr : members_.FindStore(registration.store());
  const bool is_back = before != nullptr;
  if (is_back) LoseServer(*before, "was started again", now);
  const Node& node = members_.Register(from, registration, now);
  if (!known) {
    servers_changed_ |= node.role == pb::SERVER;
    if (is_back) placement_.Renew(node.id);
    events_.push_back("node=" + node.name + (is_back ? " is back" : " joined") + " host=" + registration.host() +
                      " pid=" + std::to_string(registration.pid()));
  }
  Message reply = AnswerTo(message.header.request());
  pb::Registered& registered = *reply.header.mutable_registered();
  registered.set_node(node.id.value);
  registered.set_name(node.name);
  registered.set_cluster(options_.cluster);
  registered.set_scheduler(options_.incarnation);
  registered.set_cluster_id(cluster_id_);
  registered.set_scheduler_epoch(epoch_);
  registered.set_silence_ms(static_cast<uint32_t>(options_.back_within / Milliseconds(1)));
  registered.set_report_every_ms(static_cast<uint32_t>(options_.report_every / Milliseconds(1)));
  registered.set_dead_after_ms(static_cast<uint32_t>(LimitOf(node, now) / Milliseconds(1)));
  out.Send(from, std::move(reply));
}

// A store that cannot be used is as good as gone: whoever has copies takes over. While something is nowhere else it is
// not given up: somebody may know how to mend it.
void SchedulerCore::OnDamaged(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const pb::Register& registration = message.header.register_node();
  const Node* const before = members_.FindStore(registration.store());
  if (before != nullptr && before->alive()) {
    members_.MarkLeft(before->id, now);
    events_.push_back("node=" + before->name + " has a damaged store: " + registration.damaged());
    LoseServer(*before, "came back with a damaged store (" + registration.damaged() + ")", now);
  }
  if (before != nullptr) {
    const bool coming_back = std::ranges::any_of(placement_.homes(), [&](const Placement::Home& home) {
      return home.former == before->id;
    });
    if (coming_back) return;  // who takes over is not known to have it yet: it asks again
    if (before->partitions > 0) {
      return Refuse(from, message.header.request(), pb::Refusal::INVALID,
                    before->name + " has " + std::to_string(before->partitions) + " of " +
                        std::to_string(options_.partition_count) +
                        " partitions that nobody else has a copy of. Put a good copy of the folder there, or cancel "
                        "the jobs and start the server with an empty folder",
                    out);
    }
  }
  Message reply = AnswerTo(message.header.request());
  pb::Registered& registered = *reply.header.mutable_registered();
  registered.set_cluster_id(cluster_id_);
  registered.set_scheduler_epoch(epoch_);
  registered.set_forgotten(true);
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnServerReport(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  members_.NoteHeard(now);
  Node* node = members_.FindAlive(from);
  Message reply = AnswerTo(message.header.request());
  pb::ServerOrders& orders = *reply.header.mutable_server_orders();
  orders.set_scheduler_epoch(epoch_);
  if (node == nullptr || node->role != pb::SERVER) {
    orders.set_unknown(true);
    out.Send(from, std::move(reply));
    return;
  }
  const pb::ServerReport& report = message.header.server_report();
  node->disconnected_at.reset();
  // One that takes no configuration does not hear us: as good as dead, although we hear it.
  const uint64_t before =
      std::exchange(node->taken_generation, std::max(node->taken_generation, report.config_generation()));
  if (node->taken_generation > before || before == config().generation()) node->last_heard = now;
  if (report.has_trace()) traces_.Take(node->name, pb::SERVER, report.trace(), now);
  if (traces_.on(now)) {
    orders.set_trace_ms(traces_.LeftMs(now));
    orders.set_clock_ns(static_cast<uint64_t>(now.time_since_epoch().count()));
  }
  // Counters and generations only grow: an overtaken report would take them back.
  if (report.seen_generation() >= node->server_report.seen_generation()) node->server_report = report;
  node->server_report.clear_trace();
  TakeSynced(*node, report, now);
  if (report.has_loads()) rebalancer_.loads().Note(node->id, report.loads(), now);
  if (MayStop(*node)) orders.set_stop(true);
  checkpoints_.OnServerReport(node->id, report.checkpoint());
  AddCheckpointOrders(*node, orders);
  if (report.leaving()) {
    members_.MarkLeft(node->id, now);
    NodeGone(*node, /*died=*/false, now);
  }
  // What it was sent a moment ago is on its way, unless it lacks what that builds upon: a roster of ten thousand lanes
  // is not to be sent twice to all who happened to report when it was made.
  const bool on_its_way = node->sent_generation == config().generation() &&
                          node->sent_since <= report.config_generation() && now - node->sent_at < options_.report_every;
  if (report.config_generation() < config().generation() && !on_its_way) {
    orders.set_config_update(UpdateToSend(*node, report.config_generation(), now));
  }
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnWorkerReport(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  members_.NoteHeard(now);
  const pb::WorkerReport& report = message.header.worker_report();
  Node* node = members_.FindAlive(from);
  if (node == nullptr || node->role != pb::WORKER) {
    Message reply = AnswerTo(message.header.request());
    reply.header.mutable_worker_orders()->set_sequence(report.sequence());
    reply.header.mutable_worker_orders()->set_unknown(true);
    reply.header.mutable_worker_orders()->set_scheduler_epoch(epoch_);
    out.Send(from, std::move(reply));
    return;
  }
  node->last_heard = now;
  if (report.has_trace()) traces_.Take(node->name, pb::WORKER, report.trace(), now);
  if (report.sequence() <= node->last_sequence) return;  // overtaken: the worker waits for the answer to a later one
  node->last_sequence = report.sequence();
  node->poked = true;  // the answer below tells it all
  node->worker_report = report;
  node->worker_report.clear_plan();
  node->worker_report.clear_eval();
  node->worker_report.clear_trace();
  Job* job = Current();
  if (job != nullptr && node->returning) job->TakeUp(*node, report);
  if (report.scheduler_epoch() == epoch_) node->returning = false;
  if (recovering_) recovering_ = Recovering(now);
  checkpoints_.OnWorkerReport(node->id, report);
  if (job != nullptr) {
    job->OnWorkerReport(*node, report, now);
    for (std::string& line : job->TakeEvents()) events_.push_back(std::move(line));
    // What that changed must be in the configuration before anything is granted under it.
    Settle(now, out);
    job = Current();
  }
  Message reply = AnswerTo(message.header.request());
  pb::WorkerOrders& orders = *reply.header.mutable_worker_orders();
  orders.set_sequence(report.sequence());
  orders.set_scheduler_epoch(epoch_);
  orders.set_plan_received(report.has_plan());
  if (job != nullptr) {
    job->FillOrders(*node, orders, MayPublish(now), next_lease_);
    // A new lane is in the configuration that goes with the lease.
    if (!Planted(Bug::kGrantsUnpublished)) Settle(now, out);
  }
  orders.set_pause(checkpoints_.PauseOf(node->id));
  node->poked = false;
  if (traces_.on(now)) {
    MarkLeases(node->id, orders, now);
    orders.set_trace_ms(traces_.LeftMs(now));
    orders.set_clock_ns(static_cast<uint64_t>(now.time_since_epoch().count()));
  }
  if (report.leaving() && orders.lease_size() == 0) {
    orders.set_may_leave(true);
    members_.MarkLeft(node->id, now);
    NodeGone(*node, /*died=*/false, now);
  }
  if (report.seen_generation() < config().generation()) {
    orders.set_config_update(configs_.UpdateFor(pb::WORKER, report.seen_generation()));
  }
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnSubmit(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const pb::SubmitJob& submit = message.header.submit();
  auto known = tokens_.find(submit.token());
  if (known == tokens_.end()) {
    if (const Status ok = CheckJob(submit.spec()); !ok) {
      return Refuse(from, message.header.request(), pb::Refusal::INVALID, ok.error().message, out);
    }
    const pb::CheckpointSpec& wanted = submit.spec().checkpoint();
    if ((wanted.every_s() > 0 || wanted.every_passes() > 0) && !checkpoints_.has_folder()) {
      return Refuse(from, message.header.request(), pb::Refusal::INVALID,
                    "the job asks for checkpoints (checkpoint.every_s, every_passes), but the scheduler has no "
                    "--checkpoint_dir: give it one, and all servers the same", out);
    }
    const JobId id(next_job_++);
    jobs_[id] = std::make_unique<Job>(id, submit, options_.job, now);
    open_.push_back(id);
    known = tokens_.emplace(submit.token(), id).first;
  }
  Message reply = AnswerTo(message.header.request());
  reply.header.mutable_accepted()->set_job(known->second.value);
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnCancel(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const auto it = jobs_.find(JobId(message.header.cancel().job()));
  if (it == jobs_.end()) {
    return Refuse(from, message.header.request(), pb::Refusal::NOT_FOUND,
                  "no job " + std::to_string(message.header.cancel().job()), out);
  }
  it->second->Cancel(message.header.cancel().reason(), now);
  touched_.insert(it->first);
  Message reply = AnswerTo(message.header.request());
  reply.header.mutable_accepted()->set_job(it->first.value);
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnGetStatus(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const uint64_t wanted = message.header.get_status().job();
  if (wanted != 0 && !jobs_.contains(JobId(wanted))) {
    return Refuse(from, message.header.request(), pb::Refusal::NOT_FOUND, "no job " + std::to_string(wanted), out);
  }
  Message reply = AnswerTo(message.header.request());
  pb::ClusterStatus& status = *reply.header.mutable_status() = Describe(now);
  if (wanted != 0) {
    status.clear_job();
    *status.add_job() = jobs_.at(JobId(wanted))->Describe(members_, now, /*whole=*/true);
  }
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnGetTrace(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const bool was_on = traces_.on(now);
  auto answer = traces_.OnGetTrace(message.header.get_trace(), now);
  if (!answer) {
    return Refuse(from, message.header.request(), pb::Refusal::INVALID, answer.error().message, out);
  }
  if (traces_.on(now) != was_on) {
    // Members learn of it by the answer to their next report.
    marked_lease_ = 0;
    marked_pass_ = {};
    for (const pb::Role role : {pb::SERVER, pb::WORKER}) {
      for (const Node* node : members_.Alive(role)) {
        Message poke;
        poke.header.mutable_report_now();
        out.Send(node->peer, std::move(poke));
      }
    }
  }
  Message reply = AnswerTo(message.header.request());
  *reply.header.mutable_trace() = std::move(*answer);
  out.Send(from, std::move(reply));
}

void SchedulerCore::MarkPass(TimePoint now) {
  const Job* job = Current();
  if (job == nullptr || !job->working() || marked_pass_ == std::pair(job->id(), job->pass_number())) return;
  marked_pass_ = {job->id(), job->pass_number()};
  traces_.Mark(pb::PASS, job->pass_kind(), job->pass_number(), now);
}

void SchedulerCore::MarkLeases(NodeId worker, const pb::WorkerOrders& orders, TimePoint now) {
  uint64_t latest = marked_lease_;
  for (const pb::LeaseGrant& grant : orders.lease()) {
    if (grant.lease() > marked_lease_) traces_.Mark(pb::LEASE, grant.range(), worker.value, now);
    latest = std::max(latest, grant.lease());
  }
  marked_lease_ = latest;
}

void SchedulerCore::NodeGone(const Node& node, bool died, TimePoint now) {
  events_.push_back("node=" + node.name + (died ? " died: not heard in time" : " left"));
  if (node.role == pb::WORKER) {
    checkpoints_.OnNodeGone(node.id);
    for (auto& [id, job] : jobs_) job->OnWorkerGone(node.id, died);
    return;
  }
  LoseServer(node,
             died ? "has not been heard, or has taken no configuration, for " + FormatSeconds(now - node.last_heard)
                  : "was stopped",
             now);
}

void SchedulerCore::LoseServer(const Node& server, const std::string& how, TimePoint now) {
  servers_changed_ = true;
  checkpoints_.OnNodeGone(server.id);
  const Placement::Lost lost = placement_.Lose(server.id, server.registration.store() != 0);
  const uint32_t had = server.partitions;
  CountPartitions();
  if (server.partitions < had) {
    events_.push_back("node=" + server.name + " backups take over " + std::to_string(had - server.partitions) +
                      " of its " + std::to_string(had) + " partitions");
  }
  TakeLost(server, lost, how, now);
}

void SchedulerCore::TakeLost(const Node& server, const Placement::Lost& lost, const std::string& how, TimePoint now) {
  FailJobsOf(server, /*all=*/lost.rows, how, now);
  // They were dead, or are processes that have nothing but what was on the disk.
  for (const NodeId id : lost.given_back) {
    if (const Node* const former = members_.Find(id)) FailJobsOf(*former, /*all=*/false, "has died", now);
  }
}

void SchedulerCore::CountPartitions() {
  std::map<NodeId, uint32_t> partitions;
  for (const Placement::Home& home : placement_.homes()) ++partitions[home.primary];
  for (const auto& [id, node] : members_.nodes()) {
    if (node.role == pb::SERVER) members_.Find(id)->partitions = partitions[id];
  }
}

void SchedulerCore::TakeSynced(const Node& server, const pb::ServerReport& report, TimePoint now) {
  for (const pb::SyncedReplica& replica : report.synced()) {
    if (replica.lost() && replica.node() == 0) {
      const Placement::Lost lost = placement_.NoteAbsent(server.id, replica.partition(), replica.since());
      if (!lost.any) continue;
      replicas_changed_ = true;
      events_.push_back("node=" + server.name + " has no copy of partition " + std::to_string(replica.partition()));
      CountPartitions();
      TakeLost(server, lost, "has lost its copies", now);
      continue;
    }
    replicas_changed_ |= placement_.Note(server.id, replica.partition(), NodeId(replica.node()), replica.since(),
                                         replica.lost());
  }
  replicas_changed_ |= placement_.Settle(server.id, report.seen_generation());
}

void SchedulerCore::FailJobsOf(const Node& server, bool all, const std::string& how, TimePoint now) {
  if (server.partitions == 0) return;
  for (auto& [id, job] : jobs_) {
    if (!job->holds_tables() || (!all && server.registration.store() != 0 && job->outlives_servers())) continue;
    job->Fail(ErrorCode::kUnavailable,
              server.name + " (" + server.registration.host() + ", pid " + std::to_string(server.registration.pid()) +
                  ") " + how + " and with it went " + std::to_string(server.partitions) + " of " +
                  std::to_string(options_.partition_count) +
                  " partitions of the model: look at its log, then run the job again",
              now);
    job->DropTables();
    touched_.insert(id);
    tables_changed_ = true;
  }
}

bool SchedulerCore::MayPublish(TimePoint now) const {
  return now - published_at_ >= kPublishPerServer * members_.CountAlive(pb::SERVER);
}

void SchedulerCore::Settle(TimePoint now, Outbox& out) {
  AdvanceCheckpoints(now, out);
  Job* job = Current();
  if (job != nullptr) {
    job->AllowGrants(!recovering_ && !checkpoints_.holding());
    job->Begin();
    job->Advance(members_, now);
    AdvanceRestore(now);
  }
  TidyJobs();
  const bool spaced = MayPublish(now);
  job = Current();
  if (job != nullptr && spaced && job->wants_lanes()) job->MakeWantedLanes();
  if (spaced) Rebalance(now);
  bool dirty = servers_changed_ || replicas_changed_ || tables_changed_, urgent = false;
  for (const JobId id : open_) {
    dirty |= jobs_.at(id)->config_dirty();
    urgent |= jobs_.at(id)->config_urgent();
  }
  // What is not urgent is collected for as long as all servers may take to hear of it.
  if (urgent || (dirty && spaced)) Publish(now, out);
  for (const JobId id : open_) NoteJob(id);
  if (traces_.on(now)) MarkPass(now);
  if (job == nullptr) return;
  PokeIdle(*job, out);
  for (const NodeId relieved : job->TakeRelieved()) {
    if (Node* worker = members_.Find(relieved); worker != nullptr && worker->alive()) Poke(*worker, out);
  }
}

void SchedulerCore::TidyJobs() {
  bool any = false;
  for (auto it = open_.begin(); it != open_.end();) {
    if (!jobs_.at(*it)->ended()) {
      ++it;
      continue;
    }
    NoteJob(*it);
    noted_.erase(*it);
    touched_.insert(*it);
    it = open_.erase(it);
    any = true;
  }
  if (!any) return;
  tables_changed_ = true;
  // Finished jobs' tables stay for a while; the oldest go first.
  uint32_t finished = 0;
  for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) {
    if (!it->second->ended() || !it->second->holds_tables() || ++finished <= options_.kept_jobs) continue;
    it->second->DropTables();
    touched_.insert(it->first);
  }
  while (jobs_.size() > kRememberedJobs && jobs_.begin()->second->ended() && !jobs_.begin()->second->holds_tables()) {
    const JobId oldest = jobs_.begin()->first;
    std::erase_if(tokens_, [&](const auto& token) { return token.second == oldest; });
    touched_.erase(oldest);
    unsaved_keys_.insert(unsaved_keys_.end(), {SubmissionKey(oldest), JobStateKey(oldest)});
    jobs_.erase(jobs_.begin());
  }
}

void SchedulerCore::NoteJob(JobId id) {
  const Job& job = *jobs_.at(id);
  const auto [noted, is_new] = noted_.try_emplace(id, job.state());
  if (!is_new && noted->second == job.state()) return;
  noted->second = job.state();
  events_.push_back(job.StateLine());
}

void SchedulerCore::Poke(Node& worker, Outbox& out) {
  if (worker.poked) return;
  worker.poked = true;
  Message poke;
  poke.header.mutable_report_now();
  out.Send(worker.peer, std::move(poke));
}

void SchedulerCore::PokeIdle(Job& job, Outbox& out) {
  const std::pair now_at{job.id(), job.work_version()};
  if (poked_for_ == now_at) return;
  poked_for_ = now_at;
  size_t wanted = job.most_idle_wanted();
  for (Node* worker : members_.Alive(pb::WORKER)) {
    if (wanted == 0) return;
    if (!job.HasWorkFor(*worker)) continue;
    --wanted;
    Poke(*worker, out);
  }
}

void SchedulerCore::BalancePlacement() {
  const std::vector<NodeId> servers = ServersToHold();
  const bool placed = std::any_of(placement_.homes().begin(), placement_.homes().end(),
                                  [](const Placement::Home& home) { return home.primary != NodeId(); });
  if (!TablesHeld() || !placed) placement_.Balance(servers);
  placement_.Replicate(servers, options_.replicas);
  CountPartitions();
}

void SchedulerCore::Publish(TimePoint now, Outbox& out) {
  published_at_ = now;
  if (servers_changed_ || tables_changed_) BalancePlacement();  // the last table may have held it back
  servers_changed_ = replicas_changed_ = tables_changed_ = false;
  configs_.Add(MakeConfig(config().generation() + 1));
  // From what each was sent last: should that have been lost, it asks.
  for (Node* server : members_.Alive(pb::SERVER)) {
    Message message;
    pb::ServerOrders& orders = *message.header.mutable_server_orders();
    orders.set_scheduler_epoch(epoch_);
    orders.set_config_update(UpdateToSend(*server, server->sent_generation, now));
    out.Send(server->peer, std::move(message));
  }
}

pb::ClusterConfig SchedulerCore::MakeConfig(uint64_t generation) {
  placement_.Stamp(generation);
  pb::ClusterConfig next;
  next.set_generation(generation);
  next.set_partition_count(options_.partition_count);
  for (const Placement::Home& home : placement_.homes()) {
    *next.add_partition() = Placement::Describe(home);
  }
  for (Node* server : members_.Alive(pb::SERVER)) {
    pb::ServerInfo& info = *next.add_server();
    info.set_node(server->id.value);
    info.set_name(server->name);
    *info.mutable_shard() = server->registration.shard();
  }
  for (auto& [id, job] : jobs_) job->AddToConfig(next);
  for (auto& [id, job] : jobs_) job->OnConfigPublished(generation);
  return next;
}

const std::string& SchedulerCore::UpdateToSend(Node& server, uint64_t since, TimePoint now) {
  server.sent_since = since;
  server.sent_generation = config().generation();
  server.sent_at = now;
  return configs_.UpdateFor(pb::SERVER, since);
}

Job* SchedulerCore::Current() {
  for (const JobId id : open_) {
    if (Job& job = *jobs_.at(id); !job.ended()) return &job;
  }
  return nullptr;
}

const Job* SchedulerCore::FindJob(JobId id) const {
  const auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : it->second.get();
}

uint64_t SchedulerCore::PoisonOf(PeerId worker) const {
  uint64_t count = 0;
  for (const Node* server : members_.Alive(pb::SERVER)) {
    for (const pb::PoisonCount& each : server->server_report.poison()) {
      if (PeerId(each.peer()) == worker) count += each.count();
    }
  }
  return count;
}

pb::ClusterStatus SchedulerCore::Describe(TimePoint now) const {
  pb::ClusterStatus status;
  status.set_cluster(options_.cluster);
  status.set_generation(config().generation());
  status.set_partition_count(options_.partition_count);
  status.set_uptime_seconds(ToSeconds(now - started_));
  status.set_scheduler_epoch(epoch_);
  status.set_silence_ms(static_cast<uint32_t>(options_.back_within / Milliseconds(1)));
  status.set_build(std::string(BuildVersion()));
  if (checkpoints_.last().id() != 0) *status.mutable_checkpoint() = checkpoints_.last();
  for (const auto& [id, node] : members_.nodes()) {
    pb::NodeStatus& out = *status.add_node();
    out.set_node(id.value);
    out.set_name(node.name);
    out.set_role(node.role);
    out.set_state(StateName(node.state));
    out.set_host(node.registration.host());
    out.set_pid(node.registration.pid());
    out.set_last_report_seconds(ToSeconds(now - node.last_heard));
    if (node.role == pb::SERVER) {
      out.set_memory_bytes(node.server_report.memory_bytes());
      out.set_rows(node.server_report.rows());
      out.set_cold_rows(node.server_report.cold_rows());
      out.set_cold_reads(node.server_report.cold_reads());
      out.set_evicted_rows(node.server_report.evicted_rows());
      out.set_expired_rows(node.server_report.expired_rows());
      out.set_unadmitted(node.server_report.unadmitted());
      out.set_partitions(node.alive() ? node.partitions : 0);
      out.set_refused_pushes(node.server_report.poisoned());
      out.set_disk(node.server_report.disk());
      out.set_disk_write_us(node.server_report.disk_write_us());
      out.set_compared_rows(node.server_report.compared_rows());
      out.set_copies_differed(node.server_report.copies_differed());
      if (node.server_report.has_disk_text()) out.set_waiting_for(node.server_report.disk_text());
      else if (node.server_report.waiting_size() > 0) out.set_waiting_for(node.server_report.waiting(0));
    } else {
      out.set_waiting_for(node.worker_report.waiting_for());
      out.set_examples_per_second(node.worker_report.examples_per_second());
      int leases = node.worker_report.lease_size();
      for (const pb::UntouchedLeases& untouched : node.worker_report.untouched()) leases += untouched.lease_size();
      out.set_leases(static_cast<uint32_t>(leases));
      out.set_refused_batches(node.worker_report.refused_batches());
      out.set_refused_pushes(PoisonOf(node.peer));
      out.set_quarantined(
          std::ranges::any_of(jobs_, [&](const auto& job) { return job.second->IsQuarantined(id); }));
    }
  }
  DescribeMoves(status);
  for (const auto& [id, job] : jobs_) *status.add_job() = job->Describe(members_, now, /*whole=*/false);
  return status;
}

void SchedulerCore::Refuse(PeerId to, uint64_t request, pb::Refusal::Reason reason, std::string text, Outbox& out) {
  Message reply = AnswerTo(request);
  reply.header.mutable_refusal()->set_reason(reason);
  reply.header.mutable_refusal()->set_text(std::move(text));
  out.Send(to, std::move(reply));
}

}  // namespace sheaf
