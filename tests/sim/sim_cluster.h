// A whole cluster in one thread: scheduler, servers, workers, their network and their faults, under one seed.
//
// The cores are the real ones; only sockets, files, clocks and arithmetic are simulated. Checkers, by the word that
// their findings begin with:
//   acknowledgement  when a shard answers a push: it is applied there, once (SSP, ASP)
//   staleness        when a shard answers a pull: all that its clock entitles it to see is applied
//   grant            when the scheduler grants a lease: its lane is in the configuration the worker will have
//   numbers          when the scheduler sends: no configuration's and no lease's number ever meant something else
//   leaving          a worker that leaves is let go
//   liveness         after the faults the job comes to its end
//   exactly-once     at the end: each batch once in each partition, and nothing else
//   one attempt      at the end: the rows of one push in one shard come from one computation (SSP, ASP)
//   clocks           BSP: a batch has one clock of one lane, whoever computes it
//   accounting       at the end: examples, losses and evaluated rows are what the data has
//   leftovers        at the end: shards hold no parked pull, no slice, no byte of their budget
//   statistics       when a worker weights a range: each batch of the statistics pass counts once in each partition
//   replicas         at the end: all copies of a partition are the same, and as many as there should be
//   tool             a client of no job reads what it was told is in, and its pushes are applied once (sim_tool.h)
//   one cut          when a checkpoint is committed: nobody pushed while it was cut
//   checkpoint       when one is committed: it has what was there when it was frozen; at the end: the latest is whole
//   job              it failed by the product's own checks
// That two runs of a BSP job end with the same bits is for the caller to compare (rough.h).
// Not thread-safe; make one for each seed.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/scheduler_core.h"
#include "server/control_client.h"
#include "server/shard_core.h"
#include "server/snapshotter.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_files.h"
#include "tests/sim/sim_job.h"
#include "tests/sim/sim_network.h"
#include "tests/sim/sim_store.h"
#include "worker/worker_core.h"

namespace sheaf::sim {

class SimCluster;

struct SimOptions {
  uint64_t seed = 1;
  uint32_t servers = 2;
  uint32_t shards = 2;
  uint32_t workers = 3;
  uint32_t partitions = 8;
  pb::ConsistencySpec::Mode mode = pb::ConsistencySpec::SSP;
  uint32_t staleness = 2;
  SimJobSize job{.rows = 300, .batch_size = 5, .range_batches = 4, .epochs = 2};
  uint32_t workers_at_most = 8;  // newcomers counted
  bool replace = true;           // a worker that ends is replaced; else only the last one is
  ShardOptions shard;
  ClientOptions client = PatientClient();
  uint32_t pulls_ahead = 2, pushes_ahead = 4;
  LinkFaults network{.max_delay = Milliseconds(2)};
  bool tool = true;  // a client of no job pushes, pulls and scans beside the workers
  // Per simulated second and worker: ended without a word, asked to leave, stopped for a while and then going on; and
  // per second: a worker more, a server or the scheduler stopped for a while.
  double crashes = 0, leaves = 0, pauses = 0;
  double joins = 0, server_pauses = 0;
  // Servers keep stores; per second, one of them ends and is started again from its disk. With a job of durability
  // FSYNC the power is lost, too.
  bool stores = false;
  double server_crashes = 0;
  // Of each partition. Without stores a server that ends is gone, and the one that comes after it knows nothing.
  uint32_t replicas = 1;
  Duration take_over_after = Milliseconds(700);
  // Of a shard's log, after which it makes a round of snapshots; and per second, the disk of one is full for a while.
  uint64_t snapshot_after_bytes = 2000;
  double full_disks = 0;
  Duration snapshot_takes = Milliseconds(5);  // at most, a partition's writing, or a reading of cold rows
  Duration server_dead_after = std::chrono::seconds(30);
  // Per second: a server is to be drained, and some time later to stay.
  double drains = 0;
  // Per second: the scheduler ends and is started again from its store; the store's disk is full for a while.
  double scheduler_crashes = 0, store_full = 0;
  // Per simulated second, of one of each worker's links and of two of all others: cut for up to two seconds, one way or
  // both; cut and healed again and again; slowed one way to 50-500 ms.
  double cuts = 0, flaps = 0, slow = 0;
  Duration deaf_for{};      // from half a second on, the first server hears nothing of the scheduler for so long
  bool clock_skew = false;  // each process's clock begins where it likes and runs up to 1 % fast or slow
  double checkpoints = 0;   // asked for, per second
  // The job goes on from the last checkpoint of that cluster, which has ended.
  const SimCluster* restore_from = nullptr;
  Duration cancel_after{};  // another job is before ours, and cancelled after so long; 0: none is

