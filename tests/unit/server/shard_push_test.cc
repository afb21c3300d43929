// Pushes and pulls without clocks: identity, dedup, slices, key lists, codecs, routing.
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

class ShardCorePush : public ShardFixture {};

TEST_F(ShardCorePush, AppliesAPushAndAnswersPullsWithTheNewValues) {
  Install();
  const Message answer = Ask(MakePush({{Key(0, 1), {1, 2}}, {Key(3, 5), {3, 4}}}, 0));
  ASSERT_TRUE(answer.header.has_push_reply());
  EXPECT_FALSE(answer.header.push_reply().duplicate());
  EXPECT_EQ(answer.header.request(), 1U);
  ASSERT_EQ(answer.header.push_reply().lsn_size(), 1);  // the same for all partitions
  EXPECT_EQ(answer.header.push_reply().lsn(0), 1U);
  EXPECT_EQ(Pull({Key(0, 1), Key(2, 9), Key(3, 5)}), (std::vector<float>{-1, -2, 0, 0, -3, -4}));
  EXPECT_EQ(core->stats().rows, 2U);  // a pull makes no rows
}

TEST_F(ShardCorePush, AnswersRetriedPushWithoutApplyingItTwice) {
  Install();
  const Rows rows{{Key(1, 1), {1, 1}}};
  Ask(MakePush(rows, 0));
  const Message again = Ask(MakePush(rows, 0), kOtherClient);
  EXPECT_TRUE(again.header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(1, 1)}), (std::vector<float>{-1, -1}));
  EXPECT_EQ(core->stats().pushes_applied, 1U);
  EXPECT_EQ(core->stats().pushes_deduplicated, 1U);
}

TEST_F(ShardCorePush, TellsThoseWhoAskHowMuchEachMayHaveUnderWay) {
  Configure({.request_budget_bytes = size_t{100} << 20});
  Install();
  const auto credit = [&](uint64_t client) {
    return Ask(MakePush({{Key(0, 1), {1, 1}}}, client), PeerId(client)).header.credit();
  };
  for (uint64_t client = 1; client <= 3; ++client) EXPECT_EQ(credit(client), 0u) << "as much as it likes";
  for (uint64_t client = 4; client <= 20; ++client) EXPECT_EQ(credit(client), (100u << 20) / client);
  EXPECT_EQ(Ask(MakePull({Key(0, 1)})).header.credit(), (100u << 20) / 20);  // of the seventh client
  for (uint64_t client = 21; client <= 1000; ++client) credit(client);
  EXPECT_EQ(credit(1), 256u << 10) << "but a little";
  const auto pass = [&] {
    now += std::chrono::seconds(11);
    Outbox out;
    core->OnTick(now, out);
  };
  pass();
  credit(1);
  pass();
  EXPECT_EQ(credit(1), 0u) << "the others are gone";
}

TEST_F(ShardCorePush, AppliesPushesOfAStreamInWhateverOrderTheyCome) {
  Install();
  for (const uint64_t seq : {5, 1, 0, 3, 5, 1}) Ask(MakePush({{Key(1, 1), {1, 0}}}, seq));
  EXPECT_EQ(Pull({Key(1, 1)})[0], -4);
}

TEST_F(ShardCorePush, TellsStreamsApart) {
  Install();
  Message other = MakePush({{Key(1, 1), {1, 0}}}, 0);
  Ask(other);
  other.header.mutable_push()->set_stream_low(99);
  Ask(other);
  other.header.mutable_push()->set_stream_high(99);
  Ask(other);
  EXPECT_EQ(Pull({Key(1, 1)})[0], -3);
}

TEST_F(ShardCorePush, AppliesToThePartitionsThatMissItWhenOthersHaveIt) {
  Install();
  Message some = MakePush({{Key(1, 1), {1, 0}}}, 0);
  some.header.mutable_push()->clear_partition();
  some.header.mutable_push()->clear_epoch();
  some.header.mutable_push()->add_partition(1);
  some.header.mutable_push()->add_epoch(3);
  some.header.mutable_push()->mutable_block(0)->clear_key_count();
  some.header.mutable_push()->mutable_block(0)->add_key_count(1);
  EXPECT_FALSE(Ask(some).header.push_reply().duplicate());
  const Message all = MakePush({{Key(0, 1), {1, 0}}, {Key(1, 1), {1, 0}}, {Key(2, 1), {1, 0}}}, 0);
  EXPECT_FALSE(Ask(all).header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1)}), (std::vector<float>{-1, 0, -1, 0, -1, 0}));
  EXPECT_TRUE(Ask(all).header.push_reply().duplicate());
}

