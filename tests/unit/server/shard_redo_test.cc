// What a shard is after its process has died and another has read its log.
#include "server/recovery.h"
#include "tests/sim/sim_disk.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

class ShardCoreRedo : public ShardFixture {
 protected:
  ShardCoreRedo() { EXPECT_TRUE(Restart()); }

  // What the owner does before it sends.
  Durability Commit() {
    const Durability level = core->TakeCommitLevel();
    if (level != Durability::kMemory) {
      EXPECT_TRUE(log_->Commit(level));
    }
    return level;
  }
  Message AskAndCommit(Message message, PeerId from = kClient) {
    Message answer = Ask(std::move(message), from);
    Commit();
    return answer;
  }
  // What was appended and not committed is lost; the new process has another PeerId.
  Status Restart() {
    core.reset();
    log_ = disk_.OpenLog();
    ShardOptions options;
    options.log = log_.get();
    options.key_list_budget_bytes = budget_;
    self_ = PeerId(self_.value + 1);
    core = std::make_unique<ShardCore>(self_, options);
    config.mutable_server(0)->mutable_shard(0)->set_peer(self_.value);
    const auto recovered = RecoverShard(*core, *log_, nullptr, now, [](size_t) { return Status(); });
    return recovered ? Status() : Status(Failure{recovered.error()});
  }
  void RestartAndInstall() {
    const Status read = Restart();
    ASSERT_TRUE(read.has_value()) << read.error().message;
    Install();
    Commit();
  }
  static Message InSlice(Message message, uint32_t number) {
    message.header.mutable_push()->set_slice(number);
    message.header.mutable_push()->set_slice_count(2);
    message.header.mutable_push()->set_attempt(1);
    return message;
  }
  // Session push `seq` of one row, for its partition alone.
  Message PushTo(uint32_t partition, uint64_t seq) const {
    Message message = MakePush({{Key(partition, 1), {1, 0}}}, seq);
    pb::PushRequest& push = *message.header.mutable_push();
    push.clear_partition();
    push.clear_epoch();
    FillTarget(push, {partition});
    push.mutable_block(0)->clear_key_count();
    push.mutable_block(0)->add_key_count(1);
    return message;
  }
  Message SliceOf(uint32_t number, uint32_t partition) const { return InSlice(PushTo(partition, 0), number); }
  // All rows of a table, as exports see them.
  std::vector<float> AllRows() {
    std::vector<float> all;
    for (uint32_t p = 0; p < 4; ++p) {
      Message scan;
      scan.header.set_request(1);
      scan.header.mutable_scan()->set_table(kTable);
      scan.header.mutable_scan()->set_partition(p);
      scan.header.mutable_scan()->set_epoch(3);
      scan.header.mutable_scan()->set_max_rows(1000);
      const Message reply = Ask(scan);
      for (const HashedKey key : reply.keys.As<HashedKey>()) all.push_back(static_cast<float>(key >> 40));
      const auto values = reply.values.As<float>();
      all.insert(all.end(), values.begin(), values.end());
      all.push_back(static_cast<float>(reply.header.scan_reply().lsn()));
    }
    return all;
  }

  sim::SimDisk disk_{1};
  std::unique_ptr<RedoLog> log_;
  PeerId self_{1000};
  size_t budget_ = size_t{64} << 20;
};

TEST_F(ShardCoreRedo, HasItsRowsItsIdentitiesAndItsLsnsAgain) {
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 2}}, {Key(3, 5), {3, 4}}}, 0));
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 1));
  const std::vector<float> before = AllRows();
  RestartAndInstall();
  EXPECT_EQ(AllRows(), before);
  EXPECT_EQ(Pull({Key(0, 1), Key(3, 5)}), (std::vector<float>{-2, -2, -3, -4}));
  const Message again = AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 1), kOtherClient);
  EXPECT_TRUE(again.header.push_reply().duplicate());
  EXPECT_EQ(again.header.push_reply().lsn(0), 2U);
  EXPECT_FALSE(AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 2)).header.push_reply().duplicate());
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1)}), (std::vector<float>{-3, -2}));
}

