// The limits' wires: request and reply of raw bytes over ZeroMQ (DEALER to ROUTER) and over a TCP socket, as lean as
// each can be.
//
// A client keeps `window` requests in flight, and reads replies without looking at them. Thread-safety: none.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/child.h"
#include "bench/kv/raw_service.h"

namespace sheaf::bench {

// Serve until the process is killed; for Child::Fork.
void ServeZmq(RawService& service, const Announce& announce);
void ServeTcp(RawService& service, const Announce& announce);

struct RawRequest {
  RawHeader header;
  std::span<const HashedKey> keys = {};
  std::span<const float> values = {};
};

class RawClient {
 public:
  virtual ~RawClient() = default;
  virtual void Send(const RawRequest& request) = 0;
  // Waits for the oldest reply and answers its payload's size.
  virtual size_t Receive() = 0;
};

std::unique_ptr<RawClient> ConnectZmq(const std::string& address);
std::unique_ptr<RawClient> ConnectTcp(const std::string& address);

}  // namespace sheaf::bench
