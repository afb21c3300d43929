// Two shards of two servers that keep copies of each other's partitions: what is answered when, and who takes over.
#include <algorithm>
#include <map>

#include "server/recovery.h"
#include "server/shard.h"
#include "tests/sim/sim_disk.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

constexpr PeerId kOther{200};  // the other server's shard

class ShardReplica : public ShardFixture {
 protected:
  ShardReplica() {
    pb::ServerInfo& server = *config.add_server();
    server.set_node(2);
    server.add_shard()->set_peer(kOther.value);
    // Partitions 0 and 1 are the first server's, 2 and 3 the second's; each has a copy on the other.
    for (int p = 0; p < 4; ++p) {
      config.mutable_partition(p)->set_primary(p < 2 ? 1 : 2);
      pb::Replica& replica = *config.mutable_partition(p)->add_replica();
      replica.set_node(p < 2 ? 2 : 1);
      replica.set_since(1);
    }
    for (const PeerId peer : {kShardPeer, kOther}) Start(peer);
  }

  void Start(PeerId peer) { shards_[peer] = std::make_unique<Shard>(peer, ShardOptions{}, nullptr); }
  void InstallAt(PeerId peer) {
    EXPECT_TRUE(shards_.at(peer)->OnConfig(std::make_shared<pb::ClusterConfig>(config), now));
  }
  void InstallAll() {
    config.set_generation(config.generation() + 1);
    for (const auto& [peer, shard] : shards_) InstallAt(peer);
  }
  // What a shard says goes to the other, and to `answers_`, until nobody says anything.
  void Settle() {
    for (bool any = true; any;) {
      any = false;
      for (const auto& [peer, shard] : shards_) {
        Outbox out;
        EXPECT_TRUE(shard->Flush(now, out));
        if (shard->CatchUp(now)) {
          EXPECT_TRUE(shard->Flush(now, out));
        }
        for (Outbox::Item& item : out.items()) {
          any = true;
          unknown_ += item.message.header.replicate_reply().unknown() ? 1 : 0;
          const auto to = shards_.find(item.to);
          if (to == shards_.end()) {
            answers_.push_back(std::move(item.message));
          } else if (!cut_.contains(peer)) {
            Spoil(item.message);
            to->second->OnMessage(peer, item.message, now);
          }
        }
      }
    }
  }
  // What a failing memory does: one number becomes another on its way to the copy.
  void Spoil(Message& message) {
    if (!spoiled_ || !message.header.has_replicate()) return;
    std::vector<std::byte> bytes(message.values.bytes().begin(), message.values.bytes().end());
    const auto wanted = std::as_bytes(std::span(&*spoiled_, 1));
    for (auto at = bytes.begin(); (at = std::search(at, bytes.end(), wanted.begin(), wanted.end())) != bytes.end();) {
      *at++ ^= std::byte{1};
    }
    message.values = Buffer::CopyOf(bytes);
  }
  void Seconds(int count) {
    for (int i = 0; i < count; ++i) {
      now += std::chrono::seconds(1);
      for (const auto& [peer, shard] : shards_) shard->OnTick(now);
      Settle();
    }
  }
  // Its answers, if they come at once.
  std::vector<Message> AskShard(PeerId shard, const Message& message) {
    answers_.clear();
    shards_.at(shard)->OnMessage(kClient, message, now);
    Settle();
    return std::exchange(answers_, {});
  }
  Message PushTo(uint32_t partition, uint64_t seq, float value = 1) const {
    Message message = MakePush({{Key(partition, 1), {value, 0}}}, seq);
    Narrow(*message.header.mutable_push(), partition);
    return message;
  }
  Message PullFrom(uint32_t partition) const {
    Message message = MakePull({Key(partition, 1)});
    Narrow(*message.header.mutable_pull(), partition);
    return message;
  }
  template <typename Body>
  void Narrow(Body& body, uint32_t partition) const {
    body.clear_partition();
    body.clear_epoch();
    body.add_partition(partition);
    body.add_epoch(config.partition(static_cast<int>(partition)).epoch());
    body.mutable_block(0)->clear_key_count();
    body.mutable_block(0)->add_key_count(1);
  }
  // The scheduler has heard that all copies are in sync.
  void SayInSync() {
    for (pb::PartitionConfig& partition : *config.mutable_partition()) {
      for (pb::Replica& replica : *partition.mutable_replica()) replica.set_in_sync(true);
    }
    InstallAll();
    Settle();
  }
  // The first server is gone; the second has all.
  void LoseFirst() {
    shards_.erase(kShardPeer);
    config.mutable_server()->DeleteSubrange(0, 1);
    for (pb::PartitionConfig& partition : *config.mutable_partition()) {
      partition.clear_replica();
      if (partition.primary() == 1) partition.set_epoch(partition.epoch() + 1);
      partition.set_primary(2);
    }
    InstallAll();
  }
  void Connect() {
    InstallAll();
    Settle();
  }
  // A partition of the first server goes to the second, which has a copy in sync. The first stays as a copy.
  void HandOver(int p) {
    pb::PartitionConfig& partition = *config.mutable_partition(p);
    partition.set_primary(2);
    partition.set_former(1);
    partition.set_epoch(partition.epoch() + 1);
    partition.set_taking_over(true);
    partition.set_handed_over(true);
    partition.mutable_replica(0)->set_node(1);
    partition.mutable_replica(0)->set_in_sync(true);
    partition.mutable_replica(0)->set_since(config.generation() + 1);
  }
  // The scheduler has heard that it is taken.
  void SayTaken(int p) {
    config.mutable_partition(p)->clear_former();
    config.mutable_partition(p)->clear_taking_over();
    config.mutable_partition(p)->clear_handed_over();
    InstallAll();
    Settle();
  }
  std::vector<std::byte> Bytes(PeerId shard, uint32_t partition) {
    std::vector<std::byte> bytes;
    for (const ImagePiece& piece : shards_.at(shard)->Export(partition)) {
      for (const Buffer& part : piece) bytes.insert(bytes.end(), part.bytes().begin(), part.bytes().end());
    }
    return bytes;
  }

