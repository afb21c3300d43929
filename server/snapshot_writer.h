// A shard's thread for what blocks: it writes snapshots to the shard's store, in order, and says what came of it.
//
// Made by the main thread, which may use the store until Start; then the store belongs to the writer's thread, until
// Stop. After an error it lets go of the store, refuses the rest of the round, and opens it anew for the next one.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "common/base/result.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "common/storage/kv_store.h"
#include "server/snapshotter.h"

namespace sheaf {

// kAfresh: what is there is of no use; it is put aside, and the store is empty.
enum class OpenAs { kFound, kAfresh };
using StoreOpener = std::function<Result<std::unique_ptr<KvStore>>(OpenAs)>;

class SnapshotWriter {
 public:
  SnapshotWriter(uint32_t shard, StoreOpener open) : shard_(shard), open_(std::move(open)) {}
  ~SnapshotWriter() { Stop(); }

  // Before Start.
  Status Open(OpenAs as);
  // Also after Stop.
  Status OpenIfClosed() { return store_ != nullptr ? Status() : Open(OpenAs::kFound); }
  KvStore& store() { return *store_; }

  void Start();
  // Ends the thread when all is written that was put.
  void Stop();

  void Put(SnapshotWork work);
  // Readable when something is done.
  int done_fd() const { return done_.fd(); }
  std::optional<Status> TakeDone() { return done_.TryTake(); }

 private:
  Status CarryOutNext(const SnapshotWork& work);

  const uint32_t shard_;
  const StoreOpener open_;
  std::unique_ptr<KvStore> store_;      // or nullptr: to be opened anew
  uint64_t failed_round_ = 0;
  std::optional<Error> failure_;        // of that round
  Mailbox<SnapshotWork> to_do_{16};     // there are never so many
  Mailbox<Status> done_{16};
  Thread thread_;
};

}  // namespace sheaf
