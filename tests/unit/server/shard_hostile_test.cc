// What no honest client sends: every request is refused as a whole, and nothing is taken on its word. Scans, too.
#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "common/net/envelope.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

class ShardCoreHostile : public ShardFixture {
 protected:
  // Each case spoils a good push and must be refused as invalid.
  void ExpectInvalid(const std::string& what, const std::function<void(Message&, pb::PushRequest&)>& spoil) {
    Message push = MakePush({{Key(0, 1), {1, 1}}, {Key(0, 2), {1, 1}}, {Key(3, 5), {1, 1}}}, 0);
    spoil(push, *push.header.mutable_push());
    EXPECT_EQ(Refusal(push), "INVALID") << what;
    EXPECT_EQ(core->stats().rows, 0U) << what;
  }
};

TEST_F(ShardCoreHostile, RefusesPushesThatDoNotAddUp) {
  Install();
  using Request = pb::PushRequest;
  ExpectInvalid("no partitions", [](Message&, Request& push) { push.clear_partition(); push.clear_epoch(); });
  ExpectInvalid("fewer epochs", [](Message&, Request& push) { push.mutable_epoch()->RemoveLast(); });
  ExpectInvalid("a partition twice", [](Message&, Request& push) { push.set_partition(1, 0); });
  ExpectInvalid("partitions out of order",
                [](Message&, Request& push) { push.mutable_partition()->SwapElements(0, 1); });
  ExpectInvalid("a partition that is not", [](Message&, Request& push) { push.set_partition(3, 4); });
  ExpectInvalid("a very large partition", [](Message&, Request& push) { push.set_partition(3, ~0U); });
  ExpectInvalid("fewer key counts",
                [](Message&, Request& push) { push.mutable_block(0)->mutable_key_count()->RemoveLast(); });
  ExpectInvalid("more keys than sent", [](Message&, Request& push) { push.mutable_block(0)->set_key_count(0, 3); });
  ExpectInvalid("fewer keys than sent", [](Message&, Request& push) { push.mutable_block(0)->set_key_count(0, 1); });
  ExpectInvalid("4 billion keys", [](Message&, Request& push) {
    for (int p = 0; p < 4; ++p) push.mutable_block(0)->set_key_count(p, ~0U);
  });
  ExpectInvalid("keys of another partition", [](Message&, Request& push) {
    push.mutable_block(0)->set_key_count(0, 1);
    push.mutable_block(0)->set_key_count(1, 1);
  });
  ExpectInvalid("keys out of order", [](Message& message, Request&) {
    message.keys = Buffer::FromVector(std::vector<HashedKey>{Key(0, 2), Key(0, 1), Key(3, 5)});
  });
  ExpectInvalid("a key twice", [](Message& message, Request&) {
    message.keys = Buffer::FromVector(std::vector<HashedKey>{Key(0, 1), Key(0, 1), Key(3, 5)});
  });
  ExpectInvalid("a broken keys frame", [](Message& message, Request&) { message.keys = message.keys.Slice(0, 23); });
  ExpectInvalid("a short keys frame", [](Message& message, Request&) { message.keys = message.keys.Slice(0, 16); });
  ExpectInvalid("no keys frame", [](Message& message, Request&) { message.keys = Buffer(); });
  ExpectInvalid("a short values frame",
                [](Message& message, Request&) { message.values = message.values.Slice(0, 23); });
  ExpectInvalid("no values frame", [](Message& message, Request&) { message.values = Buffer(); });
  ExpectInvalid("a long values frame",
                [](Message& message, Request&) { message.values = Buffer::FromVector(std::vector<float>(7)); });
  ExpectInvalid("another codec than sent",
                [](Message&, Request& push) { push.mutable_block(0)->set_codec(pb::WireSpec::INT8); });
  ExpectInvalid("a table twice", [](Message&, Request& push) { *push.add_block() = push.block(0); });
  ExpectInvalid("a slice that is not", [](Message&, Request& push) { push.set_slice(1); });
  ExpectInvalid("no slices", [](Message&, Request& push) { push.set_slice_count(0); });
  ExpectInvalid("too many slices", [](Message&, Request& push) { push.set_slice_count(1025); });
  ExpectInvalid("pull_after of slices", [](Message&, Request& push) {
    push.set_slice_count(2);
    push.set_pull_after(true);
  });
}

TEST_F(ShardCoreHostile, CountsPoisonByWhoSentIt) {
  Install();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, nan}}}, 0)), "INVALID_GRADIENT");
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, nan}}}, 1)), "INVALID_GRADIENT");
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, nan}}}, 0), kOtherClient), "INVALID_GRADIENT");
  EXPECT_EQ(core->stats().poisoned, 3u);
  EXPECT_EQ(core->stats().poison, (std::map<PeerId, uint64_t>{{kClient, 2}, {kOtherClient, 1}}));
  for (uint64_t i = 0; i < 1000; ++i) Send(MakePush({{Key(0, 1), {1, nan}}}, 0), PeerId(1000 + i));
  EXPECT_EQ(core->stats().poisoned, 1003u);
  EXPECT_LE(core->stats().poison.size(), kMostPoisoners) << "whoever can reach the port must not fill the memory";
}