  static ClientOptions PatientClient() {
    ClientOptions client;
    client.deadline = std::chrono::seconds(20);
    client.first_retry = Milliseconds(50);
    client.longest_retry = Milliseconds(500);
    return client;
  }
  Duration faults_for = std::chrono::seconds(20);     // then the network heals and nobody dies
  Duration finish_within = std::chrono::seconds(60);  // of the faults' end
};

// Kinds of faults. A run that met none of one kind proves nothing of it.
// clang-format off
enum class Fault {
  kCrash, kGhost, kLeave, kJoin, kPause, kServerPause,
  kServerCrash, kServerCrashUnlogged, kServerCrashUnsent, kPowerLoss, kTakeOver, kDrain, kHandOver, kHandOverCut,
  kRound, kRoundCut, kRoundFailed, kImageLoaded, kSnapshotLost, kStoreAhead, kDiskFull, kEvicted, kColdRead,
  kLeavingCut, kRowsAhead,
  kSchedulerCrash, kSchedulerCrashUnsaved, kSchedulerCrashUnsent, kStoreFull,
  kCutWorkerSchedulerOneWay, kCutWorkerScheduler, kCutWorkerShardOneWay, kCutWorkerShard,
  kCutServerSchedulerOneWay, kCutServerScheduler, kCutShardsOneWay, kCutShards, kCutToolOneWay, kCutTool,
  kFlap, kSlow, kSkew, kCancel,
  kCheckpoint, kCheckpointBuilt, kCheckpointAborted, kCheckpointRestored, kFilesFull,
  kCount,
};
// clang-format on
const char* FaultName(Fault fault);
using FaultCounts = std::array<uint64_t, static_cast<size_t>(Fault::kCount)>;

class SimCluster {
 public:
  explicit SimCluster(SimOptions options);
  ~SimCluster();

  // Runs the job to its end. Empty: all is well; otherwise what went wrong first: "CHECKER: TEXT".
  std::string Run();

  uint64_t fingerprint() const { return network_.fingerprint(); }
  const FaultCounts& faults() const { return faults_; }
  // Partitions whose staleness was looked at.
  uint64_t staleness_checks() const { return checks_; }
  uint64_t statistics_checks() const { return statistics_checks_; }
  uint64_t replica_checks() const { return replica_checks_; }
  uint64_t tool_pushes() const;
  const NetworkCounts& network() const { return network_.counts(); }
  bool HasCheckpoint() const;  // of its job
  uint64_t job() const { return job_; }
  // Every row of the job's weights that its batches made, for comparing two runs.
  std::map<HashedKey, Row> Rows();
  // While there is no scheduler: what the last one said.
  const pb::JobStatus& JobStatusNow();

 private:
  struct Process;
  struct SchedulerNode;
  struct ServerNode;
  struct WorkerNode;
  struct ToolNode;
  struct Link {
    PeerId from, to;
    Fault one_way, whole;  // what a cut of it counts as
  };
  static constexpr Duration kTick = Milliseconds(10);

  using RequestName = std::tuple<PeerId, PeerId, uint64_t>;  // shard, client, request

