#include "common/net/zmq_transport.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>
#include <zmq.hpp>

#include "common/base/block_pool.h"
#include "common/base/strings.h"
#include "common/net/envelope.h"
#include "common/net/local_address.h"

namespace sheaf {
namespace {

// Sending without a copy costs a visit to another core's cache; below this, copying costs less.
constexpr size_t kZeroCopyBytes = 16 << 10;
// A small frame is a piece of ZeroMQ's receive buffer: to keep it would keep all 8 KiB of that.
constexpr size_t kCopyReceivedBytes = 512;
constexpr size_t kFrameAlignment = 8;
constexpr size_t kRoutingIdBytes = 1 + sizeof(uint64_t);
constexpr size_t kSpareBlockBytes = 1 << 20;  // frames' owners, and copies of small frames
constexpr int kMaxSockets = 16 << 10;         // of the process: one for each peer connected to; costs nothing unused

using RoutingId = std::array<uint8_t, kRoutingIdBytes>;

RoutingId RoutingIdOf(PeerId peer) {
  RoutingId id;
  id[0] = 0x01;  // ids that begin with 0 are ZeroMQ's own
  for (size_t i = 0; i < sizeof(uint64_t); ++i) id[1 + i] = static_cast<uint8_t>(peer.value >> (56 - 8 * i));
  return id;
}

std::optional<PeerId> PeerOf(const zmq::message_t& frame) {
  const auto* bytes = static_cast<const uint8_t*>(frame.data());
  if (frame.size() != kRoutingIdBytes || bytes[0] != 0x01) return std::nullopt;
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(uint64_t); ++i) value = value << 8 | bytes[1 + i];
  return PeerId(value);
}

int ToMilliseconds(Duration duration) {
  return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// What is being sent, until ZeroMQ's thread lets go of it.
struct Lent {
  Buffer buffer;
  std::shared_ptr<BlockPool> pool;  // of this
};

void Release(void* /*data*/, void* lent) {
  auto* const done = static_cast<Lent*>(lent);
  const std::shared_ptr<BlockPool> pool = std::move(done->pool);
  std::destroy_at(done);
  pool->GiveBack(done, sizeof(Lent));
}

zmq::message_t FrameOf(Buffer buffer, const std::shared_ptr<BlockPool>& blocks) {
  if (buffer.size() < kZeroCopyBytes) return zmq::message_t(buffer.data(), buffer.size());
  auto* const memory = static_cast<Lent*>(blocks->Take(sizeof(Lent)));
  Lent* const lent = std::construct_at(memory, Lent{std::move(buffer), blocks});
  // ZeroMQ only reads from it; its interface merely lacks the const.
  return zmq::message_t(const_cast<std::byte*>(lent->buffer.data()), lent->buffer.size(), Release, lent);
}

Buffer BufferOf(zmq::message_t& frame, const std::shared_ptr<BlockPool>& blocks) {
  const size_t size = frame.size();
  if (size == 0) return {};
  const bool aligned = reinterpret_cast<uintptr_t>(frame.data()) % kFrameAlignment == 0;
  if (size <= kCopyReceivedBytes || !aligned) {
    auto copy = std::allocate_shared_for_overwrite<uint64_t[]>(PoolAllocator<uint64_t>(blocks), (size + 7) / 8);
    std::memcpy(copy.get(), frame.data(), size);
    const auto* begin = reinterpret_cast<const std::byte*>(copy.get());
    return Buffer(std::move(copy), {begin, size});
  }
  auto owner = std::allocate_shared<zmq::message_t>(PoolAllocator<zmq::message_t>(blocks), std::move(frame));
  const auto* begin = static_cast<const std::byte*>(owner->data());
  return Buffer(std::move(owner), {begin, size});
}

std::span<const std::byte> BytesOf(const zmq::message_t& frame) {
  return {static_cast<const std::byte*>(frame.data()), frame.size()};
}

// False: nothing there, or the socket's context ends.
bool TryReceive(zmq::socket_t& socket, zmq::message_t& frame) {
  for (;;) {
    if (zmq_msg_recv(frame.handle(), socket.handle(), ZMQ_DONTWAIT) >= 0) return true;
    if (zmq_errno() != EINTR) return false;
  }
}

// 0 or errno.
int TrySend(zmq::socket_t& socket, zmq::message_t& frame, bool more) {
  const int flags = ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0);
  for (bool asked = false;;) {
    if (zmq_msg_send(frame.handle(), socket.handle(), flags) >= 0) return 0;
    const int error = zmq_errno();
    if (error == EINTR) continue;
    if (error != EAGAIN || asked) return error;
    // A sender looks only every millisecond for what its peers have read: a queue may be full for it that is not.
    asked = true;
    int events = 0;
    size_t size = sizeof(events);
    (void)zmq_getsockopt(socket.handle(), ZMQ_EVENTS, &events, &size);
  }
}

Failure AddressFailure(const char* act, const std::string& address, int error) {
  switch (error) {
    case EADDRINUSE:
      return Fail(ErrorCode::kAlreadyExists, act, " ", address,
                  ": the address is in use: stop the other process or choose another ",
                  address.starts_with("tcp://") ? "port" : "name");
    case EACCES:
      return Fail(ErrorCode::kPermissionDenied, act, " ", address, ": ", zmq_strerror(error),
                  ": choose a port from 1024 or a folder you may write to");
    case EADDRNOTAVAIL:
    case ENODEV:
      return Fail(ErrorCode::kInvalidArgument, act, " ", address,
                  ": no interface of this machine has this address: use * or one that `ip addr` shows");
    case EMFILE:
    case ENFILE:
      return Fail(ErrorCode::kResourceExhausted, act, " ", address, ": ", zmq_strerror(error), ": raise ulimit -n");
    case EINVAL:
    case EPROTONOSUPPORT:
    case ENAMETOOLONG:
    case ENOENT:
      return Fail(ErrorCode::kInvalidArgument, act, " ", address, ": ", zmq_strerror(error),
                  ": an address is tcp://HOST:PORT, ipc://@NAME or ipc://PATH (at most 107 letters, in a folder that "
                  "exists)");
    default:
      return Fail(ErrorCode::kIo, act, " ", address, ": ", zmq_strerror(error));
  }
}

// ZeroMQ takes a port modulo 65536: it would listen, or knock, somewhere else.
Status CheckPort(const char* act, const std::string& address) {
  const size_t colon = address.rfind(':');
  if (!address.starts_with("tcp://") || colon == std::string::npos) return {};
  const std::string port = address.substr(colon + 1);
  if (port.empty() || port.find_first_not_of("0123456789") != std::string::npos) return {};  // ZeroMQ says what it is
  if (port.size() <= 5 && std::stoul(port) <= 65535) return {};
  return Fail(ErrorCode::kInvalidArgument, act, " ", address, ": there is no port ", port, ": ports end at 65535");
}

// ZeroMQ names what it bound in IPv6 terms ([::ffff:127.0.0.1]); only its port (or ipc path) is news.
std::string WithRealPort(const std::string& wanted, const std::string& bound) {
  if (!wanted.starts_with("tcp://")) return bound;
  return wanted.substr(0, wanted.rfind(':')) + bound.substr(bound.rfind(':'));
}

}  // namespace