TEST_F(ShardCorePush, LetsASessionsPartitionMissNumbersForEver) {
  Install();
  for (uint64_t seq = 0; seq < 10; ++seq) {
    const Message push = MakePush({{Key(1, 1), {1, 0}}}, seq * 700);
    EXPECT_FALSE(Ask(push).header.push_reply().duplicate());
    EXPECT_TRUE(Ask(push).header.push_reply().duplicate());
  }
  EXPECT_EQ(Pull({Key(1, 1)})[0], -10);
}

TEST_F(ShardCorePush, AppliesPushesOfManyKeysRightly) {
  config.mutable_table(0)->set_dim(1);
  Install();
  Random random(2);
  std::map<HashedKey, float> expected;
  for (uint64_t seq = 0; seq < 20; ++seq) {
    Rows rows;
    for (int i = 0; i < 3000; ++i)
      rows[random.Below(2000) << 53 | random.Below(2)] = {static_cast<float>(random.Below(9))};
    for (const auto& [key, row] : rows) expected[key] -= row[0];
    Ask(MakePush(rows, seq));
  }
  std::vector<HashedKey> keys;
  std::vector<float> values;
  for (const auto& [key, value] : expected) {
    keys.push_back(key);
    values.push_back(value);
  }
  EXPECT_EQ(Pull(keys), values);
}

TEST_F(ShardCorePush, AddsUpSumTables) {
  AddTable(2, 2).set_update(pb::TableSpec::SUM);
  Install();
  for (uint64_t seq = 0; seq < 3; ++seq) Ask(MakePush({{Key(1, 1), {1, 2}}}, seq, std::nullopt, 0, 2));
  EXPECT_EQ(Pull({Key(1, 1)}, 2), (std::vector<float>{3, 6}));
}

TEST_F(ShardCorePush, AnswersPushPullWithTheValuesAfterwards) {
  Install();
  Message push = MakePush({{Key(0, 1), {1, 2}}, {Key(3, 5), {3, 4}}}, 0);
  push.header.mutable_push()->set_pull_after(true);
  EXPECT_EQ(Floats(Ask(push)), (std::vector<float>{-1, -2, -3, -4}));
  const Message again = Ask(push);
  EXPECT_TRUE(again.header.push_reply().duplicate());
  EXPECT_EQ(Floats(again), (std::vector<float>{-1, -2, -3, -4}));
}

TEST_F(ShardCorePush, TakesAndGivesValuesInEveryCodec) {
  Install();
  uint64_t seq = 0;
  for (const auto codec : {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::FP16, pb::WireSpec::INT8}) {
    Message push = MakePush({{Key(0, 1), {127, -127}}, {Key(3, 5), {127, 0}}}, seq++);
    const std::vector<float> values{127, -127, 127, 0};
    std::vector<std::byte> encoded(EncodedSize(codec, 2, 2));
    EncodeValues(codec, values, 2, encoded);
    push.values = Buffer::CopyOf(encoded);
    push.header.mutable_push()->mutable_block(0)->set_codec(codec);
    EXPECT_TRUE(Ask(push).header.has_push_reply());
    const float sum = -127 * static_cast<float>(seq);
    EXPECT_EQ(Pull({Key(0, 1), Key(3, 5)}), (std::vector<float>{sum, -sum, sum, 0}));
    if (codec == pb::WireSpec::INT8) continue;
    Message pull = MakePull({Key(0, 1), Key(2, 1), Key(3, 5)});
    pull.header.mutable_pull()->mutable_block(0)->set_codec(codec);
    const Message answer = Ask(pull);
    ASSERT_EQ(answer.values.size(), EncodedSize(codec, 3, 2));
    std::vector<float> decoded(6);
    DecodeValues(codec, answer.values.bytes(), 2, decoded);
    EXPECT_NEAR(decoded[0], sum, 2);
    EXPECT_EQ(decoded[2], 0);
    EXPECT_NEAR(decoded[4], sum, 2);
  }
}

