// What every RedoLog promises.
#include "common/storage/redo_log.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

#include "common/storage/file_log.h"
#include "tests/sim/sim_disk.h"
#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

// A place where a log outlives its process.
class Home {
 public:
  virtual ~Home() = default;
  virtual std::unique_ptr<RedoLog> Open() = 0;
};

class FolderHome final : public Home {
 public:
  explicit FolderHome(size_t segment_bytes) : segment_bytes_(segment_bytes) {}
  std::unique_ptr<RedoLog> Open() override {
    auto log = FileLog::Open(folder_.path() + "/log", {.segment_bytes = segment_bytes_});
    SHEAF_CHECK(log.has_value(), log.error().message);
    return std::move(*log);
  }

 private:
  const TempFolder folder_;
  const size_t segment_bytes_;
};

class DiskHome final : public Home {
 public:
  std::unique_ptr<RedoLog> Open() override { return disk_.OpenLog(); }

 private:
  sim::SimDisk disk_{1};
};

Buffer Text(const std::string& text) { return Buffer::CopyOf(std::as_bytes(std::span(text))); }

std::map<uint64_t, std::string> Read(RedoLog& log, uint64_t from = 0) {
  std::map<uint64_t, std::string> records;
  const Status read = log.Replay(from, [&](uint64_t index, const Buffer& record) {
    EXPECT_EQ(reinterpret_cast<uintptr_t>(record.data()) % 8, 0u);
    records[index] = record.text();
    return Status();
  });
  EXPECT_TRUE(read.has_value()) << read.error().message;
  return records;
}

class RedoLogContract : public testing::TestWithParam<const char*> {
 protected:
  RedoLogContract() {
    const std::string kind = GetParam();
    if (kind == "disk") home_ = std::make_unique<DiskHome>();
    if (kind == "files") home_ = std::make_unique<FolderHome>(size_t{64} << 20);
    if (kind == "small_files") home_ = std::make_unique<FolderHome>(200);
    log_ = home_->Open();
  }
  void Restart() {
    log_.reset();
    log_ = home_->Open();
  }
  void Add(const std::string& text) {
    log_->Append({Text(text)});
    ASSERT_TRUE(log_->Commit(Durability::kLog));
  }

  std::unique_ptr<Home> home_;
  std::unique_ptr<RedoLog> log_;
};

TEST_P(RedoLogContract, KeepsCommittedRecordsInOrderBeyondTheProcess) {
  std::map<uint64_t, std::string> written;
  for (int i = 0; i < 100; ++i) {
    const std::string text(static_cast<size_t>(i), static_cast<char>('a' + i % 26));
    written[log_->Append({Text(text)})] = text;
    if (i % 3 == 0) {
      ASSERT_TRUE(log_->Commit(Durability::kLog));
    }
  }
  ASSERT_TRUE(log_->Commit(Durability::kFsync));
  EXPECT_EQ(written.begin()->first, 1u);
  EXPECT_EQ(written.rbegin()->first, 100u);
  EXPECT_EQ(Read(*log_), written);
  Restart();
  EXPECT_EQ(Read(*log_), written);
  EXPECT_EQ(log_->next_index(), 101u);
}

TEST_P(RedoLogContract, ForgetsWhatWasNotCommitted) {
  Add("committed");
  log_->Append({Text("only appended")});
  EXPECT_EQ(log_->next_index(), 3u);
  EXPECT_EQ(Read(*log_).size(), 1u);
  Restart();
  EXPECT_EQ(log_->next_index(), 2u);
  Add("another");
  EXPECT_EQ(Read(*log_), (std::map<uint64_t, std::string>{{1, "committed"}, {2, "another"}}));
}

TEST_P(RedoLogContract, PutsPiecesTogether) {
  log_->Append({Text("one"), Buffer(), Text("two"), Text("three")});
  log_->Append({});
  ASSERT_TRUE(log_->Commit(Durability::kLog));
  EXPECT_EQ(Read(*log_), (std::map<uint64_t, std::string>{{1, "onetwothree"}, {2, ""}}));
}

TEST_P(RedoLogContract, ReadsFromAnyRecordOn) {
  for (int i = 1; i <= 50; ++i) Add("record " + std::to_string(i));
  for (const uint64_t from : {1, 2, 25, 50, 51}) {
    const auto records = Read(*log_, from);
    EXPECT_EQ(records.size(), 51 - from);
    if (!records.empty()) {
      EXPECT_EQ(records.begin()->first, from);
    }
  }
}

TEST_P(RedoLogContract, StopsReadingWhenARecordIsRefused) {
  Add("good");
  Add("bad");
  Add("good");
  int seen = 0;
  const Status read = log_->Replay(1, [&](uint64_t, const Buffer& record) {
    ++seen;
    return record.text() == "bad" ? Status(Fail(ErrorCode::kDataLoss, "bad")) : Status();
  });
  EXPECT_FALSE(read.has_value());
  EXPECT_EQ(seen, 2);
}