struct ZmqContext::Impl {
  explicit Impl(int io_threads) : context(io_threads, kMaxSockets) {}
  zmq::context_t context;
};

ZmqContext::ZmqContext(int io_threads) : impl_(std::make_unique<Impl>(io_threads)) {}
ZmqContext::~ZmqContext() = default;

struct ZmqTransport::Impl {
  // ZMQ_FD is edge-triggered and any call on the socket may swallow the edge. So a socket is asked for messages until
  // it has none, and only one whose last call was that asking may be waited for: `may_have_messages` is false then.
  struct Socket {
    zmq::socket_t socket;
    bool is_router = false;
    bool is_monitor = false;
    PeerId peer;  // DEALER: whom it is connected to
    std::string address;
    bool may_have_messages = true;
    std::optional<TimePoint> refused_since{};  // DEALER: no message was taken since then
  };

  Impl(zmq::context_t& zmq_context, PeerId id, ZmqTransportOptions transport_options)
      : context(zmq_context), self(id), options(std::move(transport_options)) {}

  std::unique_ptr<Socket> MakeSocket(bool is_router);
  Status SendFrames(Socket& socket, PeerId to, Message& message, size_t header_bytes);
  std::optional<Received> ReceiveFrom(Socket& socket);
  size_t ReceiveFrames(Socket& socket);
  bool IsBroken(Socket& socket);
  void WatchConnections();
  // Tells of connections that have ended.
  void ReadMonitor(Socket& monitor);
  void NoteConnection(PeerId from);
  void Problem(const std::string& text);
  void SocketsChanged();