TEST_F(ShardCoreHostile, RefusesGradientsOverTheLimitOfTheirJob) {
  config.mutable_table(0)->mutable_optimizer()->set_max_gradient_norm(5);
  pb::TableSpec& sums = AddTable(2, 2);
  sums.set_update(pb::TableSpec::SUM);
  Install();
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {3, 0}}, {Key(3, 5), {0, 4.001F}}}, 0)), "INVALID_GRADIENT");
  EXPECT_THAT(last_refusal.text(), ::testing::HasSubstr("over optimizer.max_gradient_norm: 5"));
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1e38F, 1e38F}}}, 0)), "INVALID_GRADIENT") << "squares are beyond a float";
  EXPECT_EQ(core->stats().poisoned, 2u);
  EXPECT_EQ(Pull({Key(0, 1), Key(3, 5)}), (std::vector<float>{0, 0, 0, 0}));
  EXPECT_TRUE(Ask(MakePush({{Key(0, 1), {3, 0}}, {Key(3, 5), {0, 4}}}, 0)).header.has_push_reply());
  EXPECT_TRUE(Ask(MakePush({{Key(0, 1), {300, 0}}}, 1, std::nullopt, 0, 2)).header.has_push_reply())
      << "counts are no gradient";
}

TEST_F(ShardCoreHostile, RefusesValuesThatAreNoNumbers) {
  Install();
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, 1}}, {Key(3, 5), {1, value}}}, 0)), "INVALID_GRADIENT");
  }
  Message int8 = MakePush({{Key(0, 1), {1, 1}}}, 0);
  std::vector<std::byte> encoded(6);
  const float scale = 3e38F;  // finite, but not times 127
  std::memcpy(encoded.data(), &scale, 4);
  encoded[4] = encoded[5] = std::byte{127};
  int8.values = Buffer::CopyOf(encoded);
  int8.header.mutable_push()->mutable_block(0)->set_codec(pb::WireSpec::INT8);
  EXPECT_EQ(Refusal(int8), "INVALID_GRADIENT");
  EXPECT_EQ(core->stats().rows, 0U);
}

TEST_F(ShardCoreHostile, ReadsFloatsThatAreNotAligned) {
  AddTable(2, 1);
  Install();
  Message push = MakePush({{Key(0, 1), {1, 2}}}, 0);
  pb::Block& second = *push.header.mutable_push()->add_block();
  FillBlock(second, 2, {Key(0, 1)}, All());
  push.keys = Buffer::FromVector(std::vector<HashedKey>{Key(0, 1), Key(0, 1)});
  push.header.mutable_push()->mutable_block(0)->set_codec(pb::WireSpec::INT8);
  std::vector<std::byte> values(6 + 4);
  const float numbers[] = {1.0F, 5.0F};
  std::memcpy(values.data(), &numbers[0], 4);
  values[4] = std::byte{1};
  values[5] = std::byte{2};
  std::memcpy(values.data() + 6, &numbers[1], 4);
  push.values = Buffer::CopyOf(values);
  EXPECT_TRUE(Ask(push).header.has_push_reply());
  EXPECT_EQ(Pull({Key(0, 1)}), (std::vector<float>{-1, -2}));
  EXPECT_EQ(Pull({Key(0, 1)}, 2), std::vector<float>{-5});
}

TEST_F(ShardCoreHostile, RefusesPullsThatDoNotAddUp) {
  AddTable(2, 65536);
  Install();
  Message int8 = MakePull({Key(0, 1)});
  int8.header.mutable_pull()->mutable_block(0)->set_codec(pb::WireSpec::INT8);
  EXPECT_EQ(Refusal(int8), "INVALID");
  Message values = MakePull({Key(0, 1)});
  values.values = Buffer::FromVector(std::vector<float>(2));
  EXPECT_EQ(Refusal(values), "INVALID");
  std::vector<HashedKey> many;
  for (uint64_t i = 0; i < 1000; ++i) many.push_back(Key(0, i));
  EXPECT_EQ(Refusal(MakePull(many, std::nullopt, 2)), "INVALID");  // 256 MB of answer
}

TEST_F(ShardCoreHostile, AnswersRequestsOfOthersAndIgnoresAnswers) {
  Install();
  Message status;
  status.header.mutable_get_status();
  EXPECT_EQ(Refusal(status), "INVALID");
  Message refusal;
  refusal.header.mutable_refusal();
  EXPECT_TRUE(Send(refusal).empty());
  EXPECT_TRUE(Send(Message{}).empty());
}