TEST_P(RedoLogContract, BeginsAnewWithNothingOfWhatWas) {
  for (int i = 1; i <= 50; ++i) Add("record " + std::to_string(i));
  log_->Append({Text("not committed")});
  log_->BeginAnew();
  EXPECT_EQ(log_->Append({Text("first")}), 51u);
  ASSERT_TRUE(log_->Commit(Durability::kFsync));
  EXPECT_EQ(log_->first_index(), 51u);
  EXPECT_EQ(Read(*log_), (std::map<uint64_t, std::string>{{51, "first"}}));
  Add("second");
  Restart();
  EXPECT_EQ(log_->first_index(), 51u);
  EXPECT_EQ(Read(*log_), (std::map<uint64_t, std::string>{{51, "first"}, {52, "second"}}));
}

TEST_P(RedoLogContract, KeepsWhatItHasIfItEndsBeforeItHasBegunAnew) {
  for (int i = 1; i <= 50; ++i) Add("record " + std::to_string(i));
  log_->BeginAnew();
  log_->Append({Text("first")});
  Restart();
  EXPECT_EQ(Read(*log_).size(), 50u);
  EXPECT_EQ(log_->next_index(), 51u);
}

TEST_P(RedoLogContract, LetsGoOfRecordsThatAreNotNeeded) {
  std::map<uint64_t, std::string> written;
  for (int i = 1; i <= 50; ++i) {
    Add("record " + std::to_string(i));
    written[static_cast<uint64_t>(i)] = "record " + std::to_string(i);
  }
  const uint64_t before = log_->bytes();
  for (const uint64_t to : {1, 20, 20, 51, 5}) {
    ASSERT_TRUE(log_->TrimTo(to));
    EXPECT_LE(log_->first_index(), std::max<uint64_t>(to, 51));
    const uint64_t needed = std::max<uint64_t>(to, log_->first_index());
    EXPECT_EQ(Read(*log_, needed), (std::map<uint64_t, std::string>(written.lower_bound(needed), written.end())));
  }
  EXPECT_TRUE(log_->bytes() < before || log_->first_index() == 1);  // one segment
  Add("record 51");
  const uint64_t first = log_->first_index();
  Restart();
  EXPECT_EQ(log_->first_index(), first);
  EXPECT_EQ(log_->next_index(), 52u);
  EXPECT_EQ(Read(*log_, 51).at(51), "record 51");
  if (std::string_view(GetParam()) != "files") {
    EXPECT_GT(first, 40u);
  }
}

TEST_P(RedoLogContract, IsSyncedAndCutByAnotherThreadWhileItGoesOn) {
  const std::shared_ptr<RedoLogDisk> disk = log_->disk();
  for (int i = 1; i <= 40; ++i) Add("record " + std::to_string(i));
  if (std::string_view(GetParam()) != "disk") {  // the simulator has one thread
    std::atomic<bool> over = false;
    std::thread other([&] {
      for (uint64_t index = 1; !over; index = index % 40 + 1) {
        EXPECT_TRUE(disk->SyncTo(index));
        disk->TrimTo(std::min<uint64_t>(index, 30));
      }
    });
    for (int i = 41; i <= 60; ++i) Add("record " + std::to_string(i));
    over = true;
    other.join();
  }
  EXPECT_TRUE(disk->SyncTo(log_->next_index()));
  EXPECT_FALSE(disk->SyncTo(log_->next_index() + 1)) << "that one is not written";
  disk->TrimTo(30);
  EXPECT_TRUE(log_->TrimTo(30));
  const uint64_t next = log_->next_index();
  const auto kept = Read(*log_, 30);
  EXPECT_EQ(kept.size(), next - 30);
  log_->BeginAnew();
  log_->Append({Text("first")});
  ASSERT_TRUE(log_->Commit(Durability::kLog));
  EXPECT_TRUE(disk->SyncTo(next + 1));
  log_.reset();
  EXPECT_TRUE(disk->SyncTo(next + 1)) << "it may outlive the log";
  Restart();
  EXPECT_EQ(log_->first_index(), next);
}

TEST_P(RedoLogContract, TakesLargeRecords) {
  const std::string large(3'000'001, 'x');
  log_->Append({Text(large), Text("end")});
  ASSERT_TRUE(log_->Commit(Durability::kLog));
  Restart();
  EXPECT_EQ(Read(*log_).at(1), large + "end");
}

INSTANTIATE_TEST_SUITE_P(All, RedoLogContract, testing::Values("disk", "files", "small_files"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sheaf
