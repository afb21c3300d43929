// Training: lanes and clocks under BSP, SSP and ASP, parked pulls, passes and their ledgers.
#include <gmock/gmock.h>

#include "common/base/seq_window.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

class ShardCoreBsp : public ShardFixture {
 protected:
  // In these tests lane l works on range l, and clock c is its batch c.
  Message PushAt(uint32_t lane, uint64_t clock, const Rows& rows) {
    return MakePush(rows, clock, At(lane, clock), lane);
  }
};

TEST_F(ShardCoreBsp, AppliesAClockWhenEveryLaneHasPushed) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  EXPECT_TRUE(Ask(PushAt(1, 0, {{Key(0, 1), {2, 0}}, {Key(1, 1), {4, 0}}})).header.has_push_reply());
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{0, 0, 0, 0}));
  EXPECT_GT(core->stats().request_bytes, 0U);
  Ask(PushAt(0, 0, {{Key(0, 1), {4, 2}}, {Key(2, 1), {6, 0}}}));
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1)}),
            (std::vector<float>{-3, -1, -2, 0, -3, 0}));  // means over two lanes
  EXPECT_EQ(core->stats().request_bytes, 0U);
}

TEST_F(ShardCoreBsp, SumsInLaneOrderWhateverTheOrderOfArrival) {
  std::vector<std::vector<float>> results;
  for (const std::vector<uint32_t>& order : {std::vector<uint32_t>{0, 1, 2, 3}, {3, 1, 0, 2}, {2, 3, 1, 0}}) {
    config = {};
    core = std::make_unique<ShardCore>(kShardPeer, ShardOptions{});
    config.set_partition_count(4);
    pb::ServerInfo& server = *config.add_server();
    server.set_node(1);
    server.add_shard()->set_peer(kShardPeer.value);
    for (int p = 0; p < 4; ++p) {
      config.add_partition()->set_epoch(3);
      config.mutable_partition(p)->set_primary(1);
    }
    AddTable(kTable, 2);
    AddRoster(pb::ConsistencySpec::BSP, 4, 10);
    Install();
    for (const uint32_t lane : order) {
      const float values[] = {1e8F, 1.25F, -1e8F, 0.3F};
      Ask(PushAt(lane, 0, {{Key(0, 1), {values[lane], 1}}}));
    }
    results.push_back(Pull({Key(0, 1)}));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST_F(ShardCoreBsp, UpdatesARowOnceAClock) {
  config.mutable_table(0)->mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD);
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Ask(PushAt(0, 0, {{Key(0, 1), {3, 0}}}));
  Ask(PushAt(1, 0, {{Key(0, 1), {5, 0}}}));
  EXPECT_NEAR(Pull({Key(0, 1)})[0], -1, 1e-5);  // one step of gradient 4: rate * 4 / sqrt(16)
}

TEST_F(ShardCoreBsp, AnswersAPullOnceAllClocksBelowAreApplied) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  EXPECT_TRUE(Ask(MakePull({Key(0, 1)}, At(0, 0))).header.has_pull_reply());
  Ask(PushAt(0, 0, {{Key(0, 1), {2, 2}}}));
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)}, At(0, 1))), "NOT_YET");
  EXPECT_EQ(last_refusal.waiting_for(), "lane 1 at clock 0 of job 5");
  EXPECT_EQ(core->stats().waiting, std::vector<std::string>{"lane 0 waits for lane 1 at clock 0 of job 5"});
  EXPECT_EQ(core->stats().parked_pulls, 1U);
  const auto items = Send(PushAt(1, 0, {{Key(0, 1), {2, 2}}}), kOtherClient);
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0].to, kOtherClient);
  EXPECT_TRUE(items[0].message.header.has_push_reply());
  EXPECT_EQ(items[1].to, kClient);
  EXPECT_EQ(Floats(items[1].message), (std::vector<float>{-2, -2}));
  EXPECT_EQ(core->stats().parked_pulls, 0U);
  EXPECT_EQ(core->stats().request_bytes, 0U);
}

TEST_F(ShardCoreBsp, AdvancesAClockWithoutKeysFromAnybody) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Ask(PushAt(0, 0, {}));
  Ask(PushAt(1, 0, {}));
  EXPECT_TRUE(Ask(MakePull({}, At(0, 1))).header.has_pull_reply());
}

