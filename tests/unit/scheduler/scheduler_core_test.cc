#include "scheduler/scheduler_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/unit/scheduler/scheduler_fixture.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

TEST_F(SchedulerCoreTest, NamesNodesInTheOrderTheyCome) {
  EXPECT_EQ(Register(kServer, pb::SERVER).registered().name(), "server-0");
  EXPECT_EQ(Register(kWorker, pb::WORKER).registered().name(), "worker-0");
  EXPECT_EQ(Register(kOtherServer, pb::SERVER).registered().name(), "server-1");
}

TEST_F(SchedulerCoreTest, TakesARepeatedRegistrationForTheSameNode) {
  Register(kServer, pb::SERVER);
  const uint64_t generation = core_.config().generation();
  EXPECT_EQ(Register(kServer, pb::SERVER).registered().name(), "server-0");
  EXPECT_EQ(core_.config().generation(), generation);
}

TEST_F(SchedulerCoreTest, RefusesAnotherWireVersionAndSaysBoth) {
  const pb::Header answer = Register(kServer, pb::SERVER, kWireVersion + 1);
  EXPECT_EQ(answer.refusal().reason(), pb::Refusal::VERSION_MISMATCH);
  EXPECT_THAT(answer.refusal().text(), HasSubstr(std::to_string(kWireVersion + 1)));
}

TEST_F(SchedulerCoreTest, SpreadsThePartitionsOverTheServers) {
  Register(kServer, pb::SERVER);
  Register(kOtherServer, pb::SERVER);
  Pass(Milliseconds(100));
  std::map<uint32_t, int> count;
  for (const auto& partition : core_.config().partition()) ++count[partition.primary()];
  EXPECT_EQ(count.size(), 2u);
  for (const auto& [server, partitions] : count) EXPECT_EQ(partitions, 4);
}

TEST_F(SchedulerCoreTest, MakesOneJobOfASubmissionSentTwice) {
  EXPECT_EQ(Submit(7).accepted().job(), 1u);
  EXPECT_EQ(Submit(7).accepted().job(), 1u);
  EXPECT_EQ(Submit(8).accepted().job(), 2u);
}

TEST_F(SchedulerCoreTest, RefusesAJobThatCannotRun) {
  pb::Header header;
  header.mutable_submit()->mutable_spec()->mutable_data()->add_train("rows");
  header.mutable_submit()->mutable_spec()->mutable_train()->set_batch_size(0);
  EXPECT_THAT(Ask(kPerson, header).refusal().text(), HasSubstr("train.batch_size is 0"));
}

TEST_F(SchedulerCoreTest, SaysWhatAJobWaitsFor) {
  Submit(1, 2);
  EXPECT_THAT(JobNow().detail(), HasSubstr("waits for servers: 0 of 1"));
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  EXPECT_THAT(JobNow().detail(), HasSubstr("waits for workers: 1 of 2"));
  EXPECT_EQ(JobNow().phase(), pb::WAITING);
}

TEST_F(SchedulerCoreTest, GivesThePlanToAnotherWorkerIfTheFirstDies) {
  const PeerId other(202);
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  Submit(1);
  EXPECT_TRUE(WorkerReport(kWorker, 1).worker_orders().has_plan());
  Register(other, pb::WORKER);
  EXPECT_FALSE(WorkerReport(other, 1).worker_orders().has_plan());
  Pass(std::chrono::seconds(2));
  WorkerReport(other, 2);
  KeepAlive(kServer);
  Pass(std::chrono::seconds(2));
  EXPECT_TRUE(WorkerReport(other, 3).worker_orders().has_plan());
  EXPECT_EQ(JobNow().workers_lost(), 1u);
}

TEST_F(SchedulerCoreTest, IgnoresAReportThatALaterOneOvertook) {
  Register(kWorker, pb::WORKER);
  EXPECT_TRUE(WorkerReport(kWorker, 5).has_worker_orders());
  EXPECT_FALSE(WorkerReport(kWorker, 4).has_worker_orders());
}

TEST_F(SchedulerCoreTest, TellsAWorkerItTookForDeadToRegisterAgain) {
  Register(kWorker, pb::WORKER);
  Pass(std::chrono::seconds(4));
  EXPECT_TRUE(WorkerReport(kWorker, 1).worker_orders().unknown());
  EXPECT_EQ(Register(kWorker, pb::WORKER).registered().name(), "worker-1");
}

