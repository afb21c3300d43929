#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <sstream>

#include "common/base/partition.h"
#include "server/recovery.h"
#include "tests/sim/sim_nodes.h"

namespace sheaf::sim {

namespace {

// A request with a list where it names all that the shard has. It may come again, with the same number, when the shard
// has others: it is still about those that it had.
template <typename Request>
void NoteRequest(Request& noted, const Request& request, const ShardCore& core) {
  const bool refused = request.has_placement() && request.placement().signature() != core.placement();
  if (refused && noted.placement().signature() == request.placement().signature()) return;
  noted = request;
  if (request.has_placement() && !refused) {
    noted.mutable_partition()->Assign(core.owned().begin(), core.owned().end());
  }
}

}  // namespace

SimCluster::SimCluster(SimOptions options) : options_(options), random_(options.seed), network_(clock_, random_) {
  network_.SetFaults(options_.network);
  if (options_.restore_from != nullptr) {
    const SimCluster& before = *options_.restore_from;
    files_ = before.files_;
    batches_of_clock_ = before.batches_of_clock_;
    clock_of_batch_ = before.clock_of_batch_;
    acknowledged_ = before.acknowledged_;
    Note(Fault::kCheckpointRestored);
  }
  StartScheduler();
  servers_.resize(options_.servers);
  incarnations_.resize(options_.servers);
  disks_.resize(options_.servers);
  stores_.resize(options_.servers);
  for (uint32_t s = 0; s < options_.servers; ++s) {
    for (uint32_t i = 0; i < options_.shards; ++i) {
      disks_[s].emplace_back(random_.Next());
      stores_[s].emplace_back(MixPair(options_.seed, s * options_.shards + i));
    }
    StartServer(s);
  }
  for (uint32_t w = 0; w < options_.workers; ++w) StartWorker();
  if (options_.cancel_after > Duration::zero()) job_ = 2;  // the first is cancelled
  if (options_.restore_from != nullptr) job_ = options_.restore_from->job_;
  if (options_.tool) StartTool();
}

void SimCluster::StartScheduler() {
  SchedulerOptions scheduler_options;
  scheduler_options.partition_count = options_.partitions;
  scheduler_options.report_every = Milliseconds(50);
  scheduler_options.worker_dead_after = Milliseconds(500);
  scheduler_options.server_dead_after = options_.server_dead_after;
  scheduler_options.replicas = options_.replicas;
  scheduler_options.take_over_after = options_.take_over_after;
  scheduler_options.job.min_servers = options_.servers;
  scheduler_options.job.settle_limit = std::chrono::seconds(20);
  scheduler_options.save_behind = Milliseconds(200);
  ++schedulers_;
  file_work_.clear();
  cut_ = 0;
  files_->SetFull(false);
  const auto found = FindCheckpoints(*files_);
  SHEAF_CHECK(found.has_value(), found.error().message);
  scheduler_options.checkpoints = *found;
  meta_.SetTrouble(MemoryMetaStore::Trouble::kNone);
  auto saved = TakeOver(meta_, options_.partitions, /*new_cluster_id=*/7);
  SHEAF_CHECK(saved.has_value(), saved.error().message);
  scheduler_ = std::make_unique<SchedulerNode>(*this, scheduler_options, std::move(*saved));
  SHEAF_CHECK(scheduler_->keeper.Commit(scheduler_->core, scheduler_->Now()).has_value());
  SchedulerNode* const node = scheduler_.get();
  node->transport = network_.Start(kSchedulerPeer, kSchedulerAddress, [this, node](PeerId from, Message message) {
    node->Do([this, node, from, message = std::move(message)] {
      if (node->ended || node->stalled) return;
      node->core.OnMessage(from, message, node->Now(), node->out);
      AfterScheduler(from, message.header.worker_report().seen_generation());
    });
  });
}

void SimCluster::CrashScheduler() {
  Note(Fault::kSchedulerCrash);
  if (!file_work_.empty() && random_.Chance(0.5)) CarryOutFileWork();  // and nobody hears of it
  file_work_.clear();
  scheduler_.reset();
  const Duration down = Within({}, random_.Chance(0.2) ? Milliseconds(5000) : Milliseconds(1000));
  for (auto& worker : workers_) {
    worker->hindered_until = std::max(worker->hindered_until, clock_.Now() + down + Milliseconds(1000));
  }
  network_.Schedule(down, [this] { StartScheduler(); });
}

bool SimCluster::CommitScheduler() {
  SchedulerNode& scheduler = *scheduler_;
  using End = SchedulerNode::End;
  const uint64_t before = meta_.txns();
  if (scheduler.end == End::kBeforeSave) meta_.SetTrouble(MemoryMetaStore::Trouble::kNotDone);
  const Status saved = scheduler.keeper.Commit(scheduler.core, scheduler.Now());
  if (!saved && scheduler.end == End::kNone) {
    SHEAF_CHECK(saved.error().code == ErrorCode::kResourceExhausted, saved.error().message);
    scheduler.stalled = true;
    return false;
  }
  scheduler.stalled = false;
  if (scheduler.end == End::kNone || (saved && meta_.txns() == before)) return true;
  Note(saved ? Fault::kSchedulerCrashUnsent : Fault::kSchedulerCrashUnsaved);
  scheduler.ended = true;
  network_.Schedule({}, [this] { CrashScheduler(); });
  return false;
}

void SimCluster::TickScheduler() {
  SchedulerNode* const node = scheduler_.get();
  if (node == nullptr || node->ended || node->stopped()) return;
  node->Resume();
  if (node->ended) return;
  if (!node->stalled) node->core.OnTick(node->Now(), node->out);
  AfterScheduler({}, 0);
}

void SimCluster::StartServer(uint32_t number) {
  servers_[number] = std::make_unique<ServerNode>(*this, number, incarnations_[number]);
  ServerNode* const node = servers_[number].get();
  MemberInfo control;
  control.role = pb::SERVER;
  control.self = ServerPeer(number, node->incarnation);
  if (options_.stores) control.store = 1 + number;
  control.store_start = 1 + node->incarnation;
  node->shards.resize(options_.shards);
  for (uint32_t i = 0; i < options_.shards; ++i) {
    ServeShard(*node, i);
    pb::ShardEndpoint& endpoint = control.shards.emplace_back();
    endpoint.set_peer(ShardPeer(number, i, node->incarnation).value);
    endpoint.set_address(ShardAddress(number, i));
  }
  node->control = std::make_unique<ControlClient>(control, SchedulerLinkOptions{.deadline = std::chrono::hours(1)});
  node->control_transport = network_.Start(control.self, "", [this, node](PeerId, Message message) {
    node->Do([this, node, message = std::move(message)] {
      if (node->ended) return;
      node->control->OnMessage(message, node->Now(), node->control_out);
      if (const auto config = node->control->TakeConfig()) {
        node->config = *config;
        for (size_t i = 0; i < node->shards.size() && !node->ended; ++i) {
          ServerNode::ShardNode& shard = node->shards[i];
          const Status taken = shard.core->OnConfig(std::make_shared<pb::ClusterConfig>(*config), node->Now());
          for (const PeerId gone : shard.core->TakeDisconnections()) shard.transport->Disconnect(gone);
          for (const pb::ShardEndpoint& to : shard.core->TakeConnections()) {
            (void)shard.transport->Connect(PeerId(to.peer()), to.address());
          }
          if (!taken) Violation("job", "a shard refused its configuration: " + taken.error().message);
          AfterShard(*node, i);
        }
      }
      if (const auto tasks = node->control->TakeTasks()) {
        for (size_t i = 0; i < node->shards.size() && !node->ended; ++i) {
          node->shards[i].checkpoints->OnTasks(*tasks);
          AfterShard(*node, i);
        }
      }
      if (node->ended) return;
      node->control->OnTick(node->Stats(), node->Now(), node->control_out);
      node->FlushControl();
    });
  });
  (void)node->control_transport->Connect(kSchedulerPeer, kSchedulerAddress);
}

void SimCluster::ServeShard(ServerNode& server, uint32_t index) {
  ServerNode* const node = &server;
  ServerNode::ShardNode& shard = node->shards[index];
  const PeerId self = ShardPeer(node->number, index, node->incarnation);
  ShardOptions with_checkpoints = options_.shard;
  with_checkpoints.checkpoints = true;
  if (options_.stores) {
    shard.cold = std::make_unique<ServerNode::SimColdStore>(shard.rows, stores_[node->number][index]);
    with_checkpoints.cold = shard.cold.get();
  }
  shard.core = std::make_unique<Shard>(self, with_checkpoints,
                                       options_.stores ? disks_[node->number][index].OpenLog() : nullptr);
  if (options_.stores) RecoverSimShard(server, index);
  shard.files = std::make_unique<CheckpointFiles>(files_.get());
  shard.checkpoints = std::make_unique<ShardCheckpoints>(*shard.core, 1 + random_.Below(20));
  shard.transport =
      network_.Start(self, ShardAddress(node->number, index), [this, node, self, index](PeerId from, Message message) {
        node->Do([this, node, self, index, from, message = std::move(message)] {
          if (node->ended) return;
          // An answer may come at once or later: look at what is answered, not at what is asked.
          const RequestName name{self, from, message.header.request()};
          Shard& shard = *node->shards[index].core;
          shard.OnMessage(from, message, node->Now());  // which may first take partitions over
          if (message.header.has_pull()) NoteRequest(pulls_[name], message.header.pull(), shard.core());
          if (message.header.has_push()) NoteRequest(pushes_[name], message.header.push(), shard.core());
          AfterShard(*node, index);
          // Now, or when something needs it.
          if (!node->ended && random_.Chance(0.5) && node->shards[index].core->CatchUp(node->Now())) {
            AfterShard(*node, index);
          }
        });
      });
}

void SimCluster::RecoverSimShard(ServerNode& server, uint32_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  SimStore& store = stores_[server.number][index];
  shard.rows = store.Open();
  if (store.lost_batches() > 0) Note(Fault::kSnapshotLost);
  const auto recovered =
      RecoverShard(shard.core->core(), *shard.core->log(), shard.rows.get(), server.Now(),
                   [](size_t) { return Status(); });
  if (!recovered) return Violation("job", "a shard cannot be recovered: " + recovered.error().message);
  if (recovered->partitions > 0) Note(Fault::kImageLoaded);
  if (recovered->rows_ahead > 0) Note(Fault::kRowsAhead);
  if (recovered->store_is_ahead) {
    Note(Fault::kStoreAhead);
    store.SetFull(false);  // else it would not start
    const Status saved = SaveAll(shard.core->core(), *shard.core->log(), *shard.rows, server.Now());
    if (!saved) Violation("job", "a shard cannot save itself: " + saved.error().message);
  }
  const SnapshotterOptions options{.min_log_bytes = options_.snapshot_after_bytes,
                                   .rows_a_step = 1 + random_.Below(20),
                                   .flush_bytes = random_.Below(3) * options_.snapshot_after_bytes / 8,
                                   .retry_after = Milliseconds(100)};
  shard.snapshotter = std::make_unique<Snapshotter>(shard.core->core(), *shard.core->log(), options);
}

// In order, too; what is read may come a while after it was.
void SimCluster::ReadColdLater(ServerNode& server, size_t index, ColdRead read) {
  Note(Fault::kColdRead);
  ServerNode::ShardNode& of = server.shards[index];
  of.read_at = std::max(of.read_at, clock_.Now()) + Within({}, options_.snapshot_takes);
  const Duration until_here = Within({}, Milliseconds(5));
  const std::weak_ptr<int> living = server.alive;
  const auto done = std::make_shared<ColdRead>(std::move(read));
  network_.Schedule(of.read_at - clock_.Now(), [living, node = &server, index, done] {
    if (!living.expired() && !node->ended) node->shards[index].cold->ReadNow(*done);
  });
  of.read_at += until_here;
  network_.Schedule(of.read_at - clock_.Now(), [this, living, node = &server, index, done] {
    if (living.expired() || node->ended) return;
    node->Do([this, living, node, index, done] {
      if (living.expired() || node->ended) return;
      Shard& shard = *node->shards[index].core;
      shard.OnColdRead(std::move(*done), node->Now());
      if (!shard.core().failure().empty()) Violation("cold rows", shard.core().failure());
      AfterShard(*node, index);
    });
  });
}

void SimCluster::StepColdReads(ServerNode& server, size_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  if (shard.cold == nullptr) return;
  while (auto read = shard.core->TakeColdRead()) ReadColdLater(server, index, std::move(*read));
  const uint64_t evicted = shard.core->core().evicted_rows();
  for (; shard.evicted_rows < evicted; ++shard.evicted_rows) Note(Fault::kEvicted);
}

void SimCluster::StepSnapshots(ServerNode& server, size_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  if (shard.snapshotter == nullptr) return;
  shard.snapshotter->Step(server.Now());
  while (auto work = shard.snapshotter->TakeWork()) WriteSnapshotLater(server, index, std::move(*work));
}

void SimCluster::WriteSnapshotLater(ServerNode& server, size_t index, SnapshotWork work) {
  // In order: who comes later is not done earlier.
  ServerNode::ShardNode& of = server.shards[index];
  of.written_at = std::max(of.written_at, clock_.Now()) + Within({}, options_.snapshot_takes);
  const std::weak_ptr<int> living = server.alive;
  network_.Schedule(of.written_at - clock_.Now(), [this, living, node = &server, index, work = std::move(work)] {
    if (living.expired() || node->ended) return;
    ServerNode::ShardNode& shard = node->shards[index];
    Status done = Fail(ErrorCode::kResourceExhausted, "this round has failed");
    if (shard.failed_attempt != work.attempt) {
      if (shard.rows == nullptr) shard.rows = stores_[node->number][index].Open();
      done = CarryOut(*shard.rows, work);
    }
    // The moment at which a snapshot may be on the disk, and what it was made after not.
    if (done && MayLosePower() && disks_[node->number][index].HasUnsynced() && random_.Chance(0.5)) {
      node->ended = true;
      network_.Schedule({}, [this, number = node->number] { CrashServer(number); });
      return;
    }
    if (!done) {
      shard.failed_attempt = work.attempt;
      shard.rows.reset();
    }
    node->Do([this, living, node, index, done] {
      if (living.expired() || node->ended) return;
      Snapshotter& snapshotter = *node->shards[index].snapshotter;
      const SnapshotStats before = snapshotter.stats();
      snapshotter.OnDone(done, node->Now());
      if (snapshotter.stats().rounds > before.rounds) Note(Fault::kRound);
      if (snapshotter.stats().failures > before.failures) Note(Fault::kRoundFailed);
      AfterShard(*node, index);
    });
  });
}

void SimCluster::CrashServer(uint32_t number) {
  Note(Fault::kServerCrash);
  for (const ServerNode::ShardNode& shard : servers_[number]->shards) {
    if (shard.snapshotter != nullptr && shard.snapshotter->in_round()) Note(Fault::kRoundCut);
    if (shard.snapshotter != nullptr && !shard.snapshotter->in_round() && !shard.snapshotter->idle()) {
      Note(Fault::kLeavingCut);
    }
  }
  // Usually the scheduler is told by its network; not if it is a machine that died.
  const PeerId peer = ServerPeer(number, servers_[number]->incarnation);
  if (random_.Chance(0.5)) {
    network_.Schedule(Within({}, Milliseconds(5)), [this, peer] {
      if (scheduler_ != nullptr && !scheduler_->ended) scheduler_->core.OnDisconnected(peer, scheduler_->Now());
    });
  }
  servers_[number].reset();
  if (options_.job.durability == pb::JobSpec::FSYNC) {
    Note(Fault::kPowerLoss);
    for (SimDisk& disk : disks_[number]) disk.LosePower();
  }
  ++incarnations_[number];
  network_.Schedule(Within({}, Milliseconds(1500)), [this, number] { StartServer(number); });
}

bool SimCluster::FlushShard(ServerNode& server, size_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  using End = ServerNode::End;
  if (server.end != End::kNone && !options_.stores && !AllCopied()) server.end = End::kNone;  // not any more
  if (server.end != End::kBeforeCommit) SHEAF_CHECK(shard.core->Flush(server.Now(), shard.out).has_value());
  const bool ends = server.end == End::kBeforeCommit || (server.end == End::kBeforeSend && !shard.out.empty());
  if (!ends) return true;
  Note(server.end == End::kBeforeCommit ? Fault::kServerCrashUnlogged : Fault::kServerCrashUnsent);
  server.ended = true;
  network_.Schedule({}, [this, number = server.number] { CrashServer(number); });
  return false;
}

SimCluster::~SimCluster() = default;

PeerId SimCluster::ShardPeerOf(const ServerNode& server, size_t shard) const {
  return ShardPeer(server.number, static_cast<uint32_t>(shard), server.incarnation);
}

void SimCluster::StartWorker() {
  const uint32_t number = next_worker_++;
  const PeerId self(10000 + number);
  auto worker = std::make_unique<WorkerNode>(*this, self, number);
  WorkerNode* node = worker.get();
  worker->transport = network_.Start(self, "", [this, node](PeerId from, Message message) {
    std::weak_ptr<int> living = node->alive;
    node->Do([this, node, living, from, message = std::move(message)] {
      if (living.expired()) return;
      node->core->OnMessage(from, message, node->Now(), node->out);
      node->Flush();
    });
  });
  (void)worker->transport->Connect(kSchedulerPeer, kSchedulerAddress);
  workers_.push_back(std::move(worker));
}

void SimCluster::StartTool() {
  tool_ = std::make_unique<ToolNode>(*this, PeerId(20));
  ToolNode* const node = tool_.get();
  node->transport = network_.Start(node->self, "", [node](PeerId from, Message message) {
    node->Do([node, from, message = std::move(message)] {
      node->tool.OnMessage(from, message, node->Now(), node->out);
      node->Flush();
    });
  });
  (void)node->transport->Connect(kSchedulerPeer, kSchedulerAddress);
}

uint64_t SimCluster::tool_pushes() const { return tool_ == nullptr ? 0 : tool_->tool.pushes(); }

void SimCluster::Violation(const char* checker, const std::string& text) {
  if (!violation_.empty()) return;
  std::ostringstream all;
  all << checker << ": " << text << " (at " << ToSeconds(clock_.Now().time_since_epoch()) << " s)";
  violation_ = all.str();
}

// As the worker's shell does: it ends when it may, and after five seconds in any case.
bool SimCluster::KeepLeaver(WorkerNode& worker) {
  if (worker.core->may_leave()) return false;
  const TimePoint now = clock_.Now();
  if (now > std::max(*worker.leaving_since, worker.hindered_until) + std::chrono::seconds(3)) {
    Violation("leaving", worker.core->link().name() + " has not been let go for 3 s");
  }
  return now <= *worker.leaving_since + std::chrono::seconds(5);
}

void SimCluster::Tick() {
  TickScheduler();
  TickServers();
  TickWorkers();
  if (tool_ != nullptr && !tool_->stopped()) {
    tool_->Resume();
    tool_->tool.OnTick(tool_->Now(), tool_->out);
    tool_->Flush();
    if (!tool_->tool.wrong().empty()) Violation("tool", tool_->tool.wrong());
  }
  Misfortune();
  network_.Schedule(kTick, [this] { Tick(); });
}

void SimCluster::TickServers() {
  for (auto& server : servers_) {
    if (server == nullptr || server->ended || server->stopped()) continue;
    server->Resume();
    for (size_t i = 0; i < server->shards.size() && !server->ended; ++i) {
      server->shards[i].core->OnTick(server->Now());
      const ShardStats stats = server->shards[i].core->stats();
      if (stats.copies_differed > 0) Violation("copies differ", stats.differed_text);
      AfterShard(*server, i);
    }
    if (server->ended) continue;
    server->control->OnTick(server->Stats(), server->Now(), server->control_out);
    server->FlushControl();
  }
}

void SimCluster::TickWorkers() {
  for (auto it = workers_.begin(); it != workers_.end();) {
    WorkerNode& worker = **it;
    if (worker.stopped()) {
      ++it;
      continue;
    }
    worker.Resume();
    worker.core->OnTick(worker.Now(), worker.out);
    // A batch or a few in a tick: workers go at different speeds.
    // The last one is sent by the next tick, after what has come meanwhile, as in the worker's loop.
    for (uint64_t n = random_.Below(4); n > 0; --n) {
      worker.core->StartBatches(worker.Now(), worker.out);
      if (!worker.core->ComputeOne()) break;
    }
    worker.Flush();
    // One that cannot reach a server may end; whoever runs it starts another.
    const bool cut_off = worker.core->fatal() && worker.core->fatal()->code == ErrorCode::kTimeout;
    if (worker.core->fatal() && !cut_off) Violation("job", "a worker gave up: " + worker.core->fatal()->message);
    if (cut_off || (worker.leaving_since && !KeepLeaver(worker))) {
      it = workers_.erase(it);
      ReplaceWorker();
    } else {
      ++it;
    }
  }
}

const pb::JobStatus& SimCluster::JobStatusNow() {
  if (scheduler_ == nullptr || scheduler_->ended) return job_status_;
  const Job* job = scheduler_->core.FindJob(JobId(job_));
  if (job != nullptr) job_status_ = job->Describe(scheduler_->core.members(), scheduler_->Now(), true);
  return job_status_;
}

void SimCluster::Submit(uint64_t token) {
  Message message;
  pb::SubmitJob& submit = *message.header.mutable_submit();
  submit.set_token(token);
  *submit.mutable_spec() = MakeSimJob(options_.job, options_.mode, options_.staleness, options_.workers);
  scheduler_->core.OnMessage(PeerId(5), message, scheduler_->Now(), scheduler_->out);
  SHEAF_CHECK(scheduler_->keeper.Commit(scheduler_->core, scheduler_->Now()).has_value());
  scheduler_->out.clear();
}

void SimCluster::ChangeServer(pb::ChangeNode::Change change, std::optional<uint32_t> which) {
  const bool listens = scheduler_ != nullptr && !scheduler_->ended && !scheduler_->stopped() && !scheduler_->stalled;
  if (!listens) return;
  const std::vector<Node*> servers = scheduler_->core.members().Alive(pb::SERVER);
  for (size_t i = 0; i < servers.size() && !scheduler_->ended && !scheduler_->stalled; ++i) {
    if (which && *which % servers.size() != i) continue;
    Message message;
    message.header.mutable_change_node()->set_name(servers[i]->name);
    message.header.mutable_change_node()->set_change(change);
    const bool was = servers[i]->change == pb::ChangeNode::DRAIN;
    scheduler_->core.OnMessage(PeerId(5), message, scheduler_->Now(), scheduler_->out);
    if (!was && servers[i]->change == pb::ChangeNode::DRAIN) Note(Fault::kDrain);
    AfterScheduler({}, 0);
  }
}

// As a person does: again if there is no scheduler to take it.
void SimCluster::Cancel(uint64_t job) {
  if (scheduler_ == nullptr || scheduler_->ended || scheduler_->stopped() || scheduler_->stalled) {
    network_.Schedule(Milliseconds(50), [this, job] { Cancel(job); });
    return;
  }
  const Job* found = scheduler_->core.FindJob(JobId(job));
  if (found != nullptr && std::get<0>(found->state()) == pb::RUNNING) Note(Fault::kCancel);
  Message message;
  message.header.mutable_cancel()->set_job(job);
  scheduler_->core.OnMessage(PeerId(5), message, scheduler_->Now(), scheduler_->out);
  AfterScheduler({}, 0);
  if (scheduler_->ended) network_.Schedule(Milliseconds(50), [this, job] { Cancel(job); });
}

std::string SimCluster::Run() {
  if (options_.restore_from != nullptr) {
    AskForRestore();
  } else {
    Submit(1);
  }
  if (options_.cancel_after > Duration::zero()) {
    Submit(2);
    network_.Schedule(options_.cancel_after, [this] { Cancel(1); });
  }
  if (options_.deaf_for > Duration::zero()) {
    network_.Schedule(Milliseconds(500), [this] {
      const Link link{kSchedulerPeer, ServerPeer(0, incarnations_[0]), Fault::kCount, Fault::kCount};
      CutFor(link, /*whole=*/false, options_.deaf_for);
    });
  }
  network_.Schedule(kTick, [this] { Tick(); });
  const TimePoint heal_at = clock_.Now() + options_.faults_for;
  const TimePoint give_up = heal_at + options_.finish_within;
  const auto open = [this] {
    const pb::JobPhase phase = JobStatusNow().phase();
    return phase < pb::FINISHED || (phase == pb::FINISHED && tool_ != nullptr && !tool_->tool.done());
  };
  while (violation_.empty() && open()) {
    network_.RunFor(Milliseconds(100));
    if (faults_on_ && clock_.Now() >= heal_at) {
      faults_on_ = false;
      network_.HealAll();
    }
    if (clock_.Now() >= give_up) {
      std::ostringstream text;
      text << "the job did not finish after the faults ended: " << JobStatusNow().ShortDebugString();
      for (const auto& worker : workers_)
        text << "\n  " << worker->core->link().name() << ": " << worker->core->client().WaitingFor(worker->Now());
      if (tool_ != nullptr) text << "\n  tool: " << tool_->tool.WaitingFor(tool_->Now());
      for (const auto& server : servers_) {
        if (server == nullptr) continue;
        const SchedulerLink& link = server->control->link();
        if (link.fatal()) text << "\n  " << link.name() << ": " << link.fatal()->message;
        if (!link.registered()) text << "\n  server " << server->number << " is no member";
        for (const std::string& line : server->Stats().waiting) text << "\n  " << line;
      }
      Violation("liveness", text.str());
    }
  }
  if (violation_.empty()) CheckEnd();
  return violation_;
}

std::map<HashedKey, Row> SimCluster::Rows() {
  std::map<HashedKey, Row> rows;
  for (const auto& [key, values] : Read(Which::kWeights, /*of_tool=*/false)) {
    std::copy_n(values.data(), kDim, rows[key].begin());
  }
  return rows;
}

std::map<HashedKey, std::vector<float>> SimCluster::Read(Which which, bool of_tool) {
  std::map<HashedKey, std::vector<float>> rows;
  for (auto& server : servers_) {
    if (server == nullptr) continue;
    for (size_t i = 0; i < server->shards.size(); ++i) {
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        bool resume = false, done = false;
        HashedKey after = 0;
        while (!done) {
          pb::ScanRequest request;
          request.set_table(TableIn(scheduler_->core.config(), which));
          request.set_partition(p);
          request.set_epoch(scheduler_->core.config().partition(static_cast<int>(p)).epoch());
          request.set_resume(resume);
          request.set_after_key(after);
          request.set_max_rows(1000);
          const Message reply = server->shards[i].core->core().ScanNow(request);
          if (!reply.header.has_scan_reply()) break;
          const auto keys = reply.keys.As<HashedKey>();
          const auto values = reply.values.As<float>();
          const size_t dim = keys.empty() ? 0 : values.size() / keys.size();
          for (size_t k = 0; k < keys.size(); ++k) {
            if (SimTool::IsToolKey(keys[k], options_.partitions) != of_tool) continue;
            rows[keys[k]].assign(values.begin() + static_cast<ptrdiff_t>(k * dim),
                                 values.begin() + static_cast<ptrdiff_t>((k + 1) * dim));
          }
          done = reply.header.scan_reply().done() || keys.empty();
          resume = true;
          if (!keys.empty()) after = keys.back();
        }
      }
    }
  }
  return rows;
}

}  // namespace sheaf::sim
