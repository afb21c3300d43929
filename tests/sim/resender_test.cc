// Eight defects that a published parameter server's resender has, each held against ours.
//
// That one keeps the numbers of messages it has seen, packed into 64 bits with a byte for each end, and repeats what
// was not acknowledged ten times before it ends the process. What it does wrong is named at each test.
#include <gtest/gtest.h>
#include <malloc.h>

#include <limits>

#include "common/base/build_info.h"
#include "common/net/zmq_transport.h"
#include "scheduler/scheduler_core.h"
#include "tests/contract/data_path/world.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

using data_path::kSums;
using data_path::World;

class Resender : public ShardFixture {
 protected:
  Resender() { Install(); }
  float Value(HashedKey key) { return Pull({key})[0]; }
  size_t AllocatedBytes() const { return mallinfo2().uordblks; }
};

KeyVector KeysEverywhere() {
  std::vector<HashedKey> keys;
  for (uint32_t p = 0; p < 16; ++p) keys.push_back(PartitionFirstKey(PartitionId(p), 16) + 5);
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

std::vector<TableGradients> Ones(const KeyVector& keys) {
  return {{TableId(kSums), keys, std::vector<float>(keys->size() * 3, 1.0F)}};
}

// ---- 1: the set of numbers seen is never pruned

TEST_F(Resender, RemembersManyPushesOfASessionInAsMuchRoomAsAThousand) {
  const auto push = [&](uint64_t first, uint64_t last) {
    // Not in order, and each twice: gaps need the window's bitmap.
    for (uint64_t seq = first; seq < last; seq += 2) {
      for (const uint64_t each : {seq + 1, seq, seq + 1}) {
        Send(MakePush({{Key(static_cast<uint32_t>(each % 4), 1), {1, 0}}}, each));
      }
    }
  };
  push(0, 1000);
  const size_t before = AllocatedBytes();
  push(1000, 200'000);
  const size_t after = AllocatedBytes();
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  (void)before;
  (void)after;  // the sanitizer's allocator does not count for mallinfo2
#else
  ASSERT_GT(before, 0u);
  EXPECT_LT(after, before + 16'384);
#endif
  EXPECT_EQ(Value(Key(0, 1)) + Value(Key(1, 1)) + Value(Key(2, 1)) + Value(Key(3, 1)), -200'000);
}

TEST_F(Resender, ForgetsThePushesOfAPassWithThePass) {
  const auto run_pass = [&](uint32_t pass) {
    config.clear_roster();
    AddRoster(pb::ConsistencySpec::ASP, 1, ~uint64_t{0}, pass);
    Install();
    for (uint64_t range = 0; range < 2000; ++range) {
      ASSERT_TRUE(Ask(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, range, pass), range)).header.has_push_reply());
    }
  };
  run_pass(0);
  run_pass(1);
  const size_t before = AllocatedBytes();
  for (uint32_t pass = 2; pass < 30; ++pass) run_pass(pass);
  const size_t after = AllocatedBytes();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(after, before + 65'536);  // 56,000 streams more: at 24 bytes and four partitions each, 5 MB
#else
  (void)before;
  (void)after;
#endif
  EXPECT_EQ(Value(Key(0, 1)), -60'000);
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0, 3), 0)), "CLOSED");  // not taken for new
}

// ---- 2: sender and receiver are packed into 8 bits each

TEST_F(Resender, TellsPeersAndStreamsApartWhateverBitsTheyDifferIn) {
  uint64_t peers = 0;
  for (int bit = 0; bit < 64; ++bit) {
    const PeerId from(7 ^ (uint64_t{1} << bit));
    // Each peer's first request and first push, of a stream that only differs from all others in one bit.
    Message low = MakePush({{Key(1, 1), {1, 0}}}, 0, std::nullopt, uint64_t{1} << bit);
    Message high = low;
    high.header.mutable_push()->set_stream_low(0);
    high.header.mutable_push()->set_stream_high(uint64_t{1} << bit);
    EXPECT_FALSE(Ask(low, from).header.push_reply().duplicate()) << bit;
    EXPECT_FALSE(Ask(high, from).header.push_reply().duplicate()) << bit;
    peers += 2;
  }
  EXPECT_EQ(Value(Key(1, 1)), -static_cast<float>(peers));
}

// ---- 3: sequence numbers of 31 bits

