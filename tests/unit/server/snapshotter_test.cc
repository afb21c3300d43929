// Rounds of snapshots, and shards that come back from them.
#include "server/snapshotter.h"

#include "tests/unit/server/stored_shard.h"

namespace sheaf {
namespace {

class Snapshots : public StoredShard {
 protected:
  Snapshots() { EXPECT_TRUE(Restart()); }

  // Begins a round and takes the first so many works of it.
  std::vector<SnapshotWork> Take(size_t count) {
    std::vector<SnapshotWork> works;
    if (snapshotter_->idle()) snapshotter_->RequestRound();
    while (works.size() < count) {
      snapshotter_->Step(now);
      Commit();
      while (auto work = snapshotter_->TakeWork()) {
        works.push_back(std::move(*work));
        if (works.size() < count) Done(CarryOut(*store_, works.back()));
      }
      if (snapshotter_->idle()) break;
    }
    return works;
  }
  // Writes so many works of a round; the last is written, too.
  void Write(size_t count) {
    const auto works = Take(count);
    ASSERT_EQ(works.size(), count);
    Done(CarryOut(*store_, works.back()));
  }
  Rows Some(uint64_t from, uint64_t count) const {
    Rows rows;
    for (uint32_t p = 0; p < 4; ++p) {
      for (uint64_t i = from; i < from + count; ++i) rows[Key(p, i)] = {static_cast<float>(i), 1};
    }
    return rows;
  }
};

TEST_F(Snapshots, CutTheLogAndAreWhatWasInIt) {
  InstallAndCommit();
  for (uint64_t seq = 0; seq < 30; ++seq) AskAndCommit(MakePush(Some(seq, 3), seq));
  EXPECT_EQ(log_->first_index(), 1U);
  Round();
  EXPECT_GT(log_->first_index(), 25U);
  AskAndCommit(MakePush(Some(1, 2), 30));
  ExpectTheSameAgain();
  EXPECT_EQ(recovered_.partitions, 4U);
  EXPECT_LE(recovered_.records, 3U);
  EXPECT_TRUE(AskAndCommit(MakePush({}, 7)).header.push_reply().duplicate());
}

TEST_F(Snapshots, HaveOnlyWhatHasChangedSinceTheOneBefore) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 100), 0));
  Round();
  const uint64_t first = snapshotter_->stats().bytes;
  AskAndCommit(MakePush(Some(50, 2), 1));
  Round();
  EXPECT_EQ(snapshotter_->stats().bytes - first, first / 50);
  EXPECT_EQ(StoredRows(), 400U);
  ExpectTheSameAgain();
  AskAndCommit(MakePush(Some(60, 1), 2));
  RestartAndInstall();  // what the log says is done again, and changed again
  Round();
  EXPECT_EQ(snapshotter_->stats().bytes, first / 100) << "nothing of what was loaded";
  ExpectTheSameAgain();
}

TEST_F(Snapshots, AreOfOneMomentAlthoughTheyAreCopiedInSteps) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 50), 0));
  snapshotter_->RequestRound();
  uint64_t seq = 1;
  for (; snapshotter_->stats().rounds == 0; ++seq) {  // everything changes between any two steps
    AskAndCommit(MakePush(Some(seq % 45, 5), seq));
    snapshotter_->Step(now);
    Commit();
    while (auto work = snapshotter_->TakeWork()) Done(CarryOut(*store_, *work));
  }
  EXPECT_GT(seq, 20U);
  ExpectTheSameAgain();
}

TEST_F(Snapshots, OfARoundThatWasNotCompletedAreOfUse) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  for (size_t works = 1; works <= 4; ++works) {
    for (int again = 0; again < 3; ++again) {
      AskAndCommit(MakePush(Some(works, 5), works * 10 + static_cast<uint64_t>(again)));
      Write(works);
      AskAndCommit(MakePush(Some(works, 2), works * 10 + 5 + static_cast<uint64_t>(again)));
      ExpectTheSameAgain();  // with some of the batches lost
    }
    Round();
  }
}