TEST_F(ShardCorePush, AnswersAbsentRowsWithTheValuesTheyWillStartWith) {
  pb::TableSpec& table = AddTable(2, 3);
  table.set_init_stddev(0.1);
  table.set_init_zero_columns(1);
  Install();
  const std::vector<float> before = Pull({Key(0, 1), Key(2, 2)}, 2);
  EXPECT_EQ(before[0], 0);
  EXPECT_NE(before[1], 0);
  Ask(MakePush({{Key(0, 1), {0, 0, 0}}, {Key(2, 2), {0, 0, 0}}}, 0, std::nullopt, 0, 2));
  EXPECT_EQ(Pull({Key(0, 1), Key(2, 2)}, 2), before);
}

// ---- slices

Message Slice(Message push, uint32_t slice, uint32_t count, uint64_t attempt = 0) {
  push.header.mutable_push()->set_slice(slice);
  push.header.mutable_push()->set_slice_count(count);
  push.header.mutable_push()->set_attempt(attempt);
  return push;
}

TEST_F(ShardCorePush, AppliesSlicesTogetherWhenTheLastIsIn) {
  Install();
  const Message a = Slice(MakePush({{Key(0, 1), {1, 0}}}, 0), 0, 3);
  const Message b = Slice(MakePush({{Key(1, 1), {2, 0}}}, 0), 1, 3);
  const Message c = Slice(MakePush({{Key(2, 1), {3, 0}}}, 0), 2, 3);
  EXPECT_TRUE(Ask(c).header.push_reply().staged());
  EXPECT_TRUE(Ask(a).header.push_reply().staged());
  EXPECT_TRUE(Ask(a).header.push_reply().staged());  // a repeat does no harm
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1)}), (std::vector<float>{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(core->stats().staged_pushes, 1U);
  const Message last = Ask(b);
  EXPECT_FALSE(last.header.push_reply().staged());
  EXPECT_FALSE(last.header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1)}), (std::vector<float>{-1, 0, -2, 0, -3, 0}));
  EXPECT_EQ(core->stats().request_bytes, 0U);
  for (const Message& slice : {a, b, c}) EXPECT_TRUE(Ask(slice).header.push_reply().duplicate());
  EXPECT_EQ(core->stats().pushes_applied, 1U);
}

TEST_F(ShardCorePush, PutsOnlySlicesOfOneSenderAndAttemptTogether) {
  Install();
  const Message a = MakePush({{Key(0, 1), {1, 0}}}, 0);
  const Message b = MakePush({{Key(1, 1), {2, 0}}}, 0);
  Ask(Slice(a, 0, 2, 1));
  EXPECT_TRUE(Ask(Slice(b, 1, 2, 2)).header.push_reply().staged());                // a later attempt starts anew
  EXPECT_TRUE(Send(Slice(a, 0, 2, 1)).empty());  // one that was overtaken says nothing
  EXPECT_TRUE(Ask(Slice(a, 0, 2, 1), kOtherClient).header.push_reply().staged());  // another sender starts anew too
  EXPECT_TRUE(Ask(Slice(b, 1, 2, 2)).header.push_reply().staged());
  EXPECT_FALSE(Ask(Slice(a, 0, 2, 2)).header.push_reply().staged());
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{-1, 0, -2, 0}));
}

TEST_F(ShardCorePush, ForgetsSlicesWhoseSenderWentSilent) {
  Install();
  Ask(Slice(MakePush({{Key(0, 1), {1, 0}}}, 0), 0, 2));
  EXPECT_GT(core->stats().request_bytes, 0U);
  now += std::chrono::seconds(61);
  Outbox out;
  core->OnTick(now, out);
  EXPECT_EQ(core->stats().staged_pushes, 0U);
  EXPECT_EQ(core->stats().request_bytes, 0U);
}

