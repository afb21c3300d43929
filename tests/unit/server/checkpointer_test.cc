// A shard's part in checkpoints: what is frozen stays as it was, what is written can be read, and it is the same again.
#include "server/checkpointer.h"

#include <filesystem>
#include <fstream>

#include "common/checkpoint/catalog.h"
#include "common/checkpoint/disk_space.h"
#include "server/redo_record.h"
#include "server/restorer.h"
#include "common/runtime/temp_folder.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {
namespace {

constexpr size_t kFew = 2;

class CheckpointerTest : public ShardFixture {
 protected:
  CheckpointerTest() {
    Configure(WithCheckpoints());
    Install();
    space_ = std::move(*OpenDiskSpace(folder_.path(), IfAbsent::kMake));
    files_ = std::make_unique<CheckpointFiles>(space_.get());
    checkpointer_ = std::make_unique<Checkpointer>(*core, kFew);
  }
  static ShardOptions WithCheckpoints() {
    ShardOptions options;
    options.checkpoints = true;
    return options;
  }
  void PushTo(uint32_t partition, uint64_t first, uint64_t count, float value) {
    Rows rows;
    for (uint64_t i = first; i < first + count; ++i) rows[Key(partition, i)] = {value, value};
    EXPECT_TRUE(Ask(MakePush(rows, next_push_++)).header.has_push_reply());
  }
  pb::CheckpointOrder OrderOf(uint64_t id, uint64_t base = 0) {
    pb::CheckpointOrder order;
    order.set_id(id);
    order.set_folder("f" + std::to_string(id));
    order.set_job(5);
    order.set_base(base);
    order.set_generation(core->generation());
    (void)space_->MakeFolder(order.folder());
    return order;
  }
  void CarryOut() {
    while (auto work = checkpointer_->TakeWork()) checkpointer_->OnDone(files_->Write(*work));
  }
  void WriteAll() {
    while (checkpointer_->eager()) {
      checkpointer_->Step();
      CarryOut();
    }
  }
  pb::CheckpointState Make(uint64_t id, uint64_t base = 0) {
    checkpointer_->OnOrder(OrderOf(id, base));
    checkpointer_->Step();
    WriteAll();
    return checkpointer_->state();
  }
  std::vector<std::byte> Image(ShardCore& of, uint32_t partition) {
    std::vector<std::byte> bytes;
    for (const ImagePiece& piece : of.Export(partition, 0)) {
      const Buffer joined = JoinRecord(piece);
      bytes.insert(bytes.end(), joined.bytes().begin(), joined.bytes().end());
    }
    return bytes;
  }
  std::vector<std::vector<std::byte>> Images(ShardCore& of) {
    std::vector<std::vector<std::byte>> images;
    for (uint32_t p = 0; p < 4; ++p) images.push_back(Image(of, p));
    return images;
  }
  // What the files of these checkpoints, the oldest first, come to in another shard.
  std::vector<std::vector<std::byte>> Restored(const std::vector<uint64_t>& chain) {
    ShardCore other(kShardPeer, {});
    Outbox out;
    EXPECT_TRUE(other.OnConfig(config, now, out).has_value());
    for (uint32_t p = 0; p < 4; ++p) {
      std::vector<std::unique_ptr<FileSource>> sources;
      for (const uint64_t id : chain) {
        sources.push_back(std::move(*space_->Open("f" + std::to_string(id), PartFileName(p, id))));
      }
      PartChain pieces(std::move(sources));
      while (true) {
        const auto piece = pieces.Next();
        EXPECT_TRUE(piece.has_value()) << (piece ? "" : piece.error().message);
        if (!piece || !*piece) break;
        const Status taken = other.Import(**piece, now);
        EXPECT_TRUE(taken.has_value()) << (taken ? "" : taken.error().message);
      }
      EXPECT_FALSE(other.importing());
    }
    return Images(other);
  }

