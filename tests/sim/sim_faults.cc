// What goes wrong in a run, and when.
#include <algorithm>
#include <set>

#include "tests/sim/sim_nodes.h"

namespace sheaf::sim {

const char* FaultName(Fault fault) {
  switch (fault) {
    case Fault::kCrash:
      return "workers crashed";
    case Fault::kGhost:
      return "last messages of a worker that came again after its replacement had registered";
    case Fault::kLeave:
      return "workers left";
    case Fault::kJoin:
      return "workers joined in mid-run";
    case Fault::kPause:
      return "workers and tools stopped";
    case Fault::kServerPause:
      return "servers or schedulers stopped";
    case Fault::kServerCrash:
      return "servers crashed and started again from their disks";
    case Fault::kServerCrashUnlogged:
      return "servers crashed before they wrote down what they had taken";
    case Fault::kServerCrashUnsent:
      return "servers crashed before they answered what they had written down";
    case Fault::kPowerLoss:
      return "servers that lost their power";
    case Fault::kTakeOver:
      return "partitions taken over by a backup";
    case Fault::kDrain:
      return "servers that were to be drained";
    case Fault::kHandOver:
      return "partitions handed over as planned";
    case Fault::kHandOverCut:
      return "partitions whose handing over was cut short";
    case Fault::kRound:
      return "rounds of snapshots completed";
    case Fault::kRoundCut:
      return "rounds of snapshots cut short by the end of their process";
    case Fault::kRoundFailed:
      return "rounds of snapshots that failed on a full disk";
    case Fault::kEvicted:
      return "rows that left memory";
    case Fault::kLeavingCut:
      return "processes that ended while rows were leaving memory";
    case Fault::kRowsAhead:
      return "shards that came back with rows later than their images";
    case Fault::kColdRead:
      return "reads of rows that had left memory";
    case Fault::kImageLoaded:
      return "shards that came back from images";
    case Fault::kSnapshotLost:
      return "stores that lost snapshots which were not flushed";
    case Fault::kStoreAhead:
      return "stores whose snapshots were later than what was left of the log";
    case Fault::kDiskFull:
      return "disks that were full for a while";
    case Fault::kSchedulerCrash:
      return "schedulers crashed and started again from their store";
    case Fault::kSchedulerCrashUnsaved:
      return "schedulers crashed before they saved what they had taken";
    case Fault::kSchedulerCrashUnsent:
      return "schedulers crashed before they sent what they had saved";
    case Fault::kStoreFull:
      return "schedulers whose store was full for a while";
    case Fault::kCutWorkerSchedulerOneWay:
      return "links of worker and scheduler cut one way";
    case Fault::kCutWorkerScheduler:
      return "links of worker and scheduler cut both ways";
    case Fault::kCutWorkerShardOneWay:
      return "links of worker and shard cut one way";
    case Fault::kCutWorkerShard:
      return "links of worker and shard cut both ways";
    case Fault::kCutServerSchedulerOneWay:
      return "links of server and scheduler cut one way";
    case Fault::kCutServerScheduler:
      return "links of server and scheduler cut both ways";
    case Fault::kCutShardsOneWay:
      return "links of two servers' shards cut one way";
    case Fault::kCutShards:
      return "links of two servers' shards cut both ways";
    case Fault::kCutToolOneWay:
      return "links of a tool cut one way";
    case Fault::kCutTool:
      return "links of a tool cut both ways";
    case Fault::kFlap:
      return "links cut and healed again and again";
    case Fault::kSlow:
      return "links slowed to 50-500 ms, one way";
    case Fault::kSkew:
      return "processes with a clock of their own";
    case Fault::kCancel:
      return "jobs cancelled at work, with another behind";
    case Fault::kCheckpoint:
      return "checkpoints committed";
    case Fault::kCheckpointBuilt:
      return "partitions in checkpoints that build upon others";
    case Fault::kCheckpointAborted:
      return "checkpoints aborted";
    case Fault::kCheckpointRestored:
      return "jobs that went on from a checkpoint in another cluster";
    case Fault::kFilesFull:
      return "times that the folder of checkpoints was full";
    case Fault::kCount:
      break;
  }
  return "?";
}

// ---- clocks

SimCluster::Process::Process(SimCluster& cluster) : clock(cluster.clock_) {
  if (!cluster.options_.clock_skew) return;
  constexpr uint64_t kMostSeconds = 10 * 24 * 3600;
  constexpr uint64_t kMostPpm = 10'000;  // 1 %
  clock_offset = std::chrono::seconds(cluster.random_.Below(kMostSeconds));
  clock_ppm = static_cast<int64_t>(cluster.random_.Below(2 * kMostPpm + 1)) - static_cast<int64_t>(kMostPpm);
  cluster.Note(Fault::kSkew);
}

TimePoint SimCluster::Process::Now() const {
  const Duration passed = clock.Now().time_since_epoch();
  return TimePoint(clock_offset + passed + passed * clock_ppm / 1'000'000);
}

// ---- processes

void SimCluster::Stop(Process& process, Duration at_most) {
  process.stopped_until = clock_.Now() + Within(Duration::zero(), at_most);
}

Duration SimCluster::Within(Duration at_least, Duration at_most) {
  return at_least + Duration(static_cast<int64_t>(random_.Below(static_cast<uint64_t>((at_most - at_least).count()))));
}

void SimCluster::ReplaceWorker() {
  // Without replacement the others take over what it held; a job that has not begun waits for as many workers as it
  // asks for.
  const bool begun = JobStatusNow().phase() >= pb::RUNNING;
  if (!options_.replace && begun && !workers_.empty()) return;
  network_.Schedule(Within({}, Milliseconds(1500)), [this] {
    Note(Fault::kJoin);
    StartWorker();
  });
}

// Its last messages come again when it has been replaced, as they would from a network that kept them.
void SimCluster::HauntAs(const WorkerNode& worker) {
  const Duration after = Within(Milliseconds(500), Milliseconds(3500));
  const uint32_t started = next_worker_;
  network_.Haunt(worker.self, after);
  network_.Schedule(after, [this, started] {
    const bool replaced = std::any_of(workers_.begin(), workers_.end(), [started](const auto& each) {
      return each->number >= started && each->core->link().registered();
    });
    if (replaced) Note(Fault::kGhost);
  });
}

// ---- links

SimCluster::Link SimCluster::LinkOf(PeerId self, PeerId scheduler_or_shard, Fault one_way, Fault whole) {
  return random_.Chance(0.5) ? Link{self, scheduler_or_shard, one_way, whole}
                             : Link{scheduler_or_shard, self, one_way, whole};
}

PeerId SimCluster::AnyShard() {
  const auto server = static_cast<uint32_t>(random_.Below(options_.servers));
  return ShardPeer(server, static_cast<uint32_t>(random_.Below(options_.shards)), incarnations_[server]);
}

SimCluster::Link SimCluster::LinkOfWorker(const WorkerNode& worker) {
  return random_.Chance(0.5)
             ? LinkOf(worker.self, kSchedulerPeer, Fault::kCutWorkerSchedulerOneWay, Fault::kCutWorkerScheduler)
             : LinkOf(worker.self, AnyShard(), Fault::kCutWorkerShardOneWay, Fault::kCutWorkerShard);
}

// Of a server and the scheduler, or of the tool.
SimCluster::Link SimCluster::AnyOtherLink() {
  if (tool_ != nullptr && random_.Chance(0.5))
    return LinkOf(tool_->self, random_.Chance(0.3) ? kSchedulerPeer : AnyShard(), Fault::kCutToolOneWay,
                  Fault::kCutTool);
  const auto server = static_cast<uint32_t>(random_.Below(options_.servers));
  return LinkOf(ServerPeer(server, incarnations_[server]), kSchedulerPeer, Fault::kCutServerSchedulerOneWay,
                Fault::kCutServerScheduler);
}

// One way, then one side goes on as if nothing had happened; or both.
Duration SimCluster::Cut(const Link& link) {
  const bool whole = random_.Chance(0.5);
  Note(whole ? link.whole : link.one_way);
  const Duration length = Within({}, Milliseconds(2000));
  CutFor(link, whole, length);
  return length;
}

void SimCluster::CutFor(const Link& link, bool whole, Duration length) {
  network_.Cut(link.from, link.to);
  if (whole) network_.Cut(link.to, link.from);
  network_.Schedule(length, [this, link, whole] {
    network_.Heal(link.from, link.to);
    if (whole) network_.Heal(link.to, link.from);
  });
}

// Again and again in about a second.
Duration SimCluster::Flap(const Link& link) {
  Note(Fault::kFlap);
  const bool whole = random_.Chance(0.5);
  Duration at{};
  while (at < Milliseconds(1000)) {
    const Duration down = Within(Milliseconds(10), Milliseconds(120)), up = Within(Milliseconds(10), Milliseconds(120));
    network_.Schedule(at, [this, link, whole, down] {
      if (faults_on_) CutFor(link, whole, down);
    });
    at += down + up;
  }
  return at;
}

Duration SimCluster::Slow(const Link& link) {
  Note(Fault::kSlow);
  const Duration length = Within(Milliseconds(300), Milliseconds(2000));
  network_.Slow(link.from, link.to, Milliseconds(50), Milliseconds(500));
  network_.Schedule(length, [this, link] { network_.Slow(link.from, link.to, {}, {}); });
  return length + Milliseconds(500);
}

// How long it hinders whoever is at either end; zero if nothing happened.
Duration SimCluster::MisfortuneOfLink(const Link& link) {
  const double per_tick = ToSeconds(kTick);
  Duration longest{};
  if (random_.Chance(options_.cuts * per_tick)) longest = std::max(longest, Cut(link));
  if (random_.Chance(options_.flaps * per_tick)) longest = std::max(longest, Flap(link));
  if (random_.Chance(options_.slow * per_tick)) longest = std::max(longest, Slow(link));
  return longest;
}

// ---- at every tick

void SimCluster::Misfortune() {
  if (!faults_on_) return;
  const double per_tick = ToSeconds(kTick);
  for (auto it = workers_.begin(); it != workers_.end();) {
    WorkerNode& worker = **it;
    if (random_.Chance(options_.crashes * per_tick)) {
      Note(Fault::kCrash);
      HauntAs(worker);
      it = workers_.erase(it);
      ReplaceWorker();
      continue;
    }
    if (!worker.stopped() && random_.Chance(options_.pauses * per_tick)) {
      Note(Fault::kPause);
      Stop(worker, Milliseconds(2000));
      worker.hindered_until = std::max(worker.hindered_until, worker.stopped_until);
    }
    if (!worker.stopped() && !worker.leaving_since && random_.Chance(options_.leaves * per_tick)) {
      Note(Fault::kLeave);
      worker.leaving_since = clock_.Now();
      worker.core->Leave(worker.Now(), worker.out);
      worker.Flush();
    }
    const Duration hindered = MisfortuneOfLink(LinkOfWorker(worker));
    if (hindered > Duration::zero()) worker.hindered_until = std::max(worker.hindered_until, clock_.Now() + hindered);
    ++it;
  }
  if (workers_.size() < options_.workers_at_most && random_.Chance(options_.joins * per_tick)) {
    Note(Fault::kJoin);
    StartWorker();
  }
  // Nobody is taken for gone because two servers do not hear each other: as many as you like.
  for (int often = 0; often < 4 && options_.replicas > 1; ++often) {
    const PeerId one = AnyShard(), other = AnyShard();
    if (one.value != other.value) MisfortuneOfLink(LinkOf(one, other, Fault::kCutShardsOneWay, Fault::kCutShards));
  }
  for (int twice = 0; twice < 2; ++twice) {
    const Link link = AnyOtherLink();
    const bool of_server = link.whole == Fault::kCutServerScheduler;
    if (of_server && !ServersCalm()) continue;
    const Duration hindered = MisfortuneOfLink(link);
    if (of_server && hindered > Duration::zero()) {
      servers_hindered_until_ = std::max(servers_hindered_until_, clock_.Now() + hindered + Milliseconds(1500));
    }
  }
  if (tool_ != nullptr && !tool_->stopped() && random_.Chance(options_.pauses * per_tick)) {
    Note(Fault::kPause);
    Stop(*tool_, Milliseconds(1000));
  }
  MisfortuneOfServers();
  MisfortuneOfScheduler();
  if (options_.checkpoints == 0) return;
  if (random_.Chance(options_.checkpoints * per_tick)) AskForCheckpoint();
  if (!files_->full() && random_.Chance(0.3 * per_tick)) {
    Note(Fault::kFilesFull);
    files_->SetFull(true);
    network_.Schedule(Within({}, Milliseconds(300)), [this] { files_->SetFull(false); });
  }
}

void SimCluster::MisfortuneOfScheduler() {
  const double per_tick = ToSeconds(kTick);
  SchedulerNode* const node = scheduler_.get();
  const bool crashes = random_.Chance(options_.scheduler_crashes * per_tick);
  const bool fills = random_.Chance(options_.store_full * per_tick);
  if (node == nullptr || node->ended) return;
  if (crashes) {
    const SchedulerNode::End ends[] = {SchedulerNode::End::kNone, SchedulerNode::End::kBeforeSave,
                                       SchedulerNode::End::kBeforeSend};
    node->end = ends[random_.Below(3)];
    if (node->end == SchedulerNode::End::kNone) return CrashScheduler();
  }
  if (!fills || node->end != SchedulerNode::End::kNone) return;
  Note(Fault::kStoreFull);
  const Duration length = Within({}, Milliseconds(800));
  meta_.SetTrouble(random_.Chance(0.5) ? MemoryMetaStore::Trouble::kNotDone : MemoryMetaStore::Trouble::kDone);
  for (auto& worker : workers_) worker->hindered_until = std::max(worker->hindered_until, clock_.Now() + length);
  network_.Schedule(length, [this] { meta_.SetTrouble(MemoryMetaStore::Trouble::kNone); });
}

bool SimCluster::ServersCalm() const {
  // Else none is ever taken for gone whose rows are nowhere else.
  if (options_.stores || options_.replicas == 1) return true;
  if (clock_.Now() < servers_hindered_until_ || scheduler_ == nullptr || scheduler_->ended) return false;
  const pb::ClusterConfig& config = scheduler_->core.config();
  for (const Node* node : scheduler_->core.members().Alive(pb::SERVER)) {
    if (scheduler_->Now() - node->last_heard > Milliseconds(200)) return false;
  }
  std::set<PeerId> listed;
  for (const pb::ServerInfo& info : config.server()) listed.insert(PeerId(info.shard(0).peer()));
  for (const auto& server : servers_) {
    const bool ends = server == nullptr || server->ended || server->end != ServerNode::End::kNone;
    if (ends || server->stopped() || !listed.contains(ShardPeerOf(*server, 0))) return false;
  }
  return config.server_size() == static_cast<int>(servers_.size()) && AllCopied();
}

bool SimCluster::AllCopied() const {
  return scheduler_ != nullptr && !scheduler_->ended &&
         std::ranges::all_of(scheduler_->core.config().partition(), [](const pb::PartitionConfig& partition) {
           return partition.former() == 0 && std::ranges::any_of(partition.replica(), &pb::Replica::in_sync);
         });
}

void SimCluster::MisfortuneOfServers() {
  // More often while one of its shards makes a round of snapshots, or rows leave memory.
  for (uint32_t number = 0; number < servers_.size(); ++number) {
    const ServerNode* const server = servers_[number].get();
    const auto in_round = [](const ServerNode::ShardNode& shard) {
      return shard.snapshotter != nullptr && !shard.snapshotter->idle();
    };
    if (server == nullptr || server->ended || std::ranges::none_of(server->shards, in_round)) continue;
    if (random_.Chance(12 * options_.server_crashes * ToSeconds(kTick))) CrashServer(number);
  }
  if (random_.Chance(options_.server_crashes * ToSeconds(kTick))) {
    const auto number = static_cast<uint32_t>(random_.Below(servers_.size()));
    ServerNode* const server = servers_[number].get();
    if (server != nullptr && !server->ended && ServersCalm()) {
      const ServerNode::End ends[] = {ServerNode::End::kNone, ServerNode::End::kBeforeCommit,
                                      ServerNode::End::kBeforeSend};
      server->end = ends[random_.Below(3)];
      if (server->end == ServerNode::End::kNone) CrashServer(number);
    }
  }
  // Not while one is dead of which nobody knows yet: what has nothing in it would be moved there, and nowhere else.
  if (random_.Chance(options_.drains * ToSeconds(kTick)) && ServersCalm()) {
    ChangeServer(pb::ChangeNode::DRAIN, static_cast<uint32_t>(random_.Below(options_.servers)));
    network_.Schedule(Within(Milliseconds(200), Milliseconds(3000)),
                      [this] { ChangeServer(pb::ChangeNode::UNCHANGED, {}); });
  }
  if (options_.full_disks > 0 && random_.Chance(options_.full_disks * ToSeconds(kTick))) {
    Note(Fault::kDiskFull);
    SimStore& store = stores_[random_.Below(options_.servers)][random_.Below(options_.shards)];
    store.SetFull(true);
    network_.Schedule(Within({}, Milliseconds(500)), [&store] { store.SetFull(false); });
  }
  if (!random_.Chance(options_.server_pauses * ToSeconds(kTick))) return;
  const uint64_t which = random_.Below(servers_.size() + 1);
  if (which < servers_.size() && !ServersCalm()) return;
  Note(Fault::kServerPause);
  if (which < servers_.size()) {
    if (servers_[which] != nullptr) Stop(*servers_[which], Milliseconds(1500));
    servers_hindered_until_ = clock_.Now() + Milliseconds(2500);
    return;
  }
  if (scheduler_ == nullptr) return;
  Stop(*scheduler_, Milliseconds(400));
  for (auto& worker : workers_) worker->hindered_until = std::max(worker->hindered_until, scheduler_->stopped_until);
}

}  // namespace sheaf::sim
