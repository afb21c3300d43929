// Checkpoints as the scheduler decides them, through the messages that it would see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "common/base/build_info.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/scheduler_core.h"
#include "scheduler/state_keeper.h"
#include "tests/unit/scheduler/scheduler_fixture.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;
using Kind = CheckpointWork::Kind;

constexpr uint32_t kPartitions = 8;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() { Restart({.folder = true}); }

  void Restart(CheckpointsFound found) {
    auto saved = TakeOver(store_, kPartitions, /*new_cluster_id=*/7);
    SchedulerOptions options;
    options.partition_count = kPartitions;
    options.checkpoints = found;
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
      const pb::Header& said = item.message.header;
      if (said.server_orders().has_checkpoint() && said.request() == 0) ordered_ = said.server_orders().checkpoint();
      if (item.to == from && said.request() == request_) answer = said;
    }
    return answer;
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
  void Register(PeerId peer, pb::Role role) {
    pb::Header header;
    pb::Register& registration = *header.mutable_register_node();
    registration.set_role(role);
    registration.set_wire_version(kWireVersion);
    if (role == pb::SERVER) registration.add_shard()->set_peer(peer.value + 1000);
    Ask(peer, header);
  }
  pb::WorkerOrders Report(pb::WorkerReport report = {}) {
    pb::Header header;
    report.set_sequence(++sequence_);
    report.set_scheduler_epoch(epoch_);
    *header.mutable_worker_report() = std::move(report);
    return Ask(kWorker, header).worker_orders();
  }
  pb::WorkerOrders ReportPaused(uint64_t pause) {
    pb::WorkerReport report;
    report.set_paused(pause);
    if (lease_) *report.add_lease() = *lease_;
    return Report(report);
  }
  pb::ServerOrders ServerReports(const pb::CheckpointState& state = {}, uint64_t restored = 0) {
    pb::Header header;
    pb::ServerReport& report = *header.mutable_server_report();
    report.set_seen_generation(core_->config().generation());
    report.set_config_generation(core_->config().generation());
    if (state.id() != 0) *report.mutable_checkpoint() = state;
    if (restored != 0) {
      report.mutable_restore()->set_job(restored);
      report.mutable_restore()->set_generation(core_->config().generation());
    }
    return Ask(kServer, header).server_orders();
  }
  static pb::CheckpointState At(uint64_t id, pb::CheckpointState::Phase phase) {
    pb::CheckpointState state;
    state.set_id(id);
    state.set_phase(phase);
    for (uint32_t p = 0; phase == pb::CheckpointState::WRITTEN && p < kPartitions; ++p) {
      pb::CheckpointPart& part = *state.add_part();
      part.set_partition(p);
      part.set_whole(true);
      part.set_bytes(10);
      part.set_lsn(p);
    }
    return state;
  }
  // Two ranges of eight batches.
  pb::WorkerOrders StartJob(uint32_t every_s = 0) {
    Register(kServer, pb::SERVER);
    Register(kWorker, pb::WORKER);
    Pass(Milliseconds(100));
    pb::Header submit;
    submit.mutable_submit()->set_token(5);
    pb::JobSpec& spec = *submit.mutable_submit()->mutable_spec();
    spec = JobOfRows(1);
    spec.mutable_train()->set_range_batches(8);
    spec.mutable_consistency()->set_mode(pb::ConsistencySpec::ASP);
    spec.mutable_checkpoint()->set_every_s(every_s);
    Ask(kPerson, submit);
    Report();
    pb::WorkerReport planned;
    planned.mutable_plan()->set_job(1);
    pb::PlanFile& file = *planned.mutable_plan()->add_file();
    file.set_path("rows");
    file.set_rows(4096);
    file.set_rows_per_range(2048);
    file.add_offset(0);
    file.add_offset(1);
    Report(planned);
    ServerReports();
    Pass(Milliseconds(100));
    return Report();
  }
  pb::Header Create(const std::string& name = "", uint64_t token = 9) {
    pb::Header header;
    header.mutable_create_checkpoint()->set_name(name);
    header.mutable_create_checkpoint()->set_token(token);
    return Ask(kPerson, header);
  }
  pb::CheckpointStatus Find(uint64_t id) {
    pb::Header header;
    header.mutable_get_checkpoint()->set_id(id);
    return Ask(kPerson, header).checkpoint_status();
  }
  // The next work, which must be of that kind; it comes to `status`.
  CheckpointWork Work(Kind kind, Status status = {}) {
    auto work = core_->TakeCheckpointWork();
    EXPECT_TRUE(work.has_value());
    if (!work) return {};
    EXPECT_EQ(work->kind, kind);
    Finish(*work, std::move(status));
    return *work;
  }
  void Finish(const CheckpointWork& work, Status status, std::optional<Manifest> manifest = {}) {
    Outbox out;
    core_->OnCheckpointDone({work.kind, work.id, std::move(status), std::move(manifest)}, now_, out);
    EXPECT_TRUE(keeper_->Commit(*core_, now_).has_value());
    for (auto& item : out.items()) {
      if (item.to == kPerson) told_ = item.message.header;
    }
  }
  // Up to the servers' writing; answers its number.
  uint64_t Cut() {
    const uint64_t id = Create().checkpoint_status().id();
    Work(Kind::kBegin);
    EXPECT_EQ(Report().pause(), id * 2);
    EXPECT_EQ(ReportPaused(id * 2).pause(), id * 2);
    EXPECT_EQ(ordered_.id(), id);
    ServerReports(At(id, pb::CheckpointState::PREPARED));
    EXPECT_EQ(ReportPaused(id * 2).pause(), id * 2 + 1) << "its word may be of before the servers were frozen";
    EXPECT_EQ(ReportPaused(id * 2 + 1).pause(), 0u);
    return id;
  }

  MemoryMetaStore store_;
  TimePoint now_{};
  uint64_t request_ = 0, sequence_ = 0, epoch_ = 0;
  std::unique_ptr<StateKeeper> keeper_;
  std::unique_ptr<SchedulerCore> core_;
  std::optional<pb::LeaseState> lease_;
  pb::CheckpointOrder ordered_;  // unasked
  pb::Header told_;              // the person, when files were done
};

