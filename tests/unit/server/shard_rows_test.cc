// Which rows there are: features get theirs when they were seen often enough, and lose it when nobody comes any more.
#include <set>

#include "tests/unit/server/stored_shard.h"

namespace sheaf {
namespace {

constexpr uint32_t kTime = 100;  // seconds, that a row has

class ShardRows : public StoredShard {
 protected:
  static constexpr uint32_t kBias = 9;

  ShardRows() {
    AddTable(kBias, 1);
    options_.checkpoints = true;
  }

  pb::RowsSpec& Spec() { return *config.mutable_table(0)->mutable_rows(); }
  void Start() {
    ASSERT_TRUE(Restart());
    InstallAndCommit();
  }
  void ReadCold(Outbox& out) {
    for (int i = 0; i < 100; ++i) {
      auto read = core->TakeColdRead();
      if (!read) return;
      ReadNow(*read);
      core->OnColdRead(std::move(*read), now, out);
    }
  }
  void PushTo(const std::vector<HashedKey>& keys) {
    Rows rows;
    for (const HashedKey key : keys) rows[key] = {1, 2};
    Outbox out;
    core->OnMessage(kClient, MakePush(rows, seq_++), now, out);
    // Its rows may have to come, or others to leave.
    for (int i = 0; i < 100 && out.items().empty(); ++i) {
      ReadCold(out);
      if (!out.items().empty()) break;
      Round();
      if (core->MayResume()) core->Resume(now, out);
    }
    Commit();
    ASSERT_EQ(out.items().size(), 1u);
    ASSERT_TRUE(out.items()[0].message.header.has_push_reply()) << out.items()[0].message.header.ShortDebugString();
  }
  void Tick(int seconds = 1) {
    for (int i = 0; i < seconds; ++i) {
      now += std::chrono::seconds(1);
      Outbox out;
      core->OnTick(now, out);
      ReadCold(out);
    }
    Commit();
  }
  // The job pushes to its bias all the time.
  void Train(int seconds = 1) {
    for (int i = 0; i < seconds; ++i) {
      Outbox out;
      core->OnTick(now, out);
      Send(MakePush({{Key(3, 9), {1}}}, seq_++, std::nullopt, 0, kBias));
      Tick();
    }
  }
  uint64_t RowCount() {
    uint64_t rows = 0;
    for (uint32_t p = 0; p < 4; ++p) rows += ScanAll(p).header.scan_reply().row_count();
    return rows;
  }
  Message ScanAll(uint32_t partition) {
    pb::ScanRequest scan;
    scan.set_table(kTable);
    scan.set_partition(partition);
    scan.set_epoch(3);
    scan.set_max_rows(10'000);
    return core->ScanNow(scan);
  }

  uint64_t seq_ = 0;
};

// ---- admission

TEST_F(ShardRows, AreMadeForKeysThatComeAgain) {
  Spec().set_admit_after(3);
  Start();
  const HashedKey often = Key(1, 1), once = Key(1, 2);
  PushTo({often, once});
  PushTo({often});
  EXPECT_EQ(RowCount(), 0u);
  EXPECT_EQ(Pull({often}), (std::vector<float>{0, 0}));
  EXPECT_EQ(core->stats().unadmitted, 3u);
  PushTo({often});
  EXPECT_EQ(RowCount(), 1u);
  EXPECT_EQ(Pull({often, once}), (std::vector<float>{-1, -2, 0, 0})) << "what came before is not made up for";
  PushTo({often});
  EXPECT_EQ(Pull({often}), (std::vector<float>{-2, -4}));
}

TEST_F(ShardRows, AreAdmittedWhereTheyWouldHaveBeenHadTheProcessLived) {
  Spec().set_admit_after(3);
  Start();
  PushTo({Key(0, 1), Key(2, 1)});
  ExpectTheSameAgain();
  Round();
  PushTo({Key(0, 1)});
  ExpectTheSameAgain();  // from an image, and what is behind it in the log
  PushTo({Key(0, 1), Key(2, 1)});
  EXPECT_EQ(Pull({Key(0, 1), Key(2, 1)}), (std::vector<float>{-1, -2, 0, 0}));
}

TEST_F(ShardRows, OfBspAreAdmittedByClocks) {
  Spec().set_admit_after(2);
  AddRoster(pb::ConsistencySpec::BSP, 2);
  Start();
  for (uint64_t clock = 0; clock < 2; ++clock) {
    for (uint32_t lane = 0; lane < 2; ++lane) {
      EXPECT_EQ(RowCount(), 0u) << "two lanes at one clock are one sighting";
      Send(MakePush({{Key(0, 1), {2, 4}}}, clock, At(lane, clock), /*range=*/lane));
      Commit();
    }
  }
  EXPECT_EQ(RowCount(), 1u);
  EXPECT_EQ(Pull({Key(0, 1)}), (std::vector<float>{-2, -4}));
}

TEST_F(ShardRows, OfBspThatAreNotThereHaveTheirStartValueForALaneThatIsComputedAgain) {
  Spec().set_admit_after(5);
  config.mutable_table(0)->set_init_stddev(1);
  AddRoster(pb::ConsistencySpec::BSP, 1);
  Start();
  const auto start = Floats(Ask(MakePull({Key(0, 1), Key(0, 2)}, At(0, 0))));
  Send(MakePush({{Key(0, 1), {2, 4}}, {Key(0, 2), {2, 4}}}, 0, At(0, 0)));
  EXPECT_EQ(Floats(Ask(MakePull({Key(0, 1), Key(0, 2)}, At(0, 0)))), start);
}

// ---- expiry

TEST_F(ShardRows, ThatNobodyPushesToAreDropped) {
  Spec().set_expire_after_s(kTime);
  Start();
  PushTo({Key(0, 1), Key(0, 2), Key(3, 1)});
  Train(kTime / 2);
  PushTo({Key(0, 2)});
  Train(kTime / 2);
  EXPECT_EQ(RowCount(), 3u) << "not before their time";
  Train(2);
  EXPECT_EQ(RowCount(), 1u);
  EXPECT_EQ(core->stats().expired_rows, 2u);
  EXPECT_EQ(Pull({Key(0, 1), Key(0, 2)}), (std::vector<float>{0, 0, -2, -4}));
  PushTo({Key(0, 1)});
  EXPECT_EQ(Pull({Key(0, 1)}), (std::vector<float>{-1, -2})) << "it begins anew";
}

TEST_F(ShardRows, StayWhileNobodyPushes) {
  Spec().set_expire_after_s(kTime);
  AddRoster(pb::ConsistencySpec::ASP, 1);  // a pass that evaluates
  Start();
  PushTo({Key(0, 1)});
  Tick(10 * kTime);
  EXPECT_EQ(RowCount(), 1u);
  Train(kTime - 15);
  EXPECT_EQ(RowCount(), 1u);
  now += std::chrono::hours(10);  // the process was stopped
  Train(1);
  EXPECT_EQ(RowCount(), 1u);
  Train(16);
  EXPECT_EQ(RowCount(), 0u);
}

TEST_F(ShardRows, OfAJobThatIsDoneStayWhileAnotherTrains) {
  for (const size_t limit : {0, 4000}) {
    SCOPED_TRACE(limit);
    limit_ = limit;
    disk_ = sim::SimDisk(3);
    rows_ = sim::SimStore(3);
    Spec().set_expire_after_s(kTime);
    config.mutable_table(1)->set_job(6);
    config.mutable_table(1)->mutable_rows()->set_expire_after_s(kTime);
    Start();
    for (uint64_t first = 0; first < 200; first += 10) {
      std::vector<HashedKey> keys;
      for (uint64_t i = first; i < first + 10; ++i) keys.push_back(Key(0, i));
      PushTo(keys);
      Round();
    }
    ASSERT_EQ(core->stats().rows, 200u);
    EXPECT_EQ(core->stats().cold_rows > 0, limit > 0);
    const uint64_t reads = core->stats().cold_reads;
    Train(5 * kTime);
    EXPECT_EQ(core->stats().expired_rows, 0u);
    EXPECT_EQ(core->stats().cold_reads, reads) << "nothing is looked for in vain";
    EXPECT_EQ(RowCount(), 200u);
    core.reset();
  }
}

TEST_F(ShardRows, KeepTheirTimeOverARestart) {
  Spec().set_expire_after_s(kTime);
  Start();
  PushTo({Key(0, 1)});
  Round();
  PushTo({Key(0, 2)});
  ExpectTheSameAgain();
  Train(kTime - 1);
  EXPECT_EQ(RowCount(), 2u);
  Train(3);
  EXPECT_EQ(RowCount(), 0u);
  ExpectTheSameAgain();
}

TEST_F(ShardRows, ThatAreDroppedLeaveTheStoreToo) {
  Spec().set_expire_after_s(kTime);
  Start();
  PushTo({Key(0, 1), Key(0, 2), Key(0, 3)});
  Round();
  EXPECT_EQ(StoredRows(kTable), 3u);
  Train(kTime - 1);
  PushTo({Key(0, 2)});
  Train(3);
  EXPECT_EQ(RowCount(), 1u);
  ExpectTheSameAgain();  // by the log alone
  PushTo({Key(0, 3)});           // which is made anew before the store hears that it was dropped
  Round();
  EXPECT_EQ(StoredRows(kTable), 2u);
  ExpectTheSameAgain();
  EXPECT_EQ(Pull({Key(0, 1), Key(0, 2), Key(0, 3)}), (std::vector<float>{0, 0, -2, -4, -1, -2}));
  Train(kTime + 2);
  Round();
  EXPECT_EQ(StoredRows(kTable), 0u);
  ExpectTheSameAgain();
}

TEST_F(ShardRows, ThatAreDroppedMakeTheNextCheckpointWhole) {
  Spec().set_expire_after_s(kTime);
  Start();
  PushTo({Key(0, 1), Key(0, 2)});
  core->EndCut(*core->BeginCut(0, 5, 1, 0));
  PushTo({Key(0, 2)});
  EXPECT_FALSE(core->BeginCut(0, 5, 2, 1)->whole);
  Train(kTime + 2);
  EXPECT_EQ(RowCount(), 2u) << "not while a checkpoint is made of them";
  core->EndCuts();
  Train(4);
  EXPECT_EQ(RowCount(), 0u);
  EXPECT_TRUE(core->BeginCut(0, 5, 3, 2)->whole);
}

TEST_F(ShardRows, ThatAreNotInMemoryAreDroppedThere) {
  limit_ = 4000;
  Spec().set_expire_after_s(kTime);
  Start();
  for (uint64_t i = 0; i < 300; i += 20) {
    std::vector<HashedKey> keys;
    for (uint32_t p = 0; p < 4; ++p) {
      for (uint64_t k = i; k < i + 20; ++k) keys.push_back(Key(p, k));
    }
    PushTo(keys);
    Round();
    Train();
  }
  ASSERT_GT(core->stats().cold_rows, 500u);
  ASSERT_EQ(RowCount(), 1200u);
  for (int i = 0; i < 60 && RowCount() > 0; ++i) {
    Train(kTime / 10);
    Round();
  }
  EXPECT_EQ(RowCount(), 0u);
  Round();
  EXPECT_EQ(StoredRows(kTable), 0u);
  ExpectTheSameAgain();
}

// Against a plain map; rounds, restarts and rows that are made again in any order.
TEST_F(ShardRows, AreAlwaysThoseThatWerePushedToOfLate) {
  for (const bool limited : {false, true}) {
    SCOPED_TRACE(limited);
    limit_ = limited ? 4000 : 0;
    now += std::chrono::hours(1);
    disk_ = sim::SimDisk(2);
    rows_ = sim::SimStore(2);
    Spec().set_expire_after_s(kTime);
    Start();
    Random random(7);
    std::map<HashedKey, std::pair<float, int>> rows;  // how much was pushed, and when last
    int trained = 0;
    const auto drop_old = [&] {
      std::erase_if(rows, [&](const auto& row) { return row.second.second + static_cast<int>(kTime) < trained; });
    };
    for (int step = 0; step < 400; ++step) {
      std::vector<HashedKey> keys;
      for (int i = 0; i < 8; ++i) keys.push_back(Key(static_cast<uint32_t>(random.Below(4)), random.Below(100)));
      std::ranges::sort(keys);
      keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
      PushTo(keys);
      for (const HashedKey key : keys) rows[key] = {rows[key].first + 1, trained};
      if (random.Chance(0.2)) Round();
      if (random.Chance(0.1)) {
        RestartAndInstall();
      }
      const int seconds = static_cast<int>(1 + random.Below(6));
      Train(seconds);
      trained += seconds;
      drop_old();
      if (step % 10 != 9 || limited) continue;
      ASSERT_EQ(RowCount(), rows.size()) << step;
    }
    for (int i = 0; i < 20; ++i) {
      Round();
      Train();
      ++trained;
    }
    // Rows that are not in memory are looked at in turn.
    const int grace = limited ? 12 : 0;
    for (uint32_t p = 0; p < 4; ++p) {
      const Message reply = ScanAll(p);
      const auto keys = reply.keys.As<HashedKey>();
      const auto values = reply.values.As<float>();
      for (size_t i = 0; i < keys.size(); ++i) {
        ASSERT_TRUE(rows.contains(keys[i]));
        EXPECT_EQ(values[2 * i], -rows[keys[i]].first);
        EXPECT_LE(trained, rows[keys[i]].second + static_cast<int>(kTime) + grace);
        rows.erase(keys[i]);
      }
    }
    drop_old();
    EXPECT_TRUE(rows.empty()) << rows.size() << " of late are not there";
    core.reset();
  }
}

}  // namespace
}  // namespace sheaf
