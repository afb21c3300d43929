#include "tests/sim/sim_cluster.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "common/base/partition.h"

namespace sheaf::sim {
namespace {

constexpr Duration kTick = Milliseconds(10);
const std::string kSchedulerAddress = "sim://scheduler";

// Shards and their server share a fate; ids only have to be distinct.
PeerId ServerPeer(uint32_t server) { return PeerId(1000 + server); }
PeerId ShardPeer(uint32_t server, uint32_t shard) { return PeerId(2000 + server * 100 + shard); }
std::string ShardAddress(uint32_t server, uint32_t shard) {
  return "sim://server-" + std::to_string(server) + "/" + std::to_string(shard);
}

std::string BatchText(const BatchName& batch) {
  return "batch " + std::to_string(std::get<2>(batch)) + " of range " + std::to_string(std::get<1>(batch)) +
         " in pass " + std::to_string(std::get<0>(batch));
}

}  // namespace

// What can be stopped: whatever comes meanwhile waits until it goes on.
struct SimCluster::Process {
  explicit Process(const Clock& its_clock) : clock(its_clock) {}

  bool stopped() const { return clock.Now() < stopped_until; }
  void Do(std::function<void()> action) {
    if (stopped()) {
      postponed.push_back(std::move(action));
    } else {
      action();
    }
  }
  void Resume() {
    auto actions = std::exchange(postponed, {});
    for (auto& action : actions) Do(std::move(action));
  }

  const Clock& clock;
  TimePoint stopped_until{};
  std::vector<std::function<void()>> postponed;
};

struct SimCluster::SchedulerNode : Process {
  SchedulerNode(const Clock& clock, SchedulerOptions options) : Process(clock), core(std::move(options), clock.Now()) {}

  void Flush() {
    for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
    out.clear();
  }

  SchedulerCore core;
  Outbox out;
  std::unique_ptr<SimTransport> transport;
};

struct SimCluster::ServerNode : Process {
  using Process::Process;
  struct Shard {
    std::unique_ptr<ShardCore> core;
    Outbox out;
    std::unique_ptr<SimTransport> transport;

    void Flush() {
      for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
      out.clear();
    }
  };

  ShardStats Stats() const {
    std::vector<ShardStats> each;
    for (const Shard& shard : shards) each.push_back(shard.core->stats());
    return MergeStats(each);
  }
  void FlushControl() {
    for (auto& item : control_out.items()) (void)control_transport->Send(item.to, std::move(item.message));
    control_out.clear();
  }

  pb::ClusterConfig config;  // as its shards have it
  std::unique_ptr<ControlClient> control;
  Outbox control_out;
  std::unique_ptr<SimTransport> control_transport;
  std::vector<Shard> shards;
};

// A worker and its surroundings: rows come after a while.
struct SimCluster::WorkerNode final : Process, RangeLoader {
  WorkerNode(SimCluster& its_cluster, PeerId its_id) : Process(its_cluster.clock_), cluster(its_cluster), self(its_id) {
    WorkerOptions options;
    options.self.role = pb::WORKER;
    options.self.self = self;
    options.scheduler.deadline = std::chrono::hours(1);  // its own silence is what other checks see
    options.client = cluster.options_.client;
    options.pulls_ahead = cluster.options_.pulls_ahead;
    options.pushes_ahead = cluster.options_.pushes_ahead;
    core = std::make_unique<WorkerCore>(options, *this, [this](const pb::JobBrief& brief) {
      return Result<std::unique_ptr<TrainStep>>(
          std::make_unique<CountingStep>(brief, cluster.options_.partitions, self.value));
    });
  }

