// Transport: sends messages to peers, best effort.
//
// Contract (tests/contract/transport holds every implementation to it): Send never blocks; a message may be lost,
// repeated, delayed, or overtaken by a later one; it is never changed. What must arrive is sent again by the core
// that needs it, under the same identity. A sender need not know whether the peer is alive.
// Thread-safety: none; a transport lives on one event loop.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/net/message.h"

namespace sheaf {

class Transport {
 public:
  virtual ~Transport() = default;

  // Makes `peer` reachable at `address` (tcp://host:port, ipc://path, ipc://@name). Knowing it already, under the same
  // address, is no error; a new address replaces the old one.
  virtual Status Connect(PeerId peer, const std::string& address) = 0;
  // Forgets a peer and what is queued for it.
  virtual void Disconnect(PeerId peer) = 0;
  // kNotFound: neither connected nor heard from. kOverloaded: its queue is full; nothing was sent.
  // kInvalidArgument: over a size limit.
  virtual Status Send(PeerId to, Message message) = 0;
};

}  // namespace sheaf