TEST_F(ShardCorePush, RefusesSlicesOverItsBudgetButLetsTheOldestEnd) {
  Configure({.request_budget_bytes = 40000});
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 900; ++i) rows[Key(1, i)] = {1, 1};  // 15 KB
  EXPECT_TRUE(Ask(Slice(MakePush(rows, 0), 0, 2)).header.push_reply().staged());
  EXPECT_TRUE(Ask(Slice(MakePush(rows, 1), 0, 2)).header.push_reply().staged());
  EXPECT_EQ(Refusal(Slice(MakePush(rows, 2), 0, 2)), "OVERLOADED");
  EXPECT_GT(last_refusal.retry_after_ms(), 0U);
  EXPECT_EQ(Refusal(Slice(MakePush(rows, 1), 1, 2)), "OVERLOADED");
  EXPECT_FALSE(Ask(Slice(MakePush(rows, 0), 1, 2)).header.push_reply().staged());
  EXPECT_FALSE(Ask(Slice(MakePush(rows, 1), 1, 2)).header.push_reply().staged());
  for (uint32_t slice = 0; slice < 2; ++slice) Ask(Slice(MakePush(rows, 3), slice, 4));
  EXPECT_EQ(Refusal(Slice(MakePush(rows, 3), 2, 4)), "INVALID");  // never fits
  EXPECT_EQ(core->stats().overloaded, 2U);
}

TEST_F(ShardCorePush, ForgetsSlicesOfPartitionsWhoseEpochChanged) {
  Install();
  Ask(Slice(MakePush({{Key(0, 1), {1, 0}}}, 0), 0, 2));
  config.mutable_partition(2)->set_epoch(4);
  Install();
  EXPECT_EQ(core->stats().staged_pushes, 0U);
}

// ---- key lists

class ShardCoreKeyLists : public ShardFixture {
 protected:
  static void Sign(pb::KeyList& list, const std::vector<HashedKey>& keys) {
    const KeySignature signature = SignatureOf(std::as_bytes(std::span(keys)));
    list.set_signature_high(signature.high);
    list.set_signature_low(signature.low);
  }
  Message Remembered(const std::vector<HashedKey>& keys) {
    Message pull = MakePull(keys);
    pb::KeyList& list = *pull.header.mutable_pull()->mutable_block(0)->mutable_keys();
    Sign(list, keys);
    list.set_remember(true);
    return pull;
  }
  Message Named(const std::vector<HashedKey>& keys) {
    Message pull = Remembered(keys);
    pull.header.mutable_pull()->mutable_block(0)->mutable_keys()->clear_inlined();
    pull.keys = Buffer();
    return pull;
  }
};

TEST_F(ShardCoreKeyLists, AreNamedBySignatureOnceSent) {
  Install();
  const std::vector<HashedKey> keys{Key(0, 1), Key(0, 2), Key(3, 5)};
  Ask(MakePush({{Key(0, 2), {1, 2}}}, 0));
  EXPECT_EQ(Refusal(Named(keys)), "UNKNOWN_KEY_LIST");
  Ask(Remembered(keys));
  EXPECT_EQ(Floats(Ask(Named(keys))), (std::vector<float>{0, 0, -1, -2, 0, 0}));
}

TEST_F(ShardCoreKeyLists, AreRefusedUnderAFalseSignature) {
  Install();
  Message pull = Remembered({Key(0, 1)});
  pull.header.mutable_pull()->mutable_block(0)->mutable_keys()->set_signature_low(1);
  EXPECT_EQ(Refusal(pull), "INVALID");
}

TEST_F(ShardCoreKeyLists, AreForgottenOldestFirst) {
  Configure({.key_list_budget_bytes = 3 * (8 + 4 + 192 + 128)});  // key, slot, and what both cost by themselves
  Install();
  for (uint64_t i = 0; i < 3; ++i) Ask(Remembered({Key(0, i)}));
  Ask(Named({Key(0, 0)}));
  Ask(Remembered({Key(0, 3)}));
  EXPECT_EQ(Refusal(Named({Key(0, 1)})), "UNKNOWN_KEY_LIST");
  for (const uint64_t i : {0, 2, 3}) EXPECT_TRUE(Ask(Named({Key(0, i)})).header.has_pull_reply());
}