  void Flush() {
    for (const auto& [peer, address] : core->TakeConnections()) (void)transport->Connect(peer, address);
    for (auto& item : out.items()) {
      if (item.message.header.has_push()) cluster.NotePush(item.message.header.push());
      (void)transport->Send(item.to, std::move(item.message));
    }
    out.clear();
  }
  // Answers of a loader come later, and never to a worker that has died since.
  void Later(std::function<void()> action) {
    const Duration delay = Milliseconds(static_cast<int64_t>(cluster.random_.Below(20)));
    std::weak_ptr<int> living = alive;
    cluster.network_.Schedule(delay, [this, living, action = std::move(action)] {
      if (!living.expired()) Do(action);
    });
  }
  void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) override {
    Later([this, grant, spec = brief.spec()] {
      core->OnRangeReady(grant.lease(), MakeSimBatches(grant, spec, cluster.options_.partitions), 0,
                         cluster.clock_.Now(), out);
      Flush();
    });
  }
  void Weight(uint64_t, std::vector<float>) override {}
  void Forget(uint64_t) override {}
  void Plan(const pb::PlanOrder& order) override {
    Later([this, order] {
      core->OnPlan(MakeSimPlan(order.spec(), order.job()), cluster.clock_.Now(), out);
      Flush();
    });
  }

  SimCluster& cluster;
  const PeerId self;
  std::shared_ptr<int> alive = std::make_shared<int>();
  std::unique_ptr<WorkerCore> core;
  Outbox out;
  std::optional<TimePoint> leaving_since;
  TimePoint hindered_until{};  // by a cut or a pause
  std::unique_ptr<SimTransport> transport;
};

SimCluster::SimCluster(SimOptions options) : options_(options), random_(options.seed), network_(clock_, random_) {
  network_.SetFaults(options_.network);
  SchedulerOptions scheduler_options;
  scheduler_options.partition_count = options_.partitions;
  scheduler_options.report_every = Milliseconds(50);
  scheduler_options.worker_dead_after = Milliseconds(500);
  scheduler_options.server_dead_after = std::chrono::seconds(30);
  scheduler_options.job.min_servers = options_.servers;
  scheduler_options.job.settle_limit = std::chrono::seconds(20);
  scheduler_ = std::make_unique<SchedulerNode>(clock_, scheduler_options);
  scheduler_->transport = network_.Start(kSchedulerPeer, kSchedulerAddress, [this](PeerId from, Message message) {
    scheduler_->Do([this, from, message = std::move(message)] {
      scheduler_->core.OnMessage(from, message, clock_.Now(), scheduler_->out);
      AfterScheduler(from, message.header.worker_report().seen_generation());
    });
  });
  for (uint32_t s = 0; s < options_.servers; ++s) StartServer(s);
  for (uint32_t w = 0; w < options_.workers; ++w) StartWorker();
}

void SimCluster::StartServer(uint32_t number) {
  auto server = std::make_unique<ServerNode>(clock_);
  ServerNode* const node = server.get();
  MemberInfo control;
  control.role = pb::SERVER;
  control.self = ServerPeer(number);
  server->shards.resize(options_.shards);
  for (uint32_t i = 0; i < options_.shards; ++i) {
    ServerNode::Shard& shard = server->shards[i];
    const PeerId self = ShardPeer(number, i);
    shard.core = std::make_unique<ShardCore>(self, options_.shard);
    shard.transport =
        network_.Start(self, ShardAddress(number, i), [this, node, self, i](PeerId from, Message message) {
          node->Do([this, node, self, i, from, message = std::move(message)] {
            // An answer may come at once or later: look at what is answered, not at what is asked.
            const RequestName name{self, from, message.header.request()};
            if (message.header.has_pull()) pulls_[name] = message.header.pull();
            if (message.header.has_push()) pushes_[name] = message.header.push();
            ServerNode::Shard& to = node->shards[i];
            to.core->OnMessage(from, message, clock_.Now(), to.out);
            AfterShard(*node, i);
          });
        });
    pb::ShardEndpoint& endpoint = control.shards.emplace_back();
    endpoint.set_peer(self.value);
    endpoint.set_address(ShardAddress(number, i));
  }
  server->control = std::make_unique<ControlClient>(control, SchedulerLinkOptions{.deadline = std::chrono::hours(1)});
  server->control_transport = network_.Start(ServerPeer(number), "", [this, node](PeerId, Message message) {
    node->Do([this, node, message = std::move(message)] {
      node->control->OnMessage(message, clock_.Now(), node->control_out);
      if (const auto config = node->control->TakeConfig()) {
        node->config = *config;
        for (size_t i = 0; i < node->shards.size(); ++i) {
          const Status taken = node->shards[i].core->OnConfig(*config, clock_.Now(), node->shards[i].out);
          if (!taken) Violation("job", "a shard refused its configuration: " + taken.error().message);
          AfterShard(*node, i);
        }
      }
      node->control->OnTick(node->Stats(), clock_.Now(), node->control_out);
      node->FlushControl();
    });
  });
  (void)server->control_transport->Connect(kSchedulerPeer, kSchedulerAddress);
  servers_.push_back(std::move(server));
}