TEST_F(Snapshots, DoNotCutTheLogBeforeTheyAreFlushed) {
  InstallAndCommit();
  for (uint64_t seq = 0; seq < 30; ++seq) AskAndCommit(MakePush(Some(seq, 3), seq));
  auto works = Take(5);
  ASSERT_EQ(works.size(), 5U);
  ASSERT_FALSE(works.back().partition);
  EXPECT_EQ(log_->first_index(), 1U);
  const Status done = CarryOut(*store_, works.back());
  EXPECT_EQ(log_->first_index(), 1U);
  Done(done);
  EXPECT_GT(log_->first_index(), 25U);
}

TEST_F(Snapshots, ARoundThatFailsLosesNothingAndTheNextSavesAll) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  Round();
  for (uint64_t n = 1; n <= 6; ++n) {  // the n-th call of the store fails
    AskAndCommit(MakePush(Some(n, 3), n));
    auto whole = std::move(store_);
    store_ = std::make_unique<sim::FailingStore>(std::move(whole), n, ErrorCode::kResourceExhausted);
    const uint64_t failures = snapshotter_->stats().failures;
    snapshotter_->RequestRound();
    for (int step = 0; step < 100 && snapshotter_->stats().failures == failures; ++step) {
      snapshotter_->Step(now);
      Commit();
      while (auto work = snapshotter_->TakeWork()) Done(CarryOut(*store_, *work));
    }
    EXPECT_EQ(snapshotter_->stats().failures, failures + 1);
    store_ = rows_.Open();  // anew, with a part of what was written
    AskAndCommit(MakePush(Some(n, 3), n + 100));
    if (n % 2 == 0) Round();
    ExpectTheSameAgain();
  }
}

TEST_F(Snapshots, HaveNoRowsOfTablesThatAreGone) {
  AddTable(2, 2);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  AskAndCommit(MakePush(Some(0, 7), 1, std::nullopt, 0, 2));
  Round();
  EXPECT_EQ(StoredRows(), 48U);
  config.mutable_table()->RemoveLast();
  InstallAndCommit();
  ExpectTheSameAgain();
  Round();
  EXPECT_EQ(StoredRows(), 20U);
  AddTable(2, 2);  // under the same number
  InstallAndCommit();
  AskAndCommit(MakePush(Some(1, 1), 2, std::nullopt, 0, 2));
  ExpectTheSameAgain();
  Round();
  EXPECT_EQ(StoredRows(), 24U);
  ExpectTheSameAgain();
  EXPECT_EQ(Pull({Key(0, 6)}, 2), (std::vector<float>{0, 0}));
}

TEST_F(Snapshots, ATableThatIsMadeAnewUnderItsNumberBetweenRoundsHasNothingOfTheOld) {
  AddTable(2, 2);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 7), 1, std::nullopt, 0, 2));
  Round();
  config.mutable_table()->RemoveLast();
  InstallAndCommit();
  AddTable(2, 2);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(1, 1), 2, std::nullopt, 0, 2));
  ExpectTheSameAgain();
  Round();
  ExpectTheSameAgain();
  EXPECT_EQ(core->stats().rows, 4U);
}

TEST_F(Snapshots, BeginAnewWithTheLogWhenTheLastTableIsGone) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  Round();
  config.clear_table();
  InstallAndCommit();
  RestartAndInstall();
  EXPECT_TRUE(recovered_.store_is_void);
  AddTable(7, 2);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(2, 2), 9, std::nullopt, 0, 7));
  ExpectTheSameAgain();
  Write(2);  // of a round that is not completed
  ExpectTheSameAgain();
  Round();
  EXPECT_EQ(StoredRows(), 8U);
  ExpectTheSameAgain();
}

