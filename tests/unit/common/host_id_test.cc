#include "common/runtime/host_id.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "common/base/random.h"
#include "common/net/local_address.h"
#include "common/net/zmq_transport.h"

namespace sheaf {
namespace {

constexpr int kNo = 10, kYes = 11, kNotAllowed = 12;

// What a child of this process answers.
int InAChild(const std::function<int()>& question) {
  const pid_t child = fork();
  if (child == 0) _exit(question());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// The same, with a network of the child's own.
int InAnotherNetwork(const std::function<int()>& question) {
  return InAChild([&] { return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 ? question() : kNotAllowed; });
}

TEST(HostId, IsKnownAndTheSameInEveryProcess) {
  const uint64_t here = HostId();
  EXPECT_NE(here, 0u);
  EXPECT_EQ(InAChild([here] { return HostId() == here ? kYes : kNo; }), kYes);
}

TEST(HostId, IsAnotherInAnotherNetworkNamespaceWhereUnixSocketsAreOutOfReach) {
  const uint64_t here = HostId();
  pb::ShardEndpoint shard;
  shard.set_peer(EntropySeed());
  shard.set_address("tcp://10.0.0.1:7071");
  shard.set_host(here);
  const auto question = [&] {
    const bool apart = HostId() != 0 && HostId() != here && !SomebodyListensAt(LocalAddress(PeerId(shard.peer())));
    return apart && AddressToReach(shard, HostId()) == shard.address() ? kYes : kNo;
  };
  if (InAnotherNetwork([] { return kYes; }) == kNotAllowed) GTEST_SKIP() << "no namespaces may be made here";
  ZmqContext context;
  ZmqTransport transport(context, PeerId(shard.peer()));
  ASSERT_TRUE(transport.Bind(LocalAddress(PeerId(shard.peer()))));
  EXPECT_EQ(AddressToReach(shard, HostId()), LocalAddress(PeerId(shard.peer())));
  EXPECT_EQ(InAnotherNetwork(question), kYes);
}

}  // namespace
}  // namespace sheaf
