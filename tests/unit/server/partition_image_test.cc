// The image of a partition: another shard that takes it has the partition, to the bit.
#include "server/partition_image.h"

#include "server/redo_record.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

constexpr uint64_t kIndex = 77;

class PartitionImages : public ShardFixture {
 protected:
  PartitionImages() { config.mutable_table(0)->mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD); }

  std::vector<Buffer> ExportOf(ShardCore& shard, uint32_t partition) {
    std::vector<Buffer> pieces;
    for (const ImagePiece& piece : shard.Export(partition, kIndex)) pieces.push_back(JoinRecord(piece));
    return pieces;
  }
  std::vector<Buffer> Export(uint32_t partition) { return ExportOf(*core, partition); }
  // A shard that has the configuration and nothing else.
  std::unique_ptr<ShardCore> Another() {
    auto other = std::make_unique<ShardCore>(kShardPeer, ShardOptions{});
    Outbox out;
    EXPECT_TRUE(other->OnConfig(config, now, out));
    return other;
  }
  // Moves all partitions to another shard, which must tell the same of them.
  void MoveAll() {
    auto other = Another();
    for (uint32_t p = 0; p < 4; ++p) {
      const auto pieces = Export(p);
      ASSERT_FALSE(pieces.empty());
      for (const Buffer& piece : pieces) {
        const Status taken = other->Import(piece, now);
        ASSERT_TRUE(taken.has_value()) << taken.error().message;
      }
      const auto again = ExportOf(*other, p);
      ASSERT_EQ(again.size(), pieces.size());
      for (size_t i = 0; i < pieces.size(); ++i) EXPECT_EQ(again[i].text(), pieces[i].text()) << "piece " << i;
    }
    core = std::move(other);
  }
};

TEST_F(PartitionImages, HaveRowsOptimizerStateIdentitiesAndLsns) {
  AddTable(2, 3);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 2}}, {Key(3, 5), {3, 4}}}, 0));
  Ask(MakePush({{Key(0, 1), {1, 0}}}, 1));
  Ask(MakePush({{Key(1, 7), {1, 2, 3}}}, 2, std::nullopt, 0, 2));
  const auto before = Pull({Key(0, 1), Key(3, 5)});
  MoveAll();
  EXPECT_EQ(Pull({Key(0, 1), Key(3, 5)}), before);
  EXPECT_EQ(Pull({Key(1, 7)}, 2), (std::vector<float>{-1, -2, -3}));
  const Message again = Ask(MakePush({{Key(0, 1), {1, 0}}}, 1), kOtherClient);
  EXPECT_TRUE(again.header.push_reply().duplicate());
  EXPECT_EQ(again.header.push_reply().lsn(0), 3U);
  EXPECT_FALSE(Ask(MakePush({{Key(0, 1), {1, 0}}}, 3)).header.push_reply().duplicate());
}

TEST_F(PartitionImages, HaveWindowsWithGaps) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  Install();
  for (const uint64_t seq : {0, 1, 5, 70, 200, 900}) {
    Ask(MakePush({{Key(0, 1), {1, 0}}}, seq));
    Ask(MakePush({{Key(0, 1), {1, 0}}}, seq, At(0, seq), 3));
  }
  MoveAll();
  for (const uint64_t seq : {0, 1, 2, 5, 70, 71, 200, 900, 901}) {
    const bool in = seq != 2 && seq != 71 && seq != 901;
    EXPECT_EQ(Ask(MakePush({{Key(0, 1), {1, 0}}}, seq)).header.push_reply().duplicate(), in) << seq;
    EXPECT_EQ(Ask(MakePush({{Key(0, 1), {1, 0}}}, seq, At(0, seq), 3)).header.push_reply().duplicate(), in) << seq;
  }
}

TEST_F(PartitionImages, HaveGradientsOfAClockThatIsNotCompleteAndTheRowsOfBeforeTheLast) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Ask(MakePush({{Key(0, 1), {2, 0}}, {Key(1, 1), {4, 0}}}, 0, At(0, 0), 0));
  Ask(MakePush({{Key(0, 1), {4, 2}}}, 0, At(1, 0), 1));  // clock 0 is applied
  const auto before_last = Floats(Ask(MakePull({Key(0, 1)}, At(1, 0))));
  Ask(MakePush({}, 1, At(1, 1), 1));  // kept; and nobody has keys in most partitions
  MoveAll();
  EXPECT_EQ(Floats(Ask(MakePull({Key(0, 1)}, At(1, 0)))), before_last);
  EXPECT_EQ(Refusal(MakePull({Key(0, 1)}, At(0, 2))), "NOT_YET");
  EXPECT_TRUE(Ask(MakePush({}, 1, At(1, 1), 1)).header.push_reply().duplicate());
  EXPECT_EQ(Send(MakePush({{Key(0, 1), {1, 1}}}, 1, At(0, 1), 0)).size(), 2U) << "clock 1 is complete: the pull, too";
  EXPECT_TRUE(Ask(MakePull({Key(0, 1)}, At(0, 2))).header.has_pull_reply());
}

