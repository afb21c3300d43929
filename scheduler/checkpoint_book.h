// The cluster's checkpoints: one at a time, in two phases, and nothing is one before all of it is
// (docs/checkpoints.md).
//
//   idle --asked for, or due--> opening --folder is there--> pausing --all workers stand still--> freezing
//    ^                                                                                              |
//    |                                                                    all servers are PREPARED  |
//    |                                                                                              v
//    +-- committing <--all servers have WRITTEN-- writing <--each worker says that it stood still-- resuming
//    |
//    +-- from anywhere: a server or worker is gone, something fails, or takes too long: aborted, nothing is left
//
// Presumed abort: what is not committed is nothing. Servers are told a checkpoint's number as long as it is to go on;
// told none, they drop it. The word that counts is the rename in the folder (common/checkpoint/catalog.h), made when
// all files are synced; what is saved here is for people.
// That the cut is one: a worker that is released has said, after all servers were frozen, that it had begun nothing
// since it was told to stand still. So no clock is needed for it, although one that hears nothing for a while goes on
// by itself, and the checkpoint is aborted.
// A state machine without I/O, owned by SchedulerCore.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/storage/meta_store.h"
#include "proto/control.pb.h"
#include "proto/meta.pb.h"
#include "scheduler/checkpoint_work.h"
#include "scheduler/job.h"
#include "scheduler/membership.h"

namespace sheaf {

class CheckpointBook {
 public:
  enum class Phase { kIdle, kOpening, kPausing, kFreezing, kResuming, kWriting, kCommitting };
  struct Options {
    uint32_t partition_count = 0;
    uint64_t cluster = 0;
    Duration stand_still = std::chrono::seconds(5);  // workers, at most; and servers to freeze
    Duration write_within = std::chrono::hours(1);
    Duration retry_after = std::chrono::seconds(30);  // one by time or passes that was aborted
  };
  // `saved`: of an earlier scheduler.
  CheckpointBook(Options options, CheckpointsFound found, const pb::CheckpointsRecord& saved);

  // A person asks for one, of the current job. The same token again: the same checkpoint.
  Result<pb::CheckpointStatus> Create(const pb::CreateCheckpoint& request, const Job* job, TimePoint now);
  // Nothing: it is not known (any more).
  std::optional<pb::CheckpointStatus> Find(uint64_t id) const;
  const pb::CheckpointStatus& last() const { return record_.last(); }
  bool has_folder() const { return found_.folder; }
  Phase phase() const { return phase_; }

  // What the world looks like when it moves on.
  struct World {
    const Membership& members;
    Job* job = nullptr;          // whose turn it is
    uint64_t generation = 0;     // of the configuration
    // All that were members before the scheduler started have been heard, and no partition is between two servers.
    bool calm = false;
  };
  // Which members are to hear from the scheduler now; they would anyway, later.
  struct Actions {
    bool poke_workers = false;
    bool order_servers = false;
  };
  void Advance(const World& world, TimePoint now, Actions& actions);
  void OnWorkerReport(NodeId worker, const pb::WorkerReport& report);
  void OnServerReport(NodeId server, const pb::CheckpointState& state);
  void OnNodeGone(NodeId node);
  // The first of the work that was taken is done.
  void OnDone(const CheckpointResult& result);
  // To be carried out in order, once what the scheduler knows is saved.
  std::optional<CheckpointWork> TakeWork();

  // Nothing is to be leased, no lane to change hands.
  bool holding() const { return phase_ >= Phase::kPausing && phase_ <= Phase::kResuming; }
  // As WorkerOrders.pause.
  uint64_t PauseOf(NodeId worker) const;
  // Servers take part in one.
  bool ordering() const { return phase_ >= Phase::kFreezing; }
  // What the server is to be told; nothing: it takes part in none. Another process of a server that takes part does
  // not: it would freeze what came later. Nor may it build upon what the one before has written.
  std::optional<pb::CheckpointOrder> OrderTo(const Node& server) const;

  void Save(MetaTxn& txn);
  std::vector<std::string> TakeEvents() { return std::exchange(events_, {}); }

 private:
  // True if one is due by the job's own wish.
  bool Due(const Job& job, TimePoint now);
  void Begin(std::string name, const Job& job, TimePoint now);
  void Abort(const std::string& why, TimePoint now);
  void End(pb::CheckpointStatus::Phase phase, const std::string& detail, TimePoint now);
  void Enter(Phase phase, TimePoint now);
  bool AllPaused(const World& world) const;
  bool AllServers(pb::CheckpointState::Phase least) const;
  void Freeze(const World& world, TimePoint now, Actions& actions);
  void Commit(TimePoint now);
  Status MakeManifest();
  // Whether the next may build upon the last.
  bool MayBuild(const Job& job) const;
  std::string WaitsFor(const Membership& members) const;

  const Options options_;
  const CheckpointsFound found_;
  pb::CheckpointsRecord record_;
  std::string saved_;                           // of record_
  std::map<uint64_t, pb::CheckpointStatus> known_;
  std::map<uint64_t, uint64_t> tokens_;         // of requests: the checkpoints that they made
  std::vector<std::string> events_;
  std::deque<CheckpointWork> work_;

  Phase phase_ = Phase::kIdle;
  std::string failed_;                          // not empty: abort, and why
  bool periodic_ = false, whole_ = false;
  uint32_t keep_ = 0;  // of the periodic ones; 0: all
  bool opened_ = false;
  std::optional<Status> committed_;
  TimePoint begun_{}, entered_{}, pausing_since_{};
  pb::CheckpointOrder order_;
  std::set<NodeId> unconfirmed_;                // kResuming: workers that have not been heard since
  std::map<NodeId, uint64_t> paused_;           // as last reported
  std::map<NodeId, pb::CheckpointState> servers_;  // that take part,
  std::map<NodeId, PeerId> processes_;             // and as which process
  pb::CheckpointManifest manifest_;

  // The last that was committed by this process.
  pb::CheckpointManifest base_;
  std::map<NodeId, PeerId> base_processes_;     // that took part in it

  // Of the job's own wishes.
  uint64_t job_seen_ = 0;
  TimePoint last_begun_{}, not_before_{};
  uint32_t passes_seen_ = 0;
};

}  // namespace sheaf