TEST_F(SchedulerCoreTest, DoesNotTakeItsOwnPauseForTheDeathOfAll) {
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  Pass(std::chrono::seconds(1));
  now_ += std::chrono::hours(3);
  WorkerReport(kWorker, 1);   // waited in the queue
  Pass(Milliseconds(500));
  EXPECT_EQ(core_.members().CountAlive(pb::WORKER), 1u);
  EXPECT_EQ(core_.members().CountAlive(pb::SERVER), 1u);
  Pass(std::chrono::seconds(4));
  EXPECT_EQ(core_.members().CountAlive(pb::WORKER), 0u);   // and no later for the pause
}

TEST_F(SchedulerCoreTest, SendsNoConfigurationForEveryServerThatJoins) {
  constexpr int kServers = 100;
  size_t sent = 0;
  for (int i = 0; i < kServers; ++i) {
    now_ += std::chrono::microseconds(100);
    pb::Header header;
    header.mutable_register_node()->set_role(pb::SERVER);
    header.mutable_register_node()->set_wire_version(kWireVersion);
    header.mutable_register_node()->add_shard()->set_peer(1000 + i);
    Outbox out;
    core_.OnMessage(PeerId(500 + i), Message{header, {}, {}}, now_, out);
    for (const auto& item : out.items()) sent += item.message.header.has_server_orders();
  }
  Pass(Milliseconds(200));
  EXPECT_EQ(core_.config().server_size(), kServers);
  EXPECT_LT(sent, 3u * kServers);   // each sent at each join: 5,050
}

class ServerStoreTest : public SchedulerCoreTest {
 protected:
  static constexpr uint64_t kStore = 77;

  pb::Header RegisterWithStore(PeerId peer) {
    pb::Header header;
    header.mutable_register_node()->set_role(pb::SERVER);
    header.mutable_register_node()->set_wire_version(kWireVersion);
    header.mutable_register_node()->set_host("host");
    header.mutable_register_node()->set_store(kStore);
    header.mutable_register_node()->set_store_start(peer.value);
    header.mutable_register_node()->add_shard()->set_peer(peer.value + 1000);
    return Ask(peer, header);
  }
  pb::Header AskToForget(PeerId peer) {
    pb::Header header;
    header.mutable_register_node()->set_role(pb::SERVER);
    header.mutable_register_node()->set_wire_version(kWireVersion);
    header.mutable_register_node()->set_host("host");
    header.mutable_register_node()->set_store(kStore);
    header.mutable_register_node()->set_store_start(peer.value);
    header.mutable_register_node()->set_damaged("the log is damaged");  // it has not opened its shards
    return Ask(peer, header);
  }
  // A job whose first pass has a roster and whose tables lie on the server.
  void StartJob(pb::JobSpec::Durability durability) {
    RegisterWithStore(kServer);
    Register(kWorker, pb::WORKER);
    Pass(Milliseconds(100));
    pb::JobSpec spec = JobOfRows(1);
    spec.set_durability(durability);
    Begin(spec, /*ranges=*/2, /*rows_a_range=*/2048);
    Live(Milliseconds(300), kServer);
    ASSERT_EQ(JobNow().phase(), pb::RUNNING) << JobNow().detail();
  }
  // The worker reports, and the server, unless it is PeerId(0).
  void Live(Duration time, PeerId server) {
    for (Duration done{}; done < time; done += Milliseconds(500)) {
      if (server != PeerId(0)) KeepAlive(server);
      WorkerReport(kWorker, ++sequence_);
      Pass(Milliseconds(500));
    }
  }
};

TEST_F(ServerStoreTest, IsWaitedForAndComesBackAsTheSameNodeUnderAnotherEpoch) {
  StartJob(pb::JobSpec::LOG);
  const uint64_t epoch = core_.config().partition(0).epoch();
  const uint32_t node = core_.config().partition(0).primary();
  Live(std::chrono::seconds(15), PeerId(0));
  EXPECT_EQ(core_.config().server_size(), 0);
  EXPECT_EQ(JobNow().phase(), pb::RUNNING);
  EXPECT_THAT(JobNow().detail(), HasSubstr("waits for server-0 (host) to come back: it has 8 partitions on its disk"));
  const pb::Header answer = RegisterWithStore(PeerId(999));
  EXPECT_EQ(answer.registered().node(), node);
  EXPECT_EQ(answer.registered().name(), "server-0");
  Live(Milliseconds(500), PeerId(999));
  ASSERT_EQ(core_.config().server_size(), 1);
  EXPECT_EQ(core_.config().server(0).shard(0).peer(), 1999u);
  EXPECT_EQ(core_.config().partition(0).primary(), node);
  EXPECT_EQ(core_.config().partition(0).epoch(), epoch + 1);
  EXPECT_EQ(JobNow().detail(), "");
}

