// ZmqContext and ZmqTransport over mailboxes: what a program gets that has this file among its sources.
//
// ThreadSanitizer is blind to ZeroMQ: Debian's library is not built with it, so the order that its queues make between
// threads is not seen, and neither is a race across them. Here messages go from thread to thread through our own
// mailboxes, which it sees, and the shells of all roles (which make their ZmqTransport themselves) run on it unchanged.
// The linker takes these definitions and leaves zmq_transport.cc in its archive.
//
// As with ZeroMQ: a header is serialised by its sender and parsed by its receiver, frames are shared without a copy, a
// full queue is kOverloaded, an unknown peer kNotFound. Some messages are lost and some repeated, as the contract
// allows.
#include <atomic>
#include <map>
#include <mutex>

#include "common/base/strings.h"
#include "common/net/envelope.h"
#include "common/net/zmq_transport.h"
#include "common/runtime/mailbox.h"

namespace sheaf {
namespace {

constexpr uint64_t kLoseEvery = 251;
constexpr uint64_t kRepeatEvery = 97;

struct Letter {
  PeerId from;
  std::vector<Buffer> frames;
};
using Inbox = Mailbox<Letter>;

}  // namespace

// The switchboard of all transports of a context.
struct ZmqContext::Impl {
  std::mutex mutex;  // guards all below
  std::map<std::string, std::shared_ptr<Inbox>> by_address;
  std::map<PeerId, std::shared_ptr<Inbox>> by_peer;  // those that have connected to anybody
  int next_port = 1;

  std::shared_ptr<Inbox> Find(const std::string& address) {
    const std::lock_guard lock(mutex);
    const auto found = by_address.find(address);
    return found == by_address.end() ? nullptr : found->second;
  }
  std::shared_ptr<Inbox> Find(PeerId peer) {
    const std::lock_guard lock(mutex);
    const auto found = by_peer.find(peer);
    return found == by_peer.end() ? nullptr : found->second;
  }
};

ZmqContext::ZmqContext(int /*io_threads*/) : impl_(std::make_unique<Impl>()) {}
ZmqContext::~ZmqContext() = default;

struct ZmqTransport::Impl {
  Impl(ZmqContext::Impl& context, PeerId id, ZmqTransportOptions transport_options)
      : board(context),
        self(id),
        options(std::move(transport_options)),
        inbox(std::make_shared<Inbox>(static_cast<size_t>(options.queue_messages))) {}

  ZmqContext::Impl& board;
  const PeerId self;
  const ZmqTransportOptions options;
  const std::shared_ptr<Inbox> inbox;
  std::map<PeerId, std::string> connected;
  BodyPool bodies;
  uint64_t sends = 0;
  TransportCounters counters;
};

ZmqTransport::ZmqTransport(ZmqContext& context, PeerId self, ZmqTransportOptions options)
    : impl_(std::make_unique<Impl>(*context.impl_, self, std::move(options))) {}

ZmqTransport::~ZmqTransport() {
  impl_->inbox->Close();
  const std::lock_guard lock(impl_->board.mutex);
  std::erase_if(impl_->board.by_address, [&](const auto& entry) { return entry.second == impl_->inbox; });
  std::erase_if(impl_->board.by_peer, [&](const auto& entry) { return entry.second == impl_->inbox; });
}

Result<std::string> ZmqTransport::Bind(const std::string& address) {
  const std::lock_guard lock(impl_->board.mutex);
  std::string bound = address;
  if (bound.ends_with(":0")) bound = bound.substr(0, bound.size() - 1) + std::to_string(impl_->board.next_port++);
  if (!impl_->board.by_address.emplace(bound, impl_->inbox).second)
    return Fail(ErrorCode::kAlreadyExists, bound, " is in use");
  return bound;
}

Status ZmqTransport::Connect(PeerId peer, const std::string& address) {
  impl_->connected[peer] = address;
  const std::lock_guard lock(impl_->board.mutex);
  impl_->board.by_peer[impl_->self] = impl_->inbox;
  return {};
}

void ZmqTransport::Disconnect(PeerId peer) { impl_->connected.erase(peer); }

Status ZmqTransport::Send(PeerId to, Message message) {
  const auto known = impl_->connected.find(to);
  const std::shared_ptr<Inbox> inbox =
      known != impl_->connected.end() ? impl_->board.Find(known->second) : impl_->board.Find(to);
  if (inbox == nullptr) {
    if (known != impl_->connected.end()) return {};  // nobody listens there yet: lost
    return Fail(ErrorCode::kNotFound, "peer ", to, " is not connected");
  }
  SHEAF_ASSIGN_OR_RETURN(std::vector<Buffer> frames, EncodeMessage(std::move(message)));
  ++impl_->counters.messages_sent;
  if (++impl_->sends % kLoseEvery == 0) return {};
  if (impl_->sends % kRepeatEvery == 0) (void)inbox->TryPut(Letter{impl_->self, frames});
  const Status put = inbox->TryPut(Letter{impl_->self, std::move(frames)});
  if (put || put.error().code == ErrorCode::kClosed) return {};
  ++impl_->counters.overloaded;
  return Fail(ErrorCode::kOverloaded, "the queue to peer ", to, " is full");
}

std::optional<ZmqTransport::Received> ZmqTransport::Receive() {
  while (std::optional<Letter> letter = impl_->inbox->TryTake()) {
    Result<Message> message = DecodeMessage(letter->frames, impl_->bodies);
    if (!message) {
      ++impl_->counters.malformed;
      if (impl_->options.on_problem) impl_->options.on_problem(message.error().message);
      continue;
    }
    ++impl_->counters.messages_received;
    return Received{letter->from, std::move(message).value()};
  }
  return std::nullopt;
}

void ZmqTransport::Poll(Duration timeout, std::span<pollfd> fds) {
  std::vector<pollfd> polled{{impl_->inbox->fd(), POLLIN, 0}};
  polled.insert(polled.end(), fds.begin(), fds.end());
  const Duration wait = std::max(timeout, Duration::zero());
  const timespec limit{static_cast<time_t>(wait.count() / 1'000'000'000),
                       static_cast<long>(wait.count() % 1'000'000'000)};
  const int ready = ppoll(polled.data(), polled.size(), &limit, nullptr);
  for (size_t i = 0; i < fds.size(); ++i) fds[i].revents = ready > 0 ? polled[1 + i].revents : 0;
}

BodyPool& ZmqTransport::bodies() { return impl_->bodies; }
PeerId ZmqTransport::self() const { return impl_->self; }
const TransportCounters& ZmqTransport::counters() const { return impl_->counters; }

}  // namespace sheaf