  std::map<PeerId, std::unique_ptr<Shard>> shards_;
  std::set<PeerId> cut_;  // nothing that they say to other shards arrives
  std::vector<Message> answers_;
  int unknown_ = 0;  // streams that were refused
  std::optional<float> spoiled_;
};

TEST_F(ShardReplica, AreInSyncWhenTheyHaveWhatWasThere) {
  Connect();
  const auto synced = shards_.at(kShardPeer)->stats().synced;
  ASSERT_EQ(synced.size(), 2u);
  EXPECT_EQ(synced[0].node(), 2u);
  EXPECT_EQ(synced[0].since(), 1u);
  SayInSync();
  EXPECT_TRUE(shards_.at(kShardPeer)->stats().synced.empty()) << "the scheduler knows";
}

TEST_F(ShardReplica, APushIsAnsweredWhenItsBackupHasIt) {
  Connect();
  SayInSync();
  cut_ = {kShardPeer};
  EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, 0)).empty());
  cut_.clear();
  now += Milliseconds(400);
  const auto answers = AskShard(kShardPeer, PullFrom(0));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_TRUE(answers[0].header.has_push_reply());
  EXPECT_EQ(Floats(answers[1])[0], -1);
}

TEST_F(ShardReplica, HaveTheRowsThatTheirPrimaryHasAdmittedAndNotDropped) {
  config.mutable_table(0)->mutable_rows()->set_admit_after(3);
  config.mutable_table(0)->mutable_rows()->set_expire_after_s(60);
  Connect();
  SayInSync();
  for (uint64_t seq = 0; seq < 4; ++seq) {
    ASSERT_EQ(AskShard(kShardPeer, PushTo(0, seq)).size(), 1u);
    if (seq < 3) {
      ASSERT_EQ(AskShard(kShardPeer, PushTo(1, seq)).size(), 1u);
    }
    Seconds(1);
  }
  EXPECT_EQ(shards_.at(kShardPeer)->stats().rows, 2u);
  for (uint64_t seq = 4; seq < 64; ++seq) {  // the one row is pushed to all the time
    ASSERT_EQ(AskShard(kShardPeer, PushTo(0, seq)).size(), 1u);
    Seconds(1);
  }
  EXPECT_EQ(shards_.at(kShardPeer)->stats().expired_rows, 1u);
  ASSERT_EQ(AskShard(kShardPeer, PushTo(1, 3)).size(), 1u) << "seen once, since its row was dropped";
  EXPECT_EQ(shards_.at(kShardPeer)->stats().copies_differed, 0u);
  for (const uint32_t p : {0u, 1u}) {
    const auto before = Bytes(kShardPeer, p);
    ASSERT_FALSE(before.empty());
    EXPECT_EQ(Bytes(kOther, p), before);
  }
  LoseFirst();
  const auto answers = AskShard(kOther, PullFrom(0));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(Floats(answers[0])[0], -62);
}