SimCluster::~SimCluster() = default;

PeerId SimCluster::ShardPeerOf(const ServerNode& server, size_t shard) const {
  for (uint32_t s = 0; s < servers_.size(); ++s) {
    if (servers_[s].get() == &server) return ShardPeer(s, static_cast<uint32_t>(shard));
  }
  return PeerId(0);
}

void SimCluster::StartWorker() {
  const PeerId self(10000 + next_worker_++);
  auto worker = std::make_unique<WorkerNode>(*this, self);
  WorkerNode* node = worker.get();
  worker->transport = network_.Start(self, "", [this, node](PeerId from, Message message) {
    std::weak_ptr<int> living = node->alive;
    node->Do([this, node, living, from, message = std::move(message)] {
      if (living.expired()) return;
      node->core->OnMessage(from, message, clock_.Now(), node->out);
      node->Flush();
    });
  });
  (void)worker->transport->Connect(kSchedulerPeer, kSchedulerAddress);
  workers_.push_back(std::move(worker));
}

void SimCluster::Violation(const char* checker, const std::string& text) {
  if (!violation_.empty()) return;
  std::ostringstream all;
  all << checker << ": " << text << " (at " << ToSeconds(clock_.Now().time_since_epoch()) << " s)";
  violation_ = all.str();
}

// ---- checks at every message

void SimCluster::NotePush(const pb::PushRequest& push) {
  const pb::Progress& progress = push.progress();
  if (progress.job() != job_) return;
  const ClockName clock{progress.pass(), progress.lane(), progress.clock()};
  const BatchName batch{progress.pass(), static_cast<uint32_t>(push.stream_low()), static_cast<uint32_t>(push.seq())};
  batches_of_clock_[clock].insert(batch);
  if (Bsp() && clock_of_batch_.try_emplace(batch, clock).first->second != clock) {
    Violation("clocks", BatchText(batch) + " was computed at two clocks, the second is " +
                            std::to_string(progress.clock()) + " of lane " + std::to_string(progress.lane()));
  }
}

// Called after every event of the scheduler, before what it says leaves.
void SimCluster::AfterScheduler(PeerId from, uint64_t seen_generation) {
  const pb::ClusterConfig& config = scheduler_->core.config();
  generation_before_event_ = lanes_of_generation_;
  if (config.generation() > lanes_of_generation_) {
    lanes_of_generation_ = config.generation();
    for (const pb::Roster& roster : config.roster()) {
      for (const pb::Lane& lane : roster.lane())
        lanes_[{config.generation(), roster.job(), roster.pass(), lane.lane()}] = lane.start_clock();
    }
  }
  for (const auto& item : scheduler_->out.items()) {
    const pb::Header& header = item.message.header;
    if (header.has_worker_orders() && item.to == from) CheckGrants(header.worker_orders(), seen_generation);
  }
  scheduler_->Flush();
}

void SimCluster::CheckGrants(const pb::WorkerOrders& orders, uint64_t seen_generation) {
  pb::ConfigUpdate update;
  SHEAF_CHECK(update.ParseFromString(orders.config_update()));
  const uint64_t generation = orders.has_config_update() ? update.config().generation() : seen_generation;
  // Two configurations can come of one event: what was in the first is not known here.
  if (generation > generation_before_event_ && generation < lanes_of_generation_) return;
  for (const pb::LeaseGrant& grant : orders.lease()) {
    if (grant.kind() != pb::TRAIN) continue;
    const auto lane = lanes_.find({generation, grant.job(), grant.pass(), grant.lane()});
    if (lane == lanes_.end() || lane->second != grant.lane_start()) {
      Violation("grant", "lease " + std::to_string(grant.lease()) + " is of lane " + std::to_string(grant.lane()) +
                             ", which is not in configuration " + std::to_string(generation));
    }
  }
}