class DroppedInARound : public Snapshots {
 protected:
  void Primary(uint32_t partition, uint32_t node) {
    config.mutable_partition(static_cast<int>(partition))->set_primary(node);
    InstallAndCommit();
  }
  void PushToOwned(uint64_t seq) {
    Rows rows;
    for (uint32_t p = 0; p < 4; ++p) {
      if (config.partition(static_cast<int>(p)).primary() == 1) rows[Key(p, seq % 3)] = {1, static_cast<float>(seq)};
    }
    Message push = MakePush(rows, seq);
    pb::PushRequest& request = *push.header.mutable_push();
    request.clear_partition();
    request.clear_epoch();
    request.mutable_block(0)->clear_key_count();
    for (uint32_t p = 0; p < 4; ++p) {
      if (config.partition(static_cast<int>(p)).primary() != 1) continue;
      request.add_partition(p);
      request.add_epoch(3);
      request.mutable_block(0)->add_key_count(1);
    }
    ASSERT_TRUE(AskAndCommit(push).header.has_push_reply());
  }
};

class DroppedPartitions : public DroppedInARound, public testing::WithParamInterface<int> {
 protected:
  // A step that is due by the parameter's bits.
  bool Bit(int bit) const { return (GetParam() >> bit) & 1; }
};

// Partition 2 goes and comes back, before, in and after a round, at every combination of moments.
TEST_P(DroppedPartitions, AreNeverThereAgain) {
  InstallAndCommit();
  uint64_t seq = 0;
  PushToOwned(seq++);
  if (Bit(0)) Round();
  PushToOwned(seq++);
  if (Bit(1)) Primary(2, 9);
  Write(Bit(2) ? 1 : 3);  // partitions 0, or 0 to 2 if they are here
  PushToOwned(seq++);
  if (Bit(3)) Primary(2, config.partition(2).primary() == 1 ? 9 : 1);
  PushToOwned(seq++);
  if (Bit(4)) ExpectTheSameAgain();
  if (Bit(5)) Primary(2, config.partition(2).primary() == 1 ? 9 : 1);
  PushToOwned(seq++);
  if (Bit(6)) Round();
  PushToOwned(seq++);
  if (Bit(7)) Primary(2, config.partition(2).primary() == 1 ? 9 : 1);
  PushToOwned(seq++);
  ExpectTheSameAgain();
  Round();
  ExpectTheSameAgain();
}
INSTANTIATE_TEST_SUITE_P(All, DroppedPartitions, testing::Range(0, 256));

// The power takes the record by which partition 3 went, and leaves the round that is complete without it.
TEST_F(DroppedInARound, AreMissedByNobodyIfTheLogDoesNotKnow) {
  InstallAndCommit();
  uint64_t seq = 0;
  int lost = 0;
  for (int again = 0; again < 10; ++again) {
    PushToOwned(seq++);
    Write(3);  // partitions 0 to 2
    ASSERT_TRUE(log_->Commit(Durability::kFsync));
    Primary(3, 9);
    Round();
    const uint64_t next = log_->next_index();
    disk_.LosePower();
    const Status read = Restart();
    ASSERT_TRUE(read.has_value()) << read.error().message;
    lost += log_->next_index() < next ? 1 : 0;
    if (recovered_.store_is_ahead) {
      ASSERT_TRUE(SaveAll(*core, *log_, *store_, now));
    }
    InstallAndCommit();
    Primary(3, 1);
    ExpectTheSameAgain();
  }
  EXPECT_GT(lost, 0);
}

TEST_F(Snapshots, WakeInPassesThatBeganAndEndedMeanwhile) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 2), 0, At(0, 0), 0));
  Write(1);
  AskAndCommit(MakePush(Some(0, 2), 0, At(1, 0), 1));
  Write(1);
  config.clear_roster();
  AddRoster(pb::ConsistencySpec::SSP, 2, ~uint64_t{0}, 1);
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 2), 0, At(0, 0, 1), 0));
  ExpectTheSameAgain();
  Write(2);
  ExpectTheSameAgain();
  Round();
  ExpectTheSameAgain();
}

