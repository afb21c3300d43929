// Workers whose gradients are refused get no more work.
#include <gmock/gmock.h>

#include <set>

#include "tests/unit/scheduler/scheduler_fixture.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

class QuarantineTest : public SchedulerCoreTest {
 protected:
  // A job of many ranges, in its training pass, with two workers.
  void StartJob(pb::ConsistencySpec::Mode mode) {
    Register(kServer, pb::SERVER);
    Register(kWorker, pb::WORKER);
    Register(kOtherWorker, pb::WORKER);
    Pass(Milliseconds(100));
    pb::JobSpec spec = JobOfRows(2);
    spec.mutable_train()->set_on_bad_gradient(pb::TrainSpec::SKIP);
    spec.mutable_train()->set_quarantine_after(4);
    spec.mutable_consistency()->set_mode(mode);
    Begin(spec, /*ranges=*/100, /*rows_a_range=*/256 * 8);
    KeepAlive(kServer);
    Pass(Milliseconds(100));
  }
  pb::WorkerOrders Refused(PeerId worker, uint32_t in_row) {
    pb::Header header;
    header.mutable_worker_report()->set_sequence(++sequence_);
    header.mutable_worker_report()->set_refused_job(1);
    header.mutable_worker_report()->set_refused_batches(in_row);
    header.mutable_worker_report()->set_refused_in_row(in_row);
    return Ask(worker, header).worker_orders();
  }

  static constexpr PeerId kOtherWorker{202};
};

TEST_F(QuarantineTest, AWorkerOfBadGradientsOnlyGetsNoMoreWork) {
  StartJob(pb::ConsistencySpec::SSP);
  EXPECT_GT(Refused(kWorker, 3).lease_size(), 0);
  EXPECT_GT(Refused(kOtherWorker, 0).lease_size(), 0);
  EXPECT_EQ(Refused(kWorker, 4).lease_size(), 0);
  EXPECT_EQ(Refused(kWorker, 4).lease_size(), 0);
  Pass(Milliseconds(200));
  EXPECT_GT(Refused(kOtherWorker, 0).lease_size(), 0);
  EXPECT_EQ(core_.config().roster(0).lane_size(), 1) << "its lane would hold the other back";
  EXPECT_EQ(JobNow().phase(), pb::RUNNING);
  const pb::ClusterStatus status = core_.Describe(now_);
  for (const pb::NodeStatus& node : status.node()) {
    EXPECT_EQ(node.quarantined(), node.name() == "worker-0") << node.name();
  }
}

TEST_F(QuarantineTest, LanesOfBspGoToOthers) {
  StartJob(pb::ConsistencySpec::BSP);
  Refused(kOtherWorker, 0);
  Refused(kWorker, 4);
  Pass(Milliseconds(200));
  std::set<uint32_t> lanes;
  const pb::WorkerOrders orders = Refused(kOtherWorker, 0);
  for (const pb::LeaseGrant& grant : orders.lease()) lanes.insert(grant.lane());
  EXPECT_EQ(lanes, (std::set<uint32_t>{0, 1}));
  EXPECT_EQ(Refused(kWorker, 4).lease_size(), 0);
}

TEST_F(QuarantineTest, TheJobFailsWhenNoWorkerIsLeft) {
  StartJob(pb::ConsistencySpec::SSP);
  Refused(kWorker, 4);
  Refused(kOtherWorker, 5);
  Pass(Milliseconds(200));
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_THAT(JobNow().detail(), HasSubstr("of every worker the last 4 gradients"));
}

}  // namespace
}  // namespace sheaf