  void StartScheduler();
  // Its process is gone, and another one is started in a while.
  void CrashScheduler();
  // Does with the store what its owner does. False: nothing may be sent now.
  bool CommitScheduler();
  void TickScheduler();
  void Submit(uint64_t token);
  void Cancel(uint64_t job);
  // DRAIN or UNCHANGED, of any server, or of all.
  void ChangeServer(pb::ChangeNode::Change change, std::optional<uint32_t> which);
  void StartServer(uint32_t number);
  void ServeShard(ServerNode& server, uint32_t index);
  // Its process is gone, and another one is started in a while.
  void CrashServer(uint32_t number);
  // What a shard has to say leaves, if its process does not end now. False: it has ended.
  bool FlushShard(ServerNode& server, size_t shard);
  // A server may go, or be taken for gone: what was acknowledged is in others that go on, or on disks.
  bool ServersCalm() const;
  bool AllCopied() const;  // of every partition another server has a copy in sync
  void CheckReplicas();
  bool MayLosePower() const {
    return faults_on_ && options_.server_crashes > 0 && options_.job.durability == pb::JobSpec::FSYNC;
  }
  void RecoverSimShard(ServerNode& server, uint32_t shard);
  // What the owner of a shard does for its rounds of snapshots when all is committed; writing takes a while.
  void StepSnapshots(ServerNode& server, size_t shard);
  void StepColdReads(ServerNode& server, size_t shard);
  void ReadColdLater(ServerNode& server, size_t shard, ColdRead read);
  void WriteSnapshotLater(ServerNode& server, size_t shard, SnapshotWork work);
  void StartWorker();
  void StartTool();
  void Tick();
  void TickServers();
  void TickWorkers();
  void Misfortune();
  void MisfortuneOfServers();
  void MisfortuneOfScheduler();
  // Worker or not, it is told nothing and does nothing for up to so long.
  void Stop(Process& process, Duration at_most);
  Duration Within(Duration at_least, Duration at_most);
  Link LinkOf(PeerId self, PeerId scheduler_or_shard, Fault one_way, Fault whole);
  Link LinkOfWorker(const WorkerNode& worker);
  Link AnyOtherLink();
  PeerId AnyShard();
  Duration MisfortuneOfLink(const Link& link);
  Duration Cut(const Link& link);
  Duration Flap(const Link& link);
  Duration Slow(const Link& link);
  void CutFor(const Link& link, bool whole, Duration length);
  void HauntAs(const WorkerNode& worker);
  void ReplaceWorker();
  void Note(Fault fault) { ++faults_[static_cast<size_t>(fault)]; }
  // False: it has ended, in one way or the other.
  bool KeepLeaver(WorkerNode& worker);

  void AskForCheckpoint();
  void AskForRestore();
  void TakeFileWork();
  CheckpointResult CarryOutFileWork();
  void StepCheckpoints(ServerNode& server, size_t shard);
  void WatchCut();
  void CheckCommitted(const pb::CheckpointManifest& manifest);
  void CheckCheckpointsAtEnd();

  void AfterScheduler(PeerId from, uint64_t seen_generation);
  void AfterShard(ServerNode& server, size_t shard);
  // `front`: of the answer; the batch may count as read at the clock before it.
  void CheckPull(ServerNode& server, size_t shard, const pb::PullRequest& request, uint64_t front);
  bool InBspTraining(const pb::PushRequest& push) const;
  void CheckPushed(ServerNode& server, size_t shard, const pb::PushRequest& request);
  void NoteTakeOvers(const pb::ClusterConfig& config);
  void CheckNumbers();
  void CheckGrants(const pb::WorkerOrders& orders, uint64_t seen_generation);
  void CheckStatistics(const pb::LeaseGrant& grant, const pb::JobSpec& spec, const Floats& statistics);
  void CheckEnd();
  void CheckRows();
  void CheckStatisticsRows();
  void CheckToolRows();
  void Violation(const char* checker, const std::string& text);
  void NotePush(const pb::PushRequest& push);
  PeerId ShardPeerOf(const ServerNode& server, size_t shard) const;
  enum class Which { kWeights, kStatistics };
  // The watched job's, 0 if it has none.
  uint32_t TableIn(const pb::ClusterConfig& config, Which which) const;
  // A table's rows that are, or are not, the tool's.
  std::map<HashedKey, std::vector<float>> Read(Which which, bool of_tool);
  uint32_t FirstTrainingPass() const { return options_.job.statistics ? 1 : 0; }
  // The row in a partition that the batch alone adds to.
  float OwnRow(ServerNode& server, size_t shard, BatchName batch, PartitionId partition);
  bool Bsp() const { return options_.mode == pb::ConsistencySpec::BSP; }

