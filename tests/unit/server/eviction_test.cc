// Tables larger than memory: which rows leave, how requests wait for them, and that nothing is lost by it.
#include <algorithm>
#include <set>

#include "common/base/random.h"
#include "tests/unit/server/stored_shard.h"

namespace sheaf {
namespace {

// ---- rows of one store

constexpr uint32_t kStoreDim = 2;

TEST(ColdFilter, NeverDeniesAKeyThatWasAddedAndSeldomClaimsOneThatWasNot) {
  ColdFilter filter;
  for (uint64_t i = 0; i < 20'000; ++i) filter.Add(MixKey(i));
  for (uint64_t i = 0; i < 20'000; ++i) ASSERT_TRUE(filter.MayContain(MixKey(i)));
  size_t wrong = 0;
  for (uint64_t i = 20'000; i < 120'000; ++i) wrong += filter.MayContain(MixKey(i));
  EXPECT_LT(wrong, 3'000u);
  EXPECT_LT(filter.bytes(), 20'000u * 4);
}

class Leaving : public ::testing::Test {
 protected:
  Leaving()
      : optimizer(MakeSumOptimizer()),
        layout{.dim = kStoreDim, .stride = kStoreDim, .optimizer = optimizer.get(), .counts_uses = true} {}
  std::unique_ptr<Optimizer> optimizer;
  RowLayout layout;
};

TEST_F(Leaving, RowsThatWereUsedLeastGoFirst) {
  RowStore store(&layout, 1);
  for (uint64_t i = 0; i < 100; ++i) store.FindOrCreate(MixKey(i))[0] = static_cast<float>(i);
  for (size_t slot = 0; slot < 64; ++slot) store.uses()[slot] += RowStore::kUse;
  for (size_t slot = 0; slot < 4; ++slot) store.uses()[slot] += RowStore::kUse;
  EXPECT_EQ(store.Evict(36, {}).rows, 36u);
  EXPECT_EQ(store.size(), 100u);
  for (uint64_t i = 0; i < 64; ++i) EXPECT_EQ(store.Find(MixKey(i))[0], static_cast<float>(i));
  EXPECT_EQ(store.Evict(30, {}).rows, 30u);
  for (uint64_t i = 0; i < 4; ++i) EXPECT_NE(store.Find(MixKey(i)), nullptr) << i;
  EXPECT_EQ(store.Evict(1000, {}).rows, 34u);
  EXPECT_EQ(store.hot(), 0u);
  EXPECT_EQ(store.size(), 100u);
}

TEST_F(Leaving, WhatRowsWereUsedLongAgoCountsLess) {
  RowStore store(&layout, 1);
  for (uint64_t i = 0; i < 2; ++i) store.FindOrCreate(MixKey(i));
  store.uses()[0] = 3 * RowStore::kUse;
  for (int sweep = 0; sweep < 40; ++sweep) {
    store.uses()[1] = std::max(store.uses()[1], RowStore::kUse);
    EXPECT_EQ(store.Evict(0, {}).rows, 0u);
  }
  EXPECT_EQ(store.Evict(1, {}).rows, 1u);
  EXPECT_EQ(store.Find(MixKey(0)), nullptr);
}

TEST_F(Leaving, TheirMemoryIsGivenBack) {
  layout.slab_bytes = 16 << 10;
  RowStore store(&layout, 1);
  for (uint64_t i = 0; i < 100'000; ++i) {
    store.FindOrCreate(MixKey(i))[0] = static_cast<float>(i);
    if (i == 70'000) store.marks()[i / 64] |= uint64_t{1} << (i % 64);
  }
  const size_t all = store.memory_bytes();
  EXPECT_EQ(store.Evict(95'000, {}).rows, 95'000u);
  EXPECT_LT(store.memory_bytes(), all / 4) << "with 300 kB of filter";
  size_t here = 0;
  for (uint64_t i = 0; i < 100'000; ++i) {
    const float* const row = store.Find(MixKey(i));
    if (row == nullptr) continue;
    ++here;
    ASSERT_EQ(row[0], static_cast<float>(i));
  }
  EXPECT_EQ(here, 5'000u);
  std::vector<HashedKey> keys;
  std::vector<float> rows;
  EXPECT_FALSE(store.Copy(RowStore::Which::kMarked, 0, 100'000, keys, rows));
  EXPECT_EQ(keys, (std::vector<HashedKey>{MixKey(70'000)}));
}

TEST_F(Leaving, RowsThatHaveChangedOrAreNeededStay) {
  RowStore store(&layout, 1);
  for (uint64_t i = 0; i < 64; ++i) store.FindOrCreate(MixKey(i));
  store.marks()[0] = 0xff;
  const std::vector<HashedKey> stay = [] {
    std::vector<HashedKey> keys = {MixKey(20), MixKey(21), MixKey(1000)};
    std::ranges::sort(keys);
    return keys;
  }();
  EXPECT_EQ(store.Evict(1000, stay).rows, 54u);
  for (const uint64_t i : {0, 7, 20, 21}) EXPECT_NE(store.Find(MixKey(i)), nullptr) << i;
  EXPECT_EQ(store.Find(MixKey(30)), nullptr);
  EXPECT_TRUE(store.MayBeCold(MixKey(30)));
}

// Against a plain map, with keys that crowd so that buckets run over.
TEST_F(Leaving, WhatComesAndGoesIsAlwaysFound) {
  Random random(3);
  RowStore store(&layout, 1);
  std::map<HashedKey, float> here, away;
  const auto key_of = [](uint64_t i) { return i % 3 == 0 ? i * 5 : MixKey(i); };
  for (int step = 0; step < 20'000; ++step) {
    const HashedKey key = key_of(random.Below(3000));
    if (const auto found = away.find(key); found != away.end()) {
      ASSERT_EQ(store.Find(key), nullptr);
      ASSERT_TRUE(store.MayBeCold(key));
      const float row[kStoreDim] = {found->second, 1};
      store.TakeBack(key, row);
      here.insert(away.extract(found));
    } else {
      here[key] = store.FindOrCreate(key)[0] = static_cast<float>(step);
    }
    ASSERT_EQ(store.Find(key)[0], here.at(key));
    if (step % 500 != 499) continue;
    const size_t went = store.Evict(random.Below(600), {}).rows;
    size_t gone = 0;
    for (auto at = here.begin(); at != here.end();) {
      const float* const row = store.Find(at->first);
      if (row != nullptr) {
        ASSERT_EQ(row[0], at->second);
        ++at;
        continue;
      }
      away[at->first] = at->second;
      at = here.erase(at);
      ++gone;
    }
    ASSERT_EQ(gone, went);
    ASSERT_EQ(store.hot(), here.size());
    ASSERT_EQ(store.size(), here.size() + away.size());
  }
  std::vector<HashedKey> keys;
  std::vector<float> rows;
  EXPECT_FALSE(store.Copy(RowStore::Which::kAll, 0, 100'000, keys, rows));
  EXPECT_EQ(keys.size(), here.size());
  EXPECT_TRUE(std::ranges::is_sorted(keys));
}

// ---- a shard

class Eviction : public StoredShard {
 protected:
  static constexpr size_t kLimit = 4000;  // about 125 rows of two floats, with their part of the index

  Eviction() {
    limit_ = kLimit;
    snapshots_ = {.min_log_bytes = 1 << 30, .rows_a_step = 16};
    EXPECT_TRUE(Restart());
  }
  // Carries a read out, if there is one to do. Answers what the shard says then.
  std::vector<Outbox::Item> Read() {
    Outbox out;
    if (auto read = core->TakeColdRead()) {
      ReadNow(*read);
      core->OnColdRead(std::move(*read), now, out);
      Commit();
    }
    return std::move(out.items());
  }
  // The answer to a request, which may have to wait for rows.
  Message AskPatiently(Message message) {
    Outbox out;
    core->OnMessage(kClient, message, now, out);
    std::vector<Outbox::Item> items = std::move(out.items());
    for (int i = 0; i < 100 && items.empty(); ++i) {
      for (int reads = 0; reads < 5 && items.empty(); ++reads) {
        items = Read();
        std::erase_if(items, [](const Outbox::Item& item) { return item.to != kClient; });
      }
      if (!items.empty()) break;
      now += std::chrono::seconds(1);
      Round();
      if (core->MayResume()) core->Resume(now, out);
      items = std::move(out.items());
      std::erase_if(items, [](const Outbox::Item& item) { return item.to != kClient; });
    }
    Commit();
    if (items.size() == 1) return std::move(items.front().message);
    ADD_FAILURE() << items.size() << " answers";
    return {};
  }
  Message PushRows(const Rows& rows) {
    return MakePush(rows, seq_++);
  }
  static Rows Some(uint64_t from, uint64_t count, float value = 1) {
    Rows rows;
    for (uint32_t p = 0; p < 4; ++p) {
      for (uint64_t i = from; i < from + count; ++i) rows[Key(p, i)] = {static_cast<float>(i), value};
    }
    return rows;
  }
  // 400 rows, most of which leave memory.
  void Fill() {
    Install();
    Commit();
    for (uint64_t first = 0; first < 100; first += 25) {
      ASSERT_TRUE(AskPatiently(PushRows(Some(first, 25))).header.has_push_reply());
    }
    for (int i = 0; i < 2; ++i) Round();
    ASSERT_GT(core->stats().cold_rows, 250u);
    ASSERT_EQ(core->stats().rows, 400u);
  }
  std::vector<float> PullOne(HashedKey key) {
    const Message answer = AskPatiently(MakePull({key}));
    EXPECT_TRUE(answer.header.has_pull_reply()) << answer.header.ShortDebugString();
    const auto floats = answer.values.As<float>();
    return {floats.begin(), floats.end()};
  }
  // Without a round.
  void PushAndLetLeave(const Rows& rows) {
    Outbox out;
    core->OnMessage(kClient, PushRows(rows), now, out);
    std::vector<Outbox::Item> items = std::move(out.items());
    for (int i = 0; i < 20 && items.empty(); ++i) {
      now += std::chrono::seconds(1);
      LetLeave();
      if (core->MayResume()) core->Resume(now, out);
      items = std::move(out.items());
      if (items.empty()) items = Read();
    }
    Commit();
    ASSERT_EQ(items.size(), 1u);
    EXPECT_TRUE(items[0].message.header.has_push_reply());
  }
  // Somebody waits for it already.
  HashedKey AColdKey(uint32_t partition = 0) {
    for (uint64_t i = 0; i < 100; ++i) {
      Outbox out;
      core->OnMessage(kOtherClient, MakePull({Key(partition, i)}), now, out);
      if (out.items().empty() || out.items()[0].message.header.has_refusal()) return Key(partition, i);
    }
    ADD_FAILURE() << "none is cold";
    return 0;
  }

  uint64_t seq_ = 0;
};

TEST_F(Eviction, RowsLeaveDownToTheLimitAndComeBackAsTheyWere) {
  Fill();
  EXPECT_LE(core->stats().rows - core->stats().cold_rows, kLimit / 32);
  for (uint32_t p = 0; p < 4; ++p) {
    for (uint64_t i = 0; i < 100; i += 7) {
      EXPECT_EQ(PullOne(Key(p, i)), (std::vector<float>{-static_cast<float>(i), -1})) << p << " " << i;
    }
  }
  EXPECT_GT(core->stats().cold_reads, 0u);
  EXPECT_EQ(core->stats().rows, 400u);
}

// All rows are wanted and changed, ten of each partition at a time, and none is saved but those that leave.
TEST_F(Eviction, RowsLeaveWithoutARoundAndTheLogIsDoneAgainFromTheirMomentOn) {
  Fill();
  const uint64_t rounds = snapshotter_->stats().rounds;
  for (int pass = 0; pass < 3; ++pass) {
    for (uint64_t first = 0; first < 100; first += 10) PushAndLetLeave(Some(first, 10));
  }
  now += std::chrono::seconds(1);
  LetLeave();
  EXPECT_LT(snapshotter_->stats().rounds, rounds + 5) << "of thirty pushes";
  EXPECT_GT(core->stats().cold_rows, 250u);
  ExpectTheSameAgain();
  EXPECT_GT(recovered_.rows_ahead, 200u);
  for (uint64_t i = 0; i < 100; i += 9) {
    EXPECT_EQ(PullOne(Key(3, i)), (std::vector<float>{-4 * static_cast<float>(i), -4})) << i;
  }
  limit_ = 0;
  ExpectTheSameAgain();
  // The next round makes them parts of an image again.
  limit_ = kLimit;
  RestartAndInstall();
  Round();
  ExpectTheSameAgain();
  EXPECT_EQ(recovered_.rows_ahead, 0u);
}

TEST_F(Eviction, RowsThatAreNewSinceTheirImageLeaveAndComeBack) {
  Fill();
  for (uint64_t first = 1000; first < 1100; first += 10) PushAndLetLeave(Some(first, 10));
  EXPECT_EQ(core->stats().rows, 800u);
  ExpectTheSameAgain();
  EXPECT_GT(recovered_.rows_ahead, 100u);
  EXPECT_EQ(core->stats().rows, 800u);
}

TEST_F(Eviction, ARowThatIsLaterThanTheEndOfTheLogIsRefused) {
  Fill();
  LeavingRows leaving;
  leaving.partition = 1;
  leaving.pieces.push_back({log_->next_index() + 1, {kTable, {Key(1, 5)}, {7, 7}}});
  ASSERT_TRUE(WriteLeaving(*store_, leaving));
  ASSERT_TRUE(store_->Flush());
  const Status read = Restart();
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, ErrorCode::kDataLoss);
  EXPECT_NE(read.error().message.find("the log ends before record"), std::string::npos) << read.error().message;
}

TEST_F(Eviction, WhatLeavesIsOnlyWrittenWhenTheLogOfItIsOnTheDisk) {
  Fill();
  for (uint64_t first = 0; first < 100; first += 10) PushAndLetLeave(Some(first, 10));
  ASSERT_GT(core->stats().cold_rows, 250u);
  disk_.LosePower();  // what of the log was not synced may be gone
  const Status read = Restart();
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_GT(recovered_.rows_ahead, 100u);
}

TEST_F(Eviction, ARequestForColdRowsWaitsAndOthersDoNot) {
  Fill();
  Outbox out;
  size_t waiting = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    Message pull = MakePull({Key(0, i)});
    pull.header.set_request(i + 1);
    core->OnMessage(kClient, pull, now, out);
    waiting = core->stats().cold_waits;
  }
  EXPECT_GT(waiting, 50u);
  EXPECT_EQ(out.items().size(), 100 - waiting);
  EXPECT_EQ(Read().size(), waiting) << "all of them by one read";
  EXPECT_EQ(core->stats().cold_waits, 0u);
}

TEST_F(Eviction, APushIsAppliedOnTopOfWhatARowWas) {
  Fill();
  for (uint64_t first = 0; first < 100; first += 20) {
    ASSERT_TRUE(AskPatiently(PushRows(Some(first, 20))).header.has_push_reply());
    Round();
  }
  for (uint64_t i = 0; i < 100; i += 9) {
    EXPECT_EQ(PullOne(Key(3, i)), (std::vector<float>{-2 * static_cast<float>(i), -2})) << i;
  }
}

TEST_F(Eviction, AWaitingPushThatIsSentAgainIsAppliedOnce) {
  Fill();
  const Message push = PushRows(Some(0, 100));
  Outbox out;
  core->OnMessage(kClient, push, now, out);
  Message under_another_number = push;
  under_another_number.header.set_request(77);
  core->OnMessage(kClient, under_another_number, now, out);
  EXPECT_TRUE(out.items().empty());
  EXPECT_EQ(core->stats().cold_waits, 2u);
  core->OnMessage(kClient, push, now, out);
  ASSERT_EQ(out.items().size(), 1u) << "who asks again hears that it takes a while";
  EXPECT_EQ(out.items()[0].message.header.refusal().reason(), pb::Refusal::OVERLOADED);
  EXPECT_EQ(core->stats().cold_waits, 1u);
  const auto answers = Read();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].message.header.push_reply().duplicate());
  EXPECT_TRUE(AskPatiently(push).header.push_reply().duplicate());
  EXPECT_EQ(PullOne(Key(1, 5)), (std::vector<float>{-10, -2}));
}

TEST_F(Eviction, KeysThatHaveNoRowAreAnsweredAndMadeAsWithoutALimit) {
  Fill();
  for (uint64_t i = 1000; i < 1400; ++i) EXPECT_EQ(PullOne(Key(1, i)), (std::vector<float>{0, 0}));
  ASSERT_TRUE(AskPatiently(PushRows(Some(1000, 10))).header.has_push_reply());
  EXPECT_EQ(PullOne(Key(1, 1001)), (std::vector<float>{-1001, -1}));
  EXPECT_EQ(core->stats().rows, 440u);
}

TEST_F(Eviction, ImagesAndScansHaveAllRows) {
  Fill();
  const auto with_cold = Everything();
  limit_ = 0;
  RestartAndInstall();
  ASSERT_EQ(core->stats().cold_rows, 0u);
  EXPECT_EQ(Everything(), with_cold);
}

TEST_F(Eviction, AScanWaitsForTheRowsOfItsPartition) {
  Fill();
  Message scan;
  scan.header.set_request(9);
  pb::ScanRequest& request = *scan.header.mutable_scan();
  request.set_table(kTable);
  request.set_partition(2);
  request.set_epoch(3);
  request.set_max_rows(30);
  EXPECT_EQ(core->ScanNow(request).header.scan_reply().row_count(), 30u);
  std::vector<HashedKey> keys;
  while (true) {
    const Message answer = AskPatiently(scan);
    ASSERT_TRUE(answer.header.has_scan_reply()) << answer.header.ShortDebugString();
    const Message now_answer = core->ScanNow(request);
    EXPECT_EQ(answer.values.text(), now_answer.values.text());
    for (const HashedKey key : answer.keys.As<HashedKey>()) keys.push_back(key);
    if (answer.header.scan_reply().done()) break;
    request.set_resume(true);
    request.set_after_key(keys.back());
  }
  EXPECT_EQ(keys.size(), 100u);
}

TEST_F(Eviction, ACrashLosesNothingWhereverTheRowsWere) {
  Fill();
  ASSERT_TRUE(AskPatiently(PushRows(Some(10, 40))).header.has_push_reply());  // of rows that had left
  const auto before = Everything();
  RestartAndInstall();
  EXPECT_EQ(Everything(), before);
  EXPECT_GT(core->stats().cold_rows, 0u) << "nor are all in memory afterwards";
  // Also of a round that was cut short, and with rows that left again.
  ASSERT_TRUE(AskPatiently(PushRows(Some(60, 30))).header.has_push_reply());
  const auto then = Everything();
  snapshotter_->RequestRound();
  for (int works = 0; works < 2;) {
    snapshotter_->Step(now);
    Commit();
    while (auto work = snapshotter_->TakeWork()) {
      ++works;
      snapshotter_->OnDone(CarryOut(*store_, *work), now);
    }
  }
  RestartAndInstall();
  EXPECT_EQ(Everything(), then);
}

TEST_F(Eviction, NothingLeavesUnlessTheRoundIsOnTheDisk) {
  Install();
  Commit();
  ASSERT_TRUE(AskPatiently(PushRows(Some(0, 100))).header.has_push_reply());
  snapshotter_->RequestRound();
  while (true) {
    snapshotter_->Step(now);
    Commit();
    const auto work = snapshotter_->TakeWork();
    if (work && !work->partition) break;  // the round's end is taken, and not done
    if (work) snapshotter_->OnDone(CarryOut(*store_, *work), now);
  }
  EXPECT_FALSE(snapshotter_->eager());
  EXPECT_EQ(core->stats().cold_rows, 0u) << "written, and not flushed";
  snapshotter_->OnDone(Fail(ErrorCode::kResourceExhausted, "full"), now);
  while (snapshotter_->eager()) snapshotter_->Step(now);
  EXPECT_EQ(core->stats().cold_rows, 0u);
}

TEST_F(Eviction, RowsLeaveInTheMiddleOfARoundIfTheirPartitionIsOnTheDisk) {
  snapshots_.flush_bytes = 1;
  ASSERT_TRUE(Restart());
  Install();
  Commit();
  ASSERT_TRUE(AskPatiently(PushRows(Some(0, 100))).header.has_push_reply());
  const auto before = Everything();
  snapshotter_->RequestRound();
  size_t flushed = 0;
  while (flushed < 2) {
    snapshotter_->Step(now);
    Commit();
    while (auto work = snapshotter_->TakeWork()) {
      EXPECT_LE(core->stats().cold_rows, flushed * 100) << "others are not on the disk";
      snapshotter_->OnDone(CarryOut(*store_, *work), now);
      flushed += work->flush_only;
    }
  }
  while (snapshotter_->eager()) snapshotter_->Step(now);
  EXPECT_FALSE(snapshotter_->idle());
  EXPECT_GT(core->stats().cold_rows, 100u);
  EXPECT_EQ(Everything(), before);
  RestartAndInstall();
  EXPECT_EQ(Everything(), before);
}

TEST_F(Eviction, ARoundAfterOneThatFailedKeepsWhatIsOnlyInTheStore) {
  Fill();
  ASSERT_TRUE(AskPatiently(PushRows(Some(0, 20))).header.has_push_reply());
  const auto before = Everything();
  snapshotter_->RequestRound();
  while (true) {
    snapshotter_->Step(now);
    Commit();
    if (auto work = snapshotter_->TakeWork()) break;
  }
  snapshotter_->OnDone(Fail(ErrorCode::kResourceExhausted, "full"), now);
  now += std::chrono::seconds(20);
  Round();
  EXPECT_EQ(Everything(), before);
  RestartAndInstall();
  EXPECT_EQ(Everything(), before);
}

TEST_F(Eviction, RowsOfGradientsThatWaitForTheirClockStay) {
  AddRoster(pb::ConsistencySpec::BSP, 2);
  Fill();
  const HashedKey key = AColdKey();
  const auto train = [&](uint32_t lane) {
    return MakePush({{key, {1, 1}}}, 0, At(lane, 0), lane);
  };
  const std::vector<float> was = PullOne(key);
  ASSERT_TRUE(AskPatiently(train(0)).header.has_push_reply());
  for (int i = 0; i < 3; ++i) {  // others come and go
    ASSERT_TRUE(AskPatiently(PushRows({{Key(1, 50), {0, 0}}})).header.has_push_reply());
    Round();
  }
  ASSERT_TRUE(AskPatiently(train(1)).header.has_push_reply());
  EXPECT_EQ(PullOne(key), (std::vector<float>{was[0] - 1, was[1] - 1}));
}

TEST_F(Eviction, ACheckpointHasTheRowsOfItsMoment) {
  options_.checkpoints = true;
  ASSERT_TRUE(Restart());
  Fill();
  Rows expected;
  for (const auto& [key, row] : Some(0, 100)) expected[key] = {-row[0], -row[1]};
  std::vector<PartitionCut> cuts;
  for (uint32_t p = 0; p < 4; ++p) cuts.push_back(*core->BeginCut(p, 5, 1, 0));
  // Rows that are away come back and change before they are told.
  ASSERT_TRUE(AskPatiently(PushRows(Some(30, 10))).header.has_push_reply());
  Rows found;
  for (PartitionCut& cut : cuts) {
    EXPECT_EQ(cut.rows, 100u);
    std::vector<ImagePiece> pieces;
    while (core->CopyCut(cut, 8, pieces) == ShardCore::Copied::kMore) Read();
    core->EndCut(cut);
    for (const ImagePiece& piece : pieces) {
      const auto record = DecodeRedo(JoinRecord(piece));
      ASSERT_TRUE(record);
      const auto keys = record->keys.As<HashedKey>();
      for (size_t i = 0; i < keys.size(); ++i) {
        const auto floats = record->values.As<float>().subspan(i * 2, 2);
        EXPECT_TRUE(found.emplace(keys[i], std::vector<float>{floats.begin(), floats.end()}).second);
      }
    }
  }
  EXPECT_EQ(found, expected);
}

TEST_F(Eviction, WhatCannotWaitIsRefusedAndItsRowsComeAllTheSame) {
  Fill();
  options_.request_budget_bytes = 64;
  RestartAndInstall();
  LetLeave();
  const HashedKey key = AColdKey(1);
  Outbox out;
  core->OnMessage(kClient, MakePull({key}), now, out);
  ASSERT_EQ(out.items().size(), 1u);
  EXPECT_EQ(out.items()[0].message.header.refusal().reason(), pb::Refusal::OVERLOADED);
  Read();
  EXPECT_EQ(core->stats().cold_waits, 0u);
  out.clear();
  core->OnMessage(kClient, MakePull({key}), now, out);
  ASSERT_EQ(out.items().size(), 1u);
  EXPECT_TRUE(out.items()[0].message.header.has_pull_reply());
}

TEST_F(Eviction, NewRowsWaitForRoomWhileRowsCanLeave) {
  Fill();
  size_t waited = 0;
  for (uint64_t first = 1000; first < 1400; first += 20) {
    Outbox out;
    const Message push = PushRows(Some(first, 20));
    core->OnMessage(kClient, push, now, out);
    Commit();
    waited += out.items().empty();
    if (!out.items().empty()) continue;
    now += std::chrono::seconds(1);
    EXPECT_TRUE(core->IsShortOfMemory());
    Round();
    if (core->MayResume()) core->Resume(now, out);
    auto items = std::move(out.items());
    while (items.empty()) items = Read();  // the filter took some of them for rows that had left
    Commit();
    ASSERT_EQ(items.size(), 1u);
    EXPECT_TRUE(items[0].message.header.has_push_reply());
  }
  EXPECT_GT(waited, 3u);
  EXPECT_EQ(core->stats().rows, 2000u);
}

TEST_F(Eviction, TablesThatNobodyKeepsStayInMemory) {
  config.mutable_table(0)->set_durability(pb::JobSpec::MEMORY);
  Install();
  Commit();
  ASSERT_TRUE(AskPatiently(PushRows(Some(0, 100))).header.has_push_reply());
  Round();
  EXPECT_EQ(core->stats().cold_rows, 0u);
}

TEST_F(Eviction, ALossOfRowsEndsTheShard) {
  Fill();
  Outbox out;
  core->OnMessage(kClient, MakePull({AColdKey(2)}), now, out);
  auto read = core->TakeColdRead();
  ASSERT_TRUE(read);
  read->status = Fail(ErrorCode::kDataLoss, "a block is damaged");
  core->OnColdRead(std::move(*read), now, out);
  EXPECT_TRUE(out.items().empty());
  EXPECT_NE(core->failure().find("a block is damaged"), std::string::npos);
}

}  // namespace
}  // namespace sheaf