// Called after every event of a shard, before its answers leave.
void SimCluster::AfterShard(ServerNode& server, size_t index) {
  ServerNode::Shard& shard = server.shards[index];
  for (const auto& item : shard.out.items()) {
    const pb::Header& header = item.message.header;
    const RequestName name{ShardPeerOf(server, index), item.to, header.request()};
    if (header.has_pull_reply()) {
      const auto pull = pulls_.extract(name);
      if (pull && pull.mapped().has_progress()) CheckPull(server, index, pull.mapped());
    } else if (header.has_push_reply() && !header.push_reply().staged()) {
      const auto push = pushes_.extract(name);
      if (push && !Bsp()) CheckPushed(server, index, push.mapped());
    }
  }
  shard.Flush();
}

uint32_t SimCluster::TableIn(const pb::ClusterConfig& config) const {
  const auto table = std::find_if(config.table().begin(), config.table().end(),
                                  [this](const pb::TableSpec& each) { return each.job() == job_; });
  return table == config.table().end() ? 0 : table->id();
}

// Absent rows are 0.
float SimCluster::OwnRow(ServerNode& server, size_t index, BatchName batch, PartitionId partition) {
  const HashedKey key = OwnKey(batch, partition, options_.partitions);
  Message scan;
  scan.header.set_request(1);
  pb::ScanRequest& request = *scan.header.mutable_scan();
  request.set_table(TableIn(server.config));
  request.set_partition(partition.value);
  request.set_epoch(server.config.partition(static_cast<int>(partition.value)).epoch());
  request.set_resume(true);
  request.set_after_key(key - 1);
  request.set_max_rows(1);
  Outbox out;
  server.shards[index].core->OnMessage(PeerId(1), std::move(scan), clock_.Now(), out);
  const Message& reply = out.items().front().message;
  if (!reply.header.has_scan_reply() || reply.header.scan_reply().row_count() == 0) return 0;
  return reply.keys.As<HashedKey>()[0] == key ? reply.values.As<float>()[0] : 0;
}

void SimCluster::CheckPushed(ServerNode& server, size_t index, const pb::PushRequest& push) {
  if (push.progress().job() != job_) return;
  const BatchName batch{push.progress().pass(), static_cast<uint32_t>(push.stream_low()),
                        static_cast<uint32_t>(push.seq())};
  for (const uint32_t partition : push.partition()) {
    const int times = TimesOf(OwnRow(server, index, batch, PartitionId(partition)));
    if (times == 1) continue;
    Violation("acknowledgement", "a push of " + BatchText(batch) + " was acknowledged, and is applied " +
                                     std::to_string(times) + " times in partition " + std::to_string(partition));
  }
}

// By the roster that the shard itself has: it cannot wait for a lane that it has not heard of.
void SimCluster::CheckPull(ServerNode& server, size_t index, const pb::PullRequest& pull) {
  const pb::Progress& at = pull.progress();
  const pb::Roster* roster = nullptr;
  for (const pb::Roster& each : server.config.roster()) {
    if (each.job() == at.job() && each.pass() == at.pass()) roster = &each;
  }
  if (at.job() != job_ || roster == nullptr || options_.mode == pb::ConsistencySpec::ASP) return;
  const uint64_t staleness = Bsp() ? 0 : roster->staleness();
  if (at.clock() < staleness + 1) return;
  const uint64_t must = at.clock() - staleness - 1;
  for (const pb::Lane& lane : roster->lane()) {
    if (must < lane.start_clock() || must >= lane.end_clock()) continue;
    const std::set<BatchName>& batches = batches_of_clock_[{at.pass(), lane.lane(), must}];
    for (const uint32_t partition : pull.partition()) {
      ++checks_;
      const bool applied = std::any_of(batches.begin(), batches.end(), [&](const BatchName& batch) {
        return OwnRow(server, index, batch, PartitionId(partition)) > 0;
      });
      if (applied) continue;
      Violation("staleness", "a pull at clock " + std::to_string(at.clock()) + " of lane " + std::to_string(at.lane()) +
                                 " was answered without clock " + std::to_string(must) + " of lane " +
                                 std::to_string(lane.lane()) + " in partition " + std::to_string(partition));
    }
  }
}