TEST_F(ShardCoreBsp, CountsOnlyTheLanesOfAClock) {
  pb::Roster& roster = AddRoster(pb::ConsistencySpec::BSP, 3, 10);
  roster.mutable_lane(0)->set_end_clock(1);
  roster.mutable_lane(1)->set_start_clock(1);
  Install();
  Ask(PushAt(0, 0, {{Key(0, 1), {2, 0}}}));
  Ask(PushAt(2, 0, {{Key(0, 1), {4, 0}}}));
  EXPECT_EQ(Pull({Key(0, 1)})[0], -3);  // lanes 0 and 2
  Ask(PushAt(1, 1, {{Key(0, 1), {2, 0}}}));
  Ask(PushAt(2, 1, {{Key(0, 1), {2, 0}}}));
  EXPECT_EQ(Pull({Key(0, 1)})[0], -5);  // lanes 1 and 2
}

TEST_F(ShardCoreBsp, AddsStatisticsUpInsteadOfAveraging) {
  AddTable(2, 1).set_update(pb::TableSpec::SUM);
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Ask(MakePush({{Key(0, 1), {3}}}, 0, At(0, 0), 0, 2));
  Ask(MakePush({{Key(0, 1), {4}}}, 0, At(1, 0), 1, 2));
  EXPECT_EQ(Pull({Key(0, 1)}, 2), std::vector<float>{7});
}

// A worker pushes to this server, dies before it pushes to another, and its lane is computed again.
TEST_F(ShardCoreBsp, ShowsALaneThatIsComputedAgainTheRowsOfBeforeItsClock) {
  config.mutable_table(0)->set_init_stddev(0.5);
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  const std::vector<HashedKey> keys{Key(0, 1), Key(0, 2), Key(3, 1), Key(3, 2)};
  Ask(PushAt(0, 0, {{Key(0, 1), {8, 8}}}));
  Ask(PushAt(1, 0, {{Key(0, 2), {8, 8}}}));
  const std::vector<float> first = Floats(Ask(MakePull(keys, At(1, 1))));
  Ask(PushAt(0, 1, {{Key(0, 1), {4, 4}}, {Key(3, 1), {2, 2}}}));
  Ask(PushAt(1, 1, {{Key(0, 1), {4, 4}}}));
  const std::vector<float> after = Floats(Ask(MakePull(keys, At(0, 2))));
  EXPECT_NE(after, first);
  EXPECT_EQ(Floats(Ask(MakePull(keys, At(1, 1)), kOtherClient)), first);
  EXPECT_TRUE(Ask(PushAt(1, 1, {{Key(0, 1), {4, 4}}}), kOtherClient).header.push_reply().duplicate());
  EXPECT_EQ(Floats(Ask(MakePull(keys, At(0, 2)))), after);
  EXPECT_EQ(Pull(keys), after);
}

TEST_F(ShardCoreBsp, AppliesSlicedPushesWithTheirClock) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  for (uint32_t slice = 0; slice < 2; ++slice) {
    Message push = PushAt(0, 0, {{Key(slice, 1), {2, 2}}});
    push.header.mutable_push()->set_slice(slice);
    push.header.mutable_push()->set_slice_count(2);
    EXPECT_EQ(Ask(push).header.push_reply().staged(), slice == 0);
  }
  Ask(PushAt(1, 0, {{Key(1, 1), {2, 2}}}));
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{-1, -1, -2, -2}));
  EXPECT_EQ(core->stats().request_bytes, 0U);
}

TEST_F(ShardCoreBsp, KeepsGradientsOfEveryCodec) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  for (uint32_t lane = 0; lane < 2; ++lane) {
    Message push = PushAt(lane, 0, {{Key(0, 1), {2, 2}}, {Key(1, 1), {4, 4}}});
    const std::vector<float> values{2, 2, 4, 4};
    std::vector<std::byte> encoded(8);
    EncodeValues(pb::WireSpec::FP16, values, 2, encoded);
    push.values = Buffer::CopyOf(encoded);
    push.header.mutable_push()->mutable_block(0)->set_codec(pb::WireSpec::FP16);
    Ask(push);
  }
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{-2, -2, -4, -4}));
}