// A list that is named again does not look its rows up again: it knows their slots.
TEST_F(ShardCoreKeyLists, FindTheirRowsAgain) {
  Install();
  const std::vector<HashedKey> keys{Key(0, 1), Key(0, 2), Key(3, 5)};
  Ask(MakePush({{Key(0, 1), {1, 1}}, {Key(3, 5), {3, 3}}}, 0));
  Ask(Remembered(keys));
  const std::vector<float> half{-1, -1, 0, 0, -3, -3};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Floats(Ask(Named(keys))), half) << "one of them has no row";
  Ask(MakePush({{Key(0, 2), {2, 2}}}, 1));
  const std::vector<float> whole{-1, -1, -2, -2, -3, -3};
  for (int i = 0; i < 3; ++i) EXPECT_EQ(Floats(Ask(Named(keys))), whole);
  // Rows move in memory while a store is small, but keep their slots.
  for (uint64_t i = 10; i < 300; ++i) Ask(MakePush({{Key(0, i), {9, 9}}}, i));
  EXPECT_EQ(Floats(Ask(Named(keys))), whole);
}

TEST_F(ShardCoreKeyLists, ForgetTheirRowsWithTheStore) {
  Install();
  const std::vector<HashedKey> keys{Key(0, 1), Key(3, 5)};
  Ask(MakePush({{Key(0, 7), {9, 9}}, {Key(0, 1), {1, 1}}, {Key(3, 5), {3, 3}}}, 0));
  Ask(Remembered(keys));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Floats(Ask(Named(keys))), (std::vector<float>{-1, -1, -3, -3}));
  // The partition goes away and comes back, empty.
  config.mutable_partition(0)->set_primary(2);
  Install();
  config.mutable_partition(0)->set_primary(1);
  Install();
  EXPECT_EQ(Floats(Ask(Named(keys))), (std::vector<float>{0, 0, -3, -3}));
  Ask(MakePush({{Key(0, 1), {5, 5}}}, 1));
  for (int i = 0; i < 2; ++i) EXPECT_EQ(Floats(Ask(Named(keys))), (std::vector<float>{-5, -5, -3, -3}));
}

// What found room for its clock when its list was sent finds it when the list is named.
TEST_F(ShardCoreKeyLists, CostAPushNothingMoreWhenNamed) {
  Rows rows;
  std::vector<HashedKey> keys;
  for (uint64_t i = 0; i < 1000; ++i) {
    rows[Key(0, i)] = {1, 1};
    keys.push_back(Key(0, i));
  }
  int fitted = 0;
  for (size_t budget = 15'000; budget < 25'000; budget += 250) {
    Configure({.request_budget_bytes = budget});
    config.clear_roster();
    AddRoster(pb::ConsistencySpec::BSP, 1);
    Install();
    Message sent = MakePush(rows, 0, At(0, 0)), named = MakePush(rows, 1, At(0, 1));
    Sign(*sent.header.mutable_push()->mutable_block(0)->mutable_keys(), keys);
    sent.header.mutable_push()->mutable_block(0)->mutable_keys()->set_remember(true);
    Sign(*named.header.mutable_push()->mutable_block(0)->mutable_keys(), keys);
    named.header.mutable_push()->mutable_block(0)->mutable_keys()->clear_inlined();
    named.keys = Buffer();
    if (!Ask(sent).header.has_push_reply()) continue;
    EXPECT_TRUE(Ask(named).header.has_push_reply()) << budget << " bytes";
    ++fitted;
  }
  EXPECT_GT(fitted, 0);
  EXPECT_LT(fitted, 40);
}

