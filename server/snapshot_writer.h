// A shard's threads for what blocks: one writes snapshots to the shard's store, in order, and says what came of it;
// if rows may leave memory, two others read those that are asked for meanwhile, half of them each.
//
// Made by the main thread, which may use the store until Start; then the store belongs to the threads, until Stop.
// After an error of a write it lets go of the store, refuses the rest of that attempt, and opens it anew for the next
// one, or for the next read. Opened anew it has all that was flushed, and so every row that has left memory.
// Thread-safety: ReadNow from any thread, at any time.
#pragma once

#include <functional>
#include <memory>
#include <shared_mutex>
#include <optional>

#include "common/base/result.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "common/storage/kv_store.h"
#include "server/cold_rows.h"
#include "server/snapshotter.h"

namespace sheaf {

// kAfresh: what is there is of no use; it is put aside, and the store is empty.
enum class OpenAs { kFound, kAfresh };
using StoreOpener = std::function<Result<std::unique_ptr<KvStore>>(OpenAs)>;

class SnapshotWriter final : public ColdStore {
 public:
  // `rows_leave`: the store has rows that nobody else has. It is never put aside then, and read while it is written.
  enum class RowsLeave { kNo, kYes };
  SnapshotWriter(uint32_t shard, StoreOpener open, RowsLeave rows_leave = RowsLeave::kNo)
      : shard_(shard), open_(std::move(open)), rows_leave_(rows_leave) {}
  ~SnapshotWriter() override { Stop(); }

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

  // Rows that are not in memory are read, in order.
  void Put(ColdRead read);
  int reads_fd() const { return reads_done_.fd(); }
  std::optional<ColdRead> TakeRead() { return reads_done_.TryTake(); }
  void ReadNow(ColdRead& read) override;

 private:
  Status CarryOutNext(const SnapshotWork& work);
  void ReadInTwo(ColdRead& read);

  const uint32_t shard_;
  const StoreOpener open_;
  const RowsLeave rows_leave_;
  // Held exclusively while the store is closed and opened, and shared while it is used.
  std::shared_mutex opening_;
  std::unique_ptr<KvStore> store_;      // or nullptr: to be opened anew
  uint64_t failed_attempt_ = 0;
  std::optional<Error> failure_;        // of that attempt
  Mailbox<SnapshotWork> to_do_{16};     // there are never so many
  Mailbox<Status> done_{16};
  Mailbox<ColdRead> reads_{16};         // likewise
  Mailbox<ColdRead> reads_done_{16};
  Mailbox<ColdRead> halves_{1};         // from the one reader to the other, and back
  Mailbox<ColdRead> halves_done_{1};
  Thread thread_;
  Thread reader_, half_reader_;
};

}  // namespace sheaf
