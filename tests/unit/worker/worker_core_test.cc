// Orders that no scheduler of ours would give: the worker says what is wrong with them and lives.
#include "worker/worker_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/net/config_update.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

constexpr PeerId kSelf{9}, kShard{100};
constexpr uint64_t kJob = 5;

class SilentLoader final : public RangeLoader {
 public:
  void Load(const pb::LeaseGrant& grant, const pb::JobBrief&) override { loading.push_back(grant.lease()); }
  void Weight(uint64_t lease, Floats) override { weighted.push_back(lease); }
  void Forget(uint64_t) override {}
  void Plan(const pb::PlanOrder&) override {}

  std::vector<uint64_t> loading, weighted;
};

class WorkerCoreTest : public ::testing::Test {
 protected:
  WorkerCoreTest() : core_(Options(), loader_, MakeTrainStep) {
    core_.OnTick(now_, out_);
    Message registered;
    registered.header.mutable_registered()->set_name("worker-0");
    registered.header.mutable_registered()->set_scheduler(1);
    core_.OnMessage(kSchedulerPeer, std::move(registered), now_, out_);
  }

  static WorkerOptions Options() {
    WorkerOptions options;
    options.self = {.role = pb::WORKER, .self = kSelf};
    return options;
  }
  // A job, one shard with tables 1 (weights) and 2 (bias) and 3 (statistics).
  pb::WorkerOrders Orders() {
    pb::WorkerOrders orders;
    pb::ClusterConfig& config = config_;
    config.set_generation(1);
    config.set_partition_count(1);
    pb::ServerInfo& server = *config.add_server();
    server.set_node(1);
    server.add_shard()->set_peer(kShard.value);
    config.add_partition()->set_primary(1);
    for (uint32_t id = 1; id <= 3; ++id) {
      config.add_table()->set_id(id);
      config.mutable_table()->rbegin()->set_dim(1);
    }
    pb::JobBrief& job = *orders.add_job();
    job.set_job(kJob);
    job.set_weight_table(1);
    job.set_bias_table(2);
    pb::JobSpec& spec = *job.mutable_spec();
    spec.set_name("job");
    spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
    spec.mutable_data()->add_train("rows");
    return orders;
  }
  static pb::LeaseGrant& AddLease(pb::WorkerOrders& orders, uint64_t number) {
    pb::LeaseGrant& grant = *orders.add_lease();
    grant.set_job(kJob);
    grant.set_lease(number);
    grant.set_kind(pb::TRAIN);
    return grant;
  }
  // Answers the worker's latest report, and makes it report again.
  void Give(pb::WorkerOrders orders) {
    Tick(std::chrono::seconds(1));
    orders.set_sequence(LastReport().sequence());
    if (config_.has_generation()) orders.set_config_update(WholeConfig(config_).SerializeAsString());
    Message message;
    *message.header.mutable_worker_orders() = std::move(orders);
    core_.OnMessage(kSchedulerPeer, std::move(message), now_, out_);
    Tick(std::chrono::seconds(1));
  }
  void Tick(Duration time) {
    now_ += time;
    core_.OnTick(now_, out_);
  }
  pb::WorkerReport LastReport() {
    for (auto item = out_.items().rbegin(); item != out_.items().rend(); ++item) {
      if (item->message.header.has_worker_report()) return item->message.header.worker_report();
    }
    return {};
  }
  // Answers all pulls not answered yet with rows of `dim` values, from a shard that knows a lane at `front`.
  void AnswerPulls(uint32_t dim, uint64_t front = 0, float value = 0) {
    std::vector<Message> answers;
    for (; answered_ < out_.items().size(); ++answered_) {
      const Message& asked = out_.items()[answered_].message;
      if (!asked.header.has_pull()) continue;
      Message answer;
      answer.header.set_request(asked.header.request());
      answer.header.mutable_pull_reply()->add_lsn(1);
      if (front > 0) answer.header.mutable_pull_reply()->set_front(front);
      answer.values = Buffer::FromVector(std::vector<float>(asked.keys.size() / sizeof(HashedKey) * dim, value));
      answers.push_back(std::move(answer));
    }
    for (Message& answer : answers) core_.OnMessage(kShard, std::move(answer), now_, out_);
  }
  // Computes all that is ready and sends it.
  void Compute() {
    core_.StartBatches(now_, out_);
    while (core_.ComputeOne()) core_.StartBatches(now_, out_);
  }
  // Its pushes so far.
  std::vector<const Message*> Pushes() {
    std::vector<const Message*> pushes;
    for (const auto& item : out_.items()) {
      if (item.message.header.has_push()) pushes.push_back(&item.message);
    }
    return pushes;
  }
  void AnswerPush(const Message& push) {
    Message answer;
    answer.header.set_request(push.header.request());
    answer.header.mutable_push_reply()->add_lsn(1);
    core_.OnMessage(kShard, std::move(answer), now_, out_);
  }
  // The clocks of all pushes so far, and how many after them each leaves out.
  std::vector<std::pair<uint64_t, uint64_t>> PushedClocks() {
    std::vector<std::pair<uint64_t, uint64_t>> clocks;
    for (const auto& item : out_.items()) {
      if (!item.message.header.has_push()) continue;
      const pb::Progress& progress = item.message.header.push().progress();
      clocks.emplace_back(progress.clock(), progress.skipped());
    }
    return clocks;
  }
  std::vector<uint64_t> PulledClocks() {
    std::vector<uint64_t> clocks;
    for (const auto& item : out_.items()) {
      if (item.message.header.has_pull()) clocks.push_back(item.message.header.pull().progress().clock());
    }
    return clocks;
  }
  static LoadedBatches Batches(size_t count) {
    LoadedBatches batches;
    while (batches.size() < count) batches.push_back(OneBatch().front());
    return batches;
  }
  static LoadedBatches OneBatch() {
    Batch batch;
    batch.labels = {1};
    batch.row_begin = {0, 1};
    batch.index = {0};
    batch.keys = std::make_shared<const std::vector<HashedKey>>(std::vector<HashedKey>{7});
    return {std::make_shared<const Batch>(std::move(batch))};
  }

