#include "scheduler/lease_book.h"

#include <gtest/gtest.h>

#include <numeric>

namespace sheaf {
namespace {

const NodeId kA(1), kB(2), kC(3);

class LeaseBookTest : public ::testing::Test {
 protected:
  static LeaseBook Make(LeaseBook::Policy policy, uint32_t ranges, uint32_t lanes, uint32_t batches = 4,
                        std::vector<NodeId> previous = {}) {
    std::vector<PlannedRange> planned(ranges);
    for (auto& range : planned) range.batches = batches;
    std::vector<uint32_t> order(ranges);
    std::iota(order.begin(), order.end(), 0U);
    return LeaseBook(policy, std::move(planned), order, lanes, std::move(previous));
  }
  bool Report(LeaseBook& book, NodeId worker, RangeId range, uint32_t batches, bool finished, uint64_t examples) {
    pb::LeaseState state;
    state.set_range(range.value);
    state.set_lease(book.range(range).lease);
    state.set_batches_done(batches);
    state.set_finished(finished);
    state.set_examples(examples);
    return book.Update(worker, state);
  }
  uint64_t next_lease_ = 1;
};

TEST_F(LeaseBookTest, HandsEachRangeToOneWorkerOnly) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 5, 0);
  EXPECT_TRUE(book.Grant(kA, 2, next_lease_));
  EXPECT_TRUE(book.Grant(kB, 10, next_lease_));
  EXPECT_EQ(book.Held(kA).size(), 2u);
  EXPECT_EQ(book.Held(kB).size(), 3u);
  for (const NodeId worker : {kA, kB}) {
    for (const RangeId range : book.Held(worker)) Report(book, worker, range, 1, false, 10);
  }
  EXPECT_FALSE(book.Grant(kC, 1, next_lease_)) << "all are begun";
}

TEST_F(LeaseBookTest, GivesAnIdleWorkerWhatTheBusiestHasNotBegun) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 5, 0);
  book.Grant(kA, 2, next_lease_);
  book.Grant(kB, 3, next_lease_);
  EXPECT_FALSE(book.NothingFor(kC));
  EXPECT_TRUE(book.Grant(kC, 2, next_lease_)) << "of B, who has most to do";
  EXPECT_EQ(book.Held(kB).size(), 2u);
  EXPECT_EQ(book.Held(kC), std::vector<RangeId>{RangeId(4)});
  EXPECT_EQ(book.TakeRelieved(), std::vector<NodeId>{kB});
  EXPECT_FALSE(book.Grant(kC, 2, next_lease_)) << "it has work";
  // What B did of it unknown to us counts for nobody, and is done again: the servers recognise it.
  pb::LeaseState late;
  late.set_range(4);
  late.set_lease(5);
  late.set_batches_done(4);
  late.set_finished(true);
  late.set_examples(40);
  EXPECT_FALSE(book.Update(kB, late));
  EXPECT_TRUE(Report(book, kC, RangeId(4), 4, true, 40));
  EXPECT_EQ(book.examples(), 40u);
}

TEST_F(LeaseBookTest, LeavesEveryWorkerWhatItIsAt) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 2, 0);
  book.Grant(kA, 2, next_lease_);
  EXPECT_TRUE(book.Grant(kB, 2, next_lease_));
  EXPECT_EQ(book.Held(kA), std::vector<RangeId>{RangeId(0)}) << "granted first, so it is at it";
  EXPECT_TRUE(book.NothingFor(kC));
  EXPECT_FALSE(book.Grant(kC, 2, next_lease_));
  book.Release(kA);
  EXPECT_FALSE(book.NothingFor(kC));
}

TEST_F(LeaseBookTest, ContinuesADeadWorkersRangeAtTheFirstUnacknowledgedBatch) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 1, 0);
  book.Grant(kA, 1, next_lease_);
  Report(book, kA, RangeId(0), 3, false, 30);
  book.Release(kA);
  EXPECT_TRUE(book.Grant(kB, 1, next_lease_));
  EXPECT_EQ(book.range(RangeId(0)).first_batch, 3u);
  EXPECT_TRUE(Report(book, kB, RangeId(0), 4, true, 10));
  EXPECT_EQ(book.examples(), 40u);
  EXPECT_TRUE(book.all_done());
}