TEST_F(ShardCoreRedo, SaysHowSafeItsAnswersMustBe) {
  Install();
  EXPECT_EQ(Commit(), Durability::kLog);  // a configuration
  EXPECT_EQ(AskAndCommit(MakePull({Key(0, 1)})).header.body_case(), pb::Header::kPullReply);
  Ask(MakePull({Key(0, 1)}));
  EXPECT_EQ(Commit(), Durability::kMemory);
  Ask(MakePush({{Key(0, 1), {1, 2}}}, 0));
  EXPECT_EQ(Commit(), Durability::kLog);
  Ask(MakePush({{Key(0, 1), {1, 2}}}, 0));
  EXPECT_EQ(Commit(), Durability::kMemory) << "it was there already";
  AddTable(2, 2).set_durability(pb::JobSpec::FSYNC);
  AddTable(3, 2).set_durability(pb::JobSpec::MEMORY);
  Install();
  Commit();
  Ask(MakePush({{Key(0, 1), {1, 2}}}, 1, std::nullopt, 0, 2));
  EXPECT_EQ(Commit(), Durability::kFsync);
  Ask(MakePush({{Key(0, 1), {1, 2}}}, 2, std::nullopt, 0, 3));
  EXPECT_EQ(Commit(), Durability::kMemory);
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1)}, 2), (std::vector<float>{-1, -2}));
  EXPECT_EQ(Pull({Key(0, 1)}, 3), (std::vector<float>{0, 0}));
}

TEST_F(ShardCoreRedo, ForgetsWhatItHadNoTimeToCommitAndTakesItWhenItComesAgain) {
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0));
  Ask(MakePush({{Key(0, 1), {1, 0}}}, 1));  // never sent: the process ends here
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1)})[0], -1);
  EXPECT_FALSE(AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 1)).header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1)})[0], -2);
}

TEST_F(ShardCoreRedo, KeepsTheGradientsOfAClockThatIsNotComplete) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  const Rows first{{Key(0, 1), {2, 0}}, {Key(1, 1), {4, 0}}}, second{{Key(0, 1), {4, 2}}};
  AskAndCommit(MakePush(first, 0, At(0, 0), 0));
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1)})[0], 0);
  EXPECT_TRUE(AskAndCommit(MakePush(first, 0, At(0, 0), 0)).header.push_reply().duplicate());
  AskAndCommit(MakePush(second, 0, At(1, 0), 1));
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{-3, -1, -2, 0}));
  // And the rows of before the last clock, for a lane that somebody takes over in the middle of it.
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1)}), (std::vector<float>{-3, -1, -2, 0}));
  EXPECT_EQ(Floats(Ask(MakePull({Key(0, 1), Key(1, 1)}, At(1, 0)))), (std::vector<float>{0, 0, 0, 0}));
}

TEST_F(ShardCoreRedo, CountsExamplesAndEndsPassesAsBefore) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0), 4));
  AskAndCommit(MakePush({}, 1, At(0, 1), 4));
  RestartAndInstall();
  ASSERT_EQ(core->stats().ledgers.size(), 1U);
  EXPECT_EQ(core->stats().ledgers[0].min_examples(), 20U);
  config.clear_roster();
  Install();
  Commit();
  RestartAndInstall();
  ASSERT_EQ(core->stats().ledgers.size(), 1U);
  EXPECT_EQ(core->stats().ledgers[0].max_examples(), 20U);
}