TEST_F(ShardCoreBsp, RefusesPushPullAndClocksThatAreNotTheLanes) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10).mutable_lane(1)->set_start_clock(2);
  Install();
  Message push_pull = PushAt(0, 0, {});
  push_pull.header.mutable_push()->set_pull_after(true);
  EXPECT_EQ(Refusal(push_pull), "INVALID");
  EXPECT_EQ(Refusal(PushAt(0, 10, {})), "INVALID");
  EXPECT_EQ(Refusal(PushAt(1, 1, {})), "INVALID");
  Ask(PushAt(0, 0, {}));
  EXPECT_EQ(Refusal(MakePush({}, 1, At(0, 0))), "INVALID");  // another batch at a clock that is finished
  EXPECT_EQ(Refusal(MakePush({}, 0, At(0, 1))), "INVALID");  // a batch that is in, at another clock
}

TEST_F(ShardCoreBsp, KeepsWithinItsBudgetButTakesWhatAllWaitFor) {
  Configure({.request_budget_bytes = 20000});
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 500; ++i) rows[Key(1, i)] = {2, 2};  // 8 KB
  EXPECT_TRUE(Ask(PushAt(0, 0, rows)).header.has_push_reply());
  EXPECT_TRUE(Ask(PushAt(0, 1, rows)).header.has_push_reply());
  EXPECT_TRUE(Ask(PushAt(0, 2, rows)).header.has_push_reply());
  EXPECT_EQ(Refusal(PushAt(0, 3, rows)), "OVERLOADED");
  EXPECT_TRUE(Ask(PushAt(1, 0, rows)).header.has_push_reply());   // room of its own
  EXPECT_LT(core->stats().request_bytes, 20000U);
  EXPECT_EQ(Pull({Key(1, 0)})[0], -2);
}

TEST_F(ShardCoreBsp, SaysSoWhenAClockIsMoreThanItMayEverKeep) {
  Configure({.request_budget_bytes = 20000});
  AddRoster(pb::ConsistencySpec::BSP, 6, 10);
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 600; ++i) rows[Key(1, i)] = {2, 2};  // 10 KB; six of them
  EXPECT_TRUE(Ask(PushAt(0, 0, rows)).header.has_push_reply());
  std::string refused;
  for (uint32_t lane = 1; lane < 6 && refused.empty(); ++lane) refused = Refusal(PushAt(lane, 0, rows));
  EXPECT_EQ(refused, "INVALID");
  EXPECT_THAT(last_refusal.text(), testing::HasSubstr("--memory_mb"));
}

// ---- SSP and ASP

class ShardCoreSsp : public ShardFixture {};

TEST_F(ShardCoreSsp, AppliesAtOnceAndScalesTheRateAsTheRosterSays) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_learning_rate_scale(0.5);
  Install();
  Ask(MakePush({{Key(0, 1), {2, 2}}}, 0, At(0, 0)));
  EXPECT_EQ(Pull({Key(0, 1)})[0], -1);
}

TEST_F(ShardCoreSsp, LetsALaneBeAheadByTheStalenessAndNoMore) {
  AddRoster(pb::ConsistencySpec::SSP, 2);  // staleness 2
  Install();
  for (uint64_t clock = 0; clock < 3; ++clock) {
    EXPECT_TRUE(Ask(MakePull({Key(0, 1)}, At(0, clock))).header.has_pull_reply()) << clock;
    Ask(MakePush({{Key(0, 1), {1, 1}}}, clock, At(0, clock)));
  }
  EXPECT_EQ(core->stats().ledgers.at(0).staleness(), 2U);
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)}, At(0, 3))), "NOT_YET");
  EXPECT_EQ(core->stats().ledgers.at(0).staleness(), 2U);  // what was answered counts, not what was asked
  EXPECT_EQ(last_refusal.waiting_for(), "lane 1 at clock 0 of job 5");
  const auto items = Send(MakePush({{Key(0, 1), {1, 1}}}, 0, At(1, 0), 1), kOtherClient);
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(Floats(items[1].message)[0], -4);
}