// ---- misfortune

void SimCluster::Stop(Process& process, Duration at_most) {
  process.stopped_until =
      clock_.Now() + Duration(static_cast<int64_t>(random_.Below(static_cast<uint64_t>(at_most.count()))));
}

// One way only: one side goes on as if nothing had happened.
void SimCluster::Cut(WorkerNode& worker) {
  ++faults_.cuts;
  const bool to_worker = random_.Chance(0.5);
  const PeerId other = random_.Chance(0.5) ? kSchedulerPeer
                                           : ShardPeer(static_cast<uint32_t>(random_.Below(options_.servers)),
                                                       static_cast<uint32_t>(random_.Below(options_.shards)));
  const PeerId from = to_worker ? other : worker.self, to = to_worker ? worker.self : other;
  const Duration length = Milliseconds(static_cast<int64_t>(random_.Below(2000)));
  network_.Cut(from, to);
  network_.Schedule(length, [this, from, to] { network_.Heal(from, to); });
  worker.hindered_until = std::max(worker.hindered_until, clock_.Now() + length);
}

void SimCluster::ReplaceWorker() {
  // Without replacement the others take over what it held; a job that has not begun waits for as many workers as it asks for.
  const Job* const job = scheduler_->core.FindJob(JobId(job_));
  const bool begun = job != nullptr && job->Describe(scheduler_->core.members(), clock_.Now(), false).phase() >= pb::RUNNING;
  if (!options_.replace && begun && !workers_.empty()) return;
  network_.Schedule(Milliseconds(static_cast<int64_t>(random_.Below(1500))), [this] {
    ++faults_.joins;
    StartWorker();
  });
}

void SimCluster::Misfortune() {
  if (!faults_on_) return;
  const double per_tick = ToSeconds(kTick);
  for (auto it = workers_.begin(); it != workers_.end();) {
    WorkerNode& worker = **it;
    if (random_.Chance(options_.crashes * per_tick)) {
      ++faults_.crashes;
      it = workers_.erase(it);
      ReplaceWorker();
      continue;
    }
    if (!worker.stopped() && random_.Chance(options_.pauses * per_tick)) {
      ++faults_.pauses;
      Stop(worker, Milliseconds(2000));
      worker.hindered_until = std::max(worker.hindered_until, worker.stopped_until);
    }
    if (!worker.stopped() && !worker.leaving_since && random_.Chance(options_.leaves * per_tick)) {
      ++faults_.leaves;
      worker.leaving_since = clock_.Now();
      worker.core->Leave(clock_.Now(), worker.out);
      worker.Flush();
    }
    if (random_.Chance(options_.cuts * per_tick)) Cut(worker);
    ++it;
  }
  if (workers_.size() < options_.workers_at_most && random_.Chance(options_.joins * per_tick)) {
    ++faults_.joins;
    StartWorker();
  }
  MisfortuneOfServers();
}

