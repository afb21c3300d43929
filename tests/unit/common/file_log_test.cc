#include "common/storage/file_log.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

class FileLogTest : public testing::Test {
 protected:
  static std::string NameOf(uint64_t first) {
    const std::string number = std::to_string(first);
    return std::string(20 - number.size(), '0') + number + ".redo";
  }
  std::string PathOf(uint64_t first) const { return folder_ + "/" + NameOf(first); }
  static std::string TextOf(uint64_t index) {
    return "record " + std::to_string(index) + std::string(index % 11, '.');
  }
  // Records 1 to `count`, three a segment.
  void Fill(uint64_t count) {
    auto log = FileLog::Open(folder_, {.segment_bytes = 130});
    ASSERT_TRUE(log.has_value()) << log.error().message;
    for (uint64_t i = 1; i <= count; ++i) Add(**log, TextOf(i), Durability::kFsync);
  }
  static Buffer Text(const std::string& text) { return Buffer::CopyOf(std::as_bytes(std::span(text))); }
  static void Add(FileLog& log, const std::string& text, Durability level = Durability::kLog) {
    log.Append({Text(text)});
    ASSERT_TRUE(log.Commit(level));
  }
  static std::string Slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static void Spill(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  // Opens the log and reads it: how many records it has, all of them as they were written; or the error.
  using Since = FileLogOptions::Since;
  Result<uint64_t> OpenAndRead(Since since = Since::kPowerLoss) {
    SHEAF_ASSIGN_OR_RETURN(const auto log, FileLog::Open(folder_, {.segment_bytes = 130, .since = since}));
    uint64_t next = log->first_index();
    SHEAF_RETURN_IF_ERROR(log->Replay(0, [&](uint64_t index, const Buffer& record) {
      EXPECT_EQ(index, next++);
      EXPECT_EQ(record.text(), TextOf(index));
      return Status();
    }));
    EXPECT_EQ(next, log->next_index());
    return next - 1;
  }
  std::vector<uint64_t> Segments() const {
    std::vector<uint64_t> firsts;
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
      if (entry.is_regular_file()) firsts.push_back(std::stoull(entry.path().stem()));
    std::ranges::sort(firsts);
    return firsts;
  }

  const TempFolder temp_;
  const std::string folder_ = temp_.path();
};

TEST_F(FileLogTest, CutsATornEndOffWhereverItWasTorn) {
  Fill(8);
  const uint64_t last = Segments().back();
  const std::string whole = Slurp(PathOf(last));
  uint64_t before = 8;
  for (size_t length = whole.size(); length-- > 0;) {
    Spill(PathOf(last), whole.substr(0, length));
    const auto count = OpenAndRead();
    ASSERT_TRUE(count.has_value()) << length << " bytes: " << count.error().message;
    ASSERT_LE(*count, before) << length << " bytes";
    before = *count;
  }
  EXPECT_EQ(before, last - 1);
}

TEST_F(FileLogTest, GoesOnBehindARecordThatLacksOnlyItsZeros) {
  Fill(7);
  ASSERT_NE(TextOf(7).size() % 8, 0u);
  const uint64_t last = Segments().back();
  const std::string whole = Slurp(PathOf(last));
  Spill(PathOf(last), whole.substr(0, whole.size() - 1));
  {
    auto log = FileLog::Open(folder_, {});
    ASSERT_TRUE(log.has_value());
    EXPECT_EQ((*log)->next_index(), 8u);
    Add(**log, TextOf(8));
  }
  EXPECT_EQ(OpenAndRead().value(), 8u);
}

TEST_F(FileLogTest, GoesOnBehindATornEnd) {
  Fill(7);
  const uint64_t last = Segments().back();
  const std::string whole = Slurp(PathOf(last));
  Spill(PathOf(last), whole.substr(0, whole.size() - 12) + std::string(100, '\0'));
  {
    auto log = FileLog::Open(folder_, {});
    ASSERT_TRUE(log.has_value());
    EXPECT_GT((*log)->torn_bytes(), 0u);
    EXPECT_EQ((*log)->next_index(), 7u);
    Add(**log, TextOf(7));
    Add(**log, TextOf(8));
  }
  EXPECT_EQ(OpenAndRead().value(), 8u);
}

// Whatever byte is changed: it is found, or it was of the last record, which may be torn. Never is anything else read.
TEST_F(FileLogTest, FindsEveryDamagedByte) {
  Fill(8);
  for (const uint64_t first : Segments()) {
    const bool is_last = first == Segments().back();
    const std::string whole = Slurp(PathOf(first));
    for (size_t at = 0; at < whole.size(); ++at) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
      Spill(PathOf(first), damaged);
      const auto count = OpenAndRead();
      if (count.has_value()) {
        // The zeros behind a record say nothing.
        EXPECT_TRUE(*count == 8 || (is_last && *count == 7)) << NameOf(first) << " byte " << at << ": " << *count;
      } else {
        EXPECT_TRUE(count.error().code == ErrorCode::kDataLoss) << count.error().message;
        EXPECT_NE(count.error().message.find(PathOf(first)), std::string::npos) << count.error().message;
      }
      Spill(PathOf(first), whole);
    }
  }
  EXPECT_EQ(OpenAndRead().value(), 8u);
}

