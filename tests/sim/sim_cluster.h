// A whole cluster in one thread: scheduler, servers, workers, their network and their faults, under one seed.
//
// The cores are the real ones; only sockets, files, clocks and arithmetic are simulated. Checks run at the moment a
// server answers a pull (staleness) and at the end (each push exactly once in each partition, each example counted once).
// Not thread-safe; make one for each seed.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "scheduler/scheduler_core.h"
#include "server/control_client.h"
#include "server/shard_core.h"
#include "tests/sim/sim_job.h"
#include "tests/sim/sim_network.h"
#include "worker/worker_core.h"

namespace sheaf::sim {

struct SimOptions {
  uint64_t seed = 1;
  uint32_t servers = 2;
  uint32_t shards = 2;
  uint32_t workers = 3;
  uint32_t partitions = 8;
  pb::ConsistencySpec::Mode mode = pb::ConsistencySpec::SSP;
  uint32_t staleness = 2;
  SimJobSize job{.rows = 300, .batch_size = 5, .range_batches = 4, .epochs = 2};
  double loss = 0, duplicate = 0, reorder = 0;
  Duration max_delay = Milliseconds(2);
  // Per simulated second and worker: ended without a word, or stopped for a while and then going on.
  double crashes = 0, pauses = 0, cuts = 0;
  Duration faults_for = std::chrono::seconds(20);     // then the network heals and nobody dies
  Duration finish_within = std::chrono::seconds(120);  // of the faults' end
};

// How often each kind of fault came: a run that met none proves nothing.
struct FaultCounts {
  uint64_t crashes = 0, restarts = 0, pauses = 0, cuts = 0;
};

class SimCluster {
 public:
  explicit SimCluster(SimOptions options);
  ~SimCluster();

  // Runs the job to its end. Empty: all is well; otherwise what went wrong first.
  std::string Run();

  uint64_t fingerprint() const { return network_.fingerprint(); }
  const FaultCounts& faults() const { return faults_; }
  // Partitions whose staleness was looked at.
  uint64_t staleness_checks() const { return checks_; }
  uint64_t messages_lost() const { return network_.messages_lost(); }
  // Every row of the job's table, for comparing two runs.
  std::map<HashedKey, float> Rows();
  pb::JobStatus JobStatusNow() const;

 private:
  struct SchedulerNode;
  struct ServerNode;
  struct WorkerNode;

  void StartWorker();
  void Tick();
  void Misfortune();
  void CheckPull(ServerNode& server, size_t shard, const pb::PullRequest& request);
  void CheckEnd();
  void Violation(std::string text);
  void NotePush(const pb::PushRequest& push);
  void AfterShard(ServerNode& server, size_t shard);
  PeerId ShardPeerOf(const ServerNode& server, size_t shard) const;
  float TimesApplied(ServerNode& server, size_t shard, BatchName batch, PartitionId partition);

  const SimOptions options_;
  Random random_;
  ManualClock clock_;
  SimNetwork network_;
  std::unique_ptr<SchedulerNode> scheduler_;
  std::vector<std::unique_ptr<ServerNode>> servers_;
  std::vector<std::unique_ptr<WorkerNode>> workers_;
  bool faults_on_ = true;
  FaultCounts faults_;
  std::string violation_;
  uint32_t next_worker_ = 0;
  uint32_t table_ = 0;
  uint64_t checks_ = 0;
  // Pulls that shards have not answered yet: shard, client, request.
  std::map<std::tuple<PeerId, PeerId, uint64_t>, pb::PullRequest> pulls_;
  // What each lane computed at each clock, as the workers said when they pushed.
  std::map<std::tuple<uint32_t, uint32_t, uint64_t>, BatchName> batch_of_clock_;   // pass, lane, clock
};

}  // namespace sheaf::sim
