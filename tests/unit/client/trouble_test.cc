// Loss, repeats, reordering, refusals, silence, malformed answers, and configurations that change meanwhile.
#include "tests/unit/client/fake_cluster.h"

namespace sheaf {
namespace {

using namespace client_test;

const ClusterShape kOneShard = {.servers = 1, .shards = 1};

TEST(Trouble, RepeatsAnUnansweredRequestUnderItsNumberAfterDoublingTimes) {
  Harness h({}, kOneShard);
  h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  const uint64_t number = h.Take().at(0).message.header.request();
  std::vector<int64_t> at_ms;
  for (int i = 0; i < 20 * 20; ++i) {
    h.Tick();
    for (const auto& item : h.Take()) {
      EXPECT_EQ(item.message.header.request(), number);
      at_ms.push_back((h.now - TimePoint{}) / Milliseconds(1));
    }
  }
  EXPECT_EQ(at_ms, (std::vector<int64_t>{500, 1500, 3500, 5500, 7500, 9500, 11500, 13500, 15500, 17500,
                                         19500}));
}

TEST(Trouble, NamesThePeerThatWasSilentUntilTheDeadline) {
  Harness h;
  h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  auto items = h.Take();
  for (const auto& item : items) {
    if (item.to != PeerId(111)) h.Answer(item);
  }
  h.TickFor(std::chrono::seconds(29));
  EXPECT_TRUE(h.Completions().empty());
  h.TickFor(std::chrono::seconds(2));
  const Completion done = h.OnlyCompletion();
  EXPECT_EQ(done.status.error().code, ErrorCode::kTimeout);
  EXPECT_NE(done.status.error().message.find("server-1 (tcp://10.0.0.1:7001)"), std::string::npos)
      << done.status.error().message;
  EXPECT_EQ(h.client.operations_in_flight(), 0u);
  h.Take();
  h.TickFor(std::chrono::seconds(10));
  EXPECT_TRUE(h.Take().empty());
}

TEST(Trouble, RequestsWaitingForCreditEndWithTheirSilentPeer) {
  Harness h({.credit_bytes = 100}, kOneShard);
  for (int i = 0; i < 5; ++i) h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  h.TickFor(std::chrono::seconds(31));
  EXPECT_EQ(h.Completions().size(), 5u);
}

TEST(Trouble, AStoppedProcessDoesNotBlameItsPeersForTheGap) {
  Harness h({}, kOneShard);
  const KeyVector keys = MakeKeys(100);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  h.Tick();
  h.Take();
  h.Tick(std::chrono::hours(3));
  EXPECT_TRUE(h.Completions().empty());
  h.AnswerAll();
  EXPECT_TRUE(h.OnlyCompletion().status);
}

TEST(Trouble, NotYetShowsThatThePeerIsAliveAndWhomItWaitsFor) {
  Harness h({}, kOneShard);
  const KeyVector keys = MakeKeys(100);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  Outbox::Item last = h.Take().at(0);
  for (int second = 0; second < 100; ++second) {
    h.Refuse(last, pb::Refusal::NOT_YET, 1, 0, "lane 1 at clock 41");
    h.TickFor(std::chrono::seconds(1));
  }
  EXPECT_EQ(h.client.WaitingFor(h.now), "server-0 (tcp://10.0.0.0:7000): pull, 100.0 s: lane 1 at clock 41");
  h.Answer(last);
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
  EXPECT_EQ(h.client.WaitingFor(h.now), "");
}

TEST(Trouble, PausesAfterRefusalsThatPass) {
  for (const auto reason : {pb::Refusal::OVERLOADED, pb::Refusal::UNKNOWN_EPOCH, pb::Refusal::UNKNOWN_TABLE,
                            pb::Refusal::BEHIND, pb::Refusal::WINDOW_EXCEEDED}) {
    Harness h({}, kOneShard);
    h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {.progress = Training()}, h.now, h.out);
    const Outbox::Item first = h.Take().at(0);
    h.Refuse(first, reason, 1, 200);
    h.Tick(Milliseconds(150));
    EXPECT_TRUE(h.Take().empty());
    h.Tick(Milliseconds(110));
    const auto again = h.Take();
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].message.header.request(), first.message.header.request());
    EXPECT_EQ(again[0].message.header.push().attempt(), first.message.header.push().attempt());
    h.Answer(again[0]);
    EXPECT_TRUE(h.OnlyCompletion().status);
  }
}

