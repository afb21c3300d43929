// A server process around its shards: their threads, the conversation with the scheduler, signals.
//
// Thread-safety: none; main owns it. Errors: why the process cannot start or go on, with what to do.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "common/storage/rocks_store.h"
#include "server/control_client.h"
#include "server/data_folder.h"
#include "server/shard_thread.h"

namespace sheaf {

struct ServerOptions {
  std::string scheduler;                        // tcp://host:port
  std::string listen = "127.0.0.1";             // * or 0.0.0.0 for all
  std::string advertise;  // host under which others reach us; empty: the listen host, or our host name
  uint32_t port = 0;                            // of shard 0; shard i has port + i; 0: any
  std::string ipc_dir;                          // not empty: unix sockets in this folder instead of TCP
  std::string data_dir;                         // not empty: what outlives the process lies here
  std::string checkpoint_dir;                   // not empty: checkpoints of the cluster lie here
  bool local_sockets = true;                    // also listen at unix sockets, for processes of this host
  uint32_t shards = 1;
  ShardOptions shard;                           // budgets of each shard
  SnapshotterOptions snapshots;
  uint64_t memory_limit_bytes = 0;              // of rows, and of the stores beneath them; 0: none; needs data_dir
  Duration scheduler_timeout = std::chrono::seconds(30);
};

class ShardServer final : private EventLoop::Handler {
 public:
  ShardServer(ZmqContext& context, const Clock& clock, ServerOptions options);

  // Takes the data folder and the addresses. kAlreadyExists: somebody else has one.
  Status Bind();
  const std::vector<pb::ShardEndpoint>& endpoints() const { return endpoints_; }
  // Of the data folder; 0: there is none, or it could not be read.
  uint64_t store() const { return folder_ == nullptr ? 0 : folder_->store(); }
  uint64_t store_start() const { return folder_ == nullptr ? 0 : folder_->starts(); }
  // Serves until `stop_fd` is readable (`take_signal` makes it unreadable again), or the error that it ends with.
  Status Run(int stop_fd, const std::function<void()>& take_signal);

 private:
  void OnMessage(PeerId from, Message message) override;
  void OnTick(TimePoint now) override;
  void OnStats(size_t shard);
  void Merge();
  // Looks at how long the shards' logs take, and says so. An error: one hangs, and the process must end.
  Status WatchDisks(TimePoint now);
  // Each partition of the shard has a copy in sync on another server.
  bool IsReplaceable(size_t shard) const;
  void SayTroubles();
  void OfferConfig();
  void OfferTasks();
  void BindLocal();
  Result<ShardThread::Durable> OpenDurable(uint32_t shard);
  // Brings the shards to where the log ends, all at once.
  // kCancelled: `stop_fd` has become readable.
  Status Recover(int stop_fd);
  std::string AddressOf(uint32_t shard) const;
  void Flush();

  ZmqContext& context_;
  const Clock& clock_;
  const ServerOptions options_;
  const PeerId self_;
  ZmqTransport transport_;
  TraceLog trace_;                              // of all threads
  EventLoop loop_;
  std::unique_ptr<DataFolder> folder_;          // nullptr: nothing is kept
  std::shared_ptr<const RocksMemory> rocks_memory_;
  uint64_t found_bytes_ = 0;                    // of logs and snapshots
  std::unique_ptr<FileSpace> checkpoints_;      // or nullptr
  std::vector<std::unique_ptr<ShardThread>> shards_;
  std::vector<pb::ShardEndpoint> endpoints_;
  std::vector<ShardStats> stats_;               // each shard's latest
  ShardStats merged_;
  std::vector<DiskHealth> disks_;               // each shard's
  std::vector<bool> hangs_;                     // it was said
  uint64_t said_poisoned_ = 0, said_differed_ = 0;
  TimePoint next_word_{};                       // on poison
  std::unique_ptr<ControlClient> control_;
  ShardThread::Config config_;                  // the latest
  std::vector<uint64_t> offered_;               // generation that each shard was given
  CheckpointTasks tasks_;                       // the latest
  std::vector<bool> has_tasks_;                 // each shard was given them
  Outbox out_;
  Status outcome_;
  std::string name_;                            // as registered
};

}  // namespace sheaf
