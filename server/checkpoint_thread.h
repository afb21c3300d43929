// A shard's thread for the files of checkpoints: it does what the shard gives it, in order, and says what came of it.
//
// Made by the main thread; from then on the shard's thread puts and takes. It starts with the first work.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>

#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "server/checkpoint_files.h"

namespace sheaf {

class CheckpointThread {
 public:
  using Work = std::variant<PartWork, ReadWork>;
  using Done = std::variant<PartDone, ReadDone>;

  CheckpointThread(uint32_t shard, FileSpace* space) : shard_(shard), files_(space) {}
  ~CheckpointThread() { Stop(); }

  void Put(Work work);
  // Readable when something is done.
  int done_fd() const { return done_.fd(); }
  std::optional<Done> TakeDone() { return done_.TryTake(); }
  // Ends when all is done that was put.
  void Stop();

 private:
  void Run();

  const uint32_t shard_;
  CheckpointFiles files_;
  Mailbox<Work> to_do_{64};   // there are never so many
  Mailbox<Done> done_{64};
  Thread thread_;
};

}  // namespace sheaf