TEST_F(ShardCoreRedo, RemembersTheClockThatARepeatedPushFinished) {
  AddRoster(pb::ConsistencySpec::SSP, 2);
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0), 4));
  // The same batch computed again by another lane: nothing to apply, but its clock is done.
  EXPECT_TRUE(AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0, At(1, 0), 4)).header.push_reply().duplicate());
  RestartAndInstall();
  EXPECT_TRUE(Ask(MakePull({Key(0, 1)}, At(0, 3))).header.has_pull_reply()) << "lane 1 has finished clock 0";
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)}, At(0, 4))), "NOT_YET");
}

TEST_F(ShardCoreRedo, TakesAPushOfSlicesOnceAllAreThereAndNotBefore) {
  Install();
  Commit();
  EXPECT_TRUE(AskAndCommit(SliceOf(0, 1)).header.push_reply().staged());
  RestartAndInstall();
  EXPECT_EQ(core->stats().staged_pushes, 0U);
  EXPECT_TRUE(AskAndCommit(SliceOf(0, 1)).header.push_reply().staged());
  EXPECT_FALSE(AskAndCommit(SliceOf(1, 2)).header.push_reply().staged());
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(1, 1), Key(2, 1)}), (std::vector<float>{-1, 0, -1, 0}));
  EXPECT_TRUE(AskAndCommit(SliceOf(0, 1)).header.push_reply().duplicate());
}

TEST_F(ShardCoreRedo, DoesNotCreditAPushToPartitionsThatOnlyASliceWithoutTakersNamed) {
  Install();
  Commit();
  EXPECT_TRUE(AskAndCommit(SliceOf(0, 1)).header.push_reply().staged());
  AskAndCommit(PushTo(1, 2000));  // a session's window slides: partition 1 takes push 0 for one it has had
  EXPECT_FALSE(AskAndCommit(SliceOf(1, 2)).header.push_reply().staged());
  const std::vector<float> before = AllRows();
  RestartAndInstall();
  EXPECT_EQ(AllRows(), before);
  EXPECT_FALSE(AskAndCommit(PushTo(3, 0)).header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(3, 1)})[0], -1);
}

TEST_F(ShardCoreRedo, FinishesAClockAgainAlsoWhereTheBatchWasThere) {
  AddRoster(pb::ConsistencySpec::SSP, 2);
  for (const int p : {2, 3}) config.mutable_partition(p)->set_primary(9);
  Install();
  const auto only = [](Message push, std::initializer_list<uint32_t> partitions) {
    push.header.mutable_push()->clear_partition();
    push.header.mutable_push()->clear_epoch();
    push.header.mutable_push()->mutable_block(0)->clear_key_count();
    for (const uint32_t p : partitions) {
      push.header.mutable_push()->add_partition(p);
      push.header.mutable_push()->add_epoch(3);
      push.header.mutable_push()->mutable_block(0)->add_key_count(p == 0 ? 1 : 0);
    }
    return push;
  };
  const Rows rows{{Key(0, 1), {1, 0}}};
  AskAndCommit(only(MakePush(rows, 0, At(0, 0), 4), {0, 1}));
  for (const int p : {2, 3}) config.mutable_partition(p)->set_primary(1);
  Install();
  // Another lane computed it again: partitions 2 and 3 take it, all four have its clock.
  EXPECT_FALSE(AskAndCommit(MakePush(rows, 0, At(1, 0), 4)).header.push_reply().duplicate());
  RestartAndInstall();
  Message pull = MakePull({Key(0, 1)}, At(0, 3));
  pull.header.mutable_pull()->clear_partition();
  pull.header.mutable_pull()->clear_epoch();
  pull.header.mutable_pull()->add_partition(0);
  pull.header.mutable_pull()->add_epoch(3);
  pull.header.mutable_pull()->mutable_block(0)->clear_key_count();
  pull.header.mutable_pull()->mutable_block(0)->add_key_count(1);
  EXPECT_TRUE(Ask(pull).header.has_pull_reply()) << "both lanes have finished clock 0 in partition 0";
}

