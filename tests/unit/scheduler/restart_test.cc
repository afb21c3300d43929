// A scheduler that is started again from its store, through the messages that it would see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "common/base/build_info.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/scheduler_core.h"
#include "scheduler/state_keeper.h"
#include "tests/unit/scheduler/scheduler_fixture.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

const PeerId kOtherWorker(202);
constexpr uint32_t kRestartPartitions = 8;

class RestartTest : public ::testing::Test {
 protected:
  RestartTest() { Restart(); }

  // Another process in the place of the one before, which has ended without a word.
  void Restart() {
    auto saved = TakeOver(store_, kRestartPartitions, /*new_cluster_id=*/7);
    ASSERT_TRUE(saved.has_value()) << saved.error().message;
    SchedulerOptions options;
    options.partition_count = kRestartPartitions;
    keeper_ = std::make_unique<StateKeeper>(store_, saved->epoch);
    epoch_ = saved->epoch;
    core_ = std::make_unique<SchedulerCore>(options, now_, std::move(*saved));
    ASSERT_TRUE(keeper_->Commit(*core_, now_).has_value());
  }
  pb::Header Ask(PeerId from, pb::Header header) {
    header.set_request(++request_);
    Outbox out;
    core_->OnMessage(from, Message{header, {}, {}}, now_, out);
    EXPECT_TRUE(keeper_->Commit(*core_, now_).has_value());
    pb::Header answer;
    for (auto& item : out.items()) {
      if (item.to == from && item.message.header.request() == request_) answer = item.message.header;
    }
    return answer;
  }
  pb::Header Register(PeerId peer, pb::Role role, uint64_t store = 0, uint64_t start = 0) {
    pb::Header header;
    pb::Register& registration = *header.mutable_register_node();
    registration.set_role(role);
    registration.set_wire_version(kWireVersion);
    registration.set_host("host");
    registration.set_store(store);
    registration.set_store_start(start);
    if (role == pb::SERVER) registration.add_shard()->set_peer(peer.value + 1000);
    return Ask(peer, header);
  }
  // A worker that it takes for dead still speaks: the scheduler is not cut off itself.
  void Pass(Duration time) {
    pb::Header anything;
    anything.mutable_worker_report();
    for (Duration done{}; done < time; done += Milliseconds(100)) {
      now_ += Milliseconds(100);
      Outbox out;
      core_->OnMessage(PeerId(9999), Message{anything, {}, {}}, now_, out);
      core_->OnTick(now_, out);
      EXPECT_TRUE(keeper_->Commit(*core_, now_).has_value());
    }
  }
  pb::WorkerOrders Report(PeerId worker, pb::WorkerReport report = {}) {
    pb::Header header;
    report.set_sequence(++sequence_);
    report.set_scheduler_epoch(epoch_);
    *header.mutable_worker_report() = std::move(report);
    return Ask(worker, header).worker_orders();
  }
  void ServerReports() {
    pb::Header header;
    header.mutable_server_report()->set_seen_generation(core_->config().generation());
    header.mutable_server_report()->set_config_generation(core_->config().generation());
    Ask(kServer, header);
  }
  // Two ranges of eight batches, of which the worker is granted what it asks for.
  pb::WorkerOrders StartJob() {
    Register(kServer, pb::SERVER, /*store=*/77, /*start=*/1);
    Register(kWorker, pb::WORKER);
    Pass(Milliseconds(100));
    pb::Header submit;
    submit.mutable_submit()->set_token(5);
    pb::JobSpec& spec = *submit.mutable_submit()->mutable_spec();
    spec = JobOfRows(1);
    spec.mutable_train()->set_batch_size(256);
    spec.mutable_train()->set_range_batches(8);
    spec.mutable_consistency()->set_mode(pb::ConsistencySpec::ASP);
    Ask(kPerson, submit);
    Report(kWorker);
    pb::WorkerReport planned;
    planned.mutable_plan()->set_job(1);
    pb::PlanFile& file = *planned.mutable_plan()->add_file();
    file.set_path("rows");
    file.set_rows(4096);
    file.set_rows_per_range(2048);
    file.add_offset(0);
    file.add_offset(1);
    Report(kWorker, planned);
    ServerReports();
    Pass(Milliseconds(100));
    return Report(kWorker);
  }
  static pb::LeaseState StateOf(const pb::LeaseGrant& grant, uint32_t batches) {
    pb::LeaseState state;
    state.set_job(grant.job());
    state.set_pass(grant.pass());
    state.set_range(grant.range());
    state.set_lease(grant.lease());
    state.set_first_batch(grant.first_batch());
    state.set_batches_done(batches);
    state.set_examples(uint64_t{256} * (batches - grant.first_batch()));
    state.set_finished(batches == 8);
    return state;
  }
  pb::JobStatus JobNow() {
    const Job* job = core_->FindJob(JobId(1));
    return job == nullptr ? pb::JobStatus() : job->Describe(core_->members(), now_, true);
  }

