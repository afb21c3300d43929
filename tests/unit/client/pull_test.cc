#include "tests/unit/client/fake_cluster.h"

namespace sheaf {
namespace {

using namespace client_test;

TEST(Pull, BringsEachRowToItsPlace) {
  for (const ClusterShape shape :
       {ClusterShape{}, ClusterShape{.servers = 1, .shards = 1}, ClusterShape{.partitions = 4096, .servers = 5}}) {
    for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::FP16}) {
      Harness h({}, shape);
      const KeyVector keys = MakeKeys(1000);
      const KeyVector other = MakeKeys(30, 2);
      const OperationId id = h.client.Pull({{TableId(kTable), keys}, {TableId(kOtherTable), other}},
                                           {.progress = {}, .codec = codec}, h.now, h.out);
      h.AnswerAll();
      const Completion done = h.OnlyCompletion();
      ASSERT_TRUE(done.status) << done.status.error().message;
      EXPECT_EQ(done.operation, id);
      EXPECT_EQ(done.values[0], ValuesOf(keys, 3));
      EXPECT_EQ(done.values[1], ValuesOf(other, 1));
      EXPECT_EQ(h.client.operations_in_flight(), 0u);
    }
  }
}

TEST(Pull, NamesOnlyPartitionsThatHaveKeysAndAsksNoOtherShard) {
  Harness h;
  const KeyVector keys = MakeKeys(1);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].message.header.pull().partition_size(), 1);
}

TEST(Pull, OfNothingIsDoneAtOnce) {
  Harness h;
  h.client.Pull({{TableId(kTable), MakeKeys(0)}}, {}, h.now, h.out);
  EXPECT_TRUE(h.Take().empty());
  const Completion done = h.OnlyCompletion();
  EXPECT_TRUE(done.status);
  ASSERT_EQ(done.values.size(), 1u);
  EXPECT_TRUE(done.values[0].empty());
}

TEST(Pull, IsCutIntoMessagesThatHoldTheLimit) {
  Harness h({.max_payload_bytes = 2000});
  const KeyVector keys = MakeKeys(1000);
  h.client.Pull({{TableId(kTable), keys}, {TableId(kOtherTable), keys}}, {}, h.now, h.out);
  const auto items = h.Take();
  EXPECT_GT(items.size(), 12u);
  for (const auto& item : items) {
    const Message answer = h.MakeAnswer(item);
    EXPECT_LE(item.message.keys.size() + answer.values.size(), 2000u);
    h.Answer(item);
  }
  h.AnswerAll();
  const Completion done = h.OnlyCompletion();
  ASSERT_TRUE(done.status);
  EXPECT_EQ(done.values[0], ValuesOf(keys, 3));
  EXPECT_EQ(done.values[1], ValuesOf(keys, 1));
}

TEST(Pull, SendsALongKeyListOnceAndThenNamesIt) {
  Harness h;
  const KeyVector keys = MakeKeys(1000);
  for (int round = 0; round < 3; ++round) {
    h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
    const auto items = h.Take();
    ASSERT_EQ(items.size(), 4u);
    for (const auto& item : items) {
      EXPECT_EQ(item.message.header.pull().block(0).keys().inlined(), round == 0);
      EXPECT_EQ(item.message.header.pull().block(0).keys().remember(), round == 0);
      EXPECT_EQ(item.message.keys.empty(), round != 0);
      h.Answer(item);
    }
    EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
  }
}

TEST(Pull, NamesThePartsOfACutListByTheirOwnSignatures) {
  Harness h({.max_payload_bytes = 4000});
  const KeyVector keys = MakeKeys(2000);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  h.AnswerAll();
  EXPECT_TRUE(h.OnlyCompletion().status);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = {}, .identity = {1, 2, 0}}, h.now, h.out);
  for (const auto& item : h.Take()) {
    EXPECT_TRUE(item.message.keys.empty()) << "a pull and a push of the same list are cut alike";
    h.Answer(item);
  }
  EXPECT_TRUE(h.OnlyCompletion().status);
}

TEST(Pull, SendsShortKeyListsInline) {
  Harness h;
  const KeyVector keys = MakeKeys(20);
  for (int round = 0; round < 2; ++round) {
    h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
    for (const auto& item : h.Take()) {
      EXPECT_TRUE(item.message.header.pull().block(0).keys().inlined());
      EXPECT_FALSE(item.message.header.pull().block(0).keys().remember());
      h.Answer(item);
    }
    h.OnlyCompletion();
  }
}