TEST_F(ShardCoreRedo, WritesOfAPushOnlyWhatSomePartitionsLacked) {
  Install();
  AskAndCommit(PushTo(1, 0));
  AskAndCommit(MakePush({{Key(0, 1), {1, 2}}, {Key(1, 1), {1, 0}}, {Key(2, 1), {3, 4}}}, 0));
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1)}), (std::vector<float>{-1, -2, -1, 0, -3, -4}));
}

TEST_F(ShardCoreRedo, LetsGoOfTheLogWhenNoTableIsLeft) {
  Install();
  for (uint64_t seq = 0; seq < 40; ++seq) AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, seq));
  config.clear_table();
  Install();
  Commit();
  EXPECT_EQ(log_->first_index(), 42U);
  RestartAndInstall();
  EXPECT_EQ(core->stats().rows, 0U);
  AddTable(kTable, 2);
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0));
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1)})[0], -1);
}

TEST_F(ShardCoreRedo, WritesAListThatIsNamedAgainAndAgainOnce) {
  Install();
  Commit();
  const Rows rows{{Key(0, 1), {1, 0}}, {Key(3, 1), {2, 0}}};
  Message first = MakePush(rows, 0);
  const KeySignature signature = SignatureOf(first.keys.bytes());
  pb::KeyList& list = *first.header.mutable_push()->mutable_block(0)->mutable_keys();
  list.set_signature_high(signature.high);
  list.set_signature_low(signature.low);
  list.set_remember(true);
  AskAndCommit(first);
  const auto size_of_last = [&] {
    size_t size = 0;
    EXPECT_TRUE(log_->Replay(log_->next_index() - 1, [&](uint64_t, const Buffer& record) {
      size = record.size();
      return Status();
    }));
    return size;
  };
  const size_t with_keys = size_of_last();
  const auto named = [&](uint64_t seq) {
    Message push = MakePush(rows, seq);
    *push.header.mutable_push()->mutable_block(0)->mutable_keys() = list;
    push.header.mutable_push()->mutable_block(0)->mutable_keys()->set_inlined(false);
    push.header.mutable_push()->mutable_block(0)->mutable_keys()->set_remember(false);
    push.keys = {};
    return push;
  };
  EXPECT_FALSE(AskAndCommit(named(1)).header.push_reply().duplicate());
  EXPECT_EQ(size_of_last() + 2 * sizeof(HashedKey), with_keys);
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1), Key(3, 1)}), (std::vector<float>{-2, 0, -4, 0}));
  // The next process goes on with the lists that the log has.
  EXPECT_EQ(Refusal(named(2)), "UNKNOWN_KEY_LIST");
  first.header.mutable_push()->set_seq(2);
  AskAndCommit(first);
  EXPECT_EQ(size_of_last() + 2 * sizeof(HashedKey), with_keys);
  RestartAndInstall();
  EXPECT_EQ(Pull({Key(0, 1), Key(3, 1)}), (std::vector<float>{-3, 0, -6, 0}));
}

// Lists come and go by the same rule on both sides, however few have room.
TEST_F(ShardCoreRedo, FindsTheListsThatItNamedWhateverTheirNumber) {
  budget_ = 2000;  // five lists or so
  ASSERT_TRUE(Restart());
  Install();
  Commit();
  Random random(5);
  for (uint64_t seq = 0; seq < 300; ++seq) {
    Rows rows;
    const uint64_t which = random.Below(12);
    for (uint64_t i = 0; i <= which; ++i) rows[Key(static_cast<uint32_t>(which % 4), i)] = {1, 0};
    Message push = MakePush(rows, seq);
    const KeySignature signature = SignatureOf(push.keys.bytes());
    pb::KeyList& list = *push.header.mutable_push()->mutable_block(0)->mutable_keys();
    list.set_signature_high(signature.high);
    list.set_signature_low(signature.low);
    list.set_remember(random.Chance(0.8));
    ASSERT_TRUE(AskAndCommit(push).header.has_push_reply());
    if (random.Below(20) != 0) continue;
    const std::vector<float> before = AllRows();
    RestartAndInstall();
    ASSERT_EQ(AllRows(), before) << seq;
  }
}