TEST_F(LeaseBookTest, IgnoresAWorkerWhoseLeaseWasTakenAway) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 1, 0);
  book.Grant(kA, 1, next_lease_);
  pb::LeaseState late;
  late.set_range(0);
  late.set_lease(book.range(RangeId(0)).lease);
  late.set_batches_done(4);
  late.set_finished(true);
  late.set_examples(40);
  book.Release(kA);
  book.Grant(kB, 1, next_lease_);
  EXPECT_FALSE(book.Update(kA, late));
  EXPECT_FALSE(book.all_done());
  EXPECT_TRUE(Report(book, kB, RangeId(0), 4, true, 40));
  EXPECT_EQ(book.examples(), 40u);
}

TEST_F(LeaseBookTest, CountsAFinishedRangeOnceHoweverOftenItIsReported) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 2, 0);
  book.Grant(kA, 1, next_lease_);
  pb::LeaseState done;
  done.set_range(0);
  done.set_lease(book.range(RangeId(0)).lease);
  done.set_batches_done(4);
  done.set_finished(true);
  done.set_examples(40);
  EXPECT_TRUE(book.Update(kA, done));
  EXPECT_FALSE(book.Update(kA, done));
  EXPECT_EQ(book.examples(), 40u);
}

TEST_F(LeaseBookTest, GivesAWorkerTheRangesItReadBefore) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 4, 0, 4, {kB, kA, kB, kA});
  book.Grant(kA, 2, next_lease_);
  EXPECT_EQ(book.Held(kA), (std::vector<RangeId>{RangeId(1), RangeId(3)}));
}

TEST_F(LeaseBookTest, PutsEachRangeOnOneLaneWhateverTheWorkers) {
  LeaseBook book = Make(LeaseBook::Policy::kStatic, 5, 2);
  book.AssignLanes({kA, kB});
  for (uint32_t r = 0; r < 5; ++r) EXPECT_EQ(book.range(RangeId(r)).lane, LaneId(r % 2));
  EXPECT_EQ(book.LaneEnd(LaneId(0)), 12u);
  EXPECT_EQ(book.LaneEnd(LaneId(1)), 8u);
  EXPECT_EQ(book.range(RangeId(2)).first_clock, 4u);
}

TEST_F(LeaseBookTest, HandsADeadWorkersLaneToALivingOneAndBackToANewcomer) {
  LeaseBook book = Make(LeaseBook::Policy::kStatic, 6, 2);
  book.AssignLanes({kA, kB});
  const NodeId first = book.LaneHolder(LaneId(0));
  const NodeId second = book.LaneHolder(LaneId(1));
  EXPECT_NE(first, second);
  book.Release(second);
  EXPECT_TRUE(book.AssignLanes({first}));
  EXPECT_EQ(book.LaneHolder(LaneId(1)), first);
  EXPECT_TRUE(book.AssignLanes({first, kC}));
  EXPECT_NE(book.LaneHolder(LaneId(0)), book.LaneHolder(LaneId(1)));
}

TEST_F(LeaseBookTest, ServesEveryLaneOfAWorker) {
  LeaseBook book = Make(LeaseBook::Policy::kStatic, 6, 2);
  book.AssignLanes({kA});
  book.Grant(kA, 2, next_lease_);
  std::set<uint32_t> lanes;
  for (RangeId range : book.Held(kA)) lanes.insert(book.range(range).lane.value);
  EXPECT_EQ(lanes, (std::set<uint32_t>{0, 1}));
}

TEST_F(LeaseBookTest, ServesALaneInheritedByAWorkerThatHasItsHandsFull) {
  LeaseBook book = Make(LeaseBook::Policy::kStatic, 12, 2);
  book.AssignLanes({kA, kB});
  book.Grant(kA, 2, next_lease_);
  book.Grant(kB, 2, next_lease_);
  book.Release(kB);
  book.AssignLanes({kA});
  EXPECT_TRUE(book.Grant(kA, 2, next_lease_));
  std::map<uint32_t, int> leases;
  for (RangeId range : book.Held(kA)) ++leases[book.range(range).lane.value];
  EXPECT_EQ(leases, (std::map<uint32_t, int>{{0, 2}, {1, 2}}));
}