// A record that was acknowledged and not synced was cut off with all behind it, as if it had been torn, if one of its
// bits was another when the process was started again.
TEST_F(FileLogTest, TakesNoDamageForATornEndUnlessTheSystemWasStartedAgain) {
  {
    auto log = FileLog::Open(folder_, {});
    for (uint64_t i = 1; i <= 4; ++i) Add(**log, TextOf(i));
  }
  const std::string whole = Slurp(PathOf(1));
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    Spill(PathOf(1), damaged);
    const auto count = OpenAndRead(Since::kSameBoot);
    EXPECT_TRUE(count ? *count == 4 : count.error().code == ErrorCode::kDataLoss) << "byte " << at;
    Spill(PathOf(1), whole);
  }
  uint64_t before = 4;
  for (size_t length = whole.size(); length-- > 0;) {
    Spill(PathOf(1), whole.substr(0, length));
    const auto count = OpenAndRead(Since::kSameBoot);
    ASSERT_TRUE(count.has_value()) << length << " bytes: " << count.error().message;
    ASSERT_LE(*count, before);
    before = *count;
  }
}

// Pages that were not synced come to the disk in any order.
TEST_F(FileLogTest, EndsWhereTheLossOfPowerLeftAHoleInWhatWasNotSynced) {
  {
    auto log = FileLog::Open(folder_, {});
    Add(**log, TextOf(1), Durability::kFsync);
    for (uint64_t i = 2; i <= 4; ++i) Add(**log, TextOf(i));
  }
  std::string bytes = Slurp(PathOf(1));
  const size_t third = bytes.find(TextOf(3));
  bytes.replace(third, 4, 4, '\0');
  Spill(PathOf(1), bytes);
  EXPECT_EQ(OpenAndRead().value(), 2u);
  // What was there when it was opened counts as safe from then on.
  {
    auto log = FileLog::Open(folder_, {});
    Add(**log, TextOf(3));
  }
  bytes = Slurp(PathOf(1));
  bytes.replace(bytes.find(TextOf(2)), 4, 4, '\0');
  Spill(PathOf(1), bytes);
  EXPECT_EQ(OpenAndRead().error().code, ErrorCode::kDataLoss);
}

TEST_F(FileLogTest, TakesASegmentThatWasOnlyBegunForNone) {
  Fill(3);
  Spill(PathOf(4), std::string(40, '\0'));
  EXPECT_EQ(OpenAndRead().value(), 3u);
  Spill(PathOf(7), "");
  EXPECT_EQ(OpenAndRead().error().code, ErrorCode::kDataLoss) << "records 4 to 6 are missing";
}

TEST_F(FileLogTest, NoticesASegmentOfAnotherLog) {
  Fill(9);
  {
    auto other = FileLog::Open(folder_ + "/other", {.segment_bytes = 130});
    for (uint64_t i = 1; i <= 9; ++i) Add(**other, TextOf(9 + i % 2), Durability::kFsync);
  }
  const uint64_t second = Segments()[1];
  std::filesystem::copy_file(folder_ + "/other/" + NameOf(second), PathOf(second),
                             std::filesystem::copy_options::overwrite_existing);
  std::filesystem::remove_all(folder_ + "/other");
  auto log = FileLog::Open(folder_, {.segment_bytes = 130});
  ASSERT_TRUE(log.has_value()) << log.error().message;
  const Status read = (*log)->Replay(0, [](uint64_t, const Buffer&) { return Status(); });
  ASSERT_FALSE(read.has_value());
  EXPECT_NE(read.error().message.find("of another log"), std::string::npos) << read.error().message;
}

