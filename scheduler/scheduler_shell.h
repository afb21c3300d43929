// A scheduler process: the socket that everybody connects to, ticks, signals, its store, and its terms.
//
// Alone it has one term, from start to end. With Places::meta it is one of several: it leads while it holds the key in
// etcd, and each time a new term begins as if a scheduler were started again (SchedulerTerm); in between it tells
// everybody who leads. Thread-safety: none.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "common/storage/etcd_address.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/leadership.h"
#include "scheduler/scheduler_folder.h"
#include "scheduler/scheduler_term.h"

namespace sheaf {

class SchedulerShell final : private EventLoop::Handler {
 public:
  struct Places {
    std::string data;                 // what it knows is kept there, and found again
    std::optional<EtcdAddress> meta;  // or there, and several schedulers stand in for each other
    Duration lease = std::chrono::seconds(5);  // with which the leader of those leads
    std::string checkpoints;          // empty: there are none
  };
  // With neither `data` nor `meta` what it knows is in memory only.
  static Result<std::unique_ptr<SchedulerShell>> Open(ZmqContext& context, const Clock& clock, SchedulerOptions options,
                                                      Places places);
  ~SchedulerShell() override;

  // tcp://host:port; port 0 takes any. Answers the real address.
  Result<std::string> Bind(const std::string& address);
  // The address under which others reach it; before Run, of one of several.
  void Advertise(std::string address) { advertised_ = std::move(address); }
  // Serves until `stop_fd` is readable, or the error that it ends with: its store cannot be written.
  Status Run(int stop_fd, const std::function<void()>& take_signal);

 private:
  SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options, Places places);
  // Of a scheduler that is alone.
  Status OpenAlone();
  void OnMessage(PeerId from, Message message) override;
  void OnTurnEnd(TimePoint now) override { Flush(now); }
  void OnTick(TimePoint now) override;
  void Flush(TimePoint now);
  void Begin(MetaStore& store, SavedState saved, std::unique_ptr<CheckpointKeeper> checkpoints,
             std::function<bool()> may_send);
  void End(const Error& why);
  // ---- one of several
  void OnLeadership(TimePoint now);
  void TryToBegin(TimePoint now);
  Status BeginElected(int64_t term);
  void SendToLeader(PeerId from, const Message& message);

  const Clock& clock_;
  const SchedulerOptions options_;
  const Places places_;
  std::string advertised_;
  ZmqTransport transport_;
  EventLoop loop_;
  // What is used of these, until `term_` ends: declared before it.
  std::unique_ptr<SchedulerFolder> folder_;
  MemoryMetaStore memory_;
  std::unique_ptr<Leadership> leadership_;  // nullptr: alone
  std::unique_ptr<EtcdMetaStore> etcd_;
  std::unique_ptr<SchedulerTerm> term_;     // nullptr: another leads, or nobody
  std::optional<int64_t> elected_;          // we are to lead, of that term in etcd
  TimePoint begin_at_;                      // try to, if there is no term_
  bool begin_failed_ = false;               // and it has been said
  Leadership::View view_;                   // as we looked last
  Status outcome_;
};

// Writes an address where others look for it, whole or not at all.
Status WriteAddressFile(const std::string& path, const std::string& address);

}  // namespace sheaf