TEST_F(ServerStoreTest, ReplacesAProcessThatNobodyHasMissedYet) {
  StartJob(pb::JobSpec::LOG);
  const uint64_t epoch = core_.config().partition(0).epoch();
  RegisterWithStore(PeerId(999));
  Live(Milliseconds(500), PeerId(999));
  ASSERT_EQ(core_.config().server_size(), 1);
  EXPECT_EQ(core_.config().partition(0).epoch(), epoch + 1);
  EXPECT_EQ(core_.members().CountAlive(pb::SERVER), 1u);
  pb::Header late;
  late.mutable_server_report();
  EXPECT_TRUE(Ask(kServer, late).server_orders().unknown()) << "what is left of the process before";
}

TEST_F(ServerStoreTest, IsNeededThoughItIsDamagedWhenNobodyElseHasWhatWasInIt) {
  StartJob(pb::JobSpec::LOG);
  const pb::Header answer = AskToForget(PeerId(999));
  EXPECT_EQ(answer.refusal().reason(), pb::Refusal::INVALID);
  EXPECT_THAT(answer.refusal().text(), HasSubstr("server-0 has 8 of 8 partitions that nobody else has a copy of"));
  EXPECT_THAT(JobNow().detail(), HasSubstr("waits for server-0"));
  EXPECT_EQ(core_.members().CountAlive(pb::SERVER), 0u) << "the process before has ended";
  RegisterWithStore(PeerId(1000));
  Live(Milliseconds(500), PeerId(1000));
  EXPECT_EQ(JobNow().detail(), "") << "somebody has mended it";
}

TEST_F(ServerStoreTest, IsForgottenWhenItIsDamagedAndNotNeeded) {
  EXPECT_TRUE(AskToForget(PeerId(999)).registered().forgotten()) << "it is of no server that is known";
  RegisterWithStore(kServer);
  Pass(Milliseconds(100));
  ASSERT_EQ(core_.config().server_size(), 1);
  EXPECT_TRUE(AskToForget(PeerId(999)).has_refusal()) << "partitions are its, if empty ones";
}

TEST_F(ServerStoreTest, IsNotWaitedForForEver) {
  StartJob(pb::JobSpec::LOG);
  Live(std::chrono::seconds(620), PeerId(0));
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_THAT(JobNow().detail(), HasSubstr("server-0 (host, pid 0) has not come back in"));
}

TEST_F(ServerStoreTest, IsNotWaitedForByLaterJobsOnceItIsGivenUp) {
  StartJob(pb::JobSpec::LOG);
  Register(kOtherServer, pb::SERVER);
  Submit(2);
  for (int i = 0; i < 1300; ++i) {
    KeepAlive(kOtherServer);
    Live(Milliseconds(500), PeerId(0));
  }
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_EQ(core_.FindJob(JobId(2))->Describe(core_.members(), now_, false).phase(), pb::PLANNING);
  for (const pb::PartitionConfig& partition : core_.config().partition()) {
    EXPECT_NE(partition.primary(), core_.members().FindStore(kStore)->id.value);
  }
}

TEST_F(ServerStoreTest, IsNotWaitedForWhenNobodyNeedsItsRowsAnyMore) {
  StartJob(pb::JobSpec::LOG);
  Register(kOtherServer, pb::SERVER);
  Submit(2);
  for (int i = 0; i < 30; ++i) {
    KeepAlive(kOtherServer);
    Live(Milliseconds(500), PeerId(0));
  }
  EXPECT_THAT(core_.FindJob(JobId(1))->Describe(core_.members(), now_, false).detail(), HasSubstr("to come back"));
  pb::Header cancel;
  cancel.mutable_cancel()->set_job(1);
  Ask(kPerson, cancel);
  KeepAlive(kOtherServer);
  Live(Milliseconds(1000), kOtherServer);
  EXPECT_EQ(core_.FindJob(JobId(2))->Describe(core_.members(), now_, false).phase(), pb::PLANNING);
}

