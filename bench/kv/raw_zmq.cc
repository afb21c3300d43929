// The limit over ZeroMQ: DEALER to ROUTER, blocking, frames from 256 KiB on sent without a copy.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <zmq.hpp>

#include "bench/kv/raw_wire.h"
#include "common/runtime/memory.h"

namespace sheaf::bench {
namespace {

constexpr size_t kZeroCopyBytes = 256 << 10;

void KeepData(void*, void*) {}

zmq::message_t FrameOf(const void* data, size_t bytes) {
  if (bytes < kZeroCopyBytes) return zmq::message_t(data, bytes);
  return zmq::message_t(const_cast<void*>(data), bytes, KeepData, nullptr);  // it outlives the run, and is only read
}

template <typename T>
std::span<const T> ContentOf(const zmq::message_t& frame) {
  return {static_cast<const T*>(frame.data()), frame.size() / sizeof(T)};
}

class ZmqClient final : public RawClient {
 public:
  explicit ZmqClient(const std::string& address) : context_(1), socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.connect(address);
  }
  void Send(const RawRequest& request) override {
    const bool keys = !request.keys.empty(), values = !request.values.empty();
    using enum zmq::send_flags;
    socket_.send(zmq::buffer(&request.header, sizeof(request.header)), keys || values ? sndmore : none);
    if (keys) socket_.send(FrameOf(request.keys.data(), request.keys.size_bytes()), values ? sndmore : none);
    if (values) socket_.send(FrameOf(request.values.data(), request.values.size_bytes()), none);
  }
  size_t Receive() override {
    zmq::message_t frame;
    size_t bytes = 0;
    do {
      if (!socket_.recv(frame)) std::abort();
      bytes += frame.size();
    } while (frame.more());
    return bytes - sizeof(RawHeader);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

}  // namespace

void ServeZmq(RawService& service, const Announce& announce) {
  KeepFreedMemory();
  zmq::context_t context(1);
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.bind("tcp://127.0.0.1:*");
  announce(socket.get(zmq::sockopt::last_endpoint));
  zmq::message_t peer, header_frame, frame;
  std::vector<zmq::message_t> payload(2);
  for (;;) {
    if (!socket.recv(peer) || !socket.recv(header_frame)) return;
    RawHeader header;
    std::memcpy(&header, header_frame.data(), sizeof(header));
    size_t frames = 0;
    for (bool more = header_frame.more(); more && frames < 2; ++frames) {
      if (!socket.recv(payload[frames])) return;
      more = payload[frames].more();
    }
    const bool has_keys = header.keys > 0;
    const auto keys = has_keys ? ContentOf<HashedKey>(payload[0]) : std::span<const HashedKey>();
    const auto values = header.value_bytes > 0 ? ContentOf<float>(payload[has_keys ? 1 : 0]) : std::span<const float>();
    zmq::message_t reply(header.reply_bytes);
    service.Handle(header, keys, values.data(), static_cast<std::byte*>(reply.data()));
    socket.send(peer, zmq::send_flags::sndmore);
    socket.send(header_frame, header.reply_bytes > 0 ? zmq::send_flags::sndmore : zmq::send_flags::none);
    if (header.reply_bytes > 0) socket.send(reply, zmq::send_flags::none);
  }
}

std::unique_ptr<RawClient> ConnectZmq(const std::string& address) { return std::make_unique<ZmqClient>(address); }

}  // namespace sheaf::bench
