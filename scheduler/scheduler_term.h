// A scheduler while it leads: its core, the store, the thread for checkpoints' files, and what is to be said.
//
// The core hears the messages of a turn, then what it has changed is committed, once for all of them, then what it says
// is sent. While the store is full, or cannot be reached, nothing is: members go on without it and say the same again.
// A scheduler that is alone leads from its start to its end; of several, one does, and a new term begins with what
// the store has (scheduler/leadership.h).
// Thread-safety: none; the shell owns it and lends what it is made of.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/net/transport.h"
#include "scheduler/checkpoint_keeper.h"
#include "scheduler/scheduler_core.h"
#include "scheduler/state_keeper.h"

namespace sheaf {

class SchedulerTerm {
 public:
  // `store` and `transport` outlive it. `checkpoints`: nullptr if there is no folder for them. `may_send`: nobody else
  // can lead by now; it is asked after what is to be sent has been committed.
  SchedulerTerm(SchedulerOptions options, MetaStore& store, SavedState saved,
                std::unique_ptr<CheckpointKeeper> checkpoints, Transport& transport, const Clock& clock,
                std::function<bool()> may_send);

  void OnMessage(PeerId from, const Message& message, TimePoint now);
  void OnTick(TimePoint now);
  void OnDisconnected(PeerId peer, TimePoint now) { core_.OnDisconnected(peer, now); }
  // Readable when something is done with checkpoints: call OnCheckpointsDone. -1: there are none.
  int checkpoints_fd() const { return checkpoints_ == nullptr ? -1 : checkpoints_->done_fd(); }
  void OnCheckpointsDone(TimePoint now);

  // Commits and sends. An error ends the term: kAlreadyExists: another scheduler leads; others: the store is lost.
  Status Flush(TimePoint now);

 private:
  bool Commit(TimePoint now);
  void Send();

  const std::unique_ptr<CheckpointKeeper> checkpoints_;
  Transport& transport_;
  const std::function<bool()> may_send_;
  StateKeeper keeper_;
  SchedulerCore core_;
  Outbox out_;
  std::optional<TimePoint> try_again_;  // the store could not be written
  Status outcome_;
  CheckpointBook::Phase phase_told_ = CheckpointBook::Phase::kIdle;
};

}  // namespace sheaf