TEST_F(ShardCoreHostile, TakesARequestWithoutBlocks) {
  Install();
  Message push = MakePush({}, 0);
  push.header.mutable_push()->clear_block();
  EXPECT_TRUE(Ask(push).header.has_push_reply());
}

TEST_F(ShardCoreHostile, SurvivesRandomChangesOfAGoodRequest) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  AddTable(2, 3);
  Install();
  Random random(11);
  for (int round = 0; round < 3000; ++round) {
    Message message = random.Chance(0.3) ? MakePull({Key(0, 1), Key(3, 5)}, At(0, random.Below(3)))
                                         : MakePush({{Key(0, 1), {1, 1}}, {Key(3, 5), {1, 1}}}, random.Below(4),
                                                    At(0, random.Below(4)));
    std::string bytes = message.header.SerializeAsString();
    for (int flips = 0; flips < 3; ++flips) bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
    if (!message.header.ParseFromString(bytes)) continue;
    if (random.Chance(0.2)) message.keys = message.keys.Slice(0, random.Below(message.keys.size() / 8 + 1) * 8);
    if (random.Chance(0.2)) message.values = message.values.Slice(0, random.Below(message.values.size() + 1));
    Send(message, PeerId(random.Below(3)));
  }
  EXPECT_LE(core->stats().request_bytes, size_t{256} << 20);
}

// ---- scans

class ShardCoreScan : public ShardFixture {
 protected:
  Message MakeScan(uint32_t partition, std::optional<HashedKey> after, uint32_t max_rows) {
    Message message;
    pb::ScanRequest& scan = *message.header.mutable_scan();
    scan.set_table(kTable);
    scan.set_partition(partition);
    scan.set_epoch(3);
    scan.set_max_rows(max_rows);
    scan.set_resume(after.has_value());
    if (after) scan.set_after_key(*after);
    return message;
  }
};

TEST_F(ShardCoreScan, ReadsRowsInKeyOrderPieceByPiece) {
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 100; ++i) rows[Key(2, (i * 37) % 100)] = {static_cast<float>(i), 1};
  rows[Key(1, 0)] = {9, 9};
  Ask(MakePush(rows, 0));
  rows.erase(Key(1, 0));
  Rows seen;
  std::optional<HashedKey> after;
  bool done = false;
  for (int piece = 0; !done && piece < 20; ++piece) {
    const Message answer = Ask(MakeScan(2, after, 30));
    ASSERT_TRUE(answer.header.has_scan_reply());
    const auto keys = answer.keys.As<HashedKey>();
    const auto values = answer.values.As<float>();
    ASSERT_EQ(keys.size(), answer.header.scan_reply().row_count());
    ASSERT_EQ(values.size(), keys.size() * 2);
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_TRUE(!after || keys[i] > *after);
      after = keys[i];
      seen[keys[i]] = {-values[2 * i], -values[2 * i + 1]};
    }
    done = answer.header.scan_reply().done();
  }
  EXPECT_TRUE(done);
  EXPECT_EQ(seen, rows);
}

TEST_F(ShardCoreScan, AnswersAnEmptyPartitionAndItsEnd) {
  Install();
  EXPECT_TRUE(Ask(MakeScan(2, std::nullopt, 10)).header.scan_reply().done());
  Ask(MakePush({{Key(2, 1), {1, 1}}}, 0));
  const Message answer = Ask(MakeScan(2, PartitionLastKey(PartitionId(2), 4), 10));
  EXPECT_TRUE(answer.header.scan_reply().done());
  EXPECT_EQ(answer.header.scan_reply().row_count(), 0U);
}

TEST_F(ShardCoreScan, RefusesWhatItCannotRead) {
  Install();
  EXPECT_EQ(Refusal(MakeScan(4, std::nullopt, 10)), "INVALID");
  EXPECT_EQ(Refusal(MakeScan(2, std::nullopt, 0)), "INVALID");
  EXPECT_EQ(Refusal(MakeScan(2, Key(1, 0), 10)), "INVALID");
  Message scan = MakeScan(2, std::nullopt, 10);
  scan.header.mutable_scan()->set_table(9);
  EXPECT_EQ(Refusal(scan), "UNKNOWN_TABLE");
  scan = MakeScan(2, std::nullopt, 10);
  scan.header.mutable_scan()->set_epoch(2);
  EXPECT_EQ(Refusal(scan), "STALE_EPOCH");
}

TEST_F(ShardCoreScan, KeepsItsAnswersWithinAMessage) {
  config.mutable_table(0)->set_dim(65536);
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 20; ++i) rows[Key(2, i)] = std::vector<float>(65536, 1);
  Ask(MakePush(rows, 0));
  const Message answer = Ask(MakeScan(2, std::nullopt, 1000));
  EXPECT_FALSE(answer.header.scan_reply().done());
  EXPECT_LE(answer.keys.size() + answer.values.size(), kMaxPayloadBytes);
}

}  // namespace
}  // namespace sheaf