  MemoryMetaStore store_;
  TimePoint now_{};
  uint64_t request_ = 0, sequence_ = 0, epoch_ = 0;
  std::unique_ptr<StateKeeper> keeper_;
  std::unique_ptr<SchedulerCore> core_;
};

TEST_F(RestartTest, ItIsTheSameClusterOfALaterEpoch) {
  const pb::Registered before = Register(kWorker, pb::WORKER).registered();
  Restart();
  const pb::Registered after = Register(kOtherWorker, pb::WORKER).registered();
  EXPECT_EQ(after.cluster_id(), before.cluster_id());
  EXPECT_EQ(after.scheduler_epoch(), before.scheduler_epoch() + 1);
}

TEST_F(RestartTest, RefusesAnotherNumberOfPartitionsAndAnotherFormat) {
  EXPECT_THAT(TakeOver(store_, kRestartPartitions + 1, 7).error().message, HasSubstr("--partitions=8, not 9"));
  pb::ClusterRecord other;
  other.set_format(kSavedFormat + 1);
  ASSERT_TRUE(store_.Txn({.puts = {{kClusterKey, other.SerializeAsString()}}}).has_value());
  EXPECT_EQ(TakeOver(store_, kRestartPartitions, 7).error().code, ErrorCode::kVersionMismatch);
}

TEST_F(RestartTest, NamesTheRecordThatCannotBeRead) {
  ASSERT_TRUE(store_.Txn({.puts = {{NodeKey(NodeId(3)), "\xff\xff"}}}).has_value());
  const auto saved = TakeOver(store_, kRestartPartitions, 7);
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(saved.error().message, HasSubstr("node/0000000003"));
}

TEST_F(RestartTest, KnowsItsMembersAndWhatTheyHave) {
  StartJob();
  const pb::ClusterConfig before = core_->config();
  Restart();
  const pb::ClusterConfig after = core_->config();
  EXPECT_GT(after.generation(), before.generation());
  for (uint32_t p = 0; p < kRestartPartitions; ++p) {
    EXPECT_EQ(after.partition(static_cast<int>(p)).SerializeAsString(),
              before.partition(static_cast<int>(p)).SerializeAsString());
  }
  ASSERT_EQ(after.table_size(), before.table_size());
  ASSERT_EQ(after.roster_size(), 1);
  EXPECT_EQ(after.roster(0).SerializeAsString(), before.roster(0).SerializeAsString());
  EXPECT_EQ(Register(kServer, pb::SERVER, 77, 1).registered().name(), "server-0");
  EXPECT_EQ(Register(kOtherWorker, pb::WORKER).registered().name(), "worker-1");
}

TEST_F(RestartTest, WorkersKeepTheLeasesThatTheyTellOf) {
  const pb::WorkerOrders granted = StartJob();
  ASSERT_EQ(granted.lease_size(), 2);
  Restart();
  pb::WorkerReport report;
  *report.add_lease() = StateOf(granted.lease(0), 3);
  *report.add_lease() = StateOf(granted.lease(1), 0);
  const pb::WorkerOrders orders = Report(kWorker, report);
  ASSERT_EQ(orders.lease_size(), 2);
  EXPECT_EQ(orders.lease(0).lease(), granted.lease(0).lease());
  EXPECT_EQ(JobNow().examples_total(), 3u * 256);
}