TEST_F(ShardCoreSsp, FinishesTheClocksThatALaneLeavesOut) {
  AddRoster(pb::ConsistencySpec::SSP, 2);  // staleness 2
  Install();
  for (uint64_t clock = 0; clock < 3; ++clock) Ask(MakePush({}, clock, At(0, clock)));
  EXPECT_EQ(Refusal(MakePull({}, At(0, 3))), "NOT_YET");
  pb::Progress late = At(1, 0);
  late.set_skipped(2);
  const auto items = Send(MakePush({}, 0, late, 1), kOtherClient);
  ASSERT_EQ(items.size(), 2U) << "nobody waits for clocks 0 and 1 of lane 1 any more";
  EXPECT_TRUE(Ask(MakePull({}, At(0, 5))).header.has_pull_reply());
  EXPECT_EQ(Refusal(MakePull({}, At(0, 6))), "NOT_YET");
}

TEST_F(ShardCoreSsp, TellsHowFarTheFurthestLaneHasCome) {
  pb::Roster& roster = AddRoster(pb::ConsistencySpec::SSP, 2);
  pb::Lane& joiner = *roster.add_lane();  // starts ahead, and has been nowhere yet
  joiner.set_lane(2);
  joiner.set_start_clock(9);
  Install();
  EXPECT_EQ(Ask(MakePull({}, At(1, 0))).header.pull_reply().front(), 0U);
  EXPECT_EQ(Ask(MakePush({}, 0, At(0, 0))).header.push_reply().front(), 0U) << "as of before this push";
  EXPECT_EQ(Ask(MakePush({}, 1, At(0, 1))).header.push_reply().front(), 1U);
  EXPECT_EQ(Ask(MakePull({}, At(1, 0))).header.pull_reply().front(), 2U);
}

TEST_F(ShardCoreSsp, RefusesToLeaveOutClocksThatAreNotThere) {
  AddRoster(pb::ConsistencySpec::SSP, 2);
  Install();
  pb::Progress progress = At(0, 3);
  progress.set_skipped(SeqWindow::kWindow);
  EXPECT_EQ(Refusal(MakePush({}, 0, progress)), "INVALID");
  progress.set_skipped(~uint64_t{0});
  EXPECT_EQ(Refusal(MakePush({}, 0, progress)), "INVALID");
}

TEST_F(ShardCoreSsp, TakesPushesOfALaneInAnyOrder) {
  AddRoster(pb::ConsistencySpec::SSP, 1).set_staleness(0);
  Install();
  Ask(MakePush({}, 1, At(0, 1)));
  EXPECT_EQ(Refusal(MakePull({}, At(0, 2))), "NOT_YET");
  EXPECT_EQ(Send(MakePush({}, 0, At(0, 0))).size(), 2U);
}

TEST_F(ShardCoreSsp, AnswersParkedPullsInTheOrderTheyCame) {
  AddRoster(pb::ConsistencySpec::SSP, 3).set_staleness(0);
  Install();
  Message pull = MakePull({}, At(0, 1));
  for (uint64_t request = 10; request > 5; --request) {
    pull.header.set_request(request);
    EXPECT_EQ(Refusal(pull), "NOT_YET");
  }
  pull.header.set_request(10);
  EXPECT_EQ(Refusal(pull), "NOT_YET");  // a repeat keeps its place, and is not parked twice
  EXPECT_EQ(core->stats().parked_pulls, 5U);
  Ask(MakePush({}, 0, At(0, 0), 0));
  Ask(MakePush({}, 0, At(1, 0), 1));
  const auto items = Send(MakePush({}, 0, At(2, 0), 2));
  ASSERT_EQ(items.size(), 6U);
  for (size_t i = 1; i < 6; ++i) EXPECT_EQ(items[i].message.header.request(), 11 - i);
}

TEST_F(ShardCoreSsp, ReplacesAParkedPullByItsRepeat) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Refusal(MakePull({Key(0, 1)}, At(0, 1)));
  Refusal(MakePull({Key(0, 1), Key(0, 2)}, At(0, 1)));
  Ask(MakePush({}, 0, At(0, 0), 0));
  const auto items = Send(MakePush({}, 0, At(1, 0), 1));
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[1].message.values.size(), 16U);
}

