#include "common/net/local_address.h"

#include <gtest/gtest.h>

#include "common/base/random.h"
#include "common/net/zmq_transport.h"

namespace sheaf {
namespace {

constexpr uint64_t kHere = 11, kElsewhere = 12;

class LocalAddressTest : public ::testing::Test {
 protected:
  // A shard that listens at its unix socket, and says that this is on `host`.
  pb::ShardEndpoint Listening(uint64_t host) {
    EXPECT_TRUE(transport_.Bind(LocalAddress(peer_)));
    return Endpoint(host);
  }
  pb::ShardEndpoint Endpoint(uint64_t host) const {
    pb::ShardEndpoint endpoint;
    endpoint.set_peer(peer_.value);
    endpoint.set_address("tcp://10.0.0.1:7071");
    if (host != 0) endpoint.set_host(host);
    return endpoint;
  }

  ZmqContext context_;
  const PeerId peer_{EntropySeed()};
  ZmqTransport transport_{context_, peer_};
};

TEST_F(LocalAddressTest, NamesTheShard) {
  EXPECT_EQ(LocalAddress(PeerId(0xc0ffee)), "ipc://@sheaf-0000000000c0ffee");
  EXPECT_EQ(LocalAddress(PeerId(~uint64_t{0})), "ipc://@sheaf-ffffffffffffffff");
}

TEST_F(LocalAddressTest, OfOneHostIsTheUnixSocket) {
  EXPECT_EQ(AddressToReach(Listening(kHere), kHere), LocalAddress(peer_));
}

TEST_F(LocalAddressTest, OfAnotherHostIsTcp) {
  EXPECT_EQ(AddressToReach(Listening(kElsewhere), kHere), "tcp://10.0.0.1:7071");
}

TEST_F(LocalAddressTest, OfUnknownHostsIsTcp) {
  const pb::ShardEndpoint nowhere = Listening(0);
  EXPECT_EQ(AddressToReach(nowhere, 0), "tcp://10.0.0.1:7071");
  EXPECT_EQ(AddressToReach(nowhere, kHere), "tcp://10.0.0.1:7071");
  EXPECT_EQ(AddressToReach(Endpoint(kHere), 0), "tcp://10.0.0.1:7071");
}

TEST_F(LocalAddressTest, OfOneHostWhereNobodyListensIsTcp) {
  EXPECT_EQ(AddressToReach(Endpoint(kHere), kHere), "tcp://10.0.0.1:7071");
}

TEST_F(LocalAddressTest, SaysWhetherSomebodyListens) {
  const std::string address = LocalAddress(peer_);
  EXPECT_FALSE(SomebodyListensAt(address));
  Listening(kHere);
  EXPECT_TRUE(SomebodyListensAt(address));
  EXPECT_FALSE(SomebodyListensAt(address + "0"));
  EXPECT_FALSE(SomebodyListensAt(address.substr(0, address.size() - 1)));
  EXPECT_FALSE(SomebodyListensAt("tcp://127.0.0.1:7070"));
  EXPECT_FALSE(SomebodyListensAt("ipc://@" + std::string(200, 'a')));
}

}  // namespace
}  // namespace sheaf