  zmq::context_t& context;
  const PeerId self;
  const ZmqTransportOptions options;
  std::unique_ptr<Socket> router;  // made by Bind
  std::unique_ptr<Socket> monitor;  // of its connections; or nullptr
  std::unordered_map<int, PeerId> heard_over;         // by file descriptor: who was heard last
  std::unordered_map<PeerId, int> connections;        // the same by peer
  std::unordered_map<PeerId, std::unique_ptr<Socket>> dealers;
  std::vector<Socket*> sockets;                       // the router and the dealers, in order of making
  std::vector<pollfd> polled;                         // one for each of sockets, then the caller's
  size_t next_socket = 0;                             // whose turn it is in Receive
  std::array<zmq::message_t, 1 + kMaxFrames> frames;  // of the message being received
  const std::shared_ptr<BlockPool> blocks = std::make_shared<BlockPool>(kSpareBlockBytes);
  BodyPool bodies;
  TransportCounters counters;
  SystemClock clock;
  TimePoint last_report{};
  uint64_t unreported = 0;
};

std::unique_ptr<ZmqTransport::Impl::Socket> ZmqTransport::Impl::MakeSocket(bool is_router) {
  namespace opt = zmq::sockopt;
  auto made = std::make_unique<Socket>();
  made->is_router = is_router;
  made->socket = zmq::socket_t(context, is_router ? zmq::socket_type::router : zmq::socket_type::dealer);
  zmq::socket_t& socket = made->socket;
  socket.set(opt::sndhwm, options.queue_messages);
  socket.set(opt::rcvhwm, options.queue_messages);
  socket.set(opt::linger, ToMilliseconds(options.linger));
  socket.set(opt::maxmsgsize, static_cast<int64_t>(kMaxPayloadBytes));
  socket.set(opt::handshake_ivl, ToMilliseconds(options.handshake_timeout));
  socket.set(opt::heartbeat_ivl, ToMilliseconds(options.heartbeat_every));
  socket.set(opt::heartbeat_timeout, ToMilliseconds(options.heartbeat_timeout));
  socket.set(opt::ipv6, true);
  if (is_router) {
    socket.set(opt::router_mandatory, true);  // an unknown peer is an error, not silence
    // A peer that connects anew is served before its old connection is found dead.
    socket.set(opt::router_handover, true);
    socket.set(opt::backlog, 1024);
  } else {
    const RoutingId id = RoutingIdOf(self);
    socket.set(opt::routing_id, zmq::const_buffer(id.data(), id.size()));
    socket.set(opt::reconnect_ivl, ToMilliseconds(options.reconnect_first));
    socket.set(opt::reconnect_ivl_max, ToMilliseconds(options.reconnect_longest));
  }
  return made;
}

void ZmqTransport::Impl::SocketsChanged() {
  polled.clear();
  for (Socket* socket : sockets) polled.push_back({socket->socket.get(zmq::sockopt::fd), POLLIN, 0});
  next_socket = 0;
}

void ZmqTransport::Impl::Problem(const std::string& text) {
  ++unreported;
  const TimePoint now = clock.Now();
  if (!options.on_problem || (last_report != TimePoint{} && now - last_report < std::chrono::seconds(1))) return;
  options.on_problem(unreported == 1 ? text : StrCat(text, " (and ", unreported - 1, " more)"));
  last_report = now;
  unreported = 0;
}