  pb::ClusterConfig config_;
  SilentLoader loader_;
  TimePoint now_{};
  Outbox out_;
  size_t answered_ = 0;
  WorkerCore core_;
};

// It was read past the end of the lease's batches.
TEST_F(WorkerCoreTest, FinishesALeaseThatBeginsBehindItsEnd) {
  pb::WorkerOrders orders = Orders();
  AddLease(orders, 1).set_first_batch(1000);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  EXPECT_FALSE(core_.has_ready_batch());
  EXPECT_FALSE(core_.ComputeOne());
  Tick(std::chrono::seconds(1));
  ASSERT_EQ(LastReport().lease_size(), 1);
  EXPECT_TRUE(LastReport().lease(0).finished());
  EXPECT_EQ(LastReport().lease(0).batches_done(), 1u);
}

using Clocks = std::vector<std::pair<uint64_t, uint64_t>>;

TEST_F(WorkerCoreTest, LeavesOutTheClocksThatItIsBehindBy) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::SSP);
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_staleness(8);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, Batches(3), 0, now_, out_);
  EXPECT_EQ(PulledClocks(), (std::vector<uint64_t>{0, 1}));
  AnswerPulls(1, /*front=*/10);  // the second's rows are as new as those of clock 9
  Compute();
  EXPECT_EQ(PushedClocks(), (Clocks{{0, 8}, {9, 0}}));
  EXPECT_EQ(PulledClocks().back(), 10U);
}

TEST_F(WorkerCoreTest, KeepsStepWhereHardlyAnyStalenessIsAllowed) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::SSP);
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_staleness(1);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, Batches(2), 0, now_, out_);
  AnswerPulls(1, 10);
  Compute();
  EXPECT_EQ(PushedClocks(), (Clocks{{0, 0}, {1, 0}}));
}

// Its pull at clock 2 waited for clock 0 of its own lane, which nothing would have finished.
TEST_F(WorkerCoreTest, StartsAgainAtTheClocksOfALeaseThatWasTakenAway) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::SSP);
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_staleness(0);
  AddLease(orders, 1).set_range(1);
  AddLease(orders, 2).set_range(2);
  Give(orders);
  core_.OnRangeReady(1, Batches(1), 0, now_, out_);
  core_.OnRangeReady(2, Batches(1), 0, now_, out_);
  EXPECT_EQ(PulledClocks(), (std::vector<uint64_t>{0, 1}));
  orders.mutable_lease()->DeleteSubrange(0, 1);
  Give(orders);
  EXPECT_EQ(PulledClocks().back(), 0U);
}

// A batch_size of 0 made batches without end.
TEST_F(WorkerCoreTest, FailsAJobThatIsNotValid) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_train()->set_batch_size(0);
  AddLease(orders, 1);
  Give(orders);
  EXPECT_TRUE(loader_.loading.empty());
  EXPECT_EQ(LastReport().failure().job(), kJob);
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("train.batch_size"));
}

TEST_F(WorkerCoreTest, WorksOnAsTheJobBegan) {
  pb::WorkerOrders orders = Orders();
  AddLease(orders, 1);
  Give(orders);
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::BSP);
  orders.mutable_job(0)->mutable_spec()->mutable_train()->set_batch_size(0);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(1);
  EXPECT_TRUE(core_.ComputeOne());
  EXPECT_FALSE(LastReport().has_failure());
}

