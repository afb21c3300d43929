// Lanes and clocks seen from the client: what a training pull may see under BSP, SSP and ASP.
#include "tests/contract/data_path/world.h"

namespace sheaf {
namespace {

using namespace data_path;

constexpr uint64_t kClocks = 12;

pb::Progress At(uint32_t lane, uint64_t clock) {
  pb::Progress progress;
  progress.set_job(kJob);
  progress.set_pass(0);
  progress.set_lane(lane);
  progress.set_lane_start(0);
  progress.set_clock(clock);
  return progress;
}

PushOptions PushAt(uint32_t lane, uint64_t clock) {
  PushOptions options;
  options.progress = At(lane, clock);
  options.identity = {kJob << 32, lane, clock};   // a range per lane
  options.example_count = 1;
  return options;
}

// Runs lanes on clients: each pulls at its clock, looks at what it sees, and pushes one for each key.
class Lanes {
 public:
  using Look = std::function<void(uint32_t lane, uint64_t clock, const Floats& values)>;

  Lanes(World& world, uint32_t table, uint32_t dim, KeyVector keys, Look look)
      : world_(world), table_(table), dim_(dim), keys_(std::move(keys)), look_(std::move(look)) {}

  void Start(uint32_t lane, uint32_t client, uint64_t clock = 0) {
    if (clock == kClocks) return;
    world_.Pull(client, {{TableId(table_), keys_}}, {.progress = At(lane, clock)}, [=, this](Completion pulled) {
      ASSERT_TRUE(pulled.status) << pulled.status.error().message;
      look_(lane, clock, pulled.values[0]);
      world_.network.Schedule(std::chrono::microseconds(world_.random.Below(20'000)),
                              [=, this] { PushOne(lane, client, clock); });
      ++computing_;
    });
  }
  void Run(uint32_t lanes) {
    for (uint32_t lane = 0; lane < lanes; ++lane) Start(lane, lane % static_cast<uint32_t>(world_.clients.size()));
    const TimePoint limit = world_.clock.Now() + std::chrono::minutes(5);
    while ((computing_ > 0 || !world_.waiting.empty()) && world_.clock.Now() < limit) world_.network.Step();
    EXPECT_TRUE(world_.waiting.empty()) << world_.clients[0].core->WaitingFor(world_.clock.Now());
  }

 private:
  void PushOne(uint32_t lane, uint32_t client, uint64_t clock) {
    --computing_;
    const std::vector<float> ones(keys_->size() * dim_, static_cast<float>(lane + 1));
    world_.Push(client, {{TableId(table_), keys_, ones}}, PushAt(lane, clock), [=, this](Completion pushed) {
      ASSERT_TRUE(pushed.status) << pushed.status.error().message;
      Start(lane, client, clock + 1);
    });
  }

  World& world_;
  uint32_t table_;
  uint32_t dim_;
  KeyVector keys_;
  Look look_;
  int computing_ = 0;
};

TEST(Training, UnderBspEachPullSeesExactlyTheClocksBeforeIt) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    Shape shape{.seed = seed, .clients = 2, .faults = Lossy()};
    if (seed % 2 == 0) shape.client.max_payload_bytes = 800;
    World world(shape);
    world.AddRoster(pb::ConsistencySpec::BSP, 4, kClocks);
    world.Publish();
    world.network.RunFor(Milliseconds(200));
    const KeyVector keys = SomeKeys(world.random, 400, 0.5);
    int looks = 0;
    Lanes lanes(world, kWeights, 2, keys, [&](uint32_t, uint64_t clock, const Floats& values) {
      ++looks;
      // Mean of 1, 2, 3, 4 a clock, taken off by gradient descent.
      for (const float value : values) ASSERT_EQ(value, -2.5f * static_cast<float>(clock)) << "seed " << seed;
    });
    lanes.Run(4);
    EXPECT_EQ(looks, 4 * static_cast<int>(kClocks));
    const ShardStats stats = world.Stats();
    ASSERT_EQ(stats.ledgers.size(), 1u);
    EXPECT_EQ(stats.ledgers[0].min_examples(), 4 * kClocks);   // also in partitions that had no keys of a batch
    EXPECT_EQ(stats.ledgers[0].max_examples(), 4 * kClocks);
  }
}

TEST(Training, UnderSspNoPullMissesWhatTheBoundPromises) {
  for (const uint32_t staleness : {0u, 2u}) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      World world({.seed = seed, .clients = 3, .faults = Lossy()});
      world.AddRoster(pb::ConsistencySpec::SSP, 3, ~uint64_t{0}, staleness);
      world.Publish();
      world.network.RunFor(Milliseconds(200));
      const KeyVector keys = SomeKeys(world.random, 200, 0.5);
      Lanes lanes(world, kSums, 3, keys, [&](uint32_t lane, uint64_t clock, const Floats& values) {
        // Own pushes of all clocks before, and those of the others up to the bound.
        const uint64_t others = clock > staleness ? clock - staleness : 0;
        const auto least = static_cast<float>((lane + 1) * clock + (6 - (lane + 1)) * others);
        for (const float value : values) ASSERT_GE(value, least) << "seed " << seed;
      });
      lanes.Run(3);
      const Completion last = world.PullNow(0, kSums, keys);
      ASSERT_TRUE(last.status);
      for (const float value : last.values[0]) EXPECT_EQ(value, 6.0f * kClocks);
    }
  }
}

