// What only the ZeroMQ transport has: addresses, full queues, and peers that do not speak our language.
// (The rest: tests/contract/transport.)
#include "common/net/zmq_transport.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <zmq.hpp>

#include "common/base/build_info.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr PeerId kServer{10};
constexpr PeerId kClient{20};
constexpr Duration kAnswerWithin = std::chrono::seconds(10);

Message Request(uint64_t number) {
  Message message;
  message.header.set_request(number);
  message.header.mutable_get_config();
  return message;
}

std::optional<ZmqTransport::Received> Await(ZmqTransport& transport, Duration patience = kAnswerWithin) {
  const SystemClock clock;
  const TimePoint until = clock.Now() + patience;
  for (;;) {
    if (auto received = transport.Receive()) return received;
    if (clock.Now() >= until) return std::nullopt;
    transport.Poll(until - clock.Now(), {});
  }
}

// A program that speaks ZeroMQ but is none of ours.
class Stranger {
 public:
  Stranger(const std::string& address, std::string_view routing_id) {
    socket_.set(zmq::sockopt::linger, 0);
    if (!routing_id.empty()) socket_.set(zmq::sockopt::routing_id, routing_id);
    socket_.connect(address);
  }
  void Send(const std::vector<std::string>& frames) {
    for (size_t i = 0; i < frames.size(); ++i) {
      (void)socket_.send(zmq::buffer(frames[i]),
                         i + 1 < frames.size() ? zmq::send_flags::sndmore : zmq::send_flags::none);
    }
  }
  std::string Receive() {
    zmq::message_t frame;
    socket_.set(zmq::sockopt::rcvtimeo, 10'000);
    return socket_.recv(frame) ? frame.to_string() : "";
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_{context_, zmq::socket_type::dealer};
};

const std::string kPeerRoutingId("\x01\x00\x00\x00\x00\x00\x00\x00\x14", 9);  // PeerId 20

TEST(ZmqTransport, NamesTheRealPortOfABoundAddress) {
  ZmqContext context;
  ZmqTransport transport(context, kServer);
  const auto bound = transport.Bind("tcp://127.0.0.1:0");
  ASSERT_TRUE(bound) << bound.error().message;
  EXPECT_TRUE(bound->starts_with("tcp://127.0.0.1:"));
  EXPECT_FALSE(bound->ends_with(":0"));
}

TEST(ZmqTransport, SaysWhatToDoAboutAnAddressInUse) {
  ZmqContext context;
  ZmqTransport first(context, kServer);
  const std::string ipc = StrCat("ipc://", (std::filesystem::temp_directory_path() / "sheaf-unit-").string(), getpid());
  const std::string abstract = StrCat("ipc://@sheaf-unit-", getpid());
  for (const std::string& wanted : {std::string("tcp://127.0.0.1:0"), ipc, abstract}) {
    const std::string address = *first.Bind(wanted);
    ZmqTransport second(context, kClient);
    const auto bound = second.Bind(address);
    ASSERT_FALSE(bound) << address;
    EXPECT_EQ(bound.error().code, ErrorCode::kAlreadyExists);
    EXPECT_NE(bound.error().message.find(address), std::string::npos);
    EXPECT_NE(bound.error().message.find("stop the other process or choose another"), std::string::npos);
  }
}

TEST(ZmqTransport, RefusesAddressesItCannotListenAt) {
  ZmqContext context;
  ZmqTransport transport(context, kServer);
  for (const std::string address :
       {"", "tcp://127.0.0.1", "tcp://192.0.2.1:7000", "ipc:///no/such/folder/x", "ipc://@", "localhost:7000"}) {
    const auto bound = transport.Bind(address);
    ASSERT_FALSE(bound) << address;
    EXPECT_EQ(bound.error().code, ErrorCode::kInvalidArgument) << bound.error().message;
  }
}

TEST(ZmqTransport, RefusesPortsThatDoNotExist) {
  ZmqContext context;
  ZmqTransport transport(context, kServer);
  for (const std::string address : {"tcp://127.0.0.1:65536", "tcp://127.0.0.1:99999", "tcp://[::1]:700000000000"}) {
    const auto bound = transport.Bind(address);
    ASSERT_FALSE(bound) << address;
    const Status connected = transport.Connect(kClient, address);
    ASSERT_FALSE(connected) << address;
    for (const Error& error : {bound.error(), connected.error()}) {
      EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
      EXPECT_NE(error.message.find(address + ": there is no port"), std::string::npos) << error.message;
    }
  }
}

TEST(ZmqTransport, ListensAtSeveralAddresses) {
  ZmqContext context;
  ZmqTransport server(context, kServer);
  const std::string a = *server.Bind("tcp://127.0.0.1:0");
  const std::string b = *server.Bind("tcp://127.0.0.1:0");
  ZmqTransport one(context, PeerId(1)), two(context, PeerId(2));
  ASSERT_TRUE(one.Connect(kServer, a));
  ASSERT_TRUE(two.Connect(kServer, b));
  ASSERT_TRUE(one.Send(kServer, Request(1)));
  ASSERT_TRUE(two.Send(kServer, Request(2)));
  EXPECT_TRUE(Await(server));
  EXPECT_TRUE(Await(server));
}

TEST(ZmqTransport, SaysOverloadedWhenAQueueIsFullAndTakesMoreLater) {
  ZmqContext context;
  ZmqTransport server(context, kServer);
  const std::string address = *server.Bind("tcp://127.0.0.1:0");
  ZmqTransport client(context, kClient, {.queue_messages = 4, .linger = Duration::zero()});
  ASSERT_TRUE(client.Connect(kServer, "tcp://127.0.0.1:1"));  // nobody there
  int sent = 0;
  Status status;
  while ((status = client.Send(kServer, Request(1)))) ASSERT_LT(++sent, 100);
  EXPECT_EQ(sent, 4);
  EXPECT_EQ(status.error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(client.counters().overloaded, 1u);
  ASSERT_TRUE(client.Connect(kServer, address));
  EXPECT_TRUE(client.Send(kServer, Request(2)));
  EXPECT_EQ(Await(server)->message.header.request(), 2u);
}

// As much of ZeroMQ's protocol as it takes to be connected to, and then a frame that cannot be.
void AnswerWithGarbage(int listener) {
  const int peer = accept(listener, nullptr, nullptr);
  ASSERT_GE(peer, 0);
  std::string greeting = std::string("\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL", 16);
  greeting.resize(64);
  const std::string ready("\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER", 30);
  const std::string garbage("\x02\xff\xff\xff\xff\xff\xff\xff\xff", 9);
  for (const std::string& part : {greeting, ready, garbage}) {
    ASSERT_EQ(write(peer, part.data(), part.size()), static_cast<ssize_t>(part.size()));
  }
  char byte;
  while (read(peer, &byte, 1) > 0) continue;  // until it hangs up
  close(peer);
}

TEST(ZmqTransport, ConnectsAgainAfterBytesThatWereNotOfItsProtocol) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  const std::string name = StrCat("tcp://127.0.0.1:", ntohs(address.sin_port));
  ZmqContext context;
  ZmqTransport client(context, kClient, {.renew_after = Milliseconds(50)});
  ASSERT_TRUE(client.Connect(kServer, name));
  ASSERT_NO_FATAL_FAILURE(AnswerWithGarbage(listener));
  close(listener);

  ZmqTransport server(context, kServer);
  ASSERT_TRUE(server.Bind(name));
  const SystemClock clock;
  const TimePoint until = clock.Now() + kAnswerWithin;
  std::optional<ZmqTransport::Received> received;
  while (!received && clock.Now() < until) {
    (void)client.Send(kServer, Request(7));  // as whoever waits for an answer does
    received = Await(server, Milliseconds(20));
  }
  ASSERT_TRUE(received) << "it never connected again";
  EXPECT_EQ(received->message.header.request(), 7u);
}

TEST(ZmqTransport, DropsAndCountsWhatIsNoMessage) {
  std::vector<std::string> problems;
  ZmqContext context;
  ZmqTransport server(context, kServer, {.on_problem = [&](const std::string& text) { problems.push_back(text); }});
  const std::string address = *server.Bind("tcp://127.0.0.1:0");
  Stranger nameless(address, "");
  nameless.Send({"hello"});
  Stranger peer(address, kPeerRoutingId);
  const std::string good = [] {
    Message message = Request(5);
    message.header.set_wire_version(kWireVersion);
    return message.header.SerializeAsString();
  }();
  peer.Send({"\xff\xff"});
  peer.Send({""});
  peer.Send({good, "7 bytes"});
  peer.Send({good, "", "", ""});
  peer.Send({good, "", "", "", "", ""});
  peer.Send({good, "8 bytes."});
  const auto received = Await(server);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->from, kClient);
  EXPECT_EQ(received->message.header.request(), 5u);
  EXPECT_EQ(received->message.keys.text(), "8 bytes.");
  const SystemClock clock;
  for (const TimePoint until = clock.Now() + kAnswerWithin; server.counters().malformed < 6 && clock.Now() < until;) {
    EXPECT_FALSE(server.Receive());
    server.Poll(Milliseconds(10), {});
  }
  EXPECT_EQ(server.counters().malformed, 6u);
  EXPECT_EQ(server.counters().messages_received, 1u);
  EXPECT_EQ(problems.size(), 1u) << "at most one report a second";
}

TEST(ZmqTransport, RefusesAnotherWireVersionInTheSendersVersion) {
  ZmqContext context;
  ZmqTransport server(context, kServer);
  Stranger peer(*server.Bind("tcp://127.0.0.1:0"), kPeerRoutingId);
  Message message = Request(6);
  message.header.set_wire_version(77);
  peer.Send({message.header.SerializeAsString()});
  const SystemClock clock;
  for (const TimePoint until = clock.Now() + kAnswerWithin; server.counters().malformed == 0 && clock.Now() < until;) {
    EXPECT_FALSE(server.Receive());
    server.Poll(Milliseconds(10), {});
  }
  pb::Header answer;
  ASSERT_TRUE(answer.ParseFromString(peer.Receive()));
  EXPECT_EQ(answer.wire_version(), 77u);
  EXPECT_EQ(answer.request(), 6u);
  EXPECT_EQ(answer.refusal().reason(), pb::Refusal::VERSION_MISMATCH);
}

TEST(ZmqTransport, PollWakesForADescriptorOfTheCaller) {
  ZmqContext context;
  ZmqTransport transport(context, kServer);
  ASSERT_TRUE(transport.Bind("tcp://127.0.0.1:0"));
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::vector<pollfd> fds = {{ends[0], POLLIN, 0}};
  transport.Poll(Duration::zero(), fds);
  EXPECT_EQ(fds[0].revents, 0);
  ASSERT_EQ(write(ends[1], "x", 1), 1);
  transport.Poll(kAnswerWithin, fds);
  EXPECT_EQ(fds[0].revents, POLLIN);
  close(ends[0]);
  close(ends[1]);
}

TEST(ZmqTransportConnections, TellsWhoseConnectionHasEnded) {
  ZmqContext context;
  std::vector<PeerId> gone;
  ZmqTransportOptions options;
  options.on_disconnected = [&](PeerId peer) { gone.push_back(peer); };
  ZmqTransport server(context, kServer, options);
  const auto address = server.Bind("tcp://127.0.0.1:0");
  ASSERT_TRUE(address) << address.error().message;
  ZmqTransport other(context, PeerId(21));
  ASSERT_TRUE(other.Connect(kServer, *address));
  ASSERT_TRUE(other.Send(kServer, Request(1)));
  ASSERT_TRUE(Await(server));
  {
    ZmqTransport client(context, kClient);
    ASSERT_TRUE(client.Connect(kServer, *address));
    ASSERT_TRUE(client.Send(kServer, Request(2)));
    ASSERT_TRUE(Await(server));
    EXPECT_TRUE(gone.empty());
  }
  const SystemClock clock;
  for (const TimePoint until = clock.Now() + kAnswerWithin; gone.empty() && clock.Now() < until;) {
    EXPECT_FALSE(server.Receive());
    server.Poll(Milliseconds(100), {});
  }
  EXPECT_EQ(gone, std::vector<PeerId>{kClient});
}

}  // namespace
}  // namespace sheaf
