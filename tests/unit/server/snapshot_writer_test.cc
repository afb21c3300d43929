// The thread that writes snapshots, and what becomes of a store that fails.
#include "server/snapshot_writer.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <deque>

#include "server/snapshot_store.h"
#include "tests/sim/sim_store.h"

namespace sheaf {
namespace {

class SnapshotWriters : public testing::Test {
 protected:
  // Opens what openings_ says, then the store itself.
  SnapshotWriter Make(SnapshotWriter::RowsLeave rows_leave = SnapshotWriter::RowsLeave::kNo) {
    const auto open = [this](OpenAs as) -> Result<std::unique_ptr<KvStore>> {
      opened_.push_back(as);
      if (!errors_.empty()) {
        const auto error = errors_.front();
        errors_.pop_front();
        if (error) return Failure{*error};
      }
      auto store = disk_.Open();
      if (fail_at_ == 0) return store;
      return std::unique_ptr<KvStore>(std::make_unique<sim::FailingStore>(std::move(store), std::exchange(fail_at_, 0),
                                                                          ErrorCode::kResourceExhausted));
    };
    return SnapshotWriter(0, open, rows_leave);
  }
  static SnapshotWork Partition(uint64_t round, uint32_t partition) {
    SnapshotWork work{.attempt = round, .partition = PartitionSnapshot()};
    work.partition->partition = partition;
    work.partition->index = round;
    return work;
  }
  static Status Done(SnapshotWriter& writer) {
    pollfd done{writer.done_fd(), POLLIN, 0};
    EXPECT_EQ(poll(&done, 1, 10'000), 1);
    auto status = writer.TakeDone();
    EXPECT_TRUE(status.has_value());
    return status.value_or(Status());
  }
  // The first float of row 7 of table 1 in partition 0 of 1, or -1.
  static float Read(SnapshotWriter& writer) {
    ColdRead read;
    read.partition_count = 1;
    read.tables.push_back({1, 1, {7}, {}, {}});
    writer.Put(std::move(read));
    pollfd done{writer.reads_fd(), POLLIN, 0};
    EXPECT_EQ(poll(&done, 1, 10'000), 1);
    const auto made = writer.TakeRead();
    if (!made || !made->status || made->tables[0].found[0] == 0) return -1;
    return made->tables[0].rows[0];
  }
  static Status Do(SnapshotWriter& writer, SnapshotWork work) {
    writer.Put(std::move(work));
    return Done(writer);
  }

  sim::SimStore disk_{1};
  std::vector<OpenAs> opened_;
  std::deque<std::optional<Error>> errors_;
  uint64_t fail_at_ = 0;
};

TEST_F(SnapshotWriters, WriteInOrder) {
  SnapshotWriter writer = Make();
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  for (uint32_t p = 0; p < 4; ++p) writer.Put(Partition(1, p));
  for (uint32_t p = 0; p < 4; ++p) EXPECT_TRUE(Done(writer));
  EXPECT_TRUE(Do(writer, {.attempt = 1, .kept_partitions = {1, 3}}));
  writer.Stop();
  const auto stored = ReadRound(writer.store());
  ASSERT_TRUE(stored.has_value());
  EXPECT_EQ(stored->images, (std::map<uint32_t, uint64_t>{{1, 1}, {3, 1}}));
}

TEST_F(SnapshotWriters, RefuseTheRestOfARoundThatFailedAndOpenTheStoreAnewForTheNext) {
  SnapshotWriter writer = Make();
  fail_at_ = 2;
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  EXPECT_TRUE(Do(writer, Partition(1, 0)));
  EXPECT_EQ(Do(writer, Partition(1, 1)).error().code, ErrorCode::kResourceExhausted);
  EXPECT_FALSE(Do(writer, Partition(1, 2)));
  EXPECT_EQ(opened_.size(), 1U);
  EXPECT_TRUE(Do(writer, Partition(2, 0)));
  EXPECT_EQ(opened_, (std::vector<OpenAs>{OpenAs::kFound, OpenAs::kFound}));
}

TEST_F(SnapshotWriters, TryAgainWhenAStoreCannotBeOpened) {
  SnapshotWriter writer = Make();
  fail_at_ = 1;
  errors_ = {std::nullopt, Error{ErrorCode::kIo, "no"}};
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  EXPECT_FALSE(Do(writer, Partition(1, 0)));
  EXPECT_EQ(Do(writer, Partition(2, 0)).error().code, ErrorCode::kIo);
  EXPECT_TRUE(Do(writer, Partition(3, 0)));
}

TEST_F(SnapshotWriters, PutADamagedStoreAsideWhenAllIsInMemory) {
  SnapshotWriter writer = Make();
  fail_at_ = 1;
  errors_ = {std::nullopt, Error{ErrorCode::kDataLoss, "damaged"}};
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  EXPECT_FALSE(Do(writer, Partition(1, 0)));
  EXPECT_TRUE(Do(writer, Partition(2, 0)));
  EXPECT_EQ(opened_.back(), OpenAs::kAfresh);
}

TEST_F(SnapshotWriters, ReadRowsThatHaveLeftMemoryWhateverBecomesOfLaterRounds) {
  SnapshotWriter writer = Make(SnapshotWriter::RowsLeave::kYes);
  fail_at_ = 4;
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  EXPECT_EQ(Read(writer), -1);
  SnapshotWork work = Partition(1, 0);
  work.partition->rows.push_back({1, {7}, {42}});
  EXPECT_TRUE(Do(writer, std::move(work)));
  EXPECT_TRUE(Do(writer, {.attempt = 1, .kept_partitions = {0}}));  // flushed
  EXPECT_EQ(Read(writer), 42);
  EXPECT_EQ(Do(writer, Partition(2, 0)).error().code, ErrorCode::kResourceExhausted);
  errors_ = {Error{ErrorCode::kResourceExhausted, "full"}, Error{ErrorCode::kResourceExhausted, "full"}, std::nullopt};
  EXPECT_EQ(Read(writer), 42) << "it waits until there is room, and opens the store anew";
  EXPECT_EQ(opened_.size(), 4U);
}

TEST_F(SnapshotWriters, NeverPutAStoreAsideThatHasRowsWhichNobodyElseHas) {
  SnapshotWriter writer = Make(SnapshotWriter::RowsLeave::kYes);
  fail_at_ = 1;
  errors_ = {std::nullopt, Error{ErrorCode::kDataLoss, "damaged"}, Error{ErrorCode::kDataLoss, "damaged"}};
  ASSERT_TRUE(writer.Open(OpenAs::kFound));
  writer.Start();
  EXPECT_FALSE(Do(writer, Partition(1, 0)));
  EXPECT_EQ(Do(writer, Partition(2, 0)).error().code, ErrorCode::kDataLoss);
  EXPECT_EQ(opened_, (std::vector<OpenAs>{OpenAs::kFound, OpenAs::kFound}));
}

}  // namespace
}  // namespace sheaf