TEST_F(Snapshots, LaterThanWhatThePowerLeftOfTheLogStand) {
  InstallAndCommit();
  ASSERT_TRUE(log_->Commit(Durability::kFsync));
  for (int again = 0; again < 5; ++again) {
    const auto seq = static_cast<uint64_t>(again) * 10;
    AddTable(static_cast<uint32_t>(10 + again), 2);
    InstallAndCommit();
    AskAndCommit(MakePush(Some(0, 2), seq));
    AskAndCommit(MakePush(Some(0, 2), seq, std::nullopt, 3, static_cast<uint32_t>(10 + again)));
    if (again % 2 == 0) {
      Write(3);
    } else {
      Round();
    }
    ASSERT_TRUE(store_->Flush());
    disk_.LosePower();
    const Status read = Restart();
    ASSERT_TRUE(read.has_value()) << read.error().message;
    if (recovered_.store_is_ahead) {
      ASSERT_TRUE(SaveAll(*core, *log_, *store_, now));
    }
    InstallAndCommit();
    EXPECT_EQ(Pull({Key(0, 1)}).size(), 2U);
    AskAndCommit(MakePush(Some(0, 2), seq + 1));
    ExpectTheSameAgain();
    EXPECT_FALSE(recovered_.store_is_ahead);
  }
}

TEST_F(Snapshots, OfAnotherClusterGoWithItsPartitions) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  Round();
  ASSERT_TRUE(Restart());
  config.set_partition_count(8);  // another cluster, which has a table already
  for (int p = 4; p < 8; ++p) {
    *config.add_partition() = config.partition(0);
  }
  InstallAndCommit();
  EXPECT_EQ(core->stats().rows, 0U);
  EXPECT_FALSE(core->Export(7, 1).empty());
  RestartAndInstall();
  EXPECT_FALSE(core->Export(7, 1).empty());
  EXPECT_EQ(core->stats().rows, 0U);
  Round();
  EXPECT_EQ(StoredRows(), 0U);
  RestartAndInstall();
  EXPECT_EQ(recovered_.partitions, 8U);
}

TEST_F(Snapshots, ThatAreMissingAreSaidToBe) {
  InstallAndCommit();
  for (uint64_t seq = 0; seq < 10; ++seq) AskAndCommit(MakePush(Some(seq, 3), seq));
  Round();
  ASSERT_TRUE(ClearSnapshots(*store_));
  const Status read = Restart();
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, ErrorCode::kDataLoss);
  EXPECT_NE(read.error().message.find("lost its beginning"), std::string::npos) << read.error().message;
}

TEST_F(Snapshots, ThatLackARowAreRefused) {
  InstallAndCommit();
  AskAndCommit(MakePush(Some(0, 5), 0));
  Round();
  std::string key;
  (void)store_->Scan("w", "x", [&](std::string_view found, std::string_view) {
    key = found;
    return Status(Fail(ErrorCode::kCancelled, "one"));
  });
  KvBatch batch;
  batch.Delete(key);
  ASSERT_TRUE(store_->Write(batch));
  ASSERT_TRUE(store_->Flush());
  const Status read = Restart();
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("partition 0"), std::string::npos) << read.error().message;
}

TEST_F(Snapshots, AreMadeWhenTheLogHasGrownAndNotBefore) {
  InstallAndCommit();
  snapshotter_ = std::make_unique<Snapshotter>(
      *core, *log_, SnapshotterOptions{.min_log_bytes = 20'000, .rows_a_step = 100, .retry_after = Milliseconds(10)});
  uint64_t seq = 0, rounds_at = 0;
  for (; seq < 200; ++seq) {
    AskAndCommit(MakePush(Some(seq % 7, 5), seq));
    for (int i = 0; i < 8; ++i) {
      snapshotter_->Step(now);
      Commit();
      while (auto work = snapshotter_->TakeWork()) Done(CarryOut(*store_, *work));
    }
    if (snapshotter_->stats().rounds == 1 && rounds_at == 0) rounds_at = core->logged_bytes();
  }
  EXPECT_GE(rounds_at, 20'000U);
  EXPECT_LE(rounds_at, 22'000U);
  EXPECT_GE(snapshotter_->stats().rounds, core->logged_bytes() / 25'000);
  EXPECT_LE(log_->bytes(), 25'000U);
}

}  // namespace
}  // namespace sheaf