// The model's kernels ended the process.
TEST_F(WorkerCoreTest, FailsAJobWhoseTableIsNotAsWideAsItsModel) {
  pb::WorkerOrders orders = Orders();
  config_.mutable_table(0)->set_dim(2);
  orders.mutable_job(0)->clear_bias_table();
  orders.mutable_job(0)->mutable_spec()->mutable_model()->set_bias(false);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(2);
  EXPECT_TRUE(core_.ComputeOne());
  Tick(std::chrono::seconds(1));
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("rows of 1"));
  EXPECT_EQ(LastReport().lease_size(), 0);
}

// The loader's thread ended the process.
TEST_F(WorkerCoreTest, FailsAJobWhoseStatisticsAreOfAnotherWidth) {
  pb::WorkerOrders orders = Orders();
  config_.mutable_table(2)->set_dim(3);
  orders.mutable_job(0)->set_statistics_table(3);
  pb::DataSpec& data = *orders.mutable_job(0)->mutable_spec()->mutable_data();
  data.set_format(pb::DataSpec::TEXT);
  data.mutable_text()->set_weighting(pb::TextSpec::TF_IDF);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeNeedsStatistics(1, {7, 8}, now_, out_);
  AnswerPulls(3);
  Tick(std::chrono::seconds(1));
  EXPECT_TRUE(loader_.weighted.empty());
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("rows of 1"));
}

// More than the loader's mailbox takes ended the process.
TEST_F(WorkerCoreTest, HoldsNoMoreLeasesThanAJobCanHave) {
  pb::WorkerOrders orders = Orders();
  for (uint64_t number = 1; number <= 100'000; ++number) AddLease(orders, number);
  Give(orders);
  EXPECT_EQ(loader_.loading.size(), 16384u);
}

TEST_F(WorkerCoreTest, ReadsRowsOfTheNextFewLeasesOnlyAndNamesTheOthersByNumber) {
  pb::WorkerOrders orders = Orders();
  for (uint64_t number = 1; number <= 40; ++number) {
    pb::LeaseGrant& grant = AddLease(orders, number);
    grant.set_range(static_cast<uint32_t>(100 + number));
    grant.mutable_rows()->set_row_count(8 * 256);  // eight batches
  }
  Give(orders);
  EXPECT_EQ(loader_.loading, (std::vector<uint64_t>{1, 2, 3}));
  const pb::WorkerReport report = LastReport();
  EXPECT_EQ(report.lease_size(), 3);
  ASSERT_EQ(report.untouched_size(), 1);
  EXPECT_EQ(report.untouched(0).lease_size(), 37);
  EXPECT_EQ(report.untouched(0).lease(0), 4u);
  EXPECT_EQ(report.untouched(0).range(0), 104u);

  pb::WorkerOrders fewer;
  for (uint64_t number = 1; number <= 3; ++number) fewer.add_lease()->set_lease(number);
  fewer.add_keep(4);
  Give(fewer);
  EXPECT_EQ(LastReport().lease_size(), 3);
  ASSERT_EQ(LastReport().untouched_size(), 1);
  EXPECT_EQ(LastReport().untouched(0).lease_size(), 1);
}

TEST_F(WorkerCoreTest, ARangeThatComesBackToItsBspLaneDoesNotWaitBehindLaterClocks) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_consistency()->set_mode(pb::ConsistencySpec::BSP);
  const auto add = [&](uint64_t number, uint64_t clock) {
    pb::LeaseGrant& grant = AddLease(orders, number);
    grant.set_first_clock(clock);
    grant.mutable_rows()->set_row_count(8 * 256);
  };
  for (uint64_t number = 1; number <= 10; ++number) add(number, 8 * number);
  Give(orders);
  EXPECT_EQ(loader_.loading, (std::vector<uint64_t>{1, 2, 3}));
  orders.clear_job();
  add(11, 0);
  Give(orders);
  EXPECT_EQ(loader_.loading, (std::vector<uint64_t>{1, 2, 3, 11}));
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST_F(WorkerCoreTest, FailsTheJobByTheNameOfTheBatchWhoseGradientIsNoNumber) {
  pb::WorkerOrders orders = Orders();
  pb::LeaseGrant& grant = AddLease(orders, 1);
  grant.set_range(17);
  grant.mutable_rows()->set_path("rows.svm");
  grant.mutable_rows()->set_first_row(4096);
  grant.mutable_rows()->set_row_count(256);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(1, 0, kNan);
  Compute();
  EXPECT_TRUE(Pushes().empty()) << "no server is to have a part of it";
  Tick(std::chrono::seconds(1));
  EXPECT_EQ(LastReport().failure().job(), kJob);
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("batch 0 of range 17 (rows 4097 to 4352 of rows.svm): "));
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("NaN or infinite"));
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("learning_rate"));
}

