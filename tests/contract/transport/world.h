// A place where transports of one kind can be started: what the contract suite needs beyond the interface.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/net/transport.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct Delivery {
  PeerId from;
  Message message;
};

class World {
 public:
  // A transport and what it has received. Its end is the transport's end.
  class End {
   public:
    virtual ~End() = default;
    virtual Transport& transport() = 0;
    virtual const std::string& address() const = 0;
  };

  virtual ~World() = default;
  virtual std::unique_ptr<End> Start(PeerId self) = 0;
  // Listens at `address`, or at one of its own choice.
  virtual std::unique_ptr<End> StartListening(PeerId self, const std::string& address = "") = 0;
  // An address at which nobody listens.
  virtual std::string FreshAddress() = 0;
  // The next message that arrives within `timeout`.
  virtual std::optional<Delivery> Receive(End& end, Duration timeout) = 0;
  // Waits until what was sent by transports that have ended is delivered or lost.
  virtual void Settle() = 0;
};

// "sim", "tcp", "ipc" (files) or "abstract" (unix sockets without one).
std::unique_ptr<World> MakeWorld(const std::string& kind);

}  // namespace sheaf