TEST_F(ShardReplica, NorIsAPullThatShowsWhatABackupDoesNotHave) {
  Connect();
  SayInSync();
  cut_ = {kShardPeer};
  AskShard(kShardPeer, PushTo(0, 0));
  EXPECT_TRUE(AskShard(kShardPeer, PullFrom(0)).empty());
}

TEST_F(ShardReplica, ALearnerIsNotWaitedForUntilItHasTheImage) {
  config.set_generation(1);
  InstallAt(kShardPeer);  // the other has heard nothing yet, and is not there to take anything
  cut_ = {kShardPeer};
  EXPECT_EQ(AskShard(kShardPeer, PushTo(0, 0)).size(), 1u);
}

TEST_F(ShardReplica, TakesOverWhatItsPrimaryHadWithTheWindowsOfSessions) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  AskShard(kShardPeer, PushTo(1, 1));
  AskShard(kOther, PushTo(2, 2));
  LoseFirst();
  Settle();
  const auto again = AskShard(kOther, PushTo(0, 0));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_TRUE(again[0].header.push_reply().duplicate());
  EXPECT_EQ(Floats(AskShard(kOther, PullFrom(0)).at(0))[0], -1);
  EXPECT_EQ(Floats(AskShard(kOther, PullFrom(1)).at(0))[0], -1);
  EXPECT_EQ(Floats(AskShard(kOther, PullFrom(2)).at(0))[0], -1);
}

TEST_F(ShardReplica, AnswersThatWaitedAreNotGivenByWhoIsPrimaryNoMore) {
  Connect();
  SayInSync();
  cut_ = {kOther};  // it takes everything, and confirms nothing
  EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, 0)).empty());
  for (int p = 0; p < 2; ++p) {
    config.mutable_partition(p)->set_primary(2);
    config.mutable_partition(p)->set_epoch(4);
    config.mutable_partition(p)->clear_replica();
  }
  cut_.clear();
  InstallAll();
  Settle();
  EXPECT_TRUE(answers_.empty());
  EXPECT_TRUE(AskShard(kOther, PushTo(0, 0)).at(0).header.push_reply().duplicate());
}

TEST_F(ShardReplica, WhoTakesOverAnswersNobodyBeforeTheSchedulerKnows) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  for (int p = 0; p < 2; ++p) {
    config.mutable_partition(p)->set_primary(2);
    config.mutable_partition(p)->set_epoch(4);
    config.mutable_partition(p)->set_former(1);
    config.mutable_partition(p)->set_taking_over(true);
    config.mutable_partition(p)->clear_replica();
  }
  InstallAll();
  EXPECT_TRUE(AskShard(kOther, PushTo(0, 1)).empty());
  EXPECT_FALSE(shards_.at(kShardPeer)->Export(0).empty()) << "who had it keeps it until then";
  for (int p = 0; p < 2; ++p) {
    config.mutable_partition(p)->clear_former();
    config.mutable_partition(p)->clear_taking_over();
  }
  InstallAll();
  Settle();
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_TRUE(answers_[0].header.has_push_reply());
  EXPECT_TRUE(shards_.at(kShardPeer)->Export(0).empty());
}

TEST_F(ShardReplica, ABackupThatHasLostItsCopyHoldsAnswersUpUntilTheSchedulerHasHeard) {
  Connect();
  SayInSync();
  Start(kOther);  // another process, taken for the same
  config.set_generation(config.generation() + 1);
  InstallAt(kOther);
  EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, 0)).empty());
  const auto said = shards_.at(kShardPeer)->stats().synced;
  ASSERT_EQ(said.size(), 2u);
  EXPECT_TRUE(said[0].lost());
  for (int p = 0; p < 2; ++p) {
    config.mutable_partition(p)->mutable_replica(0)->set_in_sync(false);
    config.mutable_partition(p)->mutable_replica(0)->set_since(config.generation() + 1);
  }
  InstallAll();
  Settle();
  EXPECT_EQ(answers_.size(), 1u);
  EXPECT_FALSE(shards_.at(kOther)->Export(0).empty()) << "it begins anew";
}

