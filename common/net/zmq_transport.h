// Transport over ZeroMQ: one ROUTER that others connect to, one DEALER for each peer we connect to.
//
// A peer's routing id is 0x01 and its PeerId (8 bytes, big-endian), so that a message's sender is known without asking.
// A message on a DEALER is from the peer that was named in Connect. Send prefers the DEALER, else the ROUTER.
// Thread-safety: none; use it on one event loop. Frames from 16 KiB are sent without a copy: ZeroMQ's thread lets go
// of their owner. Received frames are 8-byte aligned. What is made for each message is made of pools of the transport;
// received frames may outlive it.
// Errors: malformed messages are dropped, counted and reported at most once a second.
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "common/base/result.h"
#include "common/net/body_pool.h"
#include "common/net/transport.h"
#include "common/runtime/clock.h"

namespace sheaf {

// ZeroMQ's I/O threads. One per process, made in main and lent; outlives its transports.
// The destructor waits until lingering messages are sent, or the transports' linger is over.
class ZmqContext {
 public:
  explicit ZmqContext(int io_threads = 1);
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

 private:
  friend class ZmqTransport;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct ZmqTransportOptions {
  int queue_messages = 1024;                           // per peer and direction; more is kOverloaded
  Duration linger = Milliseconds(500);                 // for what is unsent when the transport ends
  Duration handshake_timeout = std::chrono::seconds(5);
  Duration reconnect_first = Milliseconds(50);
  Duration reconnect_longest = std::chrono::seconds(1);
  // Finds connections that died without a word. Answered by ZeroMQ's own thread, so a peer that computes is not cut.
  Duration heartbeat_every = std::chrono::seconds(1);
  Duration heartbeat_timeout = std::chrono::seconds(10);  // longer than a 4 MiB message takes on a slow link
  // A peer whose queue takes nothing for so long is connected to anew: ZeroMQ gives up for good on a connection that
  // brought what is not its protocol (bytes of another service, a stream with a hole), and only refuses from then on.
  Duration renew_after = std::chrono::seconds(1);
  // The connection has ended over which a peer was heard last, that had connected to us. It may be dead, or connect
  // anew. Called by Receive. Nothing: nobody wants to know, and connections are not watched.
  std::function<void(PeerId)> on_disconnected = {};
  // What went wrong with a peer's message, for the log. Called on the transport's thread.
  std::function<void(const std::string&)> on_problem = {};
};

struct TransportCounters {
  uint64_t messages_sent = 0;
  uint64_t messages_received = 0;
  uint64_t bytes_sent = 0;      // of all frames
  uint64_t bytes_received = 0;
  uint64_t malformed = 0;       // dropped: not a message of ours
  uint64_t overloaded = 0;      // sends refused because the peer's queue was full
};

class ZmqTransport final : public Transport {
 public:
  struct Received {
    PeerId from;
    Message message;
  };

  ZmqTransport(ZmqContext& context, PeerId self, ZmqTransportOptions options = {});
  ~ZmqTransport() override;

  // Lets peers connect to `address` and answers it with the real port ("tcp://*:0" takes any; the * stays).
  // May be called for several addresses. kAlreadyExists: in use. kInvalidArgument: no such address here.
  Result<std::string> Bind(const std::string& address);

  Status Connect(PeerId peer, const std::string& address) override;
  void Disconnect(PeerId peer) override;
  Status Send(PeerId to, Message message) override;

  // The next message that has arrived. Never blocks.
  std::optional<Received> Receive();
  // Waits until a message may have arrived, one of `fds` is ready (its revents say so), or `timeout` is over. Does not
  // wait at all while Receive() has not yet answered "nothing".
  void Poll(Duration timeout, std::span<pollfd> fds);

  // Bodies of received data path messages come from here. Sent ones go here; who is done with a received one may
  // recycle it, and take those of its answers from here.
  BodyPool& bodies();

  PeerId self() const;
  const TransportCounters& counters() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