TEST_F(Resender, CountsOnPastEveryPowerOfTwo) {
  float applied = 0;
  for (const uint64_t edge : {uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 63, ~uint64_t{0} - 8}) {
    for (uint64_t i = 0; i < 16; ++i) {
      const uint64_t seq = edge - 8 + (i ^ 1);  // pairs swapped
      EXPECT_FALSE(Ask(MakePush({{Key(2, 1), {1, 0}}}, seq)).header.push_reply().duplicate()) << seq;
      EXPECT_TRUE(Ask(MakePush({{Key(2, 1), {1, 0}}}, seq)).header.push_reply().duplicate()) << seq;
      ++applied;
    }
  }
  EXPECT_EQ(Value(Key(2, 1)), -applied);
}

// ---- 4: after a restart of the server every retried push is applied twice

// Rows lie in memory only today: what is promised is that the job ends with an error that names the server, and that
// the server that was started again takes nothing that was meant for its former self.
TEST_F(Resender, AServerStartedAgainTakesNoRetriedPushAndItsJobFailsByName) {
  config.mutable_server(0)->mutable_shard(0)->set_peer(999);  // the new incarnation is another peer
  ShardCore again(PeerId(999), {});
  Outbox out;
  again.OnMessage(kClient, MakePush({{Key(0, 1), {1, 0}}}, 0), now, out);
  ASSERT_TRUE(out.items().at(0).message.header.has_refusal());  // of no configuration yet
  out.clear();
  config.clear_table();  // the failed job's are gone
  config.set_generation(config.generation() + 1);
  for (pb::PartitionConfig& partition : *config.mutable_partition()) partition.set_epoch(4);
  ASSERT_TRUE(again.OnConfig(config, now, out));
  again.OnMessage(kClient, MakePush({{Key(0, 1), {1, 0}}}, 0), now, out);
  EXPECT_EQ(out.items().at(0).message.header.refusal().reason(), pb::Refusal::STALE_EPOCH);
  EXPECT_EQ(again.stats().pushes_applied, 0u);

  SchedulerCore scheduler({}, now);
  uint64_t request = 0;
  const auto tell = [&](PeerId from, pb::Header header) {
    header.set_request(++request);
    out.clear();
    scheduler.OnMessage(from, Message{header, {}, {}}, now, out);
  };
  const auto join = [&](PeerId peer, pb::Role role) {
    pb::Header header;
    header.mutable_register_node()->set_role(role);
    header.mutable_register_node()->set_wire_version(kWireVersion);
    header.mutable_register_node()->set_host("host");
    if (role == pb::SERVER) header.mutable_register_node()->add_shard()->set_peer(peer.value + 1);
    tell(peer, header);
  };
  const PeerId server(100), restarted(900), worker(200), person(300);
  join(server, pb::SERVER);
  join(worker, pb::WORKER);
  pb::Header header;
  header.mutable_submit()->mutable_spec()->mutable_data()->set_format(pb::DataSpec::LIBSVM);
  header.mutable_submit()->mutable_spec()->mutable_data()->add_train("rows");
  header.mutable_submit()->mutable_spec()->set_name("job");
  tell(person, header);
  header.mutable_worker_report()->set_sequence(1);
  tell(worker, header);
  header.mutable_worker_report()->set_sequence(2);
  header.mutable_worker_report()->mutable_plan()->set_job(1);
  pb::PlanFile& file = *header.mutable_worker_report()->mutable_plan()->add_file();
  file.set_path("rows");
  file.set_rows(100);
  file.set_rows_per_range(256 * 8);
  file.add_offset(0);
  tell(worker, header);
  ASSERT_EQ(scheduler.FindJob(JobId(1))->Describe(scheduler.members(), now, true).phase(), pb::RUNNING);
  join(restarted, pb::SERVER);
  for (const TimePoint end = now + std::chrono::seconds(12); now < end; now += Milliseconds(100)) {
    scheduler.OnTick(now, out);
    pb::Header report;
    report.mutable_server_report()->set_seen_generation(scheduler.config().generation());
    report.mutable_server_report()->set_config_generation(scheduler.config().generation());
    tell(restarted, report);
  }
  const pb::JobStatus status = scheduler.FindJob(JobId(1))->Describe(scheduler.members(), now, true);
  EXPECT_EQ(status.phase(), pb::FAILED);
  EXPECT_NE(status.detail().find("server-0 (host"), std::string::npos) << status.detail();
  EXPECT_EQ(scheduler.config().table_size(), 0);
}