TEST_F(ShardReplica, DoesNotBeginEmptyWhatItShouldHaveTakenOverAndHasNot) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  Start(kOther);  // without what it had
  shards_.erase(kShardPeer);
  for (int p = 0; p < 2; ++p) {
    config.mutable_partition(p)->set_primary(2);
    config.mutable_partition(p)->set_epoch(4);
    config.mutable_partition(p)->set_taking_over(true);
  }
  InstallAll();
  Settle();
  EXPECT_TRUE(shards_.at(kOther)->Export(0).empty());
  const auto said = shards_.at(kOther)->stats().synced;
  ASSERT_EQ(said.size(), 2u);
  EXPECT_TRUE(said[0].lost());
  EXPECT_EQ(said[0].node(), 0u);
  EXPECT_EQ(said[0].since(), config.generation());
}

TEST_F(ShardReplica, ABackupThatTakesNothingForLongIsReportedAsLost) {
  Connect();
  SayInSync();
  cut_ = {kShardPeer, kOther};
  AskShard(kShardPeer, PushTo(0, 0));
  now += std::chrono::seconds(4);
  Settle();
  EXPECT_TRUE(shards_.at(kShardPeer)->stats().synced.empty());
  now += std::chrono::seconds(2);
  Settle();
  const auto said = shards_.at(kShardPeer)->stats().synced;
  ASSERT_EQ(said.size(), 2u);
  EXPECT_TRUE(said[0].lost());
}

TEST_F(ShardReplica, AnswersThatWaitAreNoMoreThanTheBudgetForRequests) {
  shards_[kShardPeer] = std::make_unique<Shard>(kShardPeer, ShardOptions{.request_budget_bytes = 1000}, nullptr);
  Connect();
  SayInSync();
  cut_ = {kOther};
  for (uint64_t seq = 0; seq < 10; ++seq) EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, seq)).empty());
  cut_.clear();
  now += Milliseconds(400);
  shards_.at(kOther)->OnTick(now);
  Settle();
  EXPECT_GE(answers_.size(), 1u);
  EXPECT_LT(answers_.size(), 5u);
  EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, 9)).at(0).header.push_reply().duplicate()) << "it was taken all the same";
}

TEST_F(ShardReplica, LeavesAloneWhatIsForTheProcessThatHadItsAddress) {
  Connect();
  Message message;
  message.header.mutable_replicate()->set_stream(99);
  message.header.mutable_replicate()->set_to(kOther.value + 1);
  EXPECT_TRUE(AskShard(kOther, message).empty());
}

TEST_F(ShardReplica, HasTheSameBitsAsItsPrimary) {
  AddTable(2, 3).mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD);
  AddRoster(pb::ConsistencySpec::BSP, 2);
  Connect();
  SayInSync();
  for (uint64_t seq = 0; seq < 5; ++seq) AskShard(kShardPeer, PushTo(seq % 2, seq, 0.1F));
  const auto bytes = [](const std::vector<ImagePiece>& pieces) {
    std::string all;
    for (const ImagePiece& piece : pieces) {
      for (const Buffer& part : piece) all += part.text();
    }
    return all;
  };
  for (const uint32_t p : {0U, 1U}) {
    EXPECT_EQ(bytes(shards_.at(kShardPeer)->Export(p)), bytes(shards_.at(kOther)->Export(p)));
  }
}

// What a copy says to a process that had the address before is no answer to this one.
TEST_F(ShardReplica, NoStreamHasTheNameOfOneOfAProcessBefore) {
  const auto name_by = [this](PeerId self) {
    Shard shard(self, ShardOptions{}, nullptr);
    pb::ClusterConfig other = config;
    other.mutable_server(0)->mutable_shard(0)->set_peer(self.value);
    other.set_generation(1);
    EXPECT_TRUE(shard.OnConfig(std::make_shared<pb::ClusterConfig>(other), now));
    Outbox out;
    EXPECT_TRUE(shard.Flush(now, out));
    for (const Outbox::Item& item : out.items()) {
      if (item.message.header.has_replicate()) return item.message.header.replicate().stream();
    }
    return uint64_t{0};
  };
  EXPECT_NE(name_by(PeerId(501)), 0u);
  EXPECT_NE(name_by(PeerId(501)), name_by(PeerId(502)));
}

