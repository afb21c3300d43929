// What every Transport promises (common/net/transport.h), held against all of them.
#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/net/envelope.h"
#include "tests/contract/transport/world.h"

namespace sheaf {
namespace {

constexpr PeerId kA{0x1111111111111111};
constexpr PeerId kB{0x2222222222222222};
constexpr PeerId kC{0xffffffffffffffff};

Message Request(uint64_t number) {
  Message message;
  message.header.set_request(number);
  message.header.mutable_get_config();
  return message;
}

Message WithPayload(uint64_t number, size_t key_count, size_t value_bytes) {
  Message message = Request(number);
  std::vector<uint64_t> keys(key_count);
  for (size_t i = 0; i < key_count; ++i) keys[i] = MixKey(i);
  std::vector<uint8_t> values(value_bytes);
  for (size_t i = 0; i < value_bytes; ++i) values[i] = static_cast<uint8_t>(MixKey(number + i));
  message.keys = Buffer::FromVector(std::move(keys));
  message.values = Buffer::FromVector(std::move(values));
  return message;
}

class TransportContract : public testing::TestWithParam<std::string> {
 protected:
  // Sends until the peer has it: a transport may lose a message, above all while it connects.
  Delivery Deliver(Transport& from, PeerId to, World::End& at, const Message& message) {
    for (int attempt = 0; attempt < 50; ++attempt) {
      const Status sent = from.Send(to, message);
      EXPECT_TRUE(sent) << sent.error().message;
      while (auto received = world_->Receive(at, Milliseconds(200))) {
        if (received->message.header.request() == message.header.request()) return std::move(*received);
      }
    }
    ADD_FAILURE() << "not delivered";
    return {};
  }

  std::unique_ptr<World> world_ = MakeWorld(GetParam());
};

TEST_P(TransportContract, DeliversHeaderKeysAndValuesUnchanged) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  const Message sent = WithPayload(7, 1000, 12345);
  const Delivery got = Deliver(client->transport(), kA, *server, sent);
  EXPECT_EQ(got.from, kB);
  EXPECT_EQ(got.message.header.request(), 7u);
  EXPECT_EQ(got.message.header.body_case(), pb::Header::kGetConfig);
  EXPECT_EQ(got.message.keys.text(), sent.keys.text());
  EXPECT_EQ(got.message.values.text(), sent.values.text());
}

TEST_P(TransportContract, DeliversEveryMixOfEmptyAndFullFrames) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  uint64_t number = 0;
  for (const size_t keys : {0, 1, 5, 4096}) {
    for (const size_t values : {0, 1, 7, 600, 70'000}) {
      const Message sent = WithPayload(++number, keys, values);
      const Delivery got = Deliver(client->transport(), kA, *server, sent);
      EXPECT_EQ(got.message.keys.text(), sent.keys.text()) << keys << " " << values;
      EXPECT_EQ(got.message.values.text(), sent.values.text()) << keys << " " << values;
    }
  }
}

TEST_P(TransportContract, AlignsReceivedFramesForNumbers) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  uint64_t number = 0;
  for (const size_t size : {8, 40, 64, 512, 520, 1000, 4000, 8192, 20'000, 300'000}) {
    const Delivery got = Deliver(client->transport(), kA, *server, WithPayload(++number, size / 8, size));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got.message.keys.data()) % 8, 0u) << size;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got.message.values.data()) % 8, 0u) << size;
    EXPECT_EQ(got.message.keys.As<uint64_t>().back(), MixKey(size / 8 - 1));
  }
}

TEST_P(TransportContract, CarriesTheLargestPayloadAndRefusesALargerOne) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  const Message largest = WithPayload(1, 1024, kMaxPayloadBytes - 8 * 1024);
  EXPECT_EQ(Deliver(client->transport(), kA, *server, largest).message.values.text(), largest.values.text());
  const Status refused = client->transport().Send(kA, WithPayload(2, 1024, kMaxPayloadBytes - 8 * 1024 + 1));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(TransportContract, CarriesAHeaderOverItsLimitWhereNoPayloadIs) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  Message message;
  message.header.mutable_refusal()->set_text(std::string(kMaxHeaderBytes, 'x'));
  EXPECT_EQ(Deliver(client->transport(), kA, *server, message).message.header.refusal().text(),
            message.header.refusal().text());
  message.keys = Buffer::FromVector(std::vector<uint64_t>{1});
  const Status refused = client->transport().Send(kA, message);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST_P(TransportContract, AnswersAPeerThatItNeverConnectedTo) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kC);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  Deliver(client->transport(), kA, *server, Request(1));
  const Delivery answer = Deliver(server->transport(), kC, *client, Request(2));
  EXPECT_EQ(answer.from, kA);
}