// On failure nothing was sent. After the first frame is in, all of them must go in: ZeroMQ drops the rest by itself if
// the connection is lost in between, and takes the next message's frames for this one's if they were left out.
Status ZmqTransport::Impl::SendFrames(Socket& socket, PeerId to, Message& message, size_t header_bytes) {
  socket.may_have_messages = true;  // sending swallows edges
  const size_t frame_count = FrameCount(message);
  const size_t keys_bytes = message.keys.size();
  const size_t values_bytes = message.values.size();

  zmq::message_t header(header_bytes);
  WriteHeader(message.header, {static_cast<std::byte*>(header.data()), header_bytes});
  int error = 0;
  if (socket.is_router) {
    const RoutingId id = RoutingIdOf(to);
    zmq::message_t id_frame(id.data(), id.size());
    error = TrySend(socket.socket, id_frame, true);
    if (error == 0) TrySend(socket.socket, header, frame_count > 1);
  } else {
    error = TrySend(socket.socket, header, frame_count > 1);
  }
  if (error == EAGAIN) {
    ++counters.overloaded;
    return Fail(ErrorCode::kOverloaded, "the queue to peer ", to, " ", socket.address, " is full (",
                options.queue_messages, " messages): try again later");
  }
  if (error == EHOSTUNREACH) return Fail(ErrorCode::kNotFound, "peer ", to, " is not connected");
  if (error != 0) return Fail(ErrorCode::kUnavailable, "sending to peer ", to, ": ", zmq_strerror(error));
  if (frame_count > 1) {
    zmq::message_t keys = FrameOf(std::move(message.keys), blocks);
    TrySend(socket.socket, keys, frame_count > 2);
  }
  if (frame_count > 2) {
    zmq::message_t values = FrameOf(std::move(message.values), blocks);
    TrySend(socket.socket, values, false);
  }
  ++counters.messages_sent;
  counters.bytes_sent += header_bytes + keys_bytes + values_bytes;
  return {};
}

// Takes a whole message off the socket. Answers how many frames it had; those that `frames` has no place for are
// dropped.
size_t ZmqTransport::Impl::ReceiveFrames(Socket& socket) {
  size_t count = 0;
  for (bool more = true; more; ++count) {
    zmq::message_t dropped;
    zmq::message_t& frame = count < frames.size() ? frames[count] : dropped;
    if (!TryReceive(socket.socket, frame)) return count;
    more = frame.more();
  }
  return count;
}

// Asked when a socket has just refused a message.
bool ZmqTransport::Impl::IsBroken(Socket& socket) {
  if (socket.is_router) return false;
  const TimePoint now = clock.Now();
  if (!socket.refused_since) socket.refused_since = now;
  return now - *socket.refused_since >= options.renew_after;
}

void ZmqTransport::Impl::WatchConnections() {
  const std::string name = StrCat("inproc://connections-", reinterpret_cast<uintptr_t>(this));
  if (zmq_socket_monitor(router->socket.handle(), name.c_str(), ZMQ_EVENT_DISCONNECTED) != 0) return;
  monitor = std::make_unique<Socket>();
  monitor->is_monitor = true;
  monitor->socket = zmq::socket_t(context, zmq::socket_type::pair);
  monitor->socket.set(zmq::sockopt::linger, 0);
  monitor->socket.connect(name);
  sockets.push_back(monitor.get());
}

// Frames: event (16 bits) and value (32 bits, the file descriptor), then the address.
void ZmqTransport::Impl::ReadMonitor(Socket& from) {
  for (zmq::message_t event, address; TryReceive(from.socket, event);) {
    if (event.more()) TryReceive(from.socket, address);
    int32_t fd = -1;
    if (event.size() < sizeof(uint16_t) + sizeof(fd)) continue;
    std::memcpy(&fd, static_cast<const std::byte*>(event.data()) + sizeof(uint16_t), sizeof(fd));
    const auto last = heard_over.find(fd);
    if (last == heard_over.end()) continue;
    const PeerId peer = last->second;
    heard_over.erase(last);
    // One that has connected anew meanwhile was heard over that connection since.
    if (const auto at = connections.find(peer); at == connections.end() || at->second != fd) continue;
    connections.erase(peer);
    options.on_disconnected(peer);
  }
}