// ---- planned

TEST_F(ShardReplica, WhoIsHandedAPartitionTakesItWhenItHasAllThatWasDoneToIt) {
  Connect();
  SayInSync();
  cut_ = {kShardPeer};
  AskShard(kShardPeer, PushTo(0, 0));  // nobody has been answered, and the second has not heard of it
  HandOver(0);
  InstallAll();
  Settle();
  EXPECT_TRUE(std::ranges::count(shards_.at(kOther)->owned(), 0u) == 0) << "it has not all";
  EXPECT_LT(shards_.at(kOther)->stats().seen_generation, config.generation()) << "nor does the scheduler believe so";
  cut_.clear();
  now += Milliseconds(400);
  Settle();
  EXPECT_TRUE(std::ranges::count(shards_.at(kOther)->owned(), 0u) == 1);
  EXPECT_EQ(shards_.at(kOther)->stats().seen_generation, config.generation());
  ASSERT_EQ(answers_.size(), 1u) << "what waited with the first is answered: the second has it";
  EXPECT_TRUE(answers_[0].header.has_push_reply());
  SayTaken(0);
  EXPECT_EQ(Floats(AskShard(kOther, PullFrom(0)).at(0))[0], -1);
}

TEST_F(ShardReplica, WhoHandsAPartitionOverHasACopyInSyncFromThenOn) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  HandOver(0);
  InstallAll();
  Settle();
  SayTaken(0);
  EXPECT_EQ(AskShard(kOther, PushTo(0, 1)).size(), 1u);
  EXPECT_EQ(Bytes(kShardPeer, 0), Bytes(kOther, 0));
  EXPECT_TRUE(shards_.at(kOther)->stats().synced.empty()) << "no image was needed";
  cut_ = {kOther};
  EXPECT_TRUE(AskShard(kOther, PushTo(0, 2)).empty()) << "nothing is answered that the copy does not have";
}

TEST_F(ShardReplica, WhatCameToAHandedOverPartitionFirstIsInTheCopyToo) {
  Connect();
  SayInSync();
  HandOver(0);
  InstallAll();
  Settle();
  shards_.at(kOther)->OnMessage(kClient, PushTo(0, 0), now);  // before the second has sent anything
  Settle();
  SayTaken(0);
  EXPECT_EQ(Bytes(kShardPeer, 0), Bytes(kOther, 0));
}

TEST_F(ShardReplica, APartitionThatIsTakenBackIsAsItWasAcknowledged) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  cut_ = {kShardPeer};
  HandOver(0);
  InstallAll();
  Settle();
  pb::PartitionConfig& partition = *config.mutable_partition(0);
  partition.set_primary(1);
  partition.set_epoch(partition.epoch() + 1);
  partition.clear_former();
  partition.clear_taking_over();
  partition.clear_handed_over();
  partition.clear_replica();
  InstallAll();
  cut_.clear();
  now += Milliseconds(400);
  Settle();
  EXPECT_EQ(Floats(AskShard(kShardPeer, PullFrom(0)).at(0))[0], -1);
  EXPECT_TRUE(AskShard(kShardPeer, PushTo(0, 0)).at(0).header.push_reply().duplicate());
}

TEST_F(ShardReplica, AConfigurationWithoutPartitionsIsTakenInTheMiddleOfAHandOver) {
  Connect();
  SayInSync();
  cut_ = {kShardPeer};
  AskShard(kShardPeer, PushTo(0, 0));
  HandOver(0);
  InstallAll();
  Settle();
  config.clear_partition();
  InstallAll();
  cut_.clear();
  now += Milliseconds(400);
  Settle();
  EXPECT_TRUE(shards_.at(kShardPeer)->owned().empty());
  EXPECT_TRUE(shards_.at(kOther)->owned().empty());
}

