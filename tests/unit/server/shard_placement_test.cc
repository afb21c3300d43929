// Requests that name all partitions of a shard at once.
#include "common/base/placement.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

class ShardPlacement : public ShardFixture {
 protected:
  void InstallAt(uint64_t epoch = 3) {
    Install();
    epochs.assign(named.size(), epoch);
  }
  // The same request, naming what it lists.
  template <typename Body>
  void Rename(Body& body) const {
    body.clear_partition();
    body.clear_epoch();
    body.mutable_placement()->set_signature(PlacementSignature(named, epochs));
    body.mutable_placement()->set_generation(config.generation());
    for (pb::Block& block : *body.mutable_block()) {
      uint32_t keys = 0;
      for (const uint32_t count : block.key_count()) keys += count;
      block.clear_key_count();
      block.add_key_count(keys);
    }
  }
  Message Named(Message message) const {
    if (message.header.has_pull()) {
      Rename(*message.header.mutable_pull());
    } else {
      Rename(*message.header.mutable_push());
    }
    return message;
  }
  // The shard has every other partition only.
  void HalveTheShard() {
    config.mutable_server(0)->add_shard()->set_peer(200);
    named = {0, 2};
  }

  std::vector<uint32_t> named = All();
  std::vector<uint64_t> epochs;
};

TEST_F(ShardPlacement, IsServedAsIfItsPartitionsWereListed) {
  InstallAt();
  const Rows rows{{Key(0, 1), {1, 2}}, {Key(3, 5), {3, 4}}};
  EXPECT_FALSE(Ask(Named(MakePush(rows, 0))).header.push_reply().duplicate());
  EXPECT_TRUE(Ask(MakePush(rows, 0)).header.push_reply().duplicate());
  EXPECT_TRUE(Ask(Named(MakePush(rows, 0))).header.push_reply().duplicate());
  EXPECT_EQ(Floats(Ask(Named(MakePull({Key(0, 1), Key(2, 9), Key(3, 5)})))),
            (std::vector<float>{-1, -2, 0, 0, -3, -4}));
}

TEST_F(ShardPlacement, IsRefusedIfItIsNotTheShardsOwn) {
  InstallAt();
  for (int p = 0; p < 4; ++p) config.mutable_partition(p)->set_epoch(4);
  const Message before = Named(MakePull({}));
  Install();
  EXPECT_EQ(Refusal(before), "STALE_EPOCH");
  EXPECT_EQ(last_refusal.generation(), config.generation());
  Message ahead = before;
  ahead.header.mutable_pull()->mutable_placement()->set_generation(config.generation() + 1);
  EXPECT_EQ(Refusal(ahead), "UNKNOWN_EPOCH");
  Message wrong = before;
  wrong.header.mutable_pull()->mutable_placement()->set_generation(config.generation());
  EXPECT_EQ(Refusal(wrong), "UNKNOWN_EPOCH");
  epochs.assign(4, 4);
  EXPECT_TRUE(Ask(Named(MakePull({}))).header.has_pull_reply());
}

TEST_F(ShardPlacement, OfAnOlderConfigurationIsTakenIfNothingMoved) {
  InstallAt();
  const Message before = Named(MakePull({}));
  AddTable(2, 1);
  Install();
  EXPECT_TRUE(Ask(before).header.has_pull_reply());
}

TEST_F(ShardPlacement, IsRefusedBeforeTheFirstConfigurationAndByAShardWithoutPartitions) {
  epochs.assign(4, 3);
  EXPECT_EQ(Refusal(Named(MakePull({}))), "UNKNOWN_EPOCH");
  for (int p = 0; p < 4; ++p) config.mutable_partition(p)->set_primary(2);
  InstallAt();
  named.clear();
  epochs.clear();
  EXPECT_EQ(Refusal(Named(MakePull({}))), "UNKNOWN_EPOCH");
}

TEST_F(ShardPlacement, DoesNotGoWithAListOfPartitionsNorWithKeyCountsOfThem) {
  InstallAt();
  Message both = Named(MakePull({}));
  FillTarget(*both.header.mutable_pull(), All());
  EXPECT_EQ(Refusal(both), "INVALID");
  Message counts = Named(MakePull({Key(0, 1)}));
  counts.header.mutable_pull()->mutable_block(0)->add_key_count(0);
  EXPECT_EQ(Refusal(counts), "INVALID");
  counts.header.mutable_pull()->mutable_block(0)->clear_key_count();
  EXPECT_EQ(Refusal(counts), "INVALID");
}