TEST_F(ShardCoreSsp, FinishesTheClockOfADuplicateToo) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 1}}}, 0, At(0, 0)));
  EXPECT_EQ(Refusal(MakePull({}, At(0, 1))), "NOT_YET");
  const auto items =
      Send(MakePush({{Key(0, 1), {1, 1}}}, 0, At(1, 0)), kOtherClient);  // the same batch, from another lane
  ASSERT_EQ(items.size(), 2U);
  EXPECT_TRUE(items[0].message.header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1)})[0], -1);
}

TEST_F(ShardCoreSsp, WaitsForNobodyWhoLeftTheRoster) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Ask(MakePush({}, 0, At(0, 0)));
  Refusal(MakePull({}, At(0, 1)));
  config.mutable_roster(0)->mutable_lane()->RemoveLast();
  const auto items = Install();
  ASSERT_EQ(items.size(), 1U);
  EXPECT_TRUE(items[0].message.header.has_pull_reply());
  EXPECT_EQ(Refusal(MakePush({}, 0, At(1, 0), 1)), "CLOSED");
  EXPECT_EQ(Refusal(MakePull({}, At(1, 0))), "CLOSED");
}

TEST_F(ShardCoreSsp, WaitsForALaneThatJoinsFromWhereItStarts) {
  AddRoster(pb::ConsistencySpec::SSP, 1).set_staleness(1);
  Install();
  for (uint64_t clock = 0; clock < 4; ++clock) Ask(MakePush({}, clock, At(0, clock)));
  pb::Lane& joined = *config.mutable_roster(0)->add_lane();
  joined.set_lane(4);
  joined.set_start_clock(5);
  Install();
  EXPECT_TRUE(Ask(MakePull({}, At(0, 4))).header.has_pull_reply());
  for (uint64_t clock = 4; clock < 8; ++clock) Ask(MakePush({}, clock, At(0, clock)));
  EXPECT_EQ(Refusal(MakePull({}, At(0, 8))), "NOT_YET");
  EXPECT_EQ(last_refusal.waiting_for(), "lane 4 at clock 5 of job 5");
  pb::Progress wrong = At(4, 5);
  wrong.set_lane_start(6);
  EXPECT_EQ(Refusal(MakePull({}, wrong)), "INVALID");
  wrong.set_lane_start(5);
  EXPECT_TRUE(Ask(MakePull({}, wrong)).header.has_pull_reply());
}

TEST_F(ShardCoreSsp, ClosesParkedPullsWhenTheirLaneOrPassEnds) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Ask(MakePush({}, 0, At(1, 0)));
  Refusal(MakePull({}, At(1, 1)));
  config.mutable_roster(0)->mutable_lane()->RemoveLast();
  auto items = Install();
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].message.header.refusal().reason(), pb::Refusal::CLOSED);
  Refusal(MakePull({}, At(0, 7)));
  config.clear_roster();
  items = Install();
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].message.header.refusal().reason(), pb::Refusal::CLOSED);
  EXPECT_EQ(core->stats().parked_pulls, 0U);
  EXPECT_EQ(core->stats().request_bytes, 0U);
}

TEST_F(ShardCoreSsp, TellsParkedPullsOfAnOldEpochToRouteAgain) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Refusal(MakePull({}, At(0, 1)));
  config.mutable_partition(2)->set_epoch(4);
  const auto items = Install();
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].message.header.refusal().reason(), pb::Refusal::STALE_EPOCH);
}

TEST_F(ShardCoreSsp, ParksNoMoreThanItsBudget) {
  Configure({.request_budget_bytes = 2000});
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  Message pull = MakePull({Key(0, 1)}, At(0, 1));
  for (uint64_t request = 1; request <= 100; ++request) {
    pull.header.set_request(request);
    EXPECT_EQ(Refusal(pull), "NOT_YET") << request;   // what is not kept waits all the same
  }
  EXPECT_LE(core->stats().request_bytes, 2000U);
  EXPECT_GT(core->stats().parked_pulls, 1U);
  EXPECT_LT(core->stats().parked_pulls, 100U);
}