  TempFolder folder_;
  std::unique_ptr<FileSpace> space_;
  std::unique_ptr<CheckpointFiles> files_;
  std::unique_ptr<Checkpointer> checkpointer_;
  uint64_t next_push_ = 0;
};

TEST_F(CheckpointerTest, WritesWhatWasThereWhenItWasFrozenThoughRowsGoOnChanging) {
  for (uint32_t p = 0; p < 4; ++p) PushTo(p, 0, 50, 1);
  const auto frozen = Images(*core);
  checkpointer_->OnOrder(OrderOf(1));
  checkpointer_->Step();
  ASSERT_EQ(checkpointer_->state().phase(), pb::CheckpointState::PREPARED);
  for (uint64_t step = 0; checkpointer_->eager(); ++step) {
    PushTo(step % 4, step % 40, 15, 2);   // rows that are written, to be written, and new
    PushTo(step % 4, 50 + step, 2, 3);
    checkpointer_->Step();
    CarryOut();
  }
  ASSERT_EQ(checkpointer_->state().phase(), pb::CheckpointState::WRITTEN);
  EXPECT_NE(Images(*core), frozen);
  EXPECT_EQ(Restored({1}), frozen);
}

TEST_F(CheckpointerTest, OneThatBuildsUponAnotherHasOnlyWhatHasChanged) {
  for (uint32_t p = 0; p < 4; ++p) PushTo(p, 0, 200, 1);
  const pb::CheckpointState first = Make(1);
  ASSERT_EQ(first.phase(), pb::CheckpointState::WRITTEN);
  PushTo(2, 17, 10, 4);
  PushTo(2, 500, 3, 4);
  const pb::CheckpointState second = Make(2, /*base=*/1);
  ASSERT_EQ(second.phase(), pb::CheckpointState::WRITTEN);
  for (const pb::CheckpointPart& part : second.part()) {
    EXPECT_FALSE(part.whole());
    EXPECT_EQ(part.rows(), part.partition() == 2 ? 13u : 0u);
  }
  EXPECT_EQ(Restored({1, 2}), Images(*core));
  PushTo(0, 0, 1, 1);
  Make(3, 2);
  EXPECT_EQ(Restored({1, 2, 3}), Images(*core));
}

TEST_F(CheckpointerTest, IsWholeIfTheLastThatItWasFrozenForIsNotTheBase) {
  PushTo(0, 0, 20, 1);
  Make(1);
  PushTo(0, 0, 20, 1);
  checkpointer_->OnOrder(OrderOf(2, 1));
  checkpointer_->Step();
  checkpointer_->OnOrder({});  // aborted
  const pb::CheckpointState third = Make(3, 1);
  for (const pb::CheckpointPart& part : third.part()) EXPECT_TRUE(part.whole());
  EXPECT_EQ(Restored({3}), Images(*core));
}

TEST_F(CheckpointerTest, IsDroppedWhenThereIsNoOrderAndNotBegunAgainByAnOldOne) {
  PushTo(0, 0, 100, 1);
  const pb::CheckpointOrder order = OrderOf(1);
  checkpointer_->OnOrder(order);
  checkpointer_->Step();
  checkpointer_->Step();
  checkpointer_->OnOrder({});
  EXPECT_FALSE(checkpointer_->state().has_id());
  EXPECT_FALSE(checkpointer_->eager());
  checkpointer_->OnOrder(order);
  checkpointer_->Step();
  EXPECT_FALSE(checkpointer_->state().has_id());
  EXPECT_EQ(Make(2).phase(), pb::CheckpointState::WRITTEN);
}

TEST_F(CheckpointerTest, WaitsForTheConfigurationThatTheOrderNames) {
  pb::CheckpointOrder order = OrderOf(1);
  order.set_generation(core->generation() + 1);
  checkpointer_->OnOrder(order);
  checkpointer_->Step();
  EXPECT_FALSE(checkpointer_->state().has_id());
  Install();
  checkpointer_->Step();
  EXPECT_EQ(checkpointer_->state().phase(), pb::CheckpointState::PREPARED);
}

TEST_F(CheckpointerTest, SaysWhatWentWrongAndKeepsNothing) {
  PushTo(0, 0, 100, 1);
  std::filesystem::create_directory(folder_.path() + "/f1");
  std::ofstream(folder_.path() + "/f1/" + PartFileName(0, 1)) << "somebody's";
  const pb::CheckpointState state = Make(1);
  EXPECT_EQ(state.phase(), pb::CheckpointState::FAILED);
  EXPECT_NE(state.error().find(PartFileName(0, 1)), std::string::npos) << state.error();
  EXPECT_FALSE(checkpointer_->eager());
}

TEST_F(CheckpointerTest, FailsWithoutAFolder) {
  files_ = std::make_unique<CheckpointFiles>(nullptr);
  EXPECT_NE(Make(1).error().find("--checkpoint_dir"), std::string::npos);
}

// ---- restoring

class RestorerTest : public CheckpointerTest {
 protected:
  // The checkpoint `id` as one that is committed.
  void Commit(uint64_t id, const pb::CheckpointState& state) {
    pb::CheckpointManifest manifest;
    manifest.set_name("made");
    manifest.set_id(id);
    manifest.set_job(5);
    manifest.set_partition_count(4);
    manifest.mutable_submission();
    manifest.mutable_state();
    for (int p = 0; p < 4; ++p) manifest.add_partition();
    for (const pb::CheckpointPart& part : state.part()) {
      pb::ManifestFile& file = *manifest.mutable_partition(static_cast<int>(part.partition()))->add_file();
      file.set_name(PartFileName(part.partition(), id));
      file.set_bytes(part.bytes());
      file.set_digest_high(part.digest_high());
      file.set_digest_low(part.digest_low());
    }
    ASSERT_TRUE(space_->RenameFolder("f" + std::to_string(id), TemporaryFolder(id)).has_value());
    ASSERT_TRUE(CommitCheckpoint(*space_, manifest, "").has_value());
    order_.set_job(5);
    order_.set_name("made");
    const Manifest read = std::move(*ReadManifest(*space_, "made"));
    order_.set_digest_high(read.digest.high);
    order_.set_digest_low(read.digest.low);
    order_.set_generation(core->generation());
  }
  void Run(Restorer& restorer, const pb::RestoreOrder& order) {
    restorer.OnOrder(order);
    for (restorer.Step(); auto work = restorer.TakeWork(); restorer.Step()) {
      while (work) {
        restorer.OnDone(files_->Read(*work), now);
        work = restorer.TakeWork();
      }
    }
  }
  pb::RestoreOrder order_;
};

TEST_F(RestorerTest, MakesEveryPartitionWhatItWasAndSaysSo) {
  for (uint32_t p = 0; p < 4; ++p) PushTo(p, 0, 300, 1);
  const auto before = Images(*core);
  Commit(1, Make(1));
  Configure(WithCheckpoints());  // another process
  Install();
  order_.set_generation(core->generation());
  Restorer restorer(*core);
  Run(restorer, order_);
  EXPECT_EQ(restorer.state().error(), "");
  EXPECT_EQ(restorer.state().generation(), core->generation());
  EXPECT_EQ(Images(*core), before);
  EXPECT_TRUE(Ask(MakePush({{Key(0, 1), {1, 1}}}, 0)).header.push_reply().duplicate()) << "pushes are known again";
}

TEST_F(RestorerTest, NeverTakesBackWhatHasBeenPushedSince) {
  PushTo(0, 0, 10, 1);
  Commit(1, Make(1));
  Restorer restorer(*core);
  Run(restorer, order_);
  PushTo(0, 0, 10, 5);
  const auto pushed = Images(*core);
  restorer.OnOrder({});
  Run(restorer, order_);  // late
  EXPECT_EQ(Images(*core), pushed);
  pb::RestoreOrder of_before = order_;
  of_before.set_generation(core->generation() - 1);
  Restorer another(*core);
  Run(another, of_before);
  EXPECT_EQ(Images(*core), pushed) << "by another configuration others may have had it since";
}

TEST_F(RestorerTest, RefusesAFileThatIsNotWhatWasWritten) {
  PushTo(2, 0, 100, 1);
  Commit(1, Make(1));
  const std::string path = folder_.path() + "/made/" + PartFileName(2, 1);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(200);
  file.put('x');
  file.close();
  Restorer restorer(*core);
  Run(restorer, order_);
  EXPECT_NE(restorer.state().error().find(PartFileName(2, 1)), std::string::npos) << restorer.state().error();
}

}  // namespace
}  // namespace sheaf