TEST_F(CheckpointTest, IsCommittedWhenAllIsWrittenAndNotBefore) {
  StartJob();
  const uint64_t id = Cut();
  EXPECT_FALSE(core_->TakeCheckpointWork().has_value());
  EXPECT_EQ(ServerReports(At(id, pb::CheckpointState::PREPARED)).checkpoint().id(), id);
  EXPECT_FALSE(core_->TakeCheckpointWork().has_value());
  ServerReports(At(id, pb::CheckpointState::WRITTEN));
  EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::RUNNING);
  const CheckpointWork commit = Work(Kind::kCommit);
  EXPECT_EQ(commit.manifest.partition_size(), static_cast<int>(kPartitions));
  EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::COMMITTED);
  EXPECT_EQ(Find(id).bytes(), 80u);
  EXPECT_EQ(ServerReports(At(id, pb::CheckpointState::WRITTEN)).checkpoint().id(), 0u) << "they may let go of it";
}

TEST_F(CheckpointTest, SaysHowFarEachRangeWasWhenAllStoodStill) {
  const pb::WorkerOrders orders = StartJob();
  pb::LeaseState& state = lease_.emplace();
  state.set_job(1);
  state.set_pass(orders.lease(0).pass());
  state.set_range(orders.lease(0).range());
  state.set_lease(orders.lease(0).lease());
  state.set_batches_done(3);
  state.set_examples(768);
  const uint64_t id = Cut();
  state.set_batches_done(5);  // it goes on
  state.set_examples(1280);
  ReportPaused(0);
  ServerReports(At(id, pb::CheckpointState::WRITTEN));
  const CheckpointWork commit = Work(Kind::kCommit);
  ASSERT_EQ(commit.manifest.ranges_size(), 1);
  EXPECT_EQ(commit.manifest.ranges(0).batches(0), 3u);
  EXPECT_EQ(commit.manifest.ranges(0).examples(0), 768u);
  EXPECT_EQ(commit.manifest.plan().file_size(), 1);
}

TEST_F(CheckpointTest, LeasesNothingWhileAllStandStill) {
  StartJob();
  const uint64_t id = Create().checkpoint_status().id();
  Work(Kind::kBegin);
  const PeerId other(202);
  Register(other, pb::WORKER);
  pb::Header header;
  header.mutable_worker_report()->set_sequence(1);
  const pb::WorkerOrders orders = Ask(other, header).worker_orders();
  EXPECT_EQ(orders.lease_size(), 0);
  EXPECT_EQ(orders.pause(), id * 2) << "who comes in the middle of it stands still, too";
}

