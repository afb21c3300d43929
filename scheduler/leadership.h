// Keeps an Election going against an etcd, on a thread of its own, so that a lease is renewed while the scheduler's
// loop waits for a transaction.
//
// Made by the main thread, which asks and is told by a descriptor. The end of it resigns: the key is removed, if etcd
// answers in time, and a standby takes over at once. Thread-safety: all functions from the main thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "common/runtime/clock.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "common/storage/etcd_address.h"
#include "common/storage/etcd_client.h"
#include "common/storage/etcd_meta_store.h"
#include "scheduler/election.h"

namespace sheaf {

class Leadership {
 public:
  struct View {
    std::optional<int64_t> term;  // we lead; as in Election
    std::string leader{};         // the address of who leads, if that is known,
    int64_t leader_term = 0;      // and its term
    bool operator==(const View&) const = default;
  };

  // `clock` outlives it.
  Leadership(EtcdAddress store, ElectionOptions options, const Clock& clock);
  ~Leadership();

  // Readable when what Look() answers has changed since the last call.
  int fd() const { return news_.fd(); }
  View Look();
  // Right now, by our own clock: nobody else can lead yet.
  bool MayAct(int64_t term) const;
  // We do not want to lead (that term) any more.
  void GiveUp(int64_t term);
  // What a store's transactions are to compare in that term.
  EtcdFence FenceOf(int64_t term) const { return {key_, term}; }

 private:
  void Run();
  void Do(Election::Step step);
  void Publish();
  TimePoint Now() const { return clock_.Now(); }
  // Logs it, once in a row.
  void Fail(const Error& error);

  const Clock& clock_;
  const std::string key_;
  const ElectionOptions options_;
  EtcdClient client_;     // the thread's,
  Election election_;     // like this,
  bool in_trouble_ = false;  // and this
  Mailbox<int64_t> give_up_{64};
  Mailbox<bool> news_{1};
  struct Shared {
    View view;
    TimePoint valid_until;
  };
  mutable std::mutex mutex_;
  Shared shared_;  // guarded by mutex_
  Thread thread_;
};

}  // namespace sheaf