TEST_F(FileLogTest, NoticesAMissingSegment) {
  Fill(9);
  const std::vector<uint64_t> segments = Segments();
  ASSERT_GE(segments.size(), 3u);
  std::filesystem::remove(PathOf(segments[1]));
  EXPECT_EQ(OpenAndRead().error().code, ErrorCode::kDataLoss);
}

TEST_F(FileLogTest, EqualLogsHaveEqualChainsHoweverTheyWereCut) {
  auto log = FileLog::Open(folder_ + "/a", {.segment_bytes = 130});
  auto other = FileLog::Open(folder_ + "/b", {});
  for (uint64_t i = 1; i <= 10; ++i) {
    Add(**log, TextOf(i));
    Add(**other, TextOf(i));
  }
  EXPECT_EQ((*log)->chain(), (*other)->chain());
  const uint64_t chain = (*log)->chain();
  log = FileLog::Open(folder_ + "/a", {});
  EXPECT_EQ((*log)->chain(), chain);
  Add(**log, TextOf(12));
  Add(**other, TextOf(11));
  EXPECT_NE((*log)->chain(), (*other)->chain());
}

// A limit on the size of files ends writes as a full disk does: in the middle.
TEST_F(FileLogTest, LosesNothingOnAFullDiskAndGoesOnWhenThereIsRoom) {
  signal(SIGXFSZ, SIG_IGN);
  auto log = FileLog::Open(folder_, {});
  ASSERT_TRUE(log.has_value());
  Add(**log, TextOf(1));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = (*log)->bytes() + 30;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  for (uint64_t i = 2; i <= 4; ++i) {
    const std::string text = TextOf(i);
    (*log)->Append({Buffer::CopyOf(std::as_bytes(std::span(text)))});
  }
  const Status full = (*log)->Commit(Durability::kLog);
  const auto during = OpenAndRead();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, ErrorCode::kResourceExhausted) << full.error().message;
  EXPECT_EQ(during.value(), 1u);
  ASSERT_TRUE((*log)->Commit(Durability::kFsync));
  EXPECT_EQ(OpenAndRead().value(), 4u);
}

TEST_F(FileLogTest, BeginsAnewOnADiskThatItHasFilledItself) {
  signal(SIGXFSZ, SIG_IGN);
  auto log = FileLog::Open(folder_, {});
  Add(**log, std::string(1000, 'x'));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit tight = before;
  tight.rlim_cur = (*log)->bytes() + 30;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  (*log)->Append({Text(std::string(1000, 'y'))});
  const Status full = (*log)->Commit(Durability::kLog);
  (*log)->BeginAnew();
  (*log)->Append({Text(TextOf(2))});
  const Status anew = (*log)->Commit(Durability::kLog);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(full.error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(anew.has_value());
  EXPECT_EQ(Segments(), std::vector<uint64_t>{2});
  EXPECT_EQ(OpenAndRead().value(), 2u);
}

TEST_F(FileLogTest, SaysWhichFolderCannotBeUsed) {
  Spill(folder_ + "/file", "");
  const auto log = FileLog::Open(folder_ + "/file", {});
  ASSERT_FALSE(log.has_value());
  EXPECT_NE(log.error().message.find(folder_ + "/file"), std::string::npos) << log.error().message;
}

TEST_F(FileLogTest, RefusesAnotherFormat) {
  Fill(1);
  std::filesystem::rename(PathOf(1), PathOf(5));
  EXPECT_EQ(OpenAndRead().error().code, ErrorCode::kDataLoss);
  std::filesystem::rename(PathOf(5), PathOf(1));
  std::string bytes = Slurp(PathOf(1));
  bytes[8] = 2;
  Spill(PathOf(1), bytes);
  EXPECT_EQ(OpenAndRead().error().code, ErrorCode::kDataLoss) << "its check is not right either";
}

}  // namespace
}  // namespace sheaf
