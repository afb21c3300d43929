// A scheduler process around its core: the socket that everybody connects to, its store, ticks, signals.
//
// The core hears the messages of a turn, then what it has changed is committed, once for all of them, then what it says
// is sent. While the store is full nothing is: members go on without it and say the same again.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/checkpoint_keeper.h"
#include "scheduler/scheduler_core.h"
#include "scheduler/scheduler_folder.h"
#include "scheduler/state_keeper.h"

namespace sheaf {

class SchedulerShell final : private EventLoop::Handler {
 public:
  struct Folders {
    std::string data;         // what it knows is kept there, and found again; empty: in memory only
    std::string checkpoints;  // empty: there are none
  };
  static Result<std::unique_ptr<SchedulerShell>> Open(ZmqContext& context, const Clock& clock, SchedulerOptions options,
                                                      const Folders& folders);

  // tcp://host:port; port 0 takes any. Answers the real address.
  Result<std::string> Bind(const std::string& address);
  // Serves until `stop_fd` is readable, or the error that it ends with: its store cannot be written.
  Status Run(int stop_fd, const std::function<void()>& take_signal);

 private:
  SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options,
                 std::unique_ptr<SchedulerFolder> folder, std::unique_ptr<MemoryMetaStore> memory, SavedState saved,
                 std::unique_ptr<CheckpointKeeper> checkpoints);
  void OnMessage(PeerId from, Message message) override;
  void OnTurnEnd(TimePoint now) override { Flush(now); }
  void OnTick(TimePoint now) override;
  // Commits and sends.
  void Flush(TimePoint now);
  bool Commit(TimePoint now);
  void Send();

  const std::unique_ptr<SchedulerFolder> folder_;  // nullptr: nothing is kept
  const std::unique_ptr<MemoryMetaStore> memory_;  // what is used then
  const std::unique_ptr<CheckpointKeeper> checkpoints_;  // nullptr: there is no folder for them
  ZmqTransport transport_;
  EventLoop loop_;
  StateKeeper keeper_;
  SchedulerCore core_;
  Outbox out_;
  std::optional<TimePoint> try_again_;  // the store was full
  Status outcome_;
};

// Writes an address where others look for it, whole or not at all.
Status WriteAddressFile(const std::string& path, const std::string& address);

}  // namespace sheaf