TEST(KeyListCache, GivesTheRoomOfATablesSlotsBack) {
  KeyListCache cache(200'000);
  std::vector<KeySignature> lists;
  for (uint64_t list = 0; list < 10; ++list) {
    std::vector<HashedKey> keys;
    for (uint64_t i = 0; i < 1000; ++i) keys.push_back(list << 32 | i);
    lists.push_back(SignatureOf(std::as_bytes(std::span(keys))));
    cache.Put(lists.back(), std::as_bytes(std::span(keys)));
  }
  const size_t before = cache.bytes();
  for (uint32_t job = 1; job < 60; ++job) {  // each has tables of its own, over the same data
    for (const KeySignature& list : lists) ASSERT_NE(cache.SlotsOf(list, job), nullptr) << job;
    cache.ForgetTable(job);
  }
  EXPECT_EQ(cache.bytes(), before);
  // Without that there is no room left one day, and no list has to go for it.
  uint32_t tables = 0;
  while (tables < 100 && cache.SlotsOf(lists[0], 100 + tables) != nullptr) ++tables;
  EXPECT_LT(tables, 100U);
  EXPECT_LE(cache.bytes(), 200'000U);
  EXPECT_EQ(cache.size(), lists.size());
}

TEST_F(ShardCoreKeyLists, AreCheckedAgainstEachRequestsPartitions) {
  Install();
  const std::vector<HashedKey> keys{Key(0, 1), Key(0, 2), Key(3, 5)};
  Ask(Remembered(keys));
  Message shifted = Named(keys);
  shifted.header.mutable_pull()->mutable_block(0)->set_key_count(0, 1);
  shifted.header.mutable_pull()->mutable_block(0)->set_key_count(1, 1);
  EXPECT_EQ(Refusal(shifted), "INVALID");
  Message longer = Named(keys);
  longer.header.mutable_pull()->mutable_block(0)->set_key_count(3, 2);
  EXPECT_EQ(Refusal(longer), "INVALID");
}

// ---- routing

TEST_F(ShardCorePush, RefusesANewSessionIfItRemembersTooManyUntilSomeAreQuiet) {
  constexpr uint64_t kMost = 65536;
  Install();
  for (uint64_t session = 0; session < kMost; ++session) {
    if (session == kMost - 1) now += std::chrono::minutes(9);
    ASSERT_TRUE(Ask(MakePush({}, 0, std::nullopt, session)).header.has_push_reply());
  }
  const Rows rows{{Key(0, 1), {1, 1}}};
  EXPECT_EQ(Refusal(MakePush(rows, 0, std::nullopt, kMost)), "OVERLOADED");
  EXPECT_FALSE(Ask(MakePush(rows, 1, std::nullopt, 0)).header.push_reply().duplicate());  // a known one goes on
  now += std::chrono::minutes(2);  // all but two have been quiet for longer than ten
  EXPECT_FALSE(Ask(MakePush(rows, 0, std::nullopt, kMost)).header.push_reply().duplicate());
  EXPECT_TRUE(Ask(MakePush(rows, 1, std::nullopt, 0)).header.push_reply().duplicate());
  EXPECT_TRUE(Ask(MakePush({}, 0, std::nullopt, kMost - 1)).header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1)})[0], -2);
}

class ShardCoreRouting : public ShardFixture {};

TEST_F(ShardCoreRouting, RefusesEverythingBeforeItsFirstConfiguration) {
  EXPECT_EQ(Refusal(MakePull({})), "UNKNOWN_EPOCH");
  EXPECT_EQ(Refusal(MakePush({}, 0)), "UNKNOWN_EPOCH");
}

TEST_F(ShardCoreRouting, RefusesOlderAndNewerEpochs) {
  Install();
  Message pull = MakePull({});
  pull.header.mutable_pull()->set_epoch(2, 2);
  EXPECT_EQ(Refusal(pull), "STALE_EPOCH");
  EXPECT_EQ(last_refusal.generation(), config.generation());
  pull.header.mutable_pull()->set_epoch(2, 4);
  EXPECT_EQ(Refusal(pull), "UNKNOWN_EPOCH");
  Message push = MakePush({{Key(0, 1), {1, 1}}}, 0);
  push.header.mutable_push()->set_epoch(2, 2);
  EXPECT_EQ(Refusal(push), "STALE_EPOCH");
  EXPECT_EQ(Pull({Key(0, 1)})[0], 0);  // refused as a whole
}

TEST_F(ShardCoreRouting, ServesOnlyThePartitionsOfItsPlace) {
  config.mutable_server(0)->add_shard()->set_peer(200);
  Install();
  EXPECT_EQ(Refusal(MakePull({})), "UNKNOWN_EPOCH");
  Message pull = MakePull({});
  pull.header.mutable_pull()->clear_partition();
  pull.header.mutable_pull()->clear_epoch();
  for (const uint32_t p : {0, 2}) {
    pull.header.mutable_pull()->add_partition(p);
    pull.header.mutable_pull()->add_epoch(3);
  }
  pull.header.mutable_pull()->mutable_block(0)->mutable_key_count()->Truncate(2);
  EXPECT_TRUE(Ask(pull).header.has_pull_reply());
}