TEST_F(ShardCoreSsp, PaysForKeyListsThatAParkedPullOnlyNames) {
  AddRoster(pb::ConsistencySpec::SSP, 2).set_staleness(0);
  Install();
  std::vector<HashedKey> keys;
  for (uint64_t i = 0; i < 5000; ++i) keys.push_back(Key(1, i));
  const KeySignature signature = SignatureOf(std::as_bytes(std::span(keys)));
  const auto with = [&](Message pull, bool inlined) {
    pb::KeyList& list = *pull.header.mutable_pull()->mutable_block(0)->mutable_keys();
    list.set_inlined(inlined);
    list.set_remember(inlined);
    list.set_signature_high(signature.high);
    list.set_signature_low(signature.low);
    if (!inlined) pull.keys = {};
    return pull;
  };
  Ask(with(MakePull(keys), true));
  Ask(MakePush({}, 0, At(0, 0)));
  EXPECT_EQ(Refusal(with(MakePull(keys, At(0, 1)), false)), "NOT_YET");
  EXPECT_GT(core->stats().request_bytes, 5000 * sizeof(HashedKey));
}

TEST_F(ShardCoreSsp, RefusesPullsFarAheadOfTheirLane) {
  AddRoster(pb::ConsistencySpec::SSP, 2);
  Install();
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)}, At(0, 5000))), "WINDOW_EXCEEDED");
}

TEST_F(ShardCoreSsp, TakesTheSlicesThatParkedPullsWaitFor) {
  Configure({.request_budget_bytes = 2000});
  AddRoster(pb::ConsistencySpec::SSP, 1).set_staleness(0);
  Install();
  Message pull = MakePull({Key(0, 1)}, At(0, 1));
  for (uint64_t request = 1; request <= 100; ++request) {  // more than there is room for
    pull.header.set_request(request);
    EXPECT_EQ(Refusal(pull), "NOT_YET");
  }
  std::vector<Outbox::Item> items;
  for (uint32_t slice = 0; slice < 2; ++slice) {
    Message push = MakePush({{Key(0, 1), {1, 1}}}, 0, At(0, 0));
    push.header.mutable_push()->set_slice(slice);
    push.header.mutable_push()->set_slice_count(2);
    items = Send(push);
  }
  EXPECT_TRUE(items[0].message.header.has_push_reply());
  EXPECT_EQ(core->stats().parked_pulls, 0U);
}

TEST_F(ShardCoreSsp, NeverMakesAspWait) {
  AddRoster(pb::ConsistencySpec::ASP, 2);
  Install();
  EXPECT_TRUE(Ask(MakePull({}, At(0, 1000))).header.has_pull_reply());
}

// ---- passes

class ShardCorePass : public ShardFixture {};

TEST_F(ShardCorePass, RefusesPassesItDoesNotKnow) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  EXPECT_EQ(Refusal(MakePull({}, At(0, 0, 1))), "CLOSED");
  pb::Progress ahead = At(0, 0, 1);
  ahead.set_generation(config.generation() + 1);
  EXPECT_EQ(Refusal(MakePull({}, ahead)), "UNKNOWN_EPOCH");
  EXPECT_EQ(Refusal(MakePush({}, 0, ahead)), "UNKNOWN_EPOCH");
  ahead = At(3, 0);
  ahead.set_generation(config.generation() + 1);
  EXPECT_EQ(Refusal(MakePush({}, 0, ahead)), "UNKNOWN_EPOCH");
}

TEST_F(ShardCorePass, WantsTrainingPushesToNameEveryPartition) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  Message push = MakePush({}, 0, At(0, 0));
  push.header.mutable_push()->mutable_partition()->RemoveLast();
  push.header.mutable_push()->mutable_epoch()->RemoveLast();
  push.header.mutable_push()->mutable_block(0)->mutable_key_count()->RemoveLast();
  EXPECT_EQ(Refusal(push), "UNKNOWN_EPOCH");
  Ask(MakePush({}, 0, At(0, 0)));
  EXPECT_TRUE(Ask(push).header.push_reply().duplicate());  // the one left out has it
}

TEST_F(ShardCorePass, WantsTrainingPushesToComeFromTheirPassesStream) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  Message push = MakePush({}, 0, At(0, 0));
  push.header.mutable_push()->set_stream_high(1);
  EXPECT_EQ(Refusal(push), "INVALID");
}

TEST_F(ShardCorePass, RefusesPushesTooFarAhead) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  EXPECT_EQ(Refusal(MakePush({}, 1024, At(0, 0))), "WINDOW_EXCEEDED");
  EXPECT_EQ(Refusal(MakePush({}, 0, At(0, 1024))), "WINDOW_EXCEEDED");
  EXPECT_TRUE(Ask(MakePush({}, 1023, At(0, 1023))).header.has_push_reply());
}