TEST_F(ServerStoreTest, IsNotTakenBackByTheProcessThatHadIt) {
  StartJob(pb::JobSpec::LOG);
  RegisterWithStore(PeerId(999));
  // Also one that was never heard, and whose word was on its way for long.
  const pb::Header never_heard = RegisterWithStore(PeerId(998));
  EXPECT_THAT(never_heard.refusal().text(), HasSubstr("another process has taken over"));
  const pb::Header refused = RegisterWithStore(kServer);
  EXPECT_THAT(refused.refusal().text(), HasSubstr("another process has taken over this server's store (host, pid 0)"));
  EXPECT_NE(core_.members().FindAlive(PeerId(999)), nullptr);
  pb::Header worker;
  worker.mutable_register_node()->set_role(pb::WORKER);
  worker.mutable_register_node()->set_wire_version(kWireVersion);
  worker.mutable_register_node()->set_store(kStore);
  EXPECT_THAT(Ask(PeerId(5555), worker).refusal().text(), HasSubstr("only a server has a store"));
}

TEST_F(ServerStoreTest, IsWaitedForThroughASleepOfTheScheduler) {
  StartJob(pb::JobSpec::LOG);
  Live(std::chrono::seconds(15), PeerId(0));
  now_ += std::chrono::seconds(700);
  Pass(Milliseconds(200));
  EXPECT_EQ(JobNow().phase(), pb::RUNNING) << JobNow().detail();
}

TEST_F(ServerStoreTest, DoesNotBringBackAJobThatIsInMemoryOnly) {
  StartJob(pb::JobSpec::MEMORY);
  RegisterWithStore(PeerId(999));
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_THAT(JobNow().detail(), HasSubstr("was started again and with it went 8 of 8 partitions"));
}

TEST_F(SchedulerCoreTest, FailsTheJobOfADeadServerAndNamesIt) {
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  Submit(1);
  WorkerReport(kWorker, 1);
  pb::Header header;
  header.mutable_worker_report()->set_sequence(2);
  header.mutable_worker_report()->mutable_plan()->set_job(1);
  pb::PlanFile& file = *header.mutable_worker_report()->mutable_plan()->add_file();
  file.set_path("rows");
  file.set_rows(100);
  file.set_rows_per_range(256 * 8);
  file.add_offset(0);
  Ask(kWorker, header);
  EXPECT_EQ(JobNow().phase(), pb::RUNNING);
  Pass(std::chrono::seconds(11));
  EXPECT_EQ(JobNow().phase(), pb::FAILED);
  EXPECT_THAT(JobNow().detail(), HasSubstr("server-0 (host"));
  EXPECT_EQ(core_.config().table_size(), 0);
}

// 2^64 - 1 rows once made ranges without end, and 2^40 rows more than any memory holds.
TEST_F(SchedulerCoreTest, RefusesAPlanThatOnlySaysThatItHasManyRows) {
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  uint64_t job = 0;
  for (const uint64_t rows : {~uint64_t{0}, uint64_t{1} << 40, uint64_t{4096}}) {
    Submit(++job);
    WorkerReport(kWorker, 2 * job);
    pb::Header header;
    header.mutable_worker_report()->set_sequence(2 * job + 1);
    header.mutable_worker_report()->mutable_plan()->set_job(job);
    pb::PlanFile& file = *header.mutable_worker_report()->mutable_plan()->add_file();
    file.set_path("rows");
    file.set_rows(rows);
    file.set_rows_per_range(256 * 8);
    file.add_offset(0);
    Ask(kWorker, header);
    const pb::JobStatus status = core_.FindJob(JobId(job))->Describe(core_.members(), now_, true);
    EXPECT_EQ(status.phase(), pb::FAILED) << rows;
    EXPECT_THAT(status.detail(), HasSubstr("1 offsets"));
  }
}

TEST_F(SchedulerCoreTest, TakesAServerForDeadThatIsHeardButTakesNoConfiguration) {
  Register(kServer, pb::SERVER);
  Register(kOtherServer, pb::SERVER);
  Pass(Milliseconds(100));
  const uint64_t generation = core_.config().generation();
  pb::Header deaf;
  deaf.mutable_server_report()->set_seen_generation(generation);
  deaf.mutable_server_report()->set_config_generation(generation);
  for (int second = 0; second < 15; ++second) {
    Ask(kServer, deaf);
    KeepAlive(kOtherServer);
    Pass(std::chrono::seconds(1));
  }
  EXPECT_EQ(core_.members().CountAlive(pb::SERVER), 2u);  // there was nothing to take
  Register(PeerId(103), pb::SERVER);
  Pass(Milliseconds(100));
  ASSERT_GT(core_.config().generation(), generation);
  for (int second = 0; second < 12; ++second) {
    Ask(kServer, deaf);
    KeepAlive(kOtherServer);
    KeepAlive(PeerId(103));
    Pass(std::chrono::seconds(1));
  }
  EXPECT_EQ(core_.members().CountAlive(pb::SERVER), 2u);
  for (const Node* server : core_.members().Alive(pb::SERVER)) EXPECT_NE(server->peer, kServer);
}