TEST_F(PartitionImages, GiveASumOfKeptGradientsTheSameBits) {
  config.mutable_table(0)->set_dim(2);
  AddRoster(pb::ConsistencySpec::BSP, 3, 10);
  Install();
  auto twin = Another();
  const auto push_both = [&](const Message& message) {
    Ask(message);
    Outbox out;
    twin->OnMessage(kClient, message, now, out);
  };
  push_both(MakePush({{Key(0, 1), {0.1F, 1e8F}}}, 0, At(2, 0), 2));
  push_both(MakePush({{Key(0, 1), {0.7F, -1e8F}}, {Key(0, 2), {3, 4}}}, 0, At(0, 0), 0));
  MoveAll();
  push_both(MakePush({{Key(0, 1), {1e-3F, 1.5F}}}, 0, At(1, 0), 1));
  const auto here = Export(0), there = ExportOf(*twin, 0);
  ASSERT_EQ(here.size(), there.size());
  for (size_t i = 0; i < here.size(); ++i) EXPECT_EQ(here[i].text(), there[i].text());
}

TEST_F(PartitionImages, HaveLedgersOfPassesThatHaveEnded) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0), 4));
  config.clear_roster();
  AddRoster(pb::ConsistencySpec::SSP, 2, ~uint64_t{0}, 1);
  Install();
  Ask(MakePush({{Key(0, 1), {1, 0}}}, 0, At(0, 0, 1), 4));
  MoveAll();
  ASSERT_EQ(core->stats().ledgers.size(), 2U);
  EXPECT_EQ(core->stats().ledgers[0].min_examples(), 10U);
  EXPECT_EQ(core->stats().ledgers[1].max_examples(), 10U);
}

TEST_F(PartitionImages, AreCutIntoPieces) {
  Install();
  Rows rows;
  for (uint64_t i = 0; i < 100'000; ++i) rows[Key(2, i)] = {static_cast<float>(i), 1};
  Ask(MakePush(rows, 0));
  const auto pieces = Export(2);
  EXPECT_GE(pieces.size(), 3U);
  for (const Buffer& piece : pieces) EXPECT_LE(piece.size(), kImagePieceBytes + 100);
  MoveAll();
  EXPECT_EQ(core->stats().rows, 100'000U);
}

TEST_F(PartitionImages, ReplaceWhateverWasThere) {
  Install();
  Ask(MakePush({{Key(0, 1), {1, 2}}}, 0));
  const auto pieces = Export(0);
  const auto empty = ExportOf(*Another(), 0);
  for (const Buffer& piece : empty) ASSERT_TRUE(core->Import(piece, now));
  EXPECT_EQ(core->stats().rows, 0U);
  EXPECT_EQ(Pull({Key(0, 1)}), (std::vector<float>{0, 0}));
  for (const Buffer& piece : pieces) ASSERT_TRUE(core->Import(piece, now));
  EXPECT_EQ(core->stats().rows, 1U);
  EXPECT_NE(Pull({Key(0, 1)}), (std::vector<float>{0, 0}));
}

TEST_F(PartitionImages, AreRefusedDamagedOrWithAPieceMissingAndChangeNothing) {
  AddRoster(pb::ConsistencySpec::BSP, 2, 10);
  Install();
  Ask(MakePush({{Key(0, 1), {2, 0}}}, 0, At(0, 0), 0));
  Ask(MakePush({{Key(0, 1), {4, 2}}}, 0, At(1, 0), 1));
  Ask(MakePush({{Key(0, 2), {4, 2}}}, 1, At(1, 1), 1));
  const auto pieces = Export(0);
  ASSERT_GE(pieces.size(), 4U);
  for (size_t missing = 0; missing + 1 < pieces.size(); ++missing) {
    auto other = Another();
    bool refused = false;
    for (size_t i = 0; i < pieces.size() && !refused; ++i) {
      if (i == missing) continue;
      const Status taken = other->Import(pieces[i], now);
      refused = !taken;
      if (refused) {
        EXPECT_EQ(taken.error().code, ErrorCode::kDataLoss);
      }
    }
    EXPECT_TRUE(refused) << missing;
    EXPECT_EQ(other->stats().rows, 0U);
    for (const Buffer& piece : pieces) ASSERT_TRUE(other->Import(piece, now));  // and then whole
  }
  for (size_t i = 0; i < pieces.size(); ++i) {  // cut short
    for (size_t size = 0; size < pieces[i].size(); ++size) {
      auto other = Another();
      for (size_t before = 0; before < i; ++before) ASSERT_TRUE(other->Import(pieces[before], now));
      EXPECT_FALSE(other->Import(pieces[i].Slice(0, size), now).has_value()) << "piece " << i << ", " << size;
    }
  }
}

TEST_F(PartitionImages, OfATableThatIsNotThereAreRefused) {
  AddTable(2, 3);
  Install();
  Ask(MakePush({{Key(1, 7), {1, 2, 3}}}, 2, std::nullopt, 0, 2));
  const auto pieces = Export(1);
  config.mutable_table()->RemoveLast();
  auto other = Another();
  ASSERT_TRUE(other->Import(pieces[0], now));
  Status taken;
  for (size_t i = 1; i < pieces.size() && taken; ++i) taken = other->Import(pieces[i], now);
  EXPECT_FALSE(taken.has_value());
}

}  // namespace
}  // namespace sheaf