TEST_F(ShardCoreRouting, KeepsRowsOverAnEpochAndDropsThemWithThePartition) {
  Install();
  Ask(MakePush({{Key(0, 1), {1, 1}}, {Key(1, 1), {1, 1}}}, 0));
  for (int p = 0; p < 4; ++p) config.mutable_partition(p)->set_epoch(4);
  config.mutable_partition(1)->set_primary(2);
  Install();
  EXPECT_EQ(core->stats().rows, 1U);
  EXPECT_EQ(Refusal(MakePull({})), "STALE_EPOCH");
}

TEST_F(ShardCoreRouting, IgnoresAnOlderConfiguration) {
  Install();
  Install();
  pb::ClusterConfig older = config;
  older.set_generation(1);
  older.clear_table();
  Outbox out;
  EXPECT_TRUE(core->OnConfig(older, now, out));
  EXPECT_EQ(core->generation(), 2U);
  EXPECT_TRUE(Ask(MakePull({})).header.has_pull_reply());
}

TEST_F(ShardCoreRouting, RefusesAConfigurationWithAnotherNumberOfPartitions) {
  Install();
  config.add_partition();
  config.set_partition_count(5);
  Install();
  EXPECT_FALSE(last_config);
  EXPECT_EQ(core->generation(), 1U);
}

TEST_F(ShardCoreRouting, AsksToRetryForATableItDoesNotKnowYetAndClosesOnesThatAreGone) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  Install();
  EXPECT_EQ(Refusal(MakePull({}, std::nullopt, 9)), "UNKNOWN_TABLE");
  pb::Progress ahead = At(0, 0);
  ahead.set_generation(config.generation() + 1);
  EXPECT_EQ(Refusal(MakePull({}, ahead, 9)), "UNKNOWN_TABLE");
  EXPECT_EQ(Refusal(MakePull({}, At(0, 0), 9)), "CLOSED");
}

TEST_F(ShardCoreRouting, DropsTheRowsOfTablesThatLeaveTheConfiguration) {
  AddTable(2, 1);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 1}}}, 0));
  Ask(MakePush({{Key(0, 1), {1}}}, 1, std::nullopt, 0, 2));
  EXPECT_EQ(core->stats().rows, 2U);
  config.mutable_table()->DeleteSubrange(0, 1);
  Install();
  EXPECT_EQ(core->stats().rows, 1U);
  EXPECT_EQ(Refusal(MakePull({})), "UNKNOWN_TABLE");
  AddTable(3, 2);
  Install();
  EXPECT_EQ(Pull({Key(0, 1)}, 3), (std::vector<float>{0, 0}));  // the freed place is a new table's
}

TEST_F(ShardCoreRouting, NamesATableThatCannotBeUsed) {
  AddTable(2, 0);
  AddTable(3, 1).mutable_optimizer()->set_learning_rate(-1);
  Install();
  EXPECT_FALSE(last_config);
  EXPECT_EQ(Refusal(MakePull({}, std::nullopt, 2)), "INVALID");
  EXPECT_TRUE(Ask(MakePull({})).header.has_pull_reply());
}

TEST_F(ShardCoreRouting, RefusesPullsThatAreAheadOfIt) {
  Install();
  Ask(MakePush({{Key(0, 1), {1, 1}}}, 0));
  Message pull = MakePull({});
  for (int p = 0; p < 4; ++p) pull.header.mutable_pull()->add_min_lsn(1);
  const Message answer = Ask(pull);
  ASSERT_TRUE(answer.header.has_pull_reply());
  EXPECT_EQ(answer.header.pull_reply().lsn(0), 1U);
  pull.header.mutable_pull()->set_min_lsn(3, 2);
  EXPECT_EQ(Refusal(pull), "BEHIND");
  pull.header.mutable_pull()->mutable_min_lsn()->Truncate(2);
  EXPECT_EQ(Refusal(pull), "INVALID");
  pull.header.mutable_pull()->mutable_min_lsn()->Truncate(1);  // of all partitions
  EXPECT_TRUE(Ask(pull).header.has_pull_reply());
  pull.header.mutable_pull()->set_min_lsn(0, 2);
  EXPECT_EQ(Refusal(pull), "BEHIND");
}

}  // namespace
}  // namespace sheaf