TEST_F(ShardCoreRedo, DropsPartitionsThatWentElsewhereMeanwhile) {
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}, {Key(1, 1), {1, 0}}}, 0));
  ASSERT_TRUE(Restart());
  config.mutable_partition(0)->set_primary(9);
  config.mutable_partition(0)->set_epoch(4);
  Install();
  EXPECT_EQ(core->stats().rows, 1U);
}

// Found by seed 105: the first configuration that a new process is sent may be from before it was known.
TEST_F(ShardCoreRedo, KeepsWhatItHoldsWhileNoConfigurationListsIt) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  Install();
  AskAndCommit(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0), 4));
  ASSERT_TRUE(Restart());
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)})), "UNKNOWN_EPOCH");
  config.mutable_server(0)->mutable_shard(0)->set_peer(kShardPeer.value);
  Install();
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)})), "UNKNOWN_EPOCH");
  config.clear_server();
  config.clear_roster();  // the pass ends meanwhile
  Install();
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)})), "UNKNOWN_EPOCH");
  pb::ServerInfo& server = *config.add_server();
  server.set_node(1);
  server.add_shard()->set_peer(self_.value);
  for (int p = 0; p < 4; ++p) config.mutable_partition(p)->set_epoch(3);
  Install();
  EXPECT_EQ(Pull({Key(0, 1)})[0], -1);
  ASSERT_EQ(core->stats().ledgers.size(), 1U);
  EXPECT_EQ(core->stats().ledgers[0].max_examples(), 10U);
}

TEST_F(ShardCoreRedo, RefusesEverythingWhileTheLogCannotBeWritten) {
  Install();
  core->RefuseAll("the disk is full");
  EXPECT_EQ(Refusal(MakePush({{Key(0, 1), {1, 0}}}, 0)), "OVERLOADED");
  EXPECT_EQ(last_refusal.text(), "the disk is full");
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)})), "OVERLOADED");
  core->RefuseAll("");
  EXPECT_TRUE(Ask(MakePush({{Key(0, 1), {1, 0}}}, 0)).header.has_push_reply());
}

// Whatever was pushed, cut wherever: the same rows, to the bit, as of the shard that died.
TEST_F(ShardCoreRedo, IsTheSameAgainAfterAnyNumberOfPushes) {
  config.mutable_table(0)->mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAM);
  config.mutable_table(0)->set_init_stddev(0.1);
  for (const auto mode : {pb::ConsistencySpec::BSP, pb::ConsistencySpec::SSP, pb::ConsistencySpec::ASP}) {
    config.clear_roster();
    AddRoster(mode, 3, mode == pb::ConsistencySpec::BSP ? 100 : ~uint64_t{0}, static_cast<uint32_t>(mode));
    Install();
    Commit();
    Random random(static_cast<uint64_t>(mode) + 1);
    for (uint64_t clock = 0; clock < 30; ++clock) {
      for (uint32_t lane = 0; lane < 3; ++lane) {
        Rows rows;
        for (int i = 0; i < 5; ++i) {
          rows[Key(static_cast<uint32_t>(random.Below(4)), random.Below(6))] = {
              static_cast<float>(random.NextDouble()), static_cast<float>(random.NextDouble())};
        }
        const Message push = MakePush(rows, clock, At(lane, clock, static_cast<uint32_t>(mode)), lane);
        EXPECT_TRUE(AskAndCommit(push).header.has_push_reply());
        if (random.Below(10) != 0) continue;
        const std::vector<float> before = AllRows();
        RestartAndInstall();
        ASSERT_EQ(AllRows(), before) << "clock " << clock << " of lane " << lane;
      }
    }
  }
}

}  // namespace
}  // namespace sheaf