TEST(Trouble, AServerBehindTheConfigurationIsToldFromOneWithoutRoom) {
  for (const auto reason : {pb::Refusal::UNKNOWN_EPOCH, pb::Refusal::UNKNOWN_TABLE}) {
    Harness h({}, kOneShard);
    h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {.progress = Training()}, h.now, h.out);
    std::vector<Completion> done;
    for (int i = 0; i < 20 * 40 && done.empty(); ++i) {
      for (const auto& item : h.Take()) h.Refuse(item, reason, 1, 100);
      done = h.Completions();
      h.Tick();
    }
    ASSERT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].status.error().code, ErrorCode::kUnavailable);
  }
}

TEST(Trouble, APeerThatRefusesForNowUntilTheDeadlineEndsTheOperation) {
  Harness h({}, kOneShard);
  h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {.progress = Training()}, h.now, h.out);
  std::vector<Completion> done;
  for (int i = 0; i < 20 * 40 && done.empty(); ++i) {
    for (const auto& item : h.Take()) h.Refuse(item, pb::Refusal::OVERLOADED, 1, 100);
    done = h.Completions();
    h.Tick();
  }
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].status.error().code, ErrorCode::kOverloaded);
  EXPECT_NE(done[0].status.error().message.find("server-0 (tcp://10.0.0.0:7000) has refused a push"), std::string::npos)
      << done[0].status.error().message;
  EXPECT_NE(done[0].status.error().message.find("OVERLOADED"), std::string::npos);
}

TEST(Trouble, SomeRefusalsEndTheOperation) {
  for (const auto& [reason, code] : {std::pair(pb::Refusal::CLOSED, ErrorCode::kClosed),
                                     std::pair(pb::Refusal::INVALID, ErrorCode::kInvalidArgument),
                                     std::pair(pb::Refusal::INVALID_GRADIENT, ErrorCode::kInvalidArgument),
                                     std::pair(pb::Refusal::NOT_FOUND, ErrorCode::kNotFound),
                                     std::pair(pb::Refusal::VERSION_MISMATCH, ErrorCode::kVersionMismatch)}) {
    Harness h;
    h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {.progress = Training()}, h.now, h.out);
    const auto items = h.Take();
    h.Answer(items[0]);
    h.Refuse(items[1], reason);
    const Completion done = h.OnlyCompletion();
    EXPECT_EQ(done.status.error().code, code);
    EXPECT_NE(done.status.error().message.find("because of the test"), std::string::npos);
    for (const auto& item : items) h.Answer(item);
    EXPECT_TRUE(h.Completions().empty());
  }
}

TEST(Trouble, IgnoresAnswersThatAreLateRepeatedUnknownOrFromElsewhere) {
  Harness h;
  const KeyVector keys = MakeKeys(100);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  auto items = h.Take();
  std::ranges::reverse(items);
  Outbox::Item elsewhere = items[0];
  elsewhere.to = items[1].to;
  h.Deliver(elsewhere, h.MakeAnswer(items[0]));
  elsewhere.to = PeerId(999);
  h.Deliver(elsewhere, h.MakeAnswer(items[0]));
  Outbox::Item unknown = items[0];
  unknown.message.header.set_request(12345);
  h.Deliver(unknown, h.MakeAnswer(items[0]));
  for (const auto& item : items) {
    EXPECT_TRUE(h.Completions().empty());
    h.Answer(item);
    h.Answer(item);
    if (&item != &items.back()) h.Refuse(item, pb::Refusal::CLOSED);
  }
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
  EXPECT_EQ(h.client.operations_in_flight(), 0u);
}