// ZeroMQ knows over which connection a message came.
void ZmqTransport::Impl::NoteConnection(PeerId from) {
  const int fd = zmq_msg_get(frames[0].handle(), ZMQ_SRCFD);
  if (fd < 0) return;
  int& known = connections.try_emplace(from, -1).first->second;
  if (known == fd) return;
  if (known >= 0) heard_over.erase(known);
  known = fd;
  heard_over[fd] = from;
}

std::optional<ZmqTransport::Received> ZmqTransport::Impl::ReceiveFrom(Socket& socket) {
  if (socket.is_monitor) {
    ReadMonitor(socket);
    return std::nullopt;
  }
  for (;;) {
    const size_t frame_count = ReceiveFrames(socket);
    if (frame_count == 0) return std::nullopt;
    const size_t first = socket.is_router ? 1 : 0;  // a ROUTER puts the sender's routing id in front
    const std::optional<PeerId> from = socket.is_router ? PeerOf(frames[0]) : socket.peer;
    if (!from) {
      ++counters.malformed;
      Problem("message of an unknown kind of peer dropped: no Sheaf process connects that way");
      continue;
    }
    if (frame_count <= first || frame_count > first + kMaxFrames) {
      ++counters.malformed;
      Problem(
          StrCat("message of peer ", *from, " dropped: ", frame_count - first, " frames, expected 1 to ", kMaxFrames));
      continue;
    }
    const std::span<const std::byte> header = BytesOf(frames[first]);
    size_t bytes = 0;
    for (size_t i = first; i < frame_count; ++i) bytes += frames[i].size();
    Result<Message> message =
        DecodeMessage(header, frame_count > first + 1 ? BufferOf(frames[first + 1], blocks) : Buffer(),
                      frame_count > first + 2 ? BufferOf(frames[first + 2], blocks) : Buffer(), bodies);
    if (!message) {
      ++counters.malformed;
      Problem(StrCat("message of peer ", *from, " dropped: ", message.error().message));
      if (message.error().code == ErrorCode::kVersionMismatch) {
        if (std::optional<Message> refusal = MakeVersionRefusal(header)) {
          // Best effort, as every send: the peer asks again.
          if (const auto size = SealHeader(*refusal)) (void)SendFrames(socket, *from, *refusal, *size);
        }
      }
      continue;
    }
    ++counters.messages_received;
    counters.bytes_received += bytes;
    if (socket.is_router && monitor != nullptr) NoteConnection(*from);
    return Received{*from, std::move(message).value()};
  }
}

ZmqTransport::ZmqTransport(ZmqContext& context, PeerId self, ZmqTransportOptions options)
    : impl_(std::make_unique<Impl>(context.impl_->context, self, std::move(options))) {}
ZmqTransport::~ZmqTransport() = default;

Result<std::string> ZmqTransport::Bind(const std::string& address) {
  SHEAF_RETURN_IF_ERROR(CheckPort("listening at", address));
  // ZeroMQ unlinks the file of an ipc address before it binds, and would take a living process's address away silently.
  // (Of an abstract name the system knows by itself that it is in use.)
  if (SomebodyListensAt(address)) return AddressFailure("listening at", address, EADDRINUSE);
  try {
    if (!impl_->router) {
      impl_->router = impl_->MakeSocket(true);
      impl_->sockets.push_back(impl_->router.get());
      if (impl_->options.on_disconnected) impl_->WatchConnections();
      impl_->SocketsChanged();
    }
    impl_->router->may_have_messages = true;
    impl_->router->socket.bind(address);
    return WithRealPort(address, impl_->router->socket.get(zmq::sockopt::last_endpoint));
  } catch (const zmq::error_t& error) {
    return AddressFailure("listening at", address, error.num());
  }
}