TEST_F(RestartTest, WorkersKeepTheLeasesThatTheyHaveNotTouched) {
  const pb::WorkerOrders granted = StartJob();
  Restart();
  pb::WorkerReport report;
  *report.add_lease() = StateOf(granted.lease(0), 3);
  pb::UntouchedLeases& untouched = *report.add_untouched();
  untouched.set_job(1);
  untouched.set_pass(granted.lease(1).pass());
  untouched.add_lease(granted.lease(1).lease());
  untouched.add_range(granted.lease(1).range());
  const pb::WorkerOrders orders = Report(kWorker, report);
  EXPECT_EQ(orders.lease_size(), 1);
  ASSERT_EQ(orders.keep_size(), 1);
  EXPECT_EQ(orders.keep(0), granted.lease(1).lease());
}

TEST_F(RestartTest, NoLeaseIsNumberedTwice) {
  const pb::WorkerOrders granted = StartJob();
  Restart();
  const pb::WorkerOrders orders = Report(kWorker);  // it has lost them
  ASSERT_GT(orders.lease_size(), 0);
  for (const pb::LeaseGrant& lease : orders.lease()) EXPECT_GT(lease.lease(), granted.lease(1).lease());
}

TEST_F(RestartTest, ALeaseThatBeginsElsewhereIsNotTakenUp) {
  const pb::WorkerOrders granted = StartJob();
  Restart();
  pb::WorkerReport report;
  *report.add_lease() = StateOf(granted.lease(0), 3);
  report.mutable_lease(0)->set_first_batch(2);  // of a grant that builds on what the store does not have
  const pb::WorkerOrders orders = Report(kWorker, report);
  for (const pb::LeaseGrant& lease : orders.lease()) EXPECT_NE(lease.lease(), granted.lease(0).lease());
  EXPECT_EQ(JobNow().examples_total(), 0u);
}

TEST_F(RestartTest, DoneRangesAreSavedBehindAndCountOnce) {
  const pb::WorkerOrders granted = StartJob();
  pb::WorkerReport report;
  *report.add_lease() = StateOf(granted.lease(0), 8);
  *report.add_lease() = StateOf(granted.lease(1), 1);
  Report(kWorker, report);
  Restart();  // at once: the range is not saved as done, and is leased again
  report.mutable_lease()->DeleteSubrange(0, 1);
  const pb::WorkerOrders again = Report(kWorker, report);
  ASSERT_EQ(again.lease_size(), 2);
  EXPECT_EQ(JobNow().examples_total(), 256u);
  for (const pb::LeaseGrant& lease : again.lease()) {
    if (lease.has_job()) *report.add_lease() = StateOf(lease, 8);
  }
  Report(kWorker, report);
  EXPECT_EQ(JobNow().examples_total(), 2048u + 256);
  ServerReports();
  Pass(Milliseconds(1200));
  Restart();  // now it is
  EXPECT_EQ(JobNow().examples_total(), 2048u);
}

TEST_F(RestartTest, NothingIsLeasedToOthersUntilWorkersHadTimeToTellWhatTheyHold) {
  const pb::WorkerOrders granted = StartJob();
  Restart();
  Register(kOtherWorker, pb::WORKER);
  EXPECT_EQ(Report(kOtherWorker).lease_size(), 0);
  pb::WorkerReport report;
  *report.add_lease() = StateOf(granted.lease(0), 3);
  EXPECT_GE(Report(kWorker, report).lease_size(), 1);
  Pass(Milliseconds(300));  // lanes of newcomers are made together
  Report(kOtherWorker);
  ServerReports();
  Pass(Milliseconds(300));
  EXPECT_EQ(core_->config().roster(0).lane_size(), 2);
}

TEST_F(RestartTest, AWorkerThatDoesNotComeBackIsDead) {
  StartJob();
  Restart();
  Pass(std::chrono::seconds(4));
  EXPECT_EQ(JobNow().workers_lost(), 1u);
  Restart();
  EXPECT_TRUE(Report(kWorker).unknown());
}

