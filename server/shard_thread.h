// One shard of a server process: its thread, its socket, its Shard.
//
// Configurations come in and statistics go out through mailboxes; nothing else is shared. Made, bound, recovered,
// started and stopped by the main thread; the shard, the log and the transport belong to the shard's thread from Start
// to Stop.
// With a log, rounds of snapshots cut it (server/snapshotter.h); another thread writes them.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "server/checkpoint_thread.h"
#include "server/recovery.h"
#include "server/shard.h"
#include "server/disk_reserve.h"
#include "server/disk_watch.h"
#include "server/shard_checkpoints.h"
#include "server/snapshot_writer.h"
#include "server/snapshotter.h"

namespace sheaf {

class ShardThread final : private EventLoop::Handler {
 public:
  using Config = std::shared_ptr<const pb::ClusterConfig>;

  // What outlives the process; nothing of it if nothing is kept.
  struct Durable {
    std::unique_ptr<RedoLog> log;
    std::unique_ptr<SnapshotWriter> rows;  // open
    SnapshotterOptions options;
    std::unique_ptr<DiskReserve> reserve;  // or nullptr
  };
  // `checkpoints`: where they lie; outlives it; nullptr: there is no such place.
  ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options, Durable durable,
              FileSpace* checkpoints);
  ~ShardThread() override { Stop(); }

  // The address bound, with the real port.
  Result<std::string> Bind(const std::string& address) { return transport_.Bind(address); }
  // Becomes what an earlier process was. An error from `progress` ends this. Before Start.
  Result<Recovered> Recover(const RecoveryProgress& progress);
  void Start();
  // Ends the thread and waits for it.
  void Stop();
  // After Stop: a last round, if it is worth while and done in a moment, so that the next process starts at once.
  void SaveBeforeEnd();

  PeerId peer() const { return peer_; }
  // Of its log; for other threads, too.
  const DiskWatch& disk() const { return disk_; }
  // False if the shard has too many waiting: offer it (or a newer one) again.
  bool Offer(Config config) { return static_cast<bool>(configs_.TryPut(std::move(config))); }
  bool Offer(const CheckpointTasks& tasks) { return static_cast<bool>(tasks_.TryPut(tasks)); }
  // Readable when there are statistics to take.
  int stats_fd() const { return stats_.fd(); }
  // The latest since the last call, if any.
  std::optional<ShardStats> TakeStats();

 private:
  void OnMessage(PeerId from, Message message) override;
  void OnTick(TimePoint now) override;
  void OnTurnEnd(TimePoint now) override;
  void TakeConfigs();
  void PublishStats();
  // Sends what may be said.
  void Flush();
  void Serve(PeerId from, const Message& message);
  void StepSnapshots(TimePoint now);
  void OnSnapshotDone(const Status& done);
  // The disk is full: what makes room is done, and no pushes are taken until there is enough again.
  void OnFullDisk();
  void LookForRoom(TimePoint now);
  void StepCheckpoints();
  // Serves the message and turns that into a span.
  void Traced(PeerId from, const Message& message);

  const uint32_t index_;
  TraceLog* const trace_;
  const PeerId peer_;
  ZmqTransport transport_;
  EventLoop loop_;
  const uint64_t host_;
  DiskWatch disk_;
  Shard shard_;
  const std::unique_ptr<SnapshotWriter> rows_;  // or nullptr
  const std::unique_ptr<DiskReserve> reserve_;  // or nullptr
  bool short_of_room_ = false;
  TimePoint next_look_{};                       // for room
  std::optional<Snapshotter> snapshotter_;
  ShardCheckpoints checkpoints_;
  CheckpointThread checkpoint_files_;
  Outbox out_;
  Mailbox<Config> configs_{8};
  Mailbox<CheckpointTasks> tasks_{8};
  Mailbox<ShardStats> stats_{8};
  uint64_t published_news_ = 0;
  Thread thread_;
};

}  // namespace sheaf