TEST_F(SchedulerCoreTest, EndsACancelledJobAtOnce) {
  Submit(1);
  pb::Header header;
  header.mutable_cancel()->set_job(1);
  EXPECT_EQ(Ask(kPerson, header).accepted().job(), 1u);
  EXPECT_EQ(JobNow().phase(), pb::CANCELLED);
}

TEST_F(SchedulerCoreTest, DoesNotKnowAJobThatNeverWas) {
  pb::Header header;
  header.mutable_get_status()->set_job(9);
  EXPECT_EQ(Ask(kPerson, header).refusal().reason(), pb::Refusal::NOT_FOUND);
}

TEST_F(SchedulerCoreTest, TellsServersOnlyWhatHasChanged) {
  Register(kServer, pb::SERVER);
  Pass(Milliseconds(100));
  const uint64_t before = core_.config().generation();
  pb::Header header;
  header.mutable_register_node()->set_role(pb::SERVER);
  header.mutable_register_node()->set_wire_version(kWireVersion);
  header.mutable_register_node()->add_shard()->set_peer(9);
  Outbox out;
  now_ += Milliseconds(10);
  core_.OnMessage(kOtherServer, Message{header, {}, {}}, now_, out);
  std::map<PeerId, pb::ConfigUpdate> updates;
  for (const auto& item : out.items()) {
    if (!item.message.header.has_server_orders()) continue;
    ASSERT_TRUE(updates[item.to].ParseFromString(item.message.header.server_orders().config_update()));
  }
  EXPECT_EQ(updates[kServer].since(), before);
  EXPECT_EQ(updates[kServer].config().server_size(), 1);
  EXPECT_EQ(updates[kOtherServer].since(), 0u);
  EXPECT_EQ(updates[kOtherServer].config().server_size(), 2);
}

TEST_F(SchedulerCoreTest, SendsAConfigurationThatIsOnItsWayOnlyOnce) {
  Register(kServer, pb::SERVER);
  Pass(Milliseconds(100));
  const uint64_t before = core_.config().generation();
  Register(kOtherServer, pb::SERVER);
  Pass(Milliseconds(100));
  now_ += Milliseconds(100);
  const auto report = [&](uint64_t generation) {
    pb::Header header;
    header.mutable_server_report()->set_seen_generation(generation);
    header.mutable_server_report()->set_config_generation(generation);
    return Ask(kServer, header).server_orders();
  };
  ASSERT_GT(core_.config().generation(), before);
  EXPECT_FALSE(report(before).has_config_update());  // was sent by itself, 100 ms ago
  EXPECT_TRUE(report(before - 1).has_config_update()) << "it cannot use what it was sent";
  EXPECT_FALSE(report(before - 1).has_config_update());
  now_ += Milliseconds(200);
  EXPECT_TRUE(report(before).has_config_update()) << "it must have been lost";
}

// With so many servers that sending one configuration to all takes a while.
class CrowdedSchedulerTest : public SchedulerCoreTest {
 protected:
  static constexpr uint64_t kServers = 100;

  // A job in its training pass: one worker was in when it began.
  void StartTraining() {
    for (uint64_t i = 0; i < kServers; ++i) Register(PeerId(500 + i), pb::SERVER);
    Register(kWorker, pb::WORKER);
    Pass(Milliseconds(100));
    SubmitAndPlan(1, 1);
  }
  // Up to the job's first pass; the worker's reports have this number and the next.
  void SubmitAndPlan(uint64_t job, uint64_t sequence) {
    Submit(job);
    WorkerReport(kWorker, sequence);
    pb::Header header;
    header.mutable_worker_report()->set_sequence(sequence + 1);
    header.mutable_worker_report()->mutable_plan()->set_job(job);
    pb::PlanFile& file = *header.mutable_worker_report()->mutable_plan()->add_file();
    file.set_path("rows");
    file.set_rows(256 * 8 * 1000);
    file.set_rows_per_range(256 * 8);
    for (uint64_t range = 0; range < 1000; ++range) file.add_offset(range);
    Ask(kWorker, header);
    for (uint64_t i = 0; i < kServers; ++i) KeepAlive(PeerId(500 + i));
  }
};

