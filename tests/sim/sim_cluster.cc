#include "tests/sim/sim_cluster.h"

#include <algorithm>
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

}  // namespace

struct SimCluster::SchedulerNode {
  SchedulerNode(SchedulerOptions options, TimePoint now) : core(std::move(options), now) {}

  void Flush() {
    for (auto& item : out.items()) (void)transport->Send(item.to, std::move(item.message));
    out.clear();
  }

  SchedulerCore core;
  Outbox out;
  std::unique_ptr<SimTransport> transport;
};

struct SimCluster::ServerNode {
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

  std::unique_ptr<ControlClient> control;
  Outbox control_out;
  std::unique_ptr<SimTransport> control_transport;
  std::vector<Shard> shards;
};

// A worker and its surroundings: rows come after a while, and a stopped one lets everything wait.
struct SimCluster::WorkerNode final : public RangeLoader {
  WorkerNode(SimCluster& cluster, PeerId self)
      : cluster(cluster), self(self) {
    WorkerOptions options;
    options.self.role = pb::WORKER;
    options.self.self = self;
    options.client.deadline = std::chrono::seconds(20);
    options.client.first_retry = Milliseconds(50);
    options.client.longest_retry = Milliseconds(500);
    const uint32_t lanes = cluster.options_.workers;
    const bool bsp = cluster.options_.mode == pb::ConsistencySpec::BSP;
    core = std::make_unique<WorkerCore>(options, *this, [lanes, bsp](const pb::JobBrief& brief) {
      return Result<std::unique_ptr<TrainStep>>(
          std::make_unique<CountingStep>(brief, bsp ? static_cast<float>(lanes) : 1.0F));
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
  // Runs now, or when the worker is no longer stopped.
  void Do(std::function<void()> action) {
    if (cluster.clock_.Now() < stopped_until) {
      postponed.push_back(std::move(action));
    } else {
      action();
    }
  }
  void Resume() {
    auto actions = std::exchange(postponed, {});
    for (auto& action : actions) Do(std::move(action));
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
  TimePoint stopped_until{};
  std::vector<std::function<void()>> postponed;
  std::unique_ptr<SimTransport> transport;
};

SimCluster::SimCluster(SimOptions options)
    : options_(options), random_(options.seed), network_(clock_, random_) {
  LinkFaults faults;
  faults.max_delay = options_.max_delay;
  faults.loss = options_.loss;
  faults.duplicate = options_.duplicate;
  faults.reorder = options_.reorder;
  network_.SetFaults(faults);

  SchedulerOptions scheduler_options;
  scheduler_options.partition_count = options_.partitions;
  scheduler_options.report_every = Milliseconds(50);
  scheduler_options.worker_dead_after = Milliseconds(500);
  scheduler_options.server_dead_after = std::chrono::seconds(30);
  scheduler_options.job.min_servers = options_.servers;
  scheduler_options.job.settle_limit = std::chrono::seconds(60);
  scheduler_ = std::make_unique<SchedulerNode>(scheduler_options, clock_.Now());
  scheduler_->transport = network_.Start(kSchedulerPeer, kSchedulerAddress, [this](PeerId from, Message message) {
    scheduler_->core.OnMessage(from, message, clock_.Now(), scheduler_->out);
    scheduler_->Flush();
  });

  for (uint32_t s = 0; s < options_.servers; ++s) {
    auto server = std::make_unique<ServerNode>();
    ServerNode* node = server.get();
    MemberInfo control;
    control.role = pb::SERVER;
    control.self = ServerPeer(s);
    server->shards.resize(options_.shards);
    for (uint32_t i = 0; i < options_.shards; ++i) {
      ServerNode::Shard& shard = server->shards[i];
      shard.core = std::make_unique<ShardCore>(ShardPeer(s, i), ShardOptions{});
      shard.transport = network_.Start(ShardPeer(s, i), ShardAddress(s, i), [this, node, i](PeerId from, Message message) {
        ServerNode::Shard& to = node->shards[i];
        // A pull's answer may come at once or when it is no longer parked: look at what is answered, not at what is asked.
        if (message.header.has_pull()) pulls_[{ShardPeerOf(*node, i), from, message.header.request()}] = message.header.pull();
        to.core->OnMessage(from, std::move(message), clock_.Now(), to.out);
        AfterShard(*node, i);
      });
      pb::ShardEndpoint& endpoint = control.shards.emplace_back();
      endpoint.set_peer(ShardPeer(s, i).value);
      endpoint.set_address(ShardAddress(s, i));
    }
    server->control = std::make_unique<ControlClient>(control, SchedulerLinkOptions{});
    server->control_transport = network_.Start(ServerPeer(s), "", [this, node](PeerId, Message message) {
      node->control->OnMessage(message, clock_.Now(), node->control_out);
      if (const auto config = node->control->TakeConfig()) {
        for (size_t i = 0; i < node->shards.size(); ++i) {
          const Status taken = node->shards[i].core->OnConfig(*config, clock_.Now(), node->shards[i].out);
          if (!taken) Violation("a shard refused its configuration: " + taken.error().message);
          AfterShard(*node, i);
        }
      }
      node->control->OnTick(node->Stats(), clock_.Now(), node->control_out);
      node->FlushControl();
    });
    (void)server->control_transport->Connect(kSchedulerPeer, kSchedulerAddress);
    servers_.push_back(std::move(server));
  }
  for (uint32_t w = 0; w < options_.workers; ++w) StartWorker();
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

void SimCluster::Violation(std::string text) {
  if (violation_.empty()) violation_ = "at " + std::to_string(ToSeconds(clock_.Now().time_since_epoch())) + " s: " + text;
}

void SimCluster::NotePush(const pb::PushRequest& push) {
  const pb::Progress& progress = push.progress();
  batch_of_clock_[{progress.pass(), progress.lane(), progress.clock()}] = {
      progress.pass(), static_cast<uint32_t>(push.stream_low()), static_cast<uint32_t>(push.seq())};
}

// Called after every event of a shard, before its answers leave: what a pull is about to be told must keep the bound.
void SimCluster::AfterShard(ServerNode& server, size_t index) {
  ServerNode::Shard& shard = server.shards[index];
  for (const auto& item : shard.out.items()) {
    if (!item.message.header.has_pull_reply()) continue;
    const auto pull = pulls_.find({ShardPeerOf(server, index), item.to, item.message.header.request()});
    if (pull == pulls_.end()) continue;
    if (pull->second.has_progress()) CheckPull(server, index, pull->second);
    pulls_.erase(pull);
  }
  shard.Flush();
}

// The value of the row that one batch alone adds to, in one partition: how often its push was applied there.
float SimCluster::TimesApplied(ServerNode& server, size_t index, BatchName batch, PartitionId partition) {
  const HashedKey key = OwnKey(batch, partition, options_.partitions);
  Message scan;
  scan.header.set_request(1);
  pb::ScanRequest& request = *scan.header.mutable_scan();
  request.set_table(table_);
  request.set_partition(partition.value);
  request.set_epoch(scheduler_->core.config().partition(static_cast<int>(partition.value)).epoch());
  request.set_resume(true);
  request.set_after_key(key - 1);
  request.set_max_rows(1);
  Outbox out;
  server.shards[index].core->OnMessage(PeerId(1), std::move(scan), clock_.Now(), out);
  const Message& reply = out.items().front().message;
  if (!reply.header.has_scan_reply() || reply.header.scan_reply().row_count() == 0) return 0;
  return reply.keys.As<HashedKey>()[0] == key ? reply.values.As<float>()[0] : 0;
}

void SimCluster::CheckPull(ServerNode& server, size_t index, const pb::PullRequest& pull) {
  const pb::Progress& at = pull.progress();
  const pb::Roster* roster = nullptr;
  for (const pb::Roster& each : scheduler_->core.config().roster()) {
    if (each.job() == at.job() && each.pass() == at.pass()) roster = &each;
  }
  if (roster == nullptr || options_.mode == pb::ConsistencySpec::ASP) return;
  table_ = scheduler_->core.config().table(0).id();
  const uint64_t staleness = options_.mode == pb::ConsistencySpec::BSP ? 0 : roster->staleness();
  if (at.clock() < staleness + 1) return;
  const uint64_t must = at.clock() - staleness - 1;
  for (const pb::Lane& lane : roster->lane()) {
    if (must < lane.start_clock() || must >= lane.end_clock()) continue;
    const auto batch = batch_of_clock_.find({at.pass(), lane.lane(), must});
    if (batch == batch_of_clock_.end()) {
      // A dynamic lane joins at its first request; until then nobody waits for it.
      if (options_.mode == pb::ConsistencySpec::BSP) {
        Violation("a pull at clock " + std::to_string(at.clock()) + " was answered before lane " +
                  std::to_string(lane.lane()) + " computed clock " + std::to_string(must));
      }
      continue;
    }
    for (uint32_t partition : pull.partition()) {
      ++checks_;
      if (TimesApplied(server, index, batch->second, PartitionId(partition)) < 0.5F) {
        Violation("a pull at clock " + std::to_string(at.clock()) + " of lane " + std::to_string(at.lane()) +
                  " was answered without clock " + std::to_string(must) + " of lane " + std::to_string(lane.lane()) +
                  " in partition " + std::to_string(partition));
      }
    }
  }
}

void SimCluster::Misfortune() {
  if (!faults_on_) return;
  const double per_tick = ToSeconds(kTick);
  for (auto it = workers_.begin(); it != workers_.end();) {
    WorkerNode& worker = **it;
    if (random_.Chance(options_.crashes * per_tick)) {
      ++faults_.crashes;
      it = workers_.erase(it);
      network_.Schedule(Milliseconds(static_cast<int64_t>(random_.Below(1500))), [this] {
        ++faults_.restarts;
        StartWorker();
      });
      continue;
    }
    if (clock_.Now() >= worker.stopped_until && random_.Chance(options_.pauses * per_tick)) {
      ++faults_.pauses;
      worker.stopped_until = clock_.Now() + Milliseconds(static_cast<int64_t>(random_.Below(2000)));
    }
    if (random_.Chance(options_.cuts * per_tick)) {
      ++faults_.cuts;
      // One way only: one side goes on as if nothing had happened.
      const bool to_worker = random_.Chance(0.5);
      const PeerId other = random_.Chance(0.5) ? kSchedulerPeer
                                               : ShardPeer(static_cast<uint32_t>(random_.Below(options_.servers)),
                                                           static_cast<uint32_t>(random_.Below(options_.shards)));
      const PeerId from = to_worker ? other : worker.self, to = to_worker ? worker.self : other;
      network_.Cut(from, to);
      network_.Schedule(Milliseconds(static_cast<int64_t>(random_.Below(2000))), [this, from, to] { network_.Heal(from, to); });
    }
    ++it;
  }
}

void SimCluster::Tick() {
  const TimePoint now = clock_.Now();
  scheduler_->core.OnTick(now, scheduler_->out);
  scheduler_->Flush();
  for (auto& server : servers_) {
    for (size_t i = 0; i < server->shards.size(); ++i) {
      server->shards[i].core->OnTick(now, server->shards[i].out);
      AfterShard(*server, i);
    }
    server->control->OnTick(server->Stats(), now, server->control_out);
    server->FlushControl();
  }
  for (auto& worker : workers_) {
    if (now < worker->stopped_until) continue;
    if (!worker->postponed.empty()) worker->Resume();
    worker->core->OnTick(now, worker->out);
    // A batch or a few in a tick: workers go at different speeds.
    for (uint64_t n = random_.Below(4); n > 0 && worker->core->ComputeOne(now, worker->out); --n) {
    }
    worker->Flush();
  }
  Misfortune();
  network_.Schedule(kTick, [this] { Tick(); });
}

pb::JobStatus SimCluster::JobStatusNow() const {
  const Job* job = scheduler_->core.FindJob(JobId(1));
  return job == nullptr ? pb::JobStatus() : job->Describe(scheduler_->core.members(), clock_.Now(), true);
}

std::string SimCluster::Run() {
  Message submit;
  *submit.header.mutable_submit()->mutable_spec() =
      MakeSimJob(options_.job, options_.mode, options_.staleness, options_.workers);
  scheduler_->core.OnMessage(PeerId(5), submit, clock_.Now(), scheduler_->out);
  scheduler_->out.clear();
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
      for (const auto& worker : workers_) text << "\n  " << worker->core->link().name() << ": " << worker->core->client().WaitingFor(clock_.Now());
      for (const auto& server : servers_) {
        for (const std::string& line : server->Stats().waiting) text << "\n  " << line;
      }
      Violation(text.str());
    }
  }
  if (violation_.empty()) CheckEnd();
  return violation_;
}

std::map<HashedKey, float> SimCluster::Rows() {
  std::map<HashedKey, float> rows;
  for (auto& server : servers_) {
    for (size_t i = 0; i < server->shards.size(); ++i) {
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        bool resume = false, done = false;
        HashedKey after = 0;
        while (!done) {
          Message scan;
          pb::ScanRequest& request = *scan.header.mutable_scan();
          request.set_table(table_);
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
          for (size_t k = 0; k < keys.size(); ++k) rows[keys[k]] = values[k];
          done = reply.header.scan_reply().done() || keys.empty();
          resume = true;
          if (!keys.empty()) after = keys.back();
        }
      }
    }
  }
  return rows;
}

void SimCluster::CheckEnd() {
  const pb::JobStatus status = JobStatusNow();
  if (status.phase() != pb::FINISHED) return Violation("the job ended as " + status.ShortDebugString());
  const uint64_t examples = static_cast<uint64_t>(options_.job.rows) * options_.job.epochs;
  if (status.examples_total() != examples) {
    Violation(std::to_string(status.examples_total()) + " examples were counted, " + std::to_string(examples) + " are there");
  }
  table_ = scheduler_->core.config().table(0).id();
  const std::map<HashedKey, float> rows = Rows();
  const uint32_t batch_rows = options_.job.batch_size, range_rows = batch_rows * options_.job.range_batches;
  size_t own_rows = 0;
  for (uint32_t pass = 0; pass < options_.job.epochs; ++pass) {
    for (uint32_t first = 0; first < options_.job.rows; first += batch_rows) {
      const BatchName name{pass, first / range_rows, first % range_rows / batch_rows};
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        ++own_rows;
        const auto row = rows.find(OwnKey(name, PartitionId(p), options_.partitions));
        const float times = row == rows.end() ? 0 : row->second;
        if (times != 1.0F) {
          Violation("batch (" + std::to_string(pass) + ", " + std::to_string(std::get<1>(name)) + ", " +
                    std::to_string(std::get<2>(name)) + ") was applied " + std::to_string(times) +
                    " times in partition " + std::to_string(p));
        }
      }
    }
  }
  if (rows.size() > own_rows + 4) Violation("there are rows that no batch made");
}

}  // namespace sheaf::sim