  const SimOptions options_;
  Random random_;
  ManualClock clock_;
  SimNetwork network_;
  MemoryMetaStore meta_;                      // of all schedulers
  std::unique_ptr<SchedulerNode> scheduler_;  // nullptr: it has ended and is to be started again
  pb::JobStatus job_status_;
  std::vector<std::vector<SimDisk>> disks_;    // by server and shard
  std::vector<std::vector<SimStore>> stores_;  // likewise
  std::vector<uint64_t> incarnations_;       // by server
  std::vector<std::unique_ptr<ServerNode>> servers_;  // nullptr: it has ended and is to be started again
  std::vector<std::unique_ptr<WorkerNode>> workers_;
  std::unique_ptr<ToolNode> tool_;
  bool faults_on_ = true;
  TimePoint servers_hindered_until_{};
  std::map<int, pb::PartitionConfig> partitions_;  // of the latest configuration
  bool moved_ = false;                             // some, to another server
  FaultCounts faults_{};
  std::string violation_;
  uint64_t job_ = 1;  // the one that is watched
  uint32_t next_worker_ = 0;
  uint64_t checks_ = 0, statistics_checks_ = 0, replica_checks_ = 0;
  // Requests that shards have not answered yet.
  std::map<RequestName, pb::PullRequest> pulls_;
  std::map<RequestName, pb::PushRequest> pushes_;
  std::map<RequestName, std::set<uint32_t>> said_for_;  // partitions, of answers that wait
  // What lanes computed at their clocks, as the workers said when they pushed. (pass, lane, clock)
  using ClockName = std::tuple<uint32_t, uint32_t, uint64_t>;
  std::map<ClockName, std::set<BatchName>> batches_of_clock_;
  std::map<BatchName, ClockName> clock_of_batch_;  // BSP
  std::map<ClockName, std::set<uint32_t>> acknowledged_;  // BSP: partitions
  // The lanes of each configuration: (generation, job, pass, lane) -> start.
  std::map<std::tuple<uint64_t, uint64_t, uint32_t, uint32_t>, uint64_t> lanes_;
  uint64_t lanes_of_generation_ = 0, generation_before_event_ = 0;
  std::map<uint64_t, std::string> configs_sent_;  // by generation
  using LeaseName = std::tuple<PeerId, uint64_t, uint32_t, uint32_t>;  // worker, job, pass, range
  std::map<uint64_t, LeaseName> leases_sent_;
  // Checkpoints.
  std::shared_ptr<SimFiles> files_ = std::make_shared<SimFiles>();
  std::deque<CheckpointWork> file_work_;      // of the scheduler that there is
  TimePoint file_work_done_at_{};
  uint64_t schedulers_ = 0;                   // that were started
  using FrozenRows = std::map<std::pair<uint32_t, HashedKey>, std::vector<float>>;  // by table and key
  std::map<std::pair<uint64_t, uint32_t>, std::vector<FrozenRows>> frozen_;          // by checkpoint and partition
  uint64_t cut_ = 0, cuts_seen_ = 0;          // that is being made; 0: none
  std::map<PeerId, NodeId> cut_members_;      // workers when it began
  std::set<PeerId> cut_pushers_;
  std::set<uint64_t> torn_;                   // checkpoints that must not be committed
};

}  // namespace sheaf::sim