TEST_F(ShardPlacement, HasNoKeysOfOtherShards) {
  HalveTheShard();
  InstallAt();
  EXPECT_EQ(Refusal(Named(MakePush({{Key(0, 1), {1, 1}}, {Key(1, 1), {1, 1}}}, 0))), "INVALID");
  EXPECT_EQ(Floats(Ask(Named(MakePull({Key(0, 1)}))))[0], 0);  // refused as a whole
  EXPECT_TRUE(Ask(Named(MakePush({{Key(0, 1), {1, 1}}, {Key(2, 1), {1, 1}}}, 0))).header.has_push_reply());
  EXPECT_EQ(Refusal(Named(MakePull({Key(3, 1)}))), "INVALID");
}

TEST_F(ShardPlacement, SkipsThePartitionsThatHaveThePush) {
  InstallAt();
  const Rows rows{{Key(0, 1), {1, 1}}, {Key(1, 1), {1, 1}}, {Key(2, 1), {1, 1}}, {Key(3, 1), {1, 1}}};
  Message some = MakePush({{Key(1, 1), {1, 1}}, {Key(3, 1), {1, 1}}}, 0);
  pb::PushRequest& push = *some.header.mutable_push();
  push.clear_partition();
  push.clear_epoch();
  FillTarget(push, {1, 3});
  push.clear_block();
  FillBlock(*push.add_block(), kTable, {Key(1, 1), Key(3, 1)}, {1, 3});
  EXPECT_TRUE(Ask(some).header.has_push_reply());
  const Message answer = Ask(Named(MakePush(rows, 0)));
  EXPECT_FALSE(answer.header.push_reply().duplicate());
  EXPECT_EQ(Pull({Key(0, 1), Key(1, 1), Key(2, 1), Key(3, 1)}), (std::vector<float>{-1, -1, -1, -1, -1, -1, -1, -1}));
}

TEST_F(ShardPlacement, KeepsGradientsOfAClockByPartition) {
  AddRoster(pb::ConsistencySpec::BSP, 2);
  InstallAt();
  Ask(Named(MakePush({{Key(0, 1), {2, 2}}, {Key(2, 7), {4, 4}}}, 0, At(0, 0), 0)));
  Ask(MakePush({{Key(0, 1), {4, 4}}, {Key(3, 1), {6, 6}}}, 0, At(1, 0), 1));
  const Message answer = Ask(Named(MakePull({Key(0, 1), Key(2, 7), Key(3, 1)}, At(0, 1))));
  EXPECT_EQ(Floats(answer), (std::vector<float>{-3, -3, -2, -2, -3, -3}));  // means of two lanes
}

// Or what found room once might not find it when it is repeated in the other form.
TEST_F(ShardPlacement, CostsAsMuchRoomAsAList) {
  AddRoster(pb::ConsistencySpec::SSP, 2);
  InstallAt();
  const auto park = [&](const Message& pull) {
    EXPECT_EQ(Refusal(pull), "NOT_YET");
    return core->stats().request_bytes;
  };
  Message pull = MakePull({Key(0, 1), Key(3, 1)}, At(0, 9));
  const size_t listed = park(pull);
  pull.header.set_request(2);
  EXPECT_EQ(park(Named(pull)), 2 * listed);
  EXPECT_GT(listed, named.size() * (sizeof(uint32_t) + sizeof(uint64_t)));
}

TEST_F(ShardPlacement, NamesEveryPartitionOfATrainingPush) {
  AddRoster(pb::ConsistencySpec::ASP, 1);
  InstallAt();
  EXPECT_TRUE(Ask(Named(MakePush({{Key(0, 1), {1, 1}}}, 0, At(0, 0), 0))).header.has_push_reply());
  ASSERT_EQ(core->stats().ledgers.size(), 1U);
  EXPECT_EQ(core->stats().ledgers[0].min_examples(), 10U);  // counted in all partitions
}

}  // namespace
}  // namespace sheaf