TEST_F(ShardCorePass, CountsExamplesOnceAPartition) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  for (uint64_t seq = 0; seq < 3; ++seq) Ask(MakePush({{Key(0, 1), {1, 1}}}, seq, At(0, seq)));
  Ask(MakePush({{Key(0, 1), {1, 1}}}, 1, At(0, 1)));
  const ShardStats stats = core->stats();
  ASSERT_EQ(stats.ledgers.size(), 1U);
  EXPECT_EQ(stats.ledgers[0].job(), 5U);
  EXPECT_EQ(stats.ledgers[0].pass(), 0U);
  EXPECT_EQ(stats.ledgers[0].min_examples(), 30U);
  EXPECT_EQ(stats.ledgers[0].max_examples(), 30U);
  EXPECT_EQ(stats.ledgers[0].duplicates(), 1U);
}

TEST_F(ShardCorePass, CountsExamplesOfBspWhenTheyAreKept) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 4);
  Install();
  Ask(MakePush({}, 0, At(0, 0)));
  EXPECT_EQ(core->stats().ledgers[0].min_examples(), 10U);
}

TEST_F(ShardCorePass, ForgetsDedupStateAndKeptGradientsWhenThePassEndsButNotTheLedger) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 4);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 1}}}, 0, At(0, 0)));
  EXPECT_GT(core->stats().request_bytes, 0U);
  for (uint32_t pass = 1; pass <= 6; ++pass) {
    config.clear_roster();
    AddRoster(pb::ConsistencySpec::SSP, 1, ~uint64_t{0}, pass);
    Install();
    EXPECT_EQ(core->stats().request_bytes, 0U);
    EXPECT_EQ(Refusal(MakePush({}, 0, At(0, 0, pass - 1))), "CLOSED");
    EXPECT_FALSE(Ask(MakePush({}, 0, At(0, 0, pass))).header.push_reply().duplicate());
    const auto ledgers = core->stats().ledgers;
    EXPECT_EQ(ledgers.size(), std::min(pass, 4U) + 1);  // the last four that ended, and this one
    EXPECT_EQ(ledgers.back().pass(), pass);
    for (const auto& ledger : ledgers) EXPECT_EQ(ledger.min_examples(), 10U);
  }
  config.clear_roster();
  config.clear_table();
  Install();
  EXPECT_TRUE(core->stats().ledgers.empty());
}

TEST_F(ShardCorePass, ForgetsSlicesWhenThePassEnds) {
  AddRoster(pb::ConsistencySpec::SSP, 1);
  Install();
  Message push = MakePush({}, 0, At(0, 0));
  push.header.mutable_push()->set_slice_count(2);
  Ask(push);
  config.clear_roster();
  Install();
  EXPECT_EQ(core->stats().staged_pushes, 0U);
}

TEST_F(ShardCorePass, AddsUpTheShardsOfAServer) {
  ShardStats a;
  a.rows = 1;
  a.seen_generation = 5;
  a.waiting = {"x"};
  pb::PassLedger ledger;
  ledger.set_job(1);
  ledger.set_min_examples(10);
  ledger.set_max_examples(20);
  ledger.set_duplicates(1);
  a.ledgers = {ledger};
  ShardStats b = a;
  b.seen_generation = 4;
  b.ledgers[0].set_min_examples(5);
  b.ledgers[0].set_staleness(3);
  const ShardStats sum = MergeStats({a, b});
  EXPECT_EQ(sum.rows, 2U);
  EXPECT_EQ(sum.seen_generation, 4U);
  EXPECT_EQ(sum.waiting.size(), 1U);
  ASSERT_EQ(sum.ledgers.size(), 1U);
  EXPECT_EQ(sum.ledgers[0].min_examples(), 5U);
  EXPECT_EQ(sum.ledgers[0].max_examples(), 20U);
  EXPECT_EQ(sum.ledgers[0].duplicates(), 2U);
  EXPECT_EQ(sum.ledgers[0].staleness(), 3U);
}

}  // namespace
}  // namespace sheaf