TEST_P(TransportContract, SaysThatAnUnknownPeerIsNotFound) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  for (auto* end : {server.get(), client.get()}) {
    const Status sent = end->transport().Send(kC, Request(1));
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().code, ErrorCode::kNotFound);
  }
}

TEST_P(TransportContract, AttributesAnAnswerToThePeerNamedInConnect) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kC, server->address()));  // kC is not what the server calls itself
  Deliver(client->transport(), kC, *server, Request(1));
  EXPECT_EQ(Deliver(server->transport(), kB, *client, Request(2)).from, kC);
}

TEST_P(TransportContract, TellsManyPeersApart) {
  auto server = world_->StartListening(kA);
  std::vector<std::unique_ptr<World::End>> clients;
  for (uint64_t i = 1; i <= 20; ++i) {
    clients.push_back(world_->Start(PeerId(i)));
    ASSERT_TRUE(clients.back()->transport().Connect(kA, server->address()));
    EXPECT_EQ(Deliver(clients.back()->transport(), kA, *server, Request(i)).from, PeerId(i));
  }
  for (uint64_t i = 1; i <= 20; ++i) {
    EXPECT_EQ(Deliver(server->transport(), PeerId(i), *clients[i - 1], Request(100 + i)).from, kA);
  }
}

TEST_P(TransportContract, ConnectingTwiceToTheSameAddressIsNoError) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  EXPECT_EQ(Deliver(client->transport(), kA, *server, Request(1)).from, kB);
}

TEST_P(TransportContract, FollowsAPeerToANewAddress) {
  auto old_place = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, old_place->address()));
  Deliver(client->transport(), kA, *old_place, Request(1));
  auto new_place = world_->StartListening(kC);
  ASSERT_TRUE(client->transport().Connect(kA, new_place->address()));
  EXPECT_EQ(Deliver(client->transport(), kA, *new_place, Request(2)).from, kB);
}

TEST_P(TransportContract, ForgetsADisconnectedPeer) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  Deliver(client->transport(), kA, *server, Request(1));
  client->transport().Disconnect(kA);
  client->transport().Disconnect(kA);
  const Status sent = client->transport().Send(kA, Request(2));
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().code, ErrorCode::kNotFound);
}

TEST_P(TransportContract, RefusesAnAddressThatIsNone) {
  auto client = world_->Start(kB);
  for (const std::string address : {"", "localhost", "tcp:/x", "carrier-pigeon://x"}) {
    const Status connected = client->transport().Connect(kA, address);
    ASSERT_FALSE(connected) << address;
    EXPECT_EQ(connected.error().code, ErrorCode::kInvalidArgument) << address;
  }
}

TEST_P(TransportContract, ReachesAPeerThatStartsLater) {
  auto client = world_->Start(kB);
  const std::string address = world_->FreshAddress();
  ASSERT_TRUE(client->transport().Connect(kA, address));
  ASSERT_TRUE(client->transport().Send(kA, Request(1)));
  auto server = world_->StartListening(kA, address);
  EXPECT_EQ(Deliver(client->transport(), kA, *server, Request(2)).from, kB);
}

TEST_P(TransportContract, ReachesAPeerThatWasStartedAgain) {
  auto server = world_->StartListening(kA);
  const std::string address = server->address();
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, address));
  Deliver(client->transport(), kA, *server, Request(1));
  server.reset();
  server = world_->StartListening(kA, address);
  EXPECT_EQ(Deliver(client->transport(), kA, *server, Request(2)).from, kB);
  EXPECT_EQ(Deliver(server->transport(), kB, *client, Request(3)).from, kA);
}

TEST_P(TransportContract, HearsAClientThatWasStartedAgainUnderTheSameId) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  Deliver(client->transport(), kA, *server, Request(1));
  client.reset();
  client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  Deliver(client->transport(), kA, *server, Request(2));
  EXPECT_EQ(Deliver(server->transport(), kB, *client, Request(3)).from, kA);
}

TEST_P(TransportContract, KeepsNoHoldOfASentBufferWhenItIsDelivered) {
  auto server = world_->StartListening(kA);
  auto client = world_->Start(kB);
  ASSERT_TRUE(client->transport().Connect(kA, server->address()));
  auto owner = std::make_shared<std::vector<uint64_t>>(64 << 10);  // 512 KiB: sent without a copy
  std::weak_ptr<std::vector<uint64_t>> watch = owner;
  {
    Message message = Request(1);
    message.values = Buffer(owner, std::as_bytes(std::span(*owner)));
    owner.reset();
    Deliver(client->transport(), kA, *server, message);
  }
  client.reset();  // the I/O thread lets go of it at the latest with the connection
  server.reset();
  world_->Settle();
  EXPECT_TRUE(watch.expired());
}

INSTANTIATE_TEST_SUITE_P(All, TransportContract, testing::Values("sim", "tcp", "ipc", "abstract"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sheaf
