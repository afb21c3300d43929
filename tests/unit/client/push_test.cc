// Pushes: how they are cut, sent and acknowledged.
#include <cmath>

#include "tests/unit/client/fake_cluster.h"

namespace sheaf {
namespace {

using namespace client_test;

// INT8 rows of one number are longer than those of fp32, whose size cuts pulls.
TEST(Push, FitsItsMessagesInEveryCodec) {
  for (const uint32_t dim : {1U, 2U, 3U}) {
    for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::FP16, pb::WireSpec::INT8}) {
      Harness h({}, {.servers = 1, .shards = 1, .dim = dim});
      const KeyVector keys = MakeKeys(400'000);
      PushOptions options;
      options.codec = codec;
      h.client.Push({{TableId(kTable), keys, std::vector<float>(keys->size() * dim, 1.0f)}}, options, h.now, h.out);
      const auto items = h.Take();
      EXPECT_GT(items.size(), 0U);
      for (const auto& item : items) {
        EXPECT_LE(item.message.keys.size() + item.message.values.size(), kMaxPayloadBytes)
            << "dim " << dim << ' ' << pb::WireSpec::Codec_Name(codec);
      }
    }
  }
}

TEST(Push, BringsEachGradientToItsShardOnce) {
  for (const ClusterShape shape :
       {ClusterShape{}, ClusterShape{.servers = 1, .shards = 1}, ClusterShape{.partitions = 4096, .servers = 5}}) {
    for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::FP16}) {
      for (const size_t limit : {size_t{1000}, size_t{4} << 20}) {
        Harness h({.max_payload_bytes = limit}, shape);
        const KeyVector keys = MakeKeys(1000);
        const KeyVector other = MakeKeys(30, 2);
        h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}, {TableId(kOtherTable), other, ValuesOf(other, 1)}},
                      {.progress = Training(), .identity = {1, 2, 3}, .codec = codec}, h.now, h.out);
        h.AnswerAll();
        const Completion done = h.OnlyCompletion();
        ASSERT_TRUE(done.status) << done.status.error().message;
        EXPECT_FALSE(done.duplicate);
        ASSERT_EQ(h.pushed.size(), 1030u);
        for (const auto& [key, row] : h.pushed) {
          for (uint32_t c = 0; c < row.size(); ++c) ASSERT_EQ(row[c], ValueOf(key.second, c));
        }
      }
    }
  }
}

TEST(Push, OfTrainingTellsEveryPartitionOfEveryShardEvenWithoutKeys) {
  Harness h;
  h.client.Push({{TableId(kTable), MakeKeys(1), std::vector<float>(3)}},
                {.progress = Training(), .identity = {1, 2, 3}, .example_count = 7}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 4u);
  int partitions = 0;
  int blocks = 0;
  for (const auto& item : items) {
    const pb::PushRequest& push = item.message.header.push();
    partitions += static_cast<int>(h.Named(item.to, push).size());
    blocks += push.block_size();
    EXPECT_EQ(push.example_count(), 7u);
    EXPECT_EQ(push.slice_count(), 1u);
    EXPECT_EQ(push.seq(), 3u);
    EXPECT_EQ(push.progress().clock(), 4u);
    EXPECT_EQ(push.progress().generation(), 1u);
  }
  EXPECT_EQ(partitions, 16);
  EXPECT_EQ(blocks, 1);
}

TEST(Push, OfOthersTellsOnlyPartitionsWithKeys) {
  Harness h;
  h.client.Push({{TableId(kTable), MakeKeys(1), std::vector<float>(3)}}, {}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 1u);
  EXPECT_EQ(items[0].message.header.push().partition_size(), 1);
  EXPECT_FALSE(items[0].message.header.push().has_progress());
}

TEST(Push, SlicesNameEveryPartitionAndOneAttempt) {
  Harness h({.max_payload_bytes = 1000}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(200);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = Training()}, h.now, h.out);
  const auto items = h.Take();
  ASSERT_EQ(items.size(), 4u);
  for (uint32_t i = 0; i < 4; ++i) {
    const pb::PushRequest& push = items[i].message.header.push();
    EXPECT_EQ(push.slice(), i);
    EXPECT_EQ(push.slice_count(), 4u);
    EXPECT_EQ(push.attempt(), items[0].message.header.push().attempt());
    EXPECT_EQ(h.Named(items[i].to, push).size(), 16u);
    EXPECT_LE(items[i].message.keys.size() + items[i].message.values.size(), 1000u);
  }
}