TEST(Trouble, AMalformedAnswerEndsTheOperationAndNamesThePeer) {
  const auto damage = std::vector<std::function<void(Message&)>>{
      [](Message& m) { m.values = m.values.Slice(0, m.values.size() - 1); },
      [](Message& m) { m.values = Buffer(); },
      [](Message& m) { m.header.mutable_pull_reply()->add_lsn(1); },
      [](Message& m) { m.header.mutable_pull_reply()->clear_lsn(); },
      [](Message& m) { m.header.mutable_push_reply()->add_lsn(1); },
      [](Message& m) { m.header.mutable_config(); },
      [](Message& m) { m.header.clear_body(); },
      [](Message& m) { m.header.mutable_refusal(); },
  };
  for (const auto& spoil : damage) {
    Harness h({}, kOneShard);
    h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
    const auto item = h.Take().at(0);
    Message answer = h.MakeAnswer(item);
    spoil(answer);
    h.Deliver(item, std::move(answer));
    const Completion done = h.OnlyCompletion();
    ASSERT_FALSE(done.status);
    EXPECT_EQ(done.status.error().code, ErrorCode::kDataLoss);
    EXPECT_NE(done.status.error().message.find("server-0 (tcp://10.0.0.0:7000)"), std::string::npos);
  }
  Harness h({}, kOneShard);
  h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {}, h.now, h.out);
  Message answer;
  for (int lsns = 0; lsns < 2; ++lsns) answer.header.mutable_push_reply()->add_lsn(1);
  h.Deliver(h.Take().at(0), std::move(answer));
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kDataLoss);
}

TEST(Trouble, CancelledOperationsAreForgotten) {
  Harness h({.credit_bytes = 100}, kOneShard);
  const OperationId first = h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 1u);
  h.client.Cancel(first);
  h.client.Cancel(12345);
  h.Answer(items[0]);
  EXPECT_TRUE(h.Completions().empty());
  h.Tick();
  h.AnswerAll();
  EXPECT_EQ(h.Completions().size(), 1u);
}

TEST(Config, OperationsWaitForTheFirstOne) {
  PsClient client(PeerId(5), {});
  Outbox out;
  TimePoint now{};
  client.Pull({{TableId(kTable), MakeKeys(10)}}, {}, now, out);
  EXPECT_TRUE(out.empty());
  EXPECT_NE(client.WaitingFor(now).find("configuration"), std::string::npos);
  client.OnConfig(MakeConfig());
  client.OnTick(now, out);
  EXPECT_FALSE(out.empty());

  PsClient alone(PeerId(6), {});
  alone.Pull({{TableId(kTable), MakeKeys(10)}}, {}, now, out);
  for (int i = 0; i < 31 * 20; ++i) alone.OnTick(now += Milliseconds(50), out);
  const auto completions = alone.TakeCompletions();
  ASSERT_EQ(completions.size(), 1u);
  EXPECT_EQ(completions[0].status.error().code, ErrorCode::kTimeout);
}

TEST(Config, AStaleEpochIsRoutedAnewWhenTheConfigurationComes) {
  Harness h;
  const KeyVector keys = MakeKeys(1000);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  auto items = h.Take();
  ASSERT_EQ(items.size(), 4u);
  h.Answer(items[0]);
  EXPECT_FALSE(h.client.wants_config());
  h.Refuse(items[1], pb::Refusal::STALE_EPOCH, 2);
  EXPECT_TRUE(h.client.wants_config());
  h.Refuse(items[1], pb::Refusal::STALE_EPOCH, 2);   // repeated
  h.Answer(items[3]);
  h.TickFor(std::chrono::seconds(5));
  for (const auto& item : h.Take()) EXPECT_EQ(item.to, items[2].to);   // nothing is sent to the shard that refused
  // The partitions of that shard go to the other server.
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  for (const uint32_t p : h.Named(items[1].to, items[1].message.header.pull())) {
    config.mutable_partition(static_cast<int>(p))->set_epoch(2);
    config.mutable_partition(static_cast<int>(p))->set_primary(items[1].to.value < 110 ? 2 : 1);
  }
  h.client.OnConfig(config);
  EXPECT_FALSE(h.client.wants_config());
  h.Tick();
  const auto again = h.Take();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_NE(again[0].to.value / 10, items[1].to.value / 10);
  h.Answer(again[0]);
  h.Answer(items[1]);   // late, by the old way: ignored
  h.Answer(items[2]);
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
}