TEST(Training, UnderAspEveryPushCountsOnce) {
  World world({.seed = 3, .clients = 3, .faults = Lossy()});
  world.AddRoster(pb::ConsistencySpec::ASP, 3, ~uint64_t{0});
  world.Publish();
  world.network.RunFor(Milliseconds(200));
  const KeyVector keys = SomeKeys(world.random, 200, 0.5);
  Lanes lanes(world, kSums, 3, keys, [](uint32_t, uint64_t, const Floats&) {});
  lanes.Run(3);
  const Completion last = world.PullNow(0, kSums, keys);
  ASSERT_TRUE(last.status);
  for (const float value : last.values[0]) EXPECT_EQ(value, 6.0f * kClocks);
}

TEST(Training, ParkedPullsSayWhomTheyWaitFor) {
  World world({.seed = 1, .clients = 2});
  world.AddRoster(pb::ConsistencySpec::BSP, 2, kClocks);
  world.Publish();
  world.network.RunFor(Milliseconds(200));
  const KeyVector keys = SomeKeys(world.random, 100, 0.5);
  bool answered = false;
  world.Push(0, {{TableId(kWeights), keys, std::vector<float>(keys->size() * 2, 1.0f)}}, PushAt(0, 0),
             [](Completion) {});
  ASSERT_TRUE(world.Settle());
  world.Pull(0, {{TableId(kWeights), keys}}, {.progress = At(0, 1)}, [&](Completion done) {
    answered = true;
    EXPECT_TRUE(done.status);
  });
  world.network.RunFor(std::chrono::seconds(100));   // longer than any deadline: the server is alive
  EXPECT_FALSE(answered);
  EXPECT_NE(world.clients[0].core->WaitingFor(world.clock.Now()).find("lane 1"), std::string::npos)
      << world.clients[0].core->WaitingFor(world.clock.Now());
  world.Push(1, {{TableId(kWeights), keys, std::vector<float>(keys->size() * 2, 1.0f)}}, PushAt(1, 0),
             [](Completion) {});
  ASSERT_TRUE(world.Settle());
  EXPECT_TRUE(answered);
}

TEST(Training, APassThatEndsClosesItsPullsAndPushes) {
  World world({.seed = 1, .clients = 2, .faults = Lossy()});
  world.AddRoster(pb::ConsistencySpec::BSP, 2, kClocks);
  world.Publish();
  world.network.RunFor(Milliseconds(200));
  const KeyVector keys = SomeKeys(world.random, 100, 0.5);
  int closed = 0;
  const auto count = [&](Completion done) { closed += !done.status && done.status.error().code == ErrorCode::kClosed; };
  world.Push(0, {{TableId(kWeights), keys, std::vector<float>(keys->size() * 2, 1.0f)}}, PushAt(0, 0),
             [](Completion) {});
  ASSERT_TRUE(world.Settle());
  world.Pull(0, {{TableId(kWeights), keys}}, {.progress = At(0, 1)}, count);
  world.network.RunFor(Milliseconds(500));
  world.config.clear_roster();
  world.Publish();
  ASSERT_TRUE(world.Settle());
  world.Push(1, {{TableId(kWeights), keys, std::vector<float>(keys->size() * 2, 1.0f)}}, PushAt(1, 0), count);
  ASSERT_TRUE(world.Settle());
  EXPECT_EQ(closed, 2);
}

TEST(Training, EpochsThatRiseMidwayChangeNothingOfABspRun) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Shape shape{.seed = seed, .clients = 2, .faults = Lossy()};
    shape.client.max_payload_bytes = 1000;
    World world(shape);
    world.AddRoster(pb::ConsistencySpec::BSP, 2, kClocks);
    world.Publish();
    world.network.RunFor(Milliseconds(200));
    for (int i = 1; i <= 10; ++i) {
      world.network.Schedule(Milliseconds(60 * i), [&] {
        for (auto& partition : *world.config.mutable_partition()) {
          if (world.random.Chance(0.3)) partition.set_epoch(partition.epoch() + 1);
        }
        world.Publish();
      });
    }
    const KeyVector keys = SomeKeys(world.random, 400, 0.5);
    Lanes lanes(world, kWeights, 2, keys, [&](uint32_t, uint64_t clock, const Floats& values) {
      for (const float value : values) ASSERT_EQ(value, -1.5f * static_cast<float>(clock)) << "seed " << seed;
    });
    lanes.Run(2);
    EXPECT_EQ(world.Stats().ledgers.at(0).min_examples(), 2 * kClocks);
    EXPECT_EQ(world.Stats().ledgers.at(0).max_examples(), 2 * kClocks);
  }
}

}  // namespace
}  // namespace sheaf