// ---- 5: a client started again counts from 0 and is taken for its former self

TEST_F(Resender, AClientStartedAgainUnderItsIdIsHeard) {
  for (uint64_t life = 0; life < 3; ++life) {
    // The same peer, the same request numbers, the same counts; the session is drawn anew at each start.
    for (uint64_t seq = 0; seq < 5; ++seq) {
      Message push = MakePush({{Key(0, 1), {1, 0}}}, seq, std::nullopt, MixKey(life));
      EXPECT_FALSE(Ask(push, kClient).header.push_reply().duplicate());
    }
  }
  EXPECT_EQ(Value(Key(0, 1)), -15);
}

TEST_F(Resender, AWorkerStartedAgainRepeatsItsBatchesButCountsEachOnce) {
  AddRoster(pb::ConsistencySpec::ASP, 2);
  Install();
  for (uint64_t seq = 0; seq < 5; ++seq) Ask(MakePush({{Key(0, 1), {1, 0}}}, seq, At(0, seq)));
  // Its replacement has another lane and begins anew at the first batch that was not reported; from there on all is
  // new.
  for (uint64_t seq = 3; seq < 8; ++seq) {
    const Message answer = Ask(MakePush({{Key(0, 1), {1, 0}}}, seq, At(1, seq - 3)), kOtherClient);
    EXPECT_EQ(answer.header.push_reply().duplicate(), seq < 5) << seq;
  }
  EXPECT_EQ(Value(Key(0, 1)), -8);
}

// ---- 6: what is acknowledged was only received

TEST_F(Resender, AnswersAPushOnlyWhenItIsApplied) {
  for (uint64_t seq = 0; seq < 100; ++seq) {
    const auto answers = Send(MakePush({{Key(0, seq), {1, 0}}}, seq));
    ASSERT_TRUE(answers.at(0).message.header.has_push_reply());
    EXPECT_EQ(Value(Key(0, seq)), -1);  // before the answer leaves
  }
}

TEST_F(Resender, AnswersASlicedPushOnlyWhenAllOfItIsApplied) {
  Message first = MakePush({{Key(0, 1), {1, 0}}}, 0), second = MakePush({{Key(3, 1), {1, 0}}}, 0);
  uint32_t slice = 0;
  for (Message* each : {&first, &second}) {
    each->header.mutable_push()->set_slice(slice++);
    each->header.mutable_push()->set_slice_count(2);
    each->header.mutable_push()->set_attempt(1);
  }
  EXPECT_TRUE(Ask(first).header.push_reply().staged());
  EXPECT_EQ(Value(Key(0, 1)), 0);
  bool done = false;
  for (const auto& answer : Send(second)) done |= !answer.message.header.push_reply().staged();
  EXPECT_TRUE(done);
  EXPECT_EQ(Value(Key(0, 1)) + Value(Key(3, 1)), -2);
}

// ---- 7: after ten retries the process ends itself

struct Outage {
  Completion push;
  uint64_t messages = 0;
  std::map<HashedKey, std::vector<float>> rows;
};

// One push while no message goes between the client and one server, for a minute.
Outage PushInAnOutage(Duration deadline) {
  data_path::Shape shape{.seed = 3, .clients = 1};
  shape.client.deadline = deadline;
  World world(shape);
  const PeerId client(1000);
  for (const uint64_t shard : {110, 111}) {
    world.network.Cut(client, PeerId(shard));
    world.network.Cut(PeerId(shard), client);
    world.network.Schedule(std::chrono::seconds(60), [&world, client, shard] {
      world.network.Heal(client, PeerId(shard));
      world.network.Heal(PeerId(shard), client);
    });
  }
  Outage outage;
  PushOptions options;
  options.identity = {1, 2, 0};
  world.Push(0, Ones(KeysEverywhere()), options, [&](Completion done) { outage.push = std::move(done); });
  EXPECT_TRUE(world.Settle());
  outage.messages = world.network.counts().lost;
  world.network.RunFor(std::chrono::seconds(70));
  outage.rows = world.ScanAll(0, kSums, 100);
  return outage;
}