TEST_F(RestartTest, AServerThatWasStartedAgainMeanwhileIsTheSameServer) {
  StartJob();
  const uint64_t epoch = core_->config().partition(0).epoch();
  Restart();
  const PeerId again(103);
  EXPECT_EQ(Register(again, pb::SERVER, 77, 2).registered().name(), "server-0");
  Pass(Milliseconds(100));
  EXPECT_EQ(core_->config().partition(0).epoch(), epoch + 1);
  EXPECT_THAT(Register(kServer, pb::SERVER, 77, 1).refusal().text(), HasSubstr("another process has taken over"));
}

TEST_F(RestartTest, ASubmissionSentAgainIsTheSameJobAndNumbersGoOn) {
  StartJob();
  Restart();
  pb::Header submit;
  submit.mutable_submit()->set_token(5);
  EXPECT_EQ(Ask(kPerson, submit).accepted().job(), 1u);
  *submit.mutable_submit()->mutable_spec() = JobNow().brief().spec();
  submit.mutable_submit()->set_token(6);
  EXPECT_EQ(Ask(kPerson, submit).accepted().job(), 2u);
}

TEST_F(RestartTest, AnEndedJobStaysEndedAndKeepsWhatCameOfIt) {
  StartJob();
  pb::Header cancel;
  cancel.mutable_cancel()->set_job(1);
  cancel.mutable_cancel()->set_reason("enough");
  Ask(kPerson, cancel);
  Restart();
  EXPECT_EQ(JobNow().phase(), pb::CANCELLED);
  EXPECT_EQ(JobNow().detail(), "enough");
  EXPECT_EQ(JobNow().train_rows(), 4096u);
  EXPECT_TRUE(store_.List("job/00000000000000000001/ranges/")->empty());
  EXPECT_EQ(*store_.Get(PlanKey(JobId(1))), std::nullopt);
}

TEST_F(RestartTest, AJobWhosePlanIsDamagedFailsAndTheOthersGoOn) {
  StartJob();
  ASSERT_TRUE(store_.Txn({.deletes = {PlanKey(JobId(1))}}).has_value());
  Restart();
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_THAT(JobNow().detail(), HasSubstr("cannot go on with it"));
}

TEST_F(RestartTest, WhoseStoreAnotherHasTakenOverSavesNothingMore) {
  Register(kServer, pb::SERVER, 77, 1);
  ASSERT_TRUE(TakeOver(store_, kRestartPartitions, 7).has_value());
  Outbox out;
  pb::Header header;
  header.mutable_register_node()->set_role(pb::WORKER);
  header.mutable_register_node()->set_wire_version(kWireVersion);
  core_->OnMessage(kWorker, Message{header, {}, {}}, now_, out);
  const Status saved = keeper_->Commit(*core_, now_);
  ASSERT_FALSE(saved.has_value());
  EXPECT_EQ(saved.error().code, ErrorCode::kAlreadyExists);
}

TEST_F(RestartTest, AFullStoreTakesTheSameOnceThereIsRoom) {
  for (const auto trouble : {MemoryMetaStore::Trouble::kNotDone, MemoryMetaStore::Trouble::kDone}) {
    store_.SetTrouble(trouble);
    Outbox out;
    pb::Header header;
    header.mutable_register_node()->set_role(pb::WORKER);
    header.mutable_register_node()->set_wire_version(kWireVersion);
    core_->OnMessage(PeerId(400 + static_cast<uint64_t>(trouble)), Message{header, {}, {}}, now_, out);
    EXPECT_EQ(keeper_->Commit(*core_, now_).error().code, ErrorCode::kResourceExhausted);
    store_.SetTrouble(MemoryMetaStore::Trouble::kNone);
    EXPECT_TRUE(keeper_->Commit(*core_, now_).has_value());
  }
  Restart();
  EXPECT_EQ(core_->members().CountAlive(pb::WORKER), 2u);
}

TEST_F(RestartTest, AQuietClusterWritesNothing) {
  StartJob();
  Pass(std::chrono::seconds(1));
  core_->TakeEvents();
  ServerReports();
  const uint64_t before = store_.txns();
  for (int i = 0; i < 3; ++i) ServerReports();
  EXPECT_EQ(store_.txns(), before);
}

}  // namespace
}  // namespace sheaf