TEST_F(ShardReplica, AStreamThatHasNothingToSayGoesOnWhenThereIsSomethingAgain) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  const auto replicas = config;
  for (int p = 0; p < 2; ++p) config.mutable_partition(p)->clear_replica();
  config.set_generation(config.generation() + 1);
  InstallAt(kOther);  // the first has not heard of it
  AskShard(kShardPeer, PushTo(1, 1));
  for (int p = 0; p < 2; ++p) {
    *config.mutable_partition(p) = replicas.partition(p);
    config.mutable_partition(p)->mutable_replica(0)->set_since(config.generation() + 1);
    config.mutable_partition(p)->mutable_replica(0)->clear_in_sync();
  }
  InstallAll();
  Settle();
  EXPECT_EQ(unknown_, 0) << "what waits for the copy to have it would be lost";
  SayInSync();
  EXPECT_EQ(AskShard(kShardPeer, PushTo(0, 2)).size(), 1u);
  EXPECT_EQ(Bytes(kShardPeer, 0), Bytes(kOther, 0));
}

TEST_F(ShardReplica, WhoIsStartedAgainInTheMiddleOfAHandOverMayHearOfOthersBeforeTheScheduler) {
  sim::SimDisk disk(1);
  shards_.at(kOther) = std::make_unique<Shard>(kOther, ShardOptions{}, disk.OpenLog());
  Connect();
  SayInSync();
  cut_ = {kShardPeer};
  AskShard(kShardPeer, PushTo(0, 0));
  HandOver(0);
  InstallAll();
  Settle();
  shards_.erase(kOther);
  shards_[kOther] = std::make_unique<Shard>(kOther, ShardOptions{}, disk.OpenLog());
  Shard& again = *shards_.at(kOther);
  ASSERT_TRUE(RecoverShard(again.core(), *again.log(), nullptr, now, [](size_t) { return Status(); }).has_value());
  ASSERT_FALSE(again.core().coming().empty()) << "it knows from its log that something is on its way";
  cut_.clear();
  Start(kShardPeer);  // it, too, and that one is told first
  InstallAt(kShardPeer);
  Settle();
  InstallAt(kOther);
  Settle();
  EXPECT_TRUE(std::ranges::count(again.owned(), 0u) == 0) << "what it had of the stream went with its process";
}

TEST_F(ShardReplica, CopiesAreComparedWithWhatTheyAreCopiesOf) {
  Connect();
  SayInSync();
  for (uint64_t i = 0; i < 5; ++i) AskShard(kShardPeer, PushTo(0, i));
  AskShard(kShardPeer, PushTo(1, 5));
  AskShard(kOther, PushTo(2, 6));
  Seconds(8);
  EXPECT_GE(shards_[kOther]->stats().compared_rows, 2u);
  EXPECT_GE(shards_[kShardPeer]->stats().compared_rows, 1u);
  for (const auto& [peer, shard] : shards_) EXPECT_EQ(shard->stats().copies_differed, 0u);
  EXPECT_EQ(unknown_, 0);
}

TEST_F(ShardReplica, ACopyThatDiffersIsThrownAwayAndMadeAnew) {
  Connect();
  SayInSync();
  AskShard(kShardPeer, PushTo(0, 0));
  spoiled_ = 1234.5F;
  AskShard(kShardPeer, PushTo(0, 1, 1234.5F));
  spoiled_.reset();
  Seconds(2);
  EXPECT_EQ(shards_[kOther]->stats().copies_differed, 1u);
  EXPECT_NE(shards_[kOther]->stats().differed_text.find("partition 0"), std::string::npos);
  EXPECT_EQ(unknown_, 1);
  const auto synced = shards_[kShardPeer]->stats().synced;
  ASSERT_FALSE(synced.empty());
  EXPECT_TRUE(std::ranges::all_of(synced, &pb::SyncedReplica::lost)) << "it must not take over";

  for (pb::PartitionConfig& partition : *config.mutable_partition()) {
    if (partition.primary() != 1) continue;
    partition.mutable_replica(0)->set_in_sync(false);
    partition.mutable_replica(0)->set_since(config.generation() + 1);
  }
  InstallAll();
  Settle();
  SayInSync();
  Seconds(8);
  EXPECT_EQ(shards_[kOther]->stats().copies_differed, 1u);
  LoseFirst();
  const auto answers = AskShard(kOther, PullFrom(0));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(Floats(answers[0])[0], -1235.5F);
}

}  // namespace
}  // namespace sheaf