TEST(ResenderOutage, OfAMinuteEndsNothingIfTheDeadlineIsLonger) {
  const Outage outage = PushInAnOutage(std::chrono::seconds(90));
  EXPECT_TRUE(outage.push.status) << outage.push.status.error().message;
  EXPECT_EQ(outage.rows.size(), 16u);
  for (const auto& [key, row] : outage.rows) EXPECT_EQ(row, (std::vector<float>{1, 1, 1}));
  EXPECT_GT(outage.messages, 10u);  // so many retries
  EXPECT_LT(outage.messages, 75u);  // and no flood: in the end one in 2 s to each of two shards
}

TEST(ResenderOutage, OfAMinuteEndsTheOperationByNameIfTheDeadlineIsShorter) {
  const Outage outage = PushInAnOutage(std::chrono::seconds(20));
  ASSERT_FALSE(outage.push.status);
  EXPECT_EQ(outage.push.status.error().code, ErrorCode::kTimeout);
  EXPECT_NE(outage.push.status.error().message.find("server-1"), std::string::npos)
      << outage.push.status.error().message;
  EXPECT_EQ(outage.rows.size(), 8u);  // what reached the other server is there, once
  for (const auto& [key, row] : outage.rows) EXPECT_EQ(row, (std::vector<float>{1, 1, 1}));
}

// ---- retried after its partitions were routed anew

TEST(ResenderRouting, APushIsAppliedOnceHoweverOftenItsPartitionsAreRoutedAnew) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    data_path::Shape shape{.seed = seed, .clients = 1, .faults = data_path::Lossy()};
    shape.faults.loss = 0.4;
    shape.client.first_retry = Milliseconds(20);
    World world(shape);
    uint64_t done = 0;
    for (uint64_t seq = 0; seq < 50; ++seq) {
      PushOptions options;
      options.identity = {1, 2, seq};
      world.Push(0, Ones(KeysEverywhere()), options, [&](Completion completion) {
        EXPECT_TRUE(completion.status) << completion.status.error().message;
        ++done;
      });
      for (pb::PartitionConfig& partition : *world.config.mutable_partition()) {
        if (world.random.Chance(0.3)) partition.set_epoch(partition.epoch() + 1);
      }
      world.Publish();
      world.network.RunFor(Milliseconds(10));
    }
    ASSERT_TRUE(world.Settle());
    EXPECT_EQ(done, 50u);
    const auto rows = world.ScanAll(0, kSums, 100);
    EXPECT_EQ(rows.size(), 16u);
    for (const auto& [key, row] : rows) EXPECT_EQ(row, (std::vector<float>{50, 50, 50})) << "seed " << seed;
  }
}

// ---- 8: one lock around all sending, and queues without bounds or with silent ones

TEST(ResenderTransport, AFullQueueOfADeadPeerDelaysNobodyElse) {
  constexpr PeerId kLiving{10}, kDead{11}, kSender{20};
  ZmqContext context;
  ZmqTransport living(context, kLiving);
  const std::string address = *living.Bind("tcp://127.0.0.1:0");
  ZmqTransport sender(context, kSender, {.queue_messages = 256, .linger = Duration::zero()});
  ASSERT_TRUE(sender.Connect(kDead, "tcp://127.0.0.1:1"));
  ASSERT_TRUE(sender.Connect(kLiving, address));
  const auto message = [](uint64_t number) {
    Message made;
    made.header.set_request(number);
    made.header.mutable_get_config();
    return made;
  };
  Status full;
  for (uint64_t sent = 0; (full = sender.Send(kDead, message(0))); ++sent) ASSERT_LT(sent, 1000u);
  EXPECT_EQ(full.error().code, ErrorCode::kOverloaded);
  const SystemClock clock;
  for (uint64_t number = 1; number <= 1000; ++number) {
    ASSERT_TRUE(sender.Send(kLiving, message(number)));
    ASSERT_FALSE(sender.Send(kDead, message(number)));
    const TimePoint until = clock.Now() + std::chrono::seconds(10);
    std::optional<ZmqTransport::Received> received;
    while (!(received = living.Receive()) && clock.Now() < until) living.Poll(until - clock.Now(), {});
    ASSERT_TRUE(received);
    EXPECT_EQ(received->message.header.request(), number);
  }
}

}  // namespace
}  // namespace sheaf