TEST_F(LeaseBookTest, SharesManyLanesEvenlyWhoeverComesAndGoes) {
  LeaseBook book = Make(LeaseBook::Policy::kStatic, 1000, 100);
  std::vector<NodeId> workers;
  for (uint32_t w = 1; w <= 7; ++w) {
    workers.push_back(NodeId(w));
    book.AssignLanes(workers);
    for (const NodeId worker : workers) book.Grant(worker, 2, next_lease_);
  }
  book.Release(NodeId(3));
  std::erase(workers, NodeId(3));
  EXPECT_TRUE(book.AssignLanes(workers));
  EXPECT_FALSE(book.AssignLanes(workers));
  std::map<NodeId, size_t> load;
  for (uint32_t lane = 0; lane < 100; ++lane) ++load[book.LaneHolder(LaneId(lane))];
  for (const auto& [worker, lanes] : load) EXPECT_TRUE(lanes == 16 || lanes == 17) << worker << " has " << lanes;
  for (const NodeId worker : workers) book.Grant(worker, 2, next_lease_);
  // A lane's leases are all with its holder.
  for (const NodeId worker : workers) {
    EXPECT_EQ(book.Held(worker).size(), 2 * load[worker]);
    for (const RangeId range : book.Held(worker)) EXPECT_EQ(book.LaneHolder(book.range(range).lane), worker);
  }
}

TEST_F(LeaseBookTest, IsDoneAtOnceWithoutRanges) {
  EXPECT_TRUE(Make(LeaseBook::Policy::kDynamic, 0, 0).all_done());
}

TEST_F(LeaseBookTest, IsTheSameAgainFromItsBlocks) {
  for (const auto policy : {LeaseBook::Policy::kDynamic, LeaseBook::Policy::kStatic}) {
    const uint32_t lanes = policy == LeaseBook::Policy::kStatic ? 2 : 0;
    LeaseBook book = Make(policy, 70, lanes);
    book.AssignLanes({kA});
    book.Grant(kA, 40, next_lease_);
    const std::vector<RangeId> held = book.Held(kA);
    Report(book, kA, held[0], 4, true, 40);
    Report(book, kA, held[1], 2, false, 20);
    book.Release(kA);
    LeaseBook again = Make(policy, 70, lanes);
    for (const uint32_t block : book.TakeUnsaved()) {
      EXPECT_TRUE(again.RestoreBlock(book.DescribeBlock(block, LeaseBook::Progress::kTaken)));
    }
    EXPECT_EQ(again.examples(), 60u);
    EXPECT_TRUE(again.range(held[0]).done);
    pb::LeaseState lease;
    lease.set_range(held[1].value);
    lease.set_lease(999);
    EXPECT_FALSE(again.TakeUp(kB, lease)) << "two of its batches are done";
    lease.set_first_batch(2);
    EXPECT_TRUE(again.TakeUp(kB, lease));
    EXPECT_FALSE(again.TakeUp(kC, lease)) << "it is B's";
    lease.set_batches_done(4);
    lease.set_examples(20);
    lease.set_finished(true);
    EXPECT_TRUE(again.Update(kB, lease));
    EXPECT_EQ(again.examples(), 80u);
  }
}

TEST_F(LeaseBookTest, RefusesBlocksOfOtherRanges) {
  LeaseBook book = Make(LeaseBook::Policy::kDynamic, 3, 0);
  pb::RangesRecord block;
  block.add_range(3);
  EXPECT_FALSE(book.RestoreBlock(block)) << "lists of different lengths";
  block.add_done(true);
  block.add_batches(4);
  block.add_examples(40);
  block.add_loss(1);
  block.add_bad_rows(0);
  EXPECT_FALSE(book.RestoreBlock(block)) << "there is no range 3";
  block.set_range(0, 2);
  block.set_batches(0, 5);
  EXPECT_FALSE(book.RestoreBlock(block)) << "it has four batches";
  block.set_batches(0, 4);
  EXPECT_TRUE(book.RestoreBlock(block));
}

}  // namespace
}  // namespace sheaf