TEST(Config, APushIsRoutedAnewToPartitionsThatHaveNotAcknowledgedIt) {
  Harness h({.max_payload_bytes = 3000});
  const KeyVector keys = MakeKeys(1000);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = Training(), .identity = {1, 2, 3}}, h.now,
                h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 8u);   // two slices a shard
  const PeerId acknowledged = items[0].to;
  std::set<uint32_t> done_partitions;
  for (const auto& item : items) {
    if (item.to != acknowledged) continue;
    h.Answer(item);
    for (const uint32_t p : h.Named(item.to, item.message.header.push())) done_partitions.insert(p);
  }
  const auto pushed_before = h.pushed;
  h.slices.clear();
  // Server 1 is gone; server 0 has all.
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  config.mutable_server()->DeleteSubrange(1, 1);
  for (auto& partition : *config.mutable_partition()) {
    if (partition.primary() == 2) partition.set_epoch(2);
    partition.set_primary(1);
  }
  h.client.OnConfig(config);
  h.Tick();
  h.AnswerAll();
  EXPECT_FALSE(h.OnlyCompletion().duplicate);
  ASSERT_EQ(h.pushed.size(), 1000u);
  for (const auto& [key, row] : h.pushed) {
    for (uint32_t c = 0; c < 3; ++c) ASSERT_EQ(row[c], ValueOf(key.second, c)) << "each key reached a shard once";
    if (pushed_before.contains(key)) {
      EXPECT_TRUE(done_partitions.contains(PartitionOf(key.second, 16).value));
    }
  }
  EXPECT_EQ(h.client.operations_in_flight(), 0u);
}

TEST(Config, ANewerOneOfTheSamePlacementMovesNothing) {
  Harness h;
  h.client.Pull({{TableId(kTable), MakeKeys(1000)}}, {}, h.now, h.out);
  const auto items = h.Take();
  h.client.OnConfig(MakeConfig({.generation = 5}));
  h.Tick();
  EXPECT_TRUE(h.Take().empty());
  h.client.OnConfig(MakeConfig({.servers = 1, .generation = 3}));   // older: ignored
  EXPECT_EQ(h.client.config().generation(), 5u);
  for (const auto& item : items) h.Answer(item);
  EXPECT_TRUE(h.OnlyCompletion().status);
}

TEST(Config, StaleUnderTheNewestConfigurationIsAskedAgainAfterAPause) {
  Harness h({}, kOneShard);
  h.client.Pull({{TableId(kTable), MakeKeys(10)}}, {}, h.now, h.out);
  h.Refuse(h.Take().at(0), pb::Refusal::STALE_EPOCH, 1);
  EXPECT_TRUE(h.Take().empty());
  EXPECT_FALSE(h.client.wants_config());
  h.Tick();
  EXPECT_EQ(h.Take().size(), 1u);
}

TEST(Config, WaitingForOneThatNeverComesEnds) {
  Harness h({}, kOneShard);
  h.client.Pull({{TableId(kTable), MakeKeys(10)}}, {}, h.now, h.out);
  h.Refuse(h.Take().at(0), pb::Refusal::STALE_EPOCH, 4);
  h.TickFor(std::chrono::seconds(31));
  const Completion done = h.OnlyCompletion();
  EXPECT_EQ(done.status.error().code, ErrorCode::kTimeout);
  EXPECT_NE(done.status.error().message.find("generation 4"), std::string::npos);
}

TEST(Config, ATableThatIsGoneEndsItsOperations) {
  Harness h;
  h.client.Pull({{TableId(kTable), MakeKeys(10)}}, {}, h.now, h.out);
  h.client.Scan(TableId(kTable), PartitionId(0), std::nullopt, 10, h.now, h.out);
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  config.mutable_table()->DeleteSubrange(0, 1);
  h.client.OnConfig(config);
  h.Tick();
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kClosed);
  EXPECT_EQ(h.client.TakeScans().at(0).status.error().code, ErrorCode::kClosed);
}

TEST(Config, AScanFollowsItsPartition) {
  Harness h;
  h.client.Scan(TableId(kTable), PartitionId(2), std::nullopt, 10, h.now, h.out);
  const auto first = h.Take().at(0);
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  config.mutable_partition(2)->set_epoch(2);
  config.mutable_partition(2)->set_primary(1);
  h.client.OnConfig(config);
  h.Tick();
  const auto second = h.Take();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_NE(second[0].to, first.to);
  EXPECT_EQ(second[0].message.header.scan().epoch(), 2u);
}

TEST(Config, PartitionsWithoutAServerStayWhereTheyWere) {
  Harness h;
  const KeyVector keys = MakeKeys(1000);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  pb::ClusterConfig config = MakeConfig({.generation = 2});
  config.mutable_server()->DeleteSubrange(1, 1);
  h.client.OnConfig(config);
  h.Tick();
  h.AnswerAll();
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
}

}  // namespace
}  // namespace sheaf