TEST_F(CrowdedSchedulerTest, MakesTheLanesOfAllThatJoinTogether) {
  StartTraining();
  EXPECT_GT(WorkerReport(kWorker, 3).worker_orders().lease_size(), 0);
  Pass(Milliseconds(100));
  const PeerId first(600'000);
  Register(first, pb::WORKER);
  EXPECT_GT(WorkerReport(first, 1).worker_orders().lease_size(), 0);
  const uint64_t generation = core_.config().generation();
  for (uint64_t i = 1; i <= 50; ++i) {
    Register(PeerId(first.value + i), pb::WORKER);
    EXPECT_EQ(WorkerReport(PeerId(first.value + i), 1).worker_orders().lease_size(), 0);
  }
  EXPECT_EQ(core_.config().generation(), generation);
  now_ += Milliseconds(100);
  Outbox out;
  core_.OnTick(now_, out);
  EXPECT_EQ(core_.config().generation(), generation + 1);
  EXPECT_EQ(core_.config().roster(0).lane_size(), 52);
  std::set<PeerId> asked;
  for (const auto& item : out.items()) {
    if (item.message.header.has_report_now()) asked.insert(item.to);
  }
  EXPECT_EQ(asked.size(), 50u);
  for (const PeerId worker : asked) EXPECT_GT(WorkerReport(worker, 2).worker_orders().lease_size(), 0);
  EXPECT_EQ(core_.config().generation(), generation + 1);
}

// Found by seed 3463: a worker took the lease of a new job for the one it had of the job before, which was cancelled.
TEST_F(CrowdedSchedulerTest, GivesLeasesOfTwoJobsDifferentNumbers) {
  StartTraining();
  std::set<uint64_t> of_first;
  const pb::WorkerOrders before = WorkerReport(kWorker, 3).worker_orders();
  for (const pb::LeaseGrant& grant : before.lease()) of_first.insert(grant.lease());
  ASSERT_FALSE(of_first.empty());
  pb::Header cancel;
  cancel.mutable_cancel()->set_job(1);
  Ask(kPerson, cancel);
  SubmitAndPlan(2, 4);
  const pb::WorkerOrders orders = WorkerReport(kWorker, 6).worker_orders();
  ASSERT_GT(orders.lease_size(), 0);
  for (const pb::LeaseGrant& grant : orders.lease()) {
    EXPECT_EQ(grant.job(), 2u);
    EXPECT_FALSE(of_first.contains(grant.lease())) << grant.lease();
  }
}

TEST_F(CrowdedSchedulerTest, SendsNoRosterToWorkers) {
  StartTraining();
  pb::ConfigUpdate update;
  ASSERT_TRUE(update.ParseFromString(WorkerReport(kWorker, 3).worker_orders().config_update()));
  EXPECT_EQ(update.config().server_size(), static_cast<int>(kServers));
  EXPECT_EQ(update.config().roster_size(), 0);
  EXPECT_EQ(core_.config().roster_size(), 1);
}

TEST_F(CrowdedSchedulerTest, SendsAJobsSpecOnlyToWorkersThatHoldNothingOfIt) {
  StartTraining();
  const pb::WorkerOrders orders = WorkerReport(kWorker, 3).worker_orders();
  ASSERT_GT(orders.lease_size(), 0);
  EXPECT_EQ(orders.job_size(), 1);
  pb::Header header;
  header.mutable_worker_report()->set_sequence(4);
  pb::LeaseState& lease = *header.mutable_worker_report()->add_lease();
  lease.set_job(1);
  lease.set_lease(orders.lease(0).lease());
  lease.set_range(orders.lease(0).range());
  EXPECT_EQ(Ask(kWorker, header).worker_orders().job_size(), 0);
}

TEST_F(SchedulerCoreTest, LetsAWorkerGoThatHoldsNothing) {
  Register(kWorker, pb::WORKER);
  pb::Header header;
  header.mutable_worker_report()->set_sequence(1);
  header.mutable_worker_report()->set_leaving(true);
  EXPECT_TRUE(Ask(kWorker, header).worker_orders().may_leave());
  EXPECT_EQ(core_.members().CountAlive(pb::WORKER), 0u);
}

}  // namespace
}  // namespace sheaf