Status ZmqTransport::Connect(PeerId peer, const std::string& address) {
  SHEAF_RETURN_IF_ERROR(CheckPort("connecting to", address));
  if (const auto known = impl_->dealers.find(peer); known != impl_->dealers.end()) {
    if (known->second->address == address) return {};
    Disconnect(peer);
  }
  try {
    auto socket = impl_->MakeSocket(false);
    socket->peer = peer;
    socket->address = address;
    socket->socket.connect(address);
    impl_->sockets.push_back(socket.get());
    impl_->dealers.emplace(peer, std::move(socket));
    impl_->SocketsChanged();
    return {};
  } catch (const zmq::error_t& error) {
    return AddressFailure("connecting to", address, error.num());
  }
}

void ZmqTransport::Disconnect(PeerId peer) {
  const auto known = impl_->dealers.find(peer);
  if (known == impl_->dealers.end()) return;
  std::erase(impl_->sockets, known->second.get());
  zmq_setsockopt(known->second->socket.handle(), ZMQ_LINGER, "\0\0\0\0", sizeof(int));
  impl_->dealers.erase(known);
  impl_->SocketsChanged();
}

Status ZmqTransport::Send(PeerId to, Message message) {
  const auto dealer = impl_->dealers.find(to);
  Impl::Socket* const socket = dealer != impl_->dealers.end() ? dealer->second.get() : impl_->router.get();
  if (socket == nullptr) return Fail(ErrorCode::kNotFound, "peer ", to, " is not connected");
  const Result<size_t> header_bytes = SealHeader(message);
  if (!header_bytes) return Wrap(header_bytes.error(), "message to peer ", to);
  const Status sent = impl_->SendFrames(*socket, to, message, *header_bytes);
  impl_->bodies.Recycle(message.header);
  if (sent) {
    socket->refused_since.reset();
  } else if (sent.error().code == ErrorCode::kOverloaded && impl_->IsBroken(*socket)) {
    const std::string address = socket->address;
    Disconnect(to);
    SHEAF_RETURN_IF_ERROR(Connect(to, address));
  }
  return sent;
}

std::optional<ZmqTransport::Received> ZmqTransport::Receive() {
  const size_t count = impl_->sockets.size();
  for (size_t tried = 0; tried < count; ++tried) {
    Impl::Socket& socket = *impl_->sockets[impl_->next_socket];
    impl_->next_socket = impl_->next_socket + 1 == count ? 0 : impl_->next_socket + 1;
    if (!socket.may_have_messages) continue;
    if (auto received = impl_->ReceiveFrom(socket)) return received;
    socket.may_have_messages = false;
  }
  return std::nullopt;
}

void ZmqTransport::Poll(Duration timeout, std::span<pollfd> fds) {
  const size_t count = impl_->sockets.size();
  for (Impl::Socket* socket : impl_->sockets) {
    // Asking for its events processes what the edge announced, as an unsuccessful Receive does.
    if (socket->may_have_messages) {
      int events = 0;
      size_t size = sizeof(events);
      const int failed = zmq_getsockopt(socket->socket.handle(), ZMQ_EVENTS, &events, &size);
      socket->may_have_messages = failed == 0 && (events & ZMQ_POLLIN) != 0;
    }
    if (socket->may_have_messages) timeout = Duration::zero();
  }
  impl_->polled.resize(count);
  impl_->polled.insert(impl_->polled.end(), fds.begin(), fds.end());
  const Duration wait = std::max(timeout, Duration::zero());
  const timespec limit{static_cast<time_t>(wait.count() / 1'000'000'000),
                       static_cast<long>(wait.count() % 1'000'000'000)};
  const int ready = ppoll(impl_->polled.data(), impl_->polled.size(), &limit, nullptr);
  for (size_t i = 0; i < fds.size(); ++i) fds[i].revents = ready > 0 ? impl_->polled[count + i].revents : 0;
  if (ready <= 0) return;  // time is over, or a signal: the caller's loop comes back
  for (size_t i = 0; i < count; ++i) {
    if (impl_->polled[i].revents != 0) impl_->sockets[i]->may_have_messages = true;
  }
}

BodyPool& ZmqTransport::bodies() { return impl_->bodies; }
PeerId ZmqTransport::self() const { return impl_->self; }
const TransportCounters& ZmqTransport::counters() const { return impl_->counters; }

}  // namespace sheaf