TEST(Push, SendsASingleTableToASingleShardWithoutCopying) {
  Harness h({}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(200);
  std::vector<float> values = ValuesOf(keys, 3);
  const float* before = values.data();
  std::vector<TableGradients> tables;   // a braced list would copy its elements
  tables.push_back({TableId(kTable), keys, std::move(values)});
  h.client.Push(std::move(tables), {}, h.now, h.out);
  const auto items = h.Take();
  EXPECT_EQ(static_cast<const void*>(items[0].message.values.data()), before);
  EXPECT_EQ(static_cast<const void*>(items[0].message.keys.data()), keys->data());
}

TEST(Push, IsADuplicateOnlyIfEveryShardHadIt) {
  for (const bool all : {false, true}) {
    Harness h;
    h.client.Push({{TableId(kTable), MakeKeys(100), std::vector<float>(300)}}, {.progress = Training()}, h.now, h.out);
    const auto items = h.Take();
    for (const auto& item : items) {
      Message answer = h.MakeAnswer(item);
      answer.header.mutable_push_reply()->set_duplicate(all || item.to == items[0].to);
      h.Deliver(item, std::move(answer));
    }
    EXPECT_EQ(h.OnlyCompletion().duplicate, all);
  }
}

TEST(Push, SendsAllSlicesAgainWhenTheShardLostItsStagingArea) {
  Harness h({.max_payload_bytes = 1000}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(200);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = Training()}, h.now, h.out);
  const auto items = h.Take();
  for (const auto& item : items) {
    Message staged;
    staged.header.mutable_push_reply()->set_staged(true);
    h.Deliver(item, std::move(staged));
  }
  EXPECT_TRUE(h.Take().empty());
  EXPECT_TRUE(h.Completions().empty());
  h.Tick(Milliseconds(70));
  const auto again = h.Take();
  ASSERT_EQ(again.size(), 4u);
  EXPECT_NE(again[0].message.header.push().attempt(), items[0].message.header.push().attempt());
  for (const auto& item : again) h.Answer(item);
  EXPECT_TRUE(h.OnlyCompletion().status);
}

TEST(Push, IsDoneWhenOneSliceIsToldThatAllWasApplied) {
  Harness h({.max_payload_bytes = 1000}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(200);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = Training()}, h.now, h.out);
  const auto items = h.Take();
  Message answer;
  answer.header.mutable_push_reply()->set_duplicate(true);
  for (int i = 0; i < 16; ++i) answer.header.mutable_push_reply()->add_lsn(1);
  h.Deliver(items[2], std::move(answer));
  EXPECT_TRUE(h.OnlyCompletion().duplicate);
  for (const auto& item : items) h.Answer(item);   // late: ignored
  EXPECT_TRUE(h.Completions().empty());
}

TEST(Push, RefusesValuesThatDoNotFitTheKeys) {
  Harness h;
  h.client.Push({{TableId(kTable), MakeKeys(10), std::vector<float>(29)}}, {}, h.now, h.out);
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kInvalidArgument);
}

TEST(Push, RefusesMoreSlicesThanAServerTakes) {
  Harness h({.max_payload_bytes = 1}, {.servers = 1, .shards = 1});
  h.client.Push({{TableId(kTable), MakeKeys(1025), std::vector<float>(1025 * 3)}}, {}, h.now, h.out);
  EXPECT_EQ(h.OnlyCompletion().status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(h.Take().empty());
  EXPECT_EQ(h.client.operations_in_flight(), 0u);
}

TEST(Push, WithInt8KeepsWhatRoundingLostForTheNextPushOfTheKey) {
  Harness h({.max_payload_bytes = 500});
  const KeyVector keys = MakeKeys(100);
  std::vector<float> gradient;
  for (size_t i = 0; i < 300; ++i) gradient.push_back(std::sin(static_cast<float>(i)));
  constexpr int kRounds = 200;
  for (int round = 0; round < kRounds; ++round) {
    h.client.Push({{TableId(kTable), keys, gradient}},
                  {.progress = {}, .identity = {1, 1, 0}, .codec = pb::WireSpec::INT8}, h.now, h.out);
    h.AnswerAll();
    ASSERT_TRUE(h.OnlyCompletion().status);
  }
  // The sum of what arrived differs from the sum of what was pushed by no more than one rounding.
  for (size_t i = 0; i < keys->size(); ++i) {
    const auto& sum = h.pushed[{kTable, (*keys)[i]}];
    for (uint32_t c = 0; c < 3; ++c) EXPECT_NEAR(sum[c], kRounds * gradient[i * 3 + c], 0.02f);
  }
}

TEST(Push, WithInt8SendsTheSameBytesAgain) {
  Harness h({}, {.servers = 1, .shards = 1});
  const KeyVector keys = MakeKeys(100);
  h.client.Push({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = {}, .codec = pb::WireSpec::INT8}, h.now,
                h.out);
  const auto first = h.Take();
  h.Tick(Milliseconds(600));
  const auto second = h.Take();
  ASSERT_EQ(second.size(), 1u);
  EXPECT_TRUE(std::ranges::equal(first[0].message.values.bytes(), second[0].message.values.bytes()));
  EXPECT_EQ(first[0].message.header.request(), second[0].message.header.request());
}

TEST(PushPull, BringsTheNewValues) {
  for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::INT8}) {
    for (const size_t limit : {size_t{1000}, size_t{4} << 20}) {
      Harness h({.max_payload_bytes = limit});
      const KeyVector keys = MakeKeys(500);
      h.client.PushPull({{TableId(kTable), keys, ValuesOf(keys, 3)}}, {.progress = {}, .codec = codec}, h.now, h.out);
      h.AnswerAll();
      const Completion done = h.OnlyCompletion();
      ASSERT_TRUE(done.status) << done.status.error().message;
      EXPECT_EQ(done.values[0], ValuesOf(keys, 3));
    }
  }
}

TEST(PushPull, TakesOneRoundTripIfItFitsAMessage) {
  Harness h;
  h.client.PushPull({{TableId(kTable), MakeKeys(500), std::vector<float>(1500)}}, {}, h.now, h.out);
  for (const auto& item : h.Take()) {
    EXPECT_TRUE(item.message.header.push().pull_after());
    h.Answer(item);
  }
  EXPECT_TRUE(h.OnlyCompletion().status);
}

}  // namespace
}  // namespace sheaf