TEST_F(CheckpointTest, IsAbortedByAWorkerThatWentOnByItself) {
  StartJob();
  const uint64_t id = Create().checkpoint_status().id();
  Work(Kind::kBegin);
  ReportPaused(id * 2);
  ServerReports(At(id, pb::CheckpointState::PREPARED));
  EXPECT_EQ(ReportPaused(0).pause(), 0u);
  EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::ABORTED);
  EXPECT_THAT(Find(id).detail(), HasSubstr("gone on"));
  Work(Kind::kDrop);
}

TEST_F(CheckpointTest, IsAbortedByWhatever) {
  StartJob();
  const auto aborted = [&](uint64_t id, const char* why) {
    EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::ABORTED);
    EXPECT_THAT(Find(id).detail(), HasSubstr(why));
    EXPECT_EQ(Report().pause(), 0u) << "the job goes on";
    EXPECT_EQ(ServerReports(At(id, pb::CheckpointState::PREPARED)).checkpoint().id(), 0u);
    Work(Kind::kDrop);
  };
  uint64_t id = Create("", 1).checkpoint_status().id();
  Work(Kind::kBegin, Fail(ErrorCode::kAlreadyExists, "there already"));
  aborted(id, "there already");

  id = Create("", 2).checkpoint_status().id();
  Work(Kind::kBegin);
  for (int second = 0; second < 6; ++second) {
    Pass(std::chrono::seconds(1));
    Report();
    ServerReports();
  }
  aborted(id, "worker-0 to stand still");

  id = Cut();
  pb::CheckpointState failed = At(id, pb::CheckpointState::FAILED);
  failed.set_error("no space left");
  ServerReports(failed);
  aborted(id, "no space left");
}

TEST_F(CheckpointTest, IsAbortedIfTheCommitFailsAndTheNextIsWhole) {
  StartJob();
  uint64_t id = Cut();
  ServerReports(At(id, pb::CheckpointState::WRITTEN));
  Work(Kind::kCommit, Fail(ErrorCode::kResourceExhausted, "full"));
  EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::ABORTED);
  Work(Kind::kDrop);
  id = Create("", 10).checkpoint_status().id();
  Work(Kind::kBegin);
  ReportPaused(id * 2);
  EXPECT_EQ(ordered_.base(), 0u);
}

TEST_F(CheckpointTest, TheNextBuildsUponIt) {
  StartJob();
  const uint64_t first = Cut();
  ServerReports(At(first, pb::CheckpointState::WRITTEN));
  Work(Kind::kCommit);
  const uint64_t id = Create("", 10).checkpoint_status().id();
  Work(Kind::kBegin);
  ReportPaused(id * 2);
  EXPECT_EQ(ordered_.base(), first);
  ServerReports(At(id, pb::CheckpointState::PREPARED));
  ReportPaused(id * 2);
  ReportPaused(id * 2 + 1);
  pb::CheckpointState written = At(id, pb::CheckpointState::WRITTEN);
  written.mutable_part(3)->set_whole(false);
  ServerReports(written);
  const CheckpointWork commit = Work(Kind::kCommit);
  EXPECT_EQ(commit.base, "c000001");
  EXPECT_EQ(commit.manifest.partition(2).file_size(), 1);
  ASSERT_EQ(commit.manifest.partition(3).file_size(), 2);
  EXPECT_EQ(commit.manifest.partition(3).file(0).name(), PartFileName(3, first));
}

TEST_F(CheckpointTest, IsAbortedIfAServerSaysWhatCannotBe) {
  StartJob();
  for (int what = 0; what < 3; ++what) {
    SCOPED_TRACE(what);
    const uint64_t id = Create("", 30 + what).checkpoint_status().id();
    Work(Kind::kBegin);
    ReportPaused(id * 2);
    ServerReports(At(id, pb::CheckpointState::PREPARED));
    ReportPaused(id * 2);
    ReportPaused(id * 2 + 1);
    pb::CheckpointState written = At(id, pb::CheckpointState::WRITTEN);
    if (what == 0) written.mutable_part(3)->set_whole(false);  // upon nothing
    if (what == 1) written.mutable_part(3)->set_partition(2);  // twice
    if (what == 2) written.mutable_part(3)->set_partition(9999);
    ServerReports(written);
    EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::ABORTED);
    Work(Kind::kDrop);
  }
}