TEST(Pull, SendsAForgottenKeyListAgain) {
  Harness h;
  const KeyVector keys = MakeKeys(1000);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  h.AnswerAll();
  h.OnlyCompletion();
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  for (const auto& item : h.Take()) h.Refuse(item, pb::Refusal::UNKNOWN_KEY_LIST);
  const auto again = h.Take();
  ASSERT_EQ(again.size(), 4u);
  for (const auto& item : again) {
    EXPECT_TRUE(item.message.header.pull().block(0).keys().inlined());
    h.Answer(item);
  }
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
}

TEST(Pull, AsksAnotherShardForWhatTheClientHasSeenBefore) {
  Harness h({}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(100);
  const auto pull = [&] {
    h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
    return h.Take().at(0);
  };
  h.Answer(pull());   // LSNs 1 to 16
  const auto again = pull();
  EXPECT_EQ(again.message.header.pull().min_lsn_size(), 0);   // the shard knows what it said
  // Others have the same partitions in the same epochs.
  pb::ClusterConfig config = MakeConfig({.servers = 1, .shards = 1, .generation = 2, .first_peer = 500});
  h.client.OnConfig(config);
  h.Take();
  const auto elsewhere = pull();
  EXPECT_EQ(elsewhere.to, PeerId(500));
  ASSERT_EQ(elsewhere.message.header.pull().min_lsn_size(), 16);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(elsewhere.message.header.pull().min_lsn(i), static_cast<uint64_t>(i + 1));
  // One LSN in an answer is that of all partitions.
  Message answer = h.MakeAnswer(elsewhere);
  answer.header.mutable_pull_reply()->clear_lsn();
  answer.header.mutable_pull_reply()->add_lsn(99);
  h.Deliver(elsewhere, std::move(answer));
  EXPECT_EQ(pull().message.header.pull().min_lsn_size(), 0);
  config.set_generation(3);
  config.mutable_server(0)->mutable_shard(0)->set_peer(600);
  h.client.OnConfig(config);
  h.Take();
  const auto third = pull();
  ASSERT_EQ(third.message.header.pull().min_lsn_size(), 16);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(third.message.header.pull().min_lsn(i), 99u);
}

TEST(Pull, NamesAllPartitionsOfAShardAtOnceUnlessThereAreFewerKeys) {
  Harness h({}, {.servers = 1, .shards = 1, .generation = 3});
  h.client.Pull({{TableId(kTable), MakeKeys(16)}}, {}, h.now, h.out);
  h.client.Pull({{TableId(kTable), MakeKeys(15)}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(h.Named(items[0].to, items[0].message.header.pull()).size(), 16u);
  EXPECT_EQ(items[0].message.header.pull().placement().generation(), 3u);
  EXPECT_FALSE(items[1].message.header.pull().has_placement());
  EXPECT_GT(items[1].message.header.pull().partition_size(), 0);
}

TEST(Pull, FillsInTheGenerationOfATrainingPull) {
  Harness h({}, {.generation = 9});
  pb::Progress progress;
  progress.set_lane(2);
  h.client.Pull({{TableId(kTable), MakeKeys(1)}}, {.progress = progress}, h.now, h.out);
  const auto items = h.Take();
  EXPECT_EQ(items[0].message.header.pull().progress().generation(), 9u);
  EXPECT_EQ(items[0].message.header.pull().progress().lane(), 2u);
}

TEST(Pull, RefusesWhatNoServerCanTake) {
  Harness h;
  h.client.Pull({{TableId(99), MakeKeys(1)}}, {}, h.now, h.out);
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kNotFound);
  h.client.Pull({{TableId(kTable), MakeKeys(1)}}, {.progress = {}, .codec = pb::WireSpec::INT8}, h.now, h.out);
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kInvalidArgument);
  h.client.Pull({{TableId(kTable), nullptr}}, {}, h.now, h.out);
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(h.Take().empty());
}

TEST(Pull, KeepsWithinItsCreditAndSendsTheRestInOrder) {
  Harness h({.max_payload_bytes = 2000, .credit_bytes = 6000}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(1000);   // 20 bytes a row: 10 messages of 100 rows
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  auto items = h.Take();
  EXPECT_EQ(items.size(), 3u);
  EXPECT_EQ(h.client.WaitingFor(h.now).substr(0, 32), "server-0 (tcp://10.0.0.0:7000): ");
  h.Answer(items[1]);
  auto next = h.Take();
  ASSERT_EQ(next.size(), 1u);
  EXPECT_GT(next[0].message.header.request(), items[2].message.header.request());
  h.Answer(items[0]);
  h.Answer(items[2]);
  h.Answer(next[0]);
  h.AnswerAll();
  EXPECT_EQ(h.OnlyCompletion().values[0], ValuesOf(keys, 3));
}

TEST(Pull, KeepsWithinWhatAShardThatManyAskAllows) {
  Harness h({.max_payload_bytes = 2000, .credit_bytes = 6000}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(1000);
  h.client.Pull({{TableId(kTable), keys}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 3u);
  const auto answer = [&](const Outbox::Item& item, std::optional<uint64_t> credit) {
    Message message = h.MakeAnswer(item);
    if (credit) message.header.set_credit(*credit);
    h.Deliver(item, std::move(message));
    return h.Take();
  };
  EXPECT_TRUE(answer(items[0], 2500).empty());
  EXPECT_TRUE(answer(items[1], 2500).empty()) << "there is one under way";
  const auto next = answer(items[2], 2500);
  ASSERT_EQ(next.size(), 1u);
  EXPECT_EQ(answer(next[0], std::nullopt).size(), 3u) << "there are fewer who ask now";
}

TEST(Pull, ParkedOnesGiveTheirCreditBack) {
  Harness h({.credit_bytes = 3000}, {.servers = 1, .shards = 1});
  h.client.Pull({{TableId(kTable), MakeKeys(100)}}, {}, h.now, h.out);
  h.client.Pull({{TableId(kTable), MakeKeys(100, 2)}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 1u);
  h.Refuse(items[0], pb::Refusal::NOT_YET, 1, 0, "lane 1 at clock 41");
  EXPECT_EQ(h.Take().size(), 1u);
  EXPECT_NE(h.client.WaitingFor(h.now).find("lane 1 at clock 41"), std::string::npos);
  // A push never waits behind reads.
  h.client.Pull({{TableId(kTable), MakeKeys(100, 3)}}, {}, h.now, h.out);
  EXPECT_TRUE(h.Take().empty());
  h.client.Push({{TableId(kTable), MakeKeys(10), std::vector<float>(30)}}, {}, h.now, h.out);
  EXPECT_EQ(h.Take().size(), 1u);
}

TEST(Scan, ReadsRowsOfAPartitionInOrder) {
  Harness h;
  const KeyVector all = MakeKeys(500);
  std::vector<HashedKey> keys;
  for (const HashedKey key : *all) {
    if (PartitionOf(key, 16).value == 3) keys.push_back(key);
  }
  const auto answer = [&](std::vector<HashedKey> rows, bool done) {
    Message message;
    message.header.mutable_scan_reply()->set_row_count(static_cast<uint32_t>(rows.size()));
    message.header.mutable_scan_reply()->set_done(done);
    message.values = Buffer::FromVector(std::vector<float>(rows.size() * 3, 2.0f));
    message.keys = Buffer::FromVector(std::move(rows));
    return message;
  };
  h.client.Scan(TableId(kTable), PartitionId(3), std::nullopt, 100, h.now, h.out);
  auto items = h.Take();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_FALSE(items[0].message.header.scan().resume());
  h.Deliver(items[0], answer(keys, true));
  auto scans = h.client.TakeScans();
  ASSERT_EQ(scans.size(), 1u);
  ASSERT_TRUE(scans[0].status);
  EXPECT_EQ(scans[0].keys, keys);
  EXPECT_EQ(scans[0].values.size(), keys.size() * 3);
  EXPECT_TRUE(scans[0].done);

  // Out of order, of another partition, or of the wrong size: refused.
  const auto expect_refused = [&](Message bad) {
    h.client.Scan(TableId(kTable), PartitionId(3), std::nullopt, 100, h.now, h.out);
    h.Deliver(h.Take().at(0), std::move(bad));
    const auto refused = h.client.TakeScans();
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_EQ(refused[0].status.error().code, ErrorCode::kDataLoss);
  };
  std::vector<HashedKey> swapped = keys;
  std::swap(swapped[0], swapped[1]);
  expect_refused(answer(swapped, true));
  expect_refused(answer({(*all)[0]}, true));
  expect_refused(answer({}, false));
  Message truncated = answer(keys, true);
  truncated.values = truncated.values.Slice(0, 8);
  expect_refused(std::move(truncated));
}

}  // namespace
}  // namespace sheaf
