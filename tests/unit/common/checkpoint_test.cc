// Manifests, and what a folder of checkpoints says.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/checkpoint/catalog.h"
#include "common/checkpoint/disk_space.h"
#include "common/checkpoint/manifest.h"
#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

namespace fs = std::filesystem;

class CheckpointFolderTest : public testing::Test {
 protected:
  CheckpointFolderTest() { space_ = std::move(*OpenDiskSpace(folder_.path(), IfAbsent::kMake)); }

  // Of two partitions, with a file each, which it writes.
  pb::CheckpointManifest Make(const std::string& name, uint64_t id) {
    pb::CheckpointManifest manifest;
    manifest.set_name(name);
    manifest.set_id(id);
    manifest.set_job(1);
    manifest.set_partition_count(2);
    manifest.mutable_submission()->mutable_spec()->set_name("job");
    manifest.mutable_state()->set_phase(pb::RUNNING);
    EXPECT_TRUE(space_->MakeFolder(TemporaryFolder(id)).has_value());
    for (uint32_t p = 0; p < 2; ++p) {
      const std::string text = "partition " + std::to_string(p) + " of " + name;
      const auto bytes = std::as_bytes(std::span(text));
      auto sink = space_->Create(TemporaryFolder(id), PartFileName(p, id));
      EXPECT_TRUE((*sink)->Append(bytes).has_value() && (*sink)->Finish().has_value());
      pb::ManifestFile& file = *manifest.add_partition()->add_file();
      file.set_name(PartFileName(p, id));
      file.set_bytes(bytes.size());
      file.set_digest_high(DigestOf(bytes).high);
      file.set_digest_low(DigestOf(bytes).low);
    }
    return manifest;
  }
  Status Verify(const std::string& name) {
    return VerifyCheckpoint(*space_, name, [](size_t) { return Status(); });
  }

  TempFolder folder_;
  std::unique_ptr<FileSpace> space_;
};

