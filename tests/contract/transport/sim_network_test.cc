// The simulated network does what it is told, the same way every time.
#include "tests/sim/sim_network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace sheaf::sim {
namespace {

constexpr PeerId kServer{1};
constexpr PeerId kClient{2};

Message Numbered(uint64_t number) {
  Message message;
  message.header.set_request(number);
  return message;
}

struct Network {
  explicit Network(uint64_t seed) : random(seed) {
    server = net.Start(kServer, "sim://server", [this](PeerId from, Message message) {
      order.push_back(message.header.request());
      ++copies[message.header.request()];
      (void)server->Send(from, std::move(message));
    });
    client = net.Start(kClient, "", [this](PeerId, Message) { ++answers; });
    EXPECT_TRUE(client->Connect(kServer, "sim://server"));
  }
  void SendMany(uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) EXPECT_TRUE(client->Send(kServer, Numbered(i)));
    net.RunFor(std::chrono::seconds(1));
  }

  ManualClock clock;
  Random random;
  SimNetwork net{clock, random};
  std::unique_ptr<SimTransport> server;
  std::unique_ptr<SimTransport> client;
  std::vector<uint64_t> order;
  std::map<uint64_t, int> copies;
  int answers = 0;
};

TEST(SimNetwork, KeepsTheOrderOfALinkWithoutFaults) {
  Network world(1);
  world.SendMany(500);
  ASSERT_EQ(world.order.size(), 500u);
  EXPECT_TRUE(std::is_sorted(world.order.begin(), world.order.end()));
  EXPECT_EQ(world.answers, 500);
}

TEST(SimNetwork, LosesRepeatsAndReordersAsOftenAsTold) {
  Network world(1);
  world.net.SetFaults(kClient, kServer, {.loss = 0.1, .duplicate = 0.2, .reorder = 0.5});
  world.SendMany(2000);
  const auto repeated =
      std::count_if(world.copies.begin(), world.copies.end(), [](const auto& c) { return c.second == 2; });
  EXPECT_NEAR(static_cast<double>(world.order.size()), 2000 * (0.9 + 0.2), 100);
  EXPECT_NEAR(static_cast<double>(repeated), 2000 * 0.9 * 0.2, 80);
  EXPECT_FALSE(std::is_sorted(world.order.begin(), world.order.end()));
  EXPECT_EQ(world.answers, static_cast<int>(world.order.size())) << "the way back has no faults";
}

TEST(SimNetwork, DoesTheSameForTheSameSeed) {
  const auto run = [](uint64_t seed) {
    Network world(seed);
    world.net.SetFaults({.loss = 0.1, .duplicate = 0.1, .reorder = 0.3});
    world.SendMany(300);
    return world.net.fingerprint();
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

TEST(SimNetwork, CutsOneWayOnlyUntilHealed) {
  Network world(1);
  world.net.Cut(kServer, kClient);
  world.SendMany(10);
  EXPECT_EQ(world.order.size(), 10u);
  EXPECT_EQ(world.answers, 0);
  world.net.HealAll();
  world.SendMany(10);
  EXPECT_EQ(world.answers, 10);
}

TEST(SimNetwork, ACrashLosesWhatIsUnderWayToTheCrashed) {
  Network world(1);
  ASSERT_TRUE(world.client->Send(kServer, Numbered(1)));
  world.server.reset();
  world.net.RunFor(std::chrono::seconds(1));
  EXPECT_EQ(world.net.counts().delivered, 0u);
  EXPECT_EQ(world.net.counts().lost, 1u);

  // Started again at the same address it is reached, but knows nobody yet.
  int heard = 0;
  auto again = world.net.Start(PeerId(77), "sim://server", [&](PeerId, Message) { ++heard; });
  EXPECT_EQ(again->Send(kClient, Numbered(2)).error().code, ErrorCode::kNotFound);
  world.SendMany(1);
  EXPECT_EQ(heard, 1);
  EXPECT_TRUE(again->Send(kClient, Numbered(2)));
}

TEST(SimNetwork, RunsScheduledActionsInOrderOfTime) {
  ManualClock clock;
  Random random(1);
  SimNetwork net(clock, random);
  std::vector<int> order;
  net.Schedule(Milliseconds(2), [&] { order.push_back(2); });
  net.Schedule(Milliseconds(1), [&] {
    order.push_back(1);
    net.Schedule(Milliseconds(5), [&] { order.push_back(4); });
  });
  net.Schedule(Milliseconds(2), [&] { order.push_back(3); });
  net.RunUntil(TimePoint{} + Milliseconds(3));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(clock.Now(), TimePoint{} + Milliseconds(3));
  EXPECT_TRUE(net.Step());
  EXPECT_FALSE(net.Step());
  EXPECT_EQ(order.back(), 4);
}

}  // namespace
}  // namespace sheaf::sim