void SimCluster::MisfortuneOfServers() {
  if (!random_.Chance(options_.server_pauses * ToSeconds(kTick))) return;
  ++faults_.server_pauses;
  const uint64_t which = random_.Below(servers_.size() + 1);
  if (which < servers_.size()) {
    Stop(*servers_[which], Milliseconds(1500));
    return;
  }
  Stop(*scheduler_, Milliseconds(400));
  for (auto& worker : workers_) worker->hindered_until = std::max(worker->hindered_until, scheduler_->stopped_until);
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
  const TimePoint now = clock_.Now();
  if (!scheduler_->stopped()) {
    scheduler_->Resume();
    scheduler_->core.OnTick(now, scheduler_->out);
    AfterScheduler({}, 0);
  }
  for (auto& server : servers_) {
    if (server->stopped()) continue;
    server->Resume();
    for (size_t i = 0; i < server->shards.size(); ++i) {
      server->shards[i].core->OnTick(now, server->shards[i].out);
      AfterShard(*server, i);
    }
    server->control->OnTick(server->Stats(), now, server->control_out);
    server->FlushControl();
  }
  for (auto it = workers_.begin(); it != workers_.end();) {
    WorkerNode& worker = **it;
    if (worker.stopped()) {
      ++it;
      continue;
    }
    worker.Resume();
    worker.core->OnTick(now, worker.out);
    // A batch or a few in a tick: workers go at different speeds.
    for (uint64_t n = random_.Below(4); n > 0 && worker.core->ComputeOne(now, worker.out); --n) {}
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
  Misfortune();
  network_.Schedule(kTick, [this] { Tick(); });
}

pb::JobStatus SimCluster::JobStatusNow() const {
  const Job* job = scheduler_->core.FindJob(JobId(job_));
  return job == nullptr ? pb::JobStatus() : job->Describe(scheduler_->core.members(), clock_.Now(), true);
}

void SimCluster::Submit(uint64_t token) {
  Message message;
  pb::SubmitJob& submit = *message.header.mutable_submit();
  submit.set_token(token);
  *submit.mutable_spec() = MakeSimJob(options_.job, options_.mode, options_.staleness, options_.workers);
  scheduler_->core.OnMessage(PeerId(5), message, clock_.Now(), scheduler_->out);
  scheduler_->out.clear();
}

void SimCluster::Cancel(uint64_t job) {
  const Job* found = scheduler_->core.FindJob(JobId(job));
  faults_.cancels +=
      found != nullptr && found->Describe(scheduler_->core.members(), clock_.Now(), false).phase() == pb::RUNNING;
  Message message;
  message.header.mutable_cancel()->set_job(job);
  scheduler_->core.OnMessage(PeerId(5), message, clock_.Now(), scheduler_->out);
  AfterScheduler({}, 0);
}

std::string SimCluster::Run() {
  Submit(1);
  if (options_.cancel_after > Duration::zero()) {
    Submit(2);
    job_ = 2;
    network_.Schedule(options_.cancel_after, [this] { scheduler_->Do([this] { Cancel(1); }); });
  }
  network_.Schedule(kTick, [this] { Tick(); });
  const TimePoint heal_at = clock_.Now() + options_.faults_for;
  const TimePoint give_up = heal_at + options_.finish_within;
  while (violation_.empty() && JobStatusNow().phase() < pb::FINISHED) {
    network_.RunFor(Milliseconds(100));
    if (faults_on_ && clock_.Now() >= heal_at) {
      faults_on_ = false;
      network_.HealAll();
    }
    if (clock_.Now() >= give_up) {
      std::ostringstream text;
      text << "the job did not finish after the faults ended: " << JobStatusNow().ShortDebugString();
      for (const auto& worker : workers_)
        text << "\n  " << worker->core->link().name() << ": " << worker->core->client().WaitingFor(clock_.Now());
      for (const auto& server : servers_) {
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
  for (auto& server : servers_) {
    for (size_t i = 0; i < server->shards.size(); ++i) {
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        bool resume = false, done = false;
        HashedKey after = 0;
        while (!done) {
          Message scan;
          pb::ScanRequest& request = *scan.header.mutable_scan();
          request.set_table(TableIn(scheduler_->core.config()));
          request.set_partition(p);
          request.set_epoch(scheduler_->core.config().partition(static_cast<int>(p)).epoch());
          request.set_resume(resume);
          request.set_after_key(after);
          request.set_max_rows(1000);
          Outbox out;
          server->shards[i].core->OnMessage(PeerId(1), std::move(scan), clock_.Now(), out);
          const Message& reply = out.items().front().message;
          if (!reply.header.has_scan_reply()) break;
          const auto keys = reply.keys.As<HashedKey>();
          const auto values = reply.values.As<float>();
          for (size_t k = 0; k < keys.size(); ++k) std::copy_n(values.data() + k * kDim, kDim, rows[keys[k]].begin());
          done = reply.header.scan_reply().done() || keys.empty();
          resume = true;
          if (!keys.empty()) after = keys.back();
        }
      }
    }
  }
  return rows;
}

// ---- checks at the end

void SimCluster::CheckEnd() {
  const pb::JobStatus status = JobStatusNow();
  if (status.phase() != pb::FINISHED) return Violation("job", "it ended as " + status.ShortDebugString());
  const uint64_t examples = static_cast<uint64_t>(options_.job.rows) * options_.job.epochs;
  if (status.examples_total() != examples) {
    Violation("accounting", std::to_string(status.examples_total()) + " examples were counted, " +
                                std::to_string(examples) + " are there");
  }
  for (const double loss : status.epoch_train_loss()) {
    if (loss != 1) Violation("accounting", "the mean loss is " + std::to_string(loss) + ", of losses that are all 1");
  }
  for (const pb::EvalResult& result : status.eval()) {
    if (result.examples() != options_.job.valid_rows) {
      Violation("accounting", std::to_string(result.examples()) + " rows were evaluated, " +
                                  std::to_string(options_.job.valid_rows) + " are there");
    }
  }
  CheckRows();
  // What is still under way comes to its end: then shards hold nothing for anybody.
  faults_on_ = false;
  network_.HealAll();
  network_.RunFor(std::chrono::seconds(2));
  for (const auto& server : servers_) {
    const ShardStats stats = server->Stats();
    if (stats.parked_pulls + stats.staged_pushes + stats.request_bytes > 0) {
      Violation("leftovers", std::to_string(stats.parked_pulls) + " parked pulls, " +
                                 std::to_string(stats.staged_pushes) + " staged pushes, " +
                                 std::to_string(stats.request_bytes) + " bytes of a shard's budget");
    }
  }
}

void SimCluster::CheckRows() {
  const std::map<HashedKey, Row> rows = Rows();
  const uint32_t batch_rows = options_.job.batch_size, range_rows = batch_rows * options_.job.range_batches;
  const uint32_t passes_an_epoch = options_.job.valid_rows > 0 ? 2 : 1;
  std::vector<uint32_t> lane_clocks(options_.workers);  // BSP: range r belongs to lane r mod L
  for (uint32_t first = 0; first < options_.job.rows; first += batch_rows)
    ++lane_clocks[first / range_rows % options_.workers];
  std::map<std::pair<BatchName, PeerId>, float> stamps;
  size_t own_rows = 0;
  for (uint32_t epoch = 0; epoch < options_.job.epochs; ++epoch) {
    for (uint32_t first = 0; first < options_.job.rows; first += batch_rows) {
      const BatchName name{epoch * passes_an_epoch, first / range_rows, first % range_rows / batch_rows};
      const uint64_t clock = std::get<2>(clock_of_batch_[name]);
      const auto lanes =
          std::count_if(lane_clocks.begin(), lane_clocks.end(), [clock](uint32_t end) { return clock < end; });
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        ++own_rows;
        const auto row = rows.find(OwnKey(name, PartitionId(p), options_.partitions));
        const Row values = row == rows.end() ? Row{} : row->second;
        const float value = values[0];
        if (Bsp() ? std::abs(value * static_cast<float>(lanes) - 1) > 1e-5F : TimesOf(value) != 1) {
          Violation("exactly-once",
                    BatchText(name) + " came to " + std::to_string(value) + " in partition " + std::to_string(p) +
                        (Bsp() ? ", not to one of " + std::to_string(lanes) + " lanes" : ", not to once"));
        }
        const uint32_t server =
            static_cast<uint32_t>(scheduler_->core.config().partition(static_cast<int>(p)).primary());
        const auto stamp = stamps.try_emplace({name, ShardPeer(server, p % options_.shards)}, value).first;
        if (stamp->second != value || std::count(values.begin(), values.end(), value) != kDim)
          Violation("one attempt", BatchText(name) + " was put together from two computations");
      }
    }
  }
  if (rows.size() > own_rows + kHotRows) Violation("exactly-once", "there are rows that no batch made");
}

}  // namespace sheaf::sim