TEST_F(CheckpointFolderTest, IsACheckpointFromTheCommitOnAndNotBefore) {
  const pb::CheckpointManifest manifest = Make("one", 1);
  EXPECT_TRUE(ListCheckpoints(*space_)->empty());
  EXPECT_EQ(ResolveCheckpoint(*space_, "latest").error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(CommitCheckpoint(*space_, manifest, "").has_value());
  ASSERT_EQ(ListCheckpoints(*space_)->size(), 1u);
  EXPECT_EQ(*ResolveCheckpoint(*space_, "latest"), "one");
  EXPECT_TRUE(Verify("one").has_value());
}

TEST_F(CheckpointFolderTest, SharesFilesOfTheOneItBuildsUponAndOutlivesIt) {
  const pb::CheckpointManifest first = Make("first", 1);
  ASSERT_TRUE(CommitCheckpoint(*space_, first, "").has_value());
  pb::CheckpointManifest second = Make("second", 2);
  for (int p = 0; p < 2; ++p) {
    pb::ManifestPartition& partition = *second.mutable_partition(p);
    *partition.add_file() = first.partition(p).file(0);
    partition.mutable_file()->SwapElements(0, 1);
  }
  ASSERT_TRUE(CommitCheckpoint(*space_, second, "first").has_value());
  const std::string file = PartFileName(0, 1);
  EXPECT_EQ(fs::hard_link_count(space_->PathOf("second", file)), 2u);
  ASSERT_TRUE(RemoveCheckpoint(*space_, "first").has_value());
  EXPECT_TRUE(Verify("second").has_value());
  EXPECT_EQ(ListCheckpoints(*space_)->size(), 1u);
}

TEST_F(CheckpointFolderTest, NeverWritesOverACheckpointOfThatName) {
  ASSERT_TRUE(CommitCheckpoint(*space_, Make("same", 1), "").has_value());
  EXPECT_EQ(CommitCheckpoint(*space_, Make("same", 2), "").error().code, ErrorCode::kAlreadyExists);
  EXPECT_TRUE(Verify("same").has_value());
}

TEST_F(CheckpointFolderTest, SaysWhichFileIsNotWhatWasWritten) {
  ASSERT_TRUE(CommitCheckpoint(*space_, Make("one", 1), "").has_value());
  const std::string path = space_->PathOf("one", PartFileName(1, 1));
  std::ofstream(path, std::ios::in | std::ios::out).put('P');
  const Status damaged = Verify("one");
  EXPECT_EQ(damaged.error().code, ErrorCode::kDataLoss);
  EXPECT_NE(damaged.error().message.find(PartFileName(1, 1)), std::string::npos) << damaged.error().message;
  fs::remove(path);
  EXPECT_NE(Verify("one").error().message.find("is not there"), std::string::npos);
  fs::create_symlink("/etc/passwd", path);
  EXPECT_FALSE(Verify("one").has_value());
}

TEST_F(CheckpointFolderTest, SweepsWhatWasNeverFinishedAndLeavesTheRest) {
  ASSERT_TRUE(CommitCheckpoint(*space_, Make("one", 1), "").has_value());
  (void)Make("two", 2);
  fs::create_directory(folder_.path() + "/somebodys");
  ASSERT_TRUE(SweepCheckpoints(*space_).has_value());
  EXPECT_EQ(*space_->List(""), (std::vector<std::string>{"one", "somebodys"}));
}

TEST_F(CheckpointFolderTest, LetsNoNameLeadOutOfIt) {
  for (const std::string name : {"..", ".", "a/b", "../x", "/etc", ""}) {
    EXPECT_FALSE(space_->MakeFolder(name).has_value()) << name;
    EXPECT_FALSE(space_->Create("one", name).has_value()) << name;
  }
  fs::create_directory_symlink("/etc", folder_.path() + "/away");
  EXPECT_FALSE(space_->Open("away", "passwd").has_value());
  EXPECT_FALSE(space_->RemoveFolder("away").has_value());
}

TEST(CheckpointName, IsShortAndPlain) {
  for (const std::string& name : std::vector<std::string>{"a", "0", "c000001", "before-epoch_3.x",
                                                          std::string(63, 'a')}) {
    EXPECT_TRUE(CheckCheckpointName(name).has_value()) << name;
  }
  for (const std::string& name : std::vector<std::string>{"", "latest", "A", "../x", ".x", "-x", "a b",
                                                          std::string("a\0b", 3), std::string(64, 'a'),
                                                          "\xe2\x80\xa4"}) {
    EXPECT_FALSE(CheckCheckpointName(name).has_value()) << name;
  }
}

TEST_F(CheckpointFolderTest, RefusesManifestsThatSayWhatCannotBe) {
  const pb::CheckpointManifest good = Make("one", 7);
  ASSERT_TRUE(DecodeManifest(EncodeManifest(good)).has_value());
  const auto refused = [&](const std::function<void(pb::CheckpointManifest&)>& change) {
    pb::CheckpointManifest manifest = good;
    change(manifest);
    const auto decoded = DecodeManifest(EncodeManifest(manifest));
    return !decoded.has_value() && decoded.error().code == ErrorCode::kDataLoss;
  };
  EXPECT_TRUE(refused([](auto& m) { m.set_name("../x"); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_partition()->RemoveLast(); }));
  EXPECT_TRUE(refused([](auto& m) { m.set_partition_count(0); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_partition(1)->clear_file(); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_partition(1)->mutable_file(0)->set_name("../../etc/passwd"); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_partition(1)->mutable_file(0)->set_name(PartFileName(0, 7)); }));
  EXPECT_TRUE(refused([](auto& m) { m.mutable_partition(1)->mutable_file(0)->set_name(PartFileName(1, 8)); }));
  EXPECT_TRUE(refused([](auto& m) { *m.mutable_partition(1)->add_file() = m.partition(1).file(0); }));
  EXPECT_TRUE(refused([](auto& m) { m.clear_submission(); }));
}

TEST_F(CheckpointFolderTest, NoticesEveryChangedAndEveryMissingByteOfAManifest) {
  const std::string bytes = EncodeManifest(Make("one", 7));
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_FALSE(DecodeManifest(changed).has_value()) << i;
    EXPECT_FALSE(DecodeManifest(bytes.substr(0, i)).has_value()) << i;
  }
}

}  // namespace
}  // namespace sheaf