TEST_F(WorkerCoreTest, LeavesOutWhatIsNoNumberAndCountsIt) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_train()->set_on_bad_gradient(pb::TrainSpec::SKIP);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, Batches(3), 0, now_, out_);
  AnswerPulls(1, 0, kNan);
  Compute();
  ASSERT_EQ(Pushes().size(), 2u) << "the servers count its examples, and its clock";
  EXPECT_EQ(Pushes()[0]->header.push().block_size(), 0);
  EXPECT_EQ(Pushes()[0]->header.push().example_count(), 1u);
  EXPECT_EQ(Pushes()[0]->header.push().partition_size() + Pushes()[0]->header.push().has_placement(), 1);
  EXPECT_EQ(core_.TakeEvents().size(), 2u) << "the first and the second in a row are said";
  Tick(std::chrono::seconds(1));
  EXPECT_EQ(LastReport().refused_batches(), 2u);
  EXPECT_EQ(LastReport().refused_in_row(), 2u);
  EXPECT_EQ(LastReport().refused_job(), kJob);
  EXPECT_EQ(LastReport().lease(0).refused_batches(), 0u) << "none is acknowledged";
  AnswerPush(*Pushes()[0]);
  AnswerPush(*Pushes()[1]);
  AnswerPulls(1);
  Compute();
  EXPECT_EQ(Pushes().back()->header.push().seq(), 2u);
  EXPECT_EQ(Pushes().back()->header.push().block_size(), 2);
  Tick(std::chrono::seconds(1));
  EXPECT_EQ(LastReport().lease(0).refused_batches(), 2u);
  EXPECT_EQ(LastReport().lease(0).examples(), 2u);
  EXPECT_EQ(LastReport().lease(0).loss_sum(), 0.0) << "a NaN would hide the loss of all others";
  EXPECT_EQ(LastReport().refused_batches(), 2u);
  EXPECT_EQ(LastReport().refused_in_row(), 0u);
}

// Of the bias and the one weight the gradient is a half each: 0.707 together, which no server sees as a whole.
TEST_F(WorkerCoreTest, LooksAtTheNormOfTheWholeGradient) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_optimizer()->set_max_gradient_norm(0.6);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(1);
  Compute();
  EXPECT_TRUE(Pushes().empty());
  Tick(std::chrono::seconds(1));
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("a norm of 0.707"));
  EXPECT_THAT(LastReport().failure().text(), HasSubstr("max_gradient_norm: 0.6"));
}

TEST_F(WorkerCoreTest, PushesAGradientOfAllowedNorm) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_optimizer()->set_max_gradient_norm(0.8);
  AddLease(orders, 1);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(1);
  Compute();
  EXPECT_EQ(Pushes().size(), 1u);
}

// It may be finite as float32 and not as what it is sent as.
TEST_F(WorkerCoreTest, PushesNothingInPlaceOfWhatAServerRefusedAsPoison) {
  pb::WorkerOrders orders = Orders();
  orders.mutable_job(0)->mutable_spec()->mutable_train()->set_on_bad_gradient(pb::TrainSpec::SKIP);
  AddLease(orders, 1).set_range(4);
  Give(orders);
  core_.OnRangeReady(1, OneBatch(), 0, now_, out_);
  AnswerPulls(1);
  Compute();
  ASSERT_EQ(Pushes().size(), 1u);
  Message refused;
  refused.header.set_request(Pushes()[0]->header.request());
  refused.header.mutable_refusal()->set_reason(pb::Refusal::INVALID_GRADIENT);
  refused.header.mutable_refusal()->set_text("it is infinite");
  core_.OnMessage(kShard, std::move(refused), now_, out_);
  Compute();
  ASSERT_EQ(Pushes().size(), 2u);
  EXPECT_EQ(Pushes()[1]->header.push().block_size(), 0);
  EXPECT_EQ(Pushes()[1]->header.push().stream_low(), Pushes()[0]->header.push().stream_low());
  EXPECT_EQ(Pushes()[1]->header.push().seq(), Pushes()[0]->header.push().seq());
  AnswerPush(*Pushes()[1]);
  Tick(std::chrono::seconds(1));
  EXPECT_TRUE(LastReport().lease(0).finished());
  EXPECT_EQ(LastReport().refused_batches(), 1u);
  EXPECT_FALSE(LastReport().has_failure());
}

}  // namespace
}  // namespace sheaf