TEST_F(CheckpointTest, DueOnesAreMadeByThemselvesAndOldOnesGo) {
  StartJob(/*every_s=*/2);
  for (int i = 0; i < 19; ++i) {
    EXPECT_FALSE(core_->TakeCheckpointWork().has_value()) << i;
    Pass(Milliseconds(100));
    Report();
    ServerReports();
  }
  Pass(Milliseconds(200));
  const CheckpointWork begin = Work(Kind::kBegin);
  Report();
  ReportPaused(begin.id * 2);
  ServerReports(At(begin.id, pb::CheckpointState::PREPARED));
  ReportPaused(begin.id * 2);
  ReportPaused(begin.id * 2 + 1);
  ServerReports(At(begin.id, pb::CheckpointState::WRITTEN));
  EXPECT_TRUE(Work(Kind::kCommit).manifest.periodic());
  const CheckpointWork trim = Work(Kind::kTrim);
  EXPECT_EQ(trim.keep, 3u);
  EXPECT_EQ(trim.job, 1u);
}

TEST_F(CheckpointTest, AnotherSchedulerKnowsWhatBecameOfIt) {
  StartJob();
  const uint64_t id = Cut();
  Restart({.folder = true, .greatest_id = 0});
  EXPECT_EQ(Find(id).phase(), pb::CheckpointStatus::ABORTED);
  EXPECT_EQ(ServerReports(At(id, pb::CheckpointState::WRITTEN)).checkpoint().id(), 0u);
  Restart({.folder = true, .greatest_id = id + 4});
  Pass(std::chrono::seconds(2));
  EXPECT_EQ(Create("", 11).checkpoint_status().id(), id + 5) << "no number is given twice in a folder";
}

TEST_F(CheckpointTest, RefusesWhatCannotBe) {
  EXPECT_THAT(Create().refusal().text(), HasSubstr("no job is running"));
  StartJob();
  EXPECT_THAT(Create("../x").refusal().text(), HasSubstr("a-z"));
  const uint64_t id = Create("x", 20).checkpoint_status().id();
  EXPECT_EQ(Create("x", 20).checkpoint_status().id(), id) << "the same again";
  EXPECT_THAT(Create("y", 21).refusal().text(), HasSubstr("being made"));
  pb::Header restore;
  restore.mutable_restore_job()->set_name("x");
  EXPECT_THAT(Ask(kPerson, restore).refusal().text(), HasSubstr("new cluster"));
  Restart({});
  EXPECT_THAT(Create("z", 22).refusal().text(), HasSubstr("--checkpoint_dir"));
}

TEST_F(CheckpointTest, AJobGoesOnFromOneWhenItsServersHaveIt) {
  const pb::WorkerOrders orders = StartJob();
  pb::LeaseState& state = lease_.emplace();
  state.set_job(1);
  state.set_pass(orders.lease(0).pass());
  state.set_range(orders.lease(0).range());
  state.set_lease(orders.lease(0).lease());
  state.set_batches_done(3);
  state.set_examples(768);
  const uint64_t id = Cut();
  ServerReports(At(id, pb::CheckpointState::WRITTEN));
  Manifest manifest{Work(Kind::kCommit).manifest, {1, 2}};

  // A new cluster.
  store_ = MemoryMetaStore();
  lease_.reset();
  Restart({.folder = true, .greatest_id = id});
  pb::Header restore;
  restore.mutable_restore_job()->set_name("latest");
  restore.mutable_restore_job()->set_token(6);
  EXPECT_FALSE(Ask(kPerson, restore).has_accepted()) << "it is read first";
  const auto read = core_->TakeCheckpointWork();
  ASSERT_TRUE(read && read->kind == Kind::kRead);
  Finish(*read, {}, manifest);
  EXPECT_EQ(told_.accepted().job(), 1u);
  Register(kServer, pb::SERVER);
  Register(kWorker, pb::WORKER);
  Restart({.folder = true, .greatest_id = id});  // it is saved
  Pass(Milliseconds(300));
  pb::ServerOrders told = ServerReports();
  EXPECT_EQ(told.restore().name(), manifest.content.name());
  EXPECT_EQ(told.restore().generation(), core_->config().generation());
  Pass(std::chrono::seconds(2));
  ServerReports();
  EXPECT_EQ(Report().lease_size(), 0) << "nothing is leased before";
  ServerReports({}, /*restored=*/1);
  EXPECT_FALSE(ServerReports({}, 1).has_restore());
  const pb::WorkerOrders again = Report();
  ASSERT_GE(again.lease_size(), 1);
  bool found = false;
  for (const pb::LeaseGrant& grant : again.lease()) {
    if (grant.range() != orders.lease(0).range()) continue;
    found = true;
    EXPECT_EQ(grant.first_batch(), 3u);
  }
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace sheaf
