// One shard of a server process: its thread, its socket, its ShardCore.
//
// Configurations come in and statistics go out through mailboxes; nothing else is shared. Made, bound, started and
// stopped by the main thread; the core and the transport belong to the shard's thread from Start to Stop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/net/zmq_transport.h"
#include "common/runtime/event_loop.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "server/shard_core.h"

namespace sheaf {

class ShardThread final : private EventLoop::Handler {
 public:
  using Config = std::shared_ptr<const pb::ClusterConfig>;

  ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options);
  ~ShardThread() override { Stop(); }

  // The address bound, with the real port.
  Result<std::string> Bind(const std::string& address) { return transport_.Bind(address); }
  void Start();
  // Ends the thread and waits for it.
  void Stop();

  PeerId peer() const { return peer_; }
  // False if the shard has too many waiting: offer it (or a newer one) again.
  bool Offer(Config config) { return static_cast<bool>(configs_.TryPut(std::move(config))); }
  // Readable when there are statistics to take.
  int stats_fd() const { return stats_.fd(); }
  // The latest since the last call, if any.
  std::optional<ShardStats> TakeStats();

 private:
  void OnMessage(PeerId from, Message message) override;
  void OnTick(TimePoint now) override;
  void TakeConfigs();
  void PublishStats();
  void Flush();
  void Serve(PeerId from, const Message& message);
  // Serves the message and turns that into a span.
  void Traced(PeerId from, const Message& message);

  const uint32_t index_;
  TraceLog* const trace_;
  const PeerId peer_;
  ZmqTransport transport_;
  EventLoop loop_;
  ShardCore core_;
  Outbox out_;
  Mailbox<Config> configs_{8};
  Mailbox<ShardStats> stats_{8};
  Thread thread_;
};

}  // namespace sheaf
