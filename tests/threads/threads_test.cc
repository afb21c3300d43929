// Whole clusters in one process: every shell of every role on a thread of its own, with their own threads (shards,
// readers), and mailboxes between them in place of ZeroMQ. For ThreadSanitizer above all (scripts/test.sh), but right
// without it, too.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>

#include "client/blocking_client.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/temp_folder.h"
#include "common/runtime/thread.h"
#include "scheduler/scheduler_shell.h"
#include "server/shard_server.h"
#include "worker/worker_shell.h"

namespace sheaf {
namespace {

constexpr char kScheduler[] = "tcp://scheduler:1";
constexpr uint64_t kRows = 600;
constexpr Duration kPatience = std::chrono::minutes(3);  // ThreadSanitizer on a busy machine

// A shell on a thread, and the descriptor that asks it to leave.
class Process {
 public:
  using Body = std::function<Status(int stop_fd, const std::function<void()>& take_signal)>;
  Process(const std::string& name, Body body) : body_(std::move(body)), thread_(name, [this] { outcome_ = Run(); }) {}
  ~Process() { Stop(); }

  // Asks it to leave and waits until it has. What it ended with.
  const Status& Stop() {
    (void)signals_.TryPut(1);
    thread_.Join();
    return outcome_;
  }

 private:
  Status Run() {
    return body_(signals_.fd(), [this] { signals_.TryTake(); });
  }

  Mailbox<int> signals_{4};
  Status outcome_;
  Body body_;
  Thread thread_;  // last: it starts when all else is made
};

class Cluster {
 public:
  Cluster(uint32_t servers, uint32_t shards, uint32_t workers) : shards_(shards) {
    WriteData();
    auto opened = SchedulerShell::Open(context_, clock_, SchedulerConfig(), /*places=*/{});
    EXPECT_TRUE(opened) << opened.error().message;
    const std::shared_ptr<SchedulerShell> scheduler = std::move(*opened);
    EXPECT_TRUE(scheduler->Bind(kScheduler));
    scheduler_ = std::make_unique<Process>(
        "scheduler", [scheduler](int fd, const auto& take) { return scheduler->Run(fd, take); });
    for (uint32_t i = 0; i < servers; ++i) StartServer();
    for (uint32_t i = 0; i < workers; ++i) StartWorker();
    auto client = BlockingClient::Connect(context_, kScheduler, {.scheduler_deadline = kPatience});
    EXPECT_TRUE(client) << client.error().message;
    client_ = std::move(*client);
  }
  ~Cluster() {
    for (auto& worker : workers_) EXPECT_TRUE(worker->Stop());
    for (auto& server : servers_) EXPECT_TRUE(server->Stop());
    scheduler_->Stop();
  }

  void StartServer() {
    servers_.push_back(std::make_unique<Process>("server", [this](int fd, const auto& take) -> Status {
      ServerOptions options;
      options.scheduler = kScheduler;
      options.shards = shards_;
      ShardServer server(context_, clock_, options);
      SHEAF_RETURN_IF_ERROR(server.Bind());
      return server.Run(fd, take);
    }));
  }
  void StartWorker() {
    workers_.push_back(std::make_unique<Process>("worker", [this](int fd, const auto& take) -> Status {
      WorkerShellOptions options;
      options.scheduler = kScheduler;
      options.data_dir = folder_.path();
      WorkerShell worker(context_, clock_, options);
      return worker.Run(fd, take);
    }));
  }
  // The worker that joined first leaves.
  void LeaveWorker() {
    EXPECT_TRUE(workers_.front()->Stop());
    workers_.erase(workers_.begin());
  }

  BlockingClient& client() { return *client_; }

  // Asks until `enough` or the job has ended; what it was then.
  pb::JobStatus Wait(JobId job, const std::function<bool(const pb::JobStatus&)>& enough) {
    const TimePoint until = clock_.Now() + kPatience;
    while (clock_.Now() < until) {
      const auto status = client_->GetStatus(job);
      EXPECT_TRUE(status) << status.error().message;
      if (!status || status->job_size() != 1) break;
      if (status->job(0).phase() >= pb::FINISHED || enough(status->job(0))) return status->job(0);
    }
    ADD_FAILURE() << "job " << job << " does not come to an end";
    return {};
  }
  pb::JobStatus Finish(JobId job) {
    return Wait(job, [](const pb::JobStatus&) { return false; });
  }

 private:
  static SchedulerOptions SchedulerConfig() {
    SchedulerOptions options;
    options.partition_count = 16;
    options.report_every = Milliseconds(20);
    options.worker_dead_after = kPatience;
    options.server_dead_after = kPatience;
    options.job.min_servers = 2;
    options.job.settle_limit = kPatience;
    return options;
  }
  // Rows whose label is whether their first feature is there, as numbers and as words.
  void WriteData() {
    Random random(4);
    std::ofstream numbers(folder_.path() + "/rows.libsvm"), words(folder_.path() + "/rows.txt");
    for (uint64_t row = 0; row < kRows; ++row) {
      const bool positive = random.Chance(0.5);
      numbers << positive << (positive ? " 1:1" : " 2:1");
      words << positive << '\t' << (positive ? "good" : "bad");
      for (uint64_t i = 0, at = 2; i < 6; ++i) {
        at += 1 + random.Below(40);
        numbers << ' ' << at + 1 << ":1";
        words << " w" << at;
      }
      numbers << '\n';
      words << '\n';
    }
  }

  const uint32_t shards_;
  const TempFolder folder_;
  SystemClock clock_;
  ZmqContext context_;
  std::unique_ptr<Process> scheduler_;
  std::vector<std::unique_ptr<Process>> servers_, workers_;
  std::unique_ptr<BlockingClient> client_;
};

pb::JobSpec MakeJob(pb::ConsistencySpec::Mode mode) {
  pb::JobSpec spec;
  spec.set_name("threads");
  spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  spec.mutable_data()->add_train("rows.libsvm");
  spec.mutable_data()->add_test("rows.libsvm");
  spec.mutable_model()->set_loss(pb::ModelSpec::LOGISTIC);
  spec.mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD);
  spec.mutable_optimizer()->set_learning_rate(0.3);
  spec.mutable_train()->set_epochs(3);
  spec.mutable_train()->set_batch_size(10);
  spec.mutable_train()->set_range_batches(3);
  spec.mutable_train()->set_workers(3);
  spec.mutable_consistency()->set_mode(mode);
  spec.mutable_consistency()->set_staleness(2);
  return spec;
}

void ExpectLearnt(const pb::JobStatus& job) {
  ASSERT_EQ(job.phase(), pb::FINISHED) << job.detail();
  EXPECT_EQ(job.examples_total(), 3 * kRows);
  ASSERT_EQ(job.eval_size(), 1);
  EXPECT_EQ(job.eval(0).examples(), kRows);
  EXPECT_GT(job.eval(0).accuracy(), 0.95);
}

class Threads : public ::testing::TestWithParam<pb::ConsistencySpec::Mode> {};

TEST_P(Threads, TrainAJobWhileAClientReadsAndPushes) {
  Cluster cluster(2, 2, 3);
  const auto job = cluster.client().SubmitJob(MakeJob(GetParam()));
  ASSERT_TRUE(job) << job.error().message;
  cluster.Wait(*job, [](const pb::JobStatus& status) { return status.phase() == pb::RUNNING; });
  const auto config = cluster.client().GetConfig();
  ASSERT_TRUE(config);
  ASSERT_GT(config->table_size(), 0);
  const TableId weights(config->table(0).id());
  std::vector<HashedKey> keys;
  for (uint64_t key = 1; key < 300; ++key) keys.push_back(MixKey(key));
  std::sort(keys.begin(), keys.end());
  const auto shared = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
  for (int i = 0; i < 20; ++i) {
    // Of zeros: they pass through everything and change nothing that is learnt.
    const Status pushed = cluster.client().Push({{weights, shared, std::vector<float>(shared->size())}});
    EXPECT_TRUE(pushed) << pushed.error().message;
    const auto rows = cluster.client().Pull(weights, shared);
    ASSERT_TRUE(rows) << rows.error().message;
    EXPECT_TRUE(std::all_of(rows->begin(), rows->end(), [](float weight) { return std::isfinite(weight); }));
  }
  ExpectLearnt(cluster.Finish(*job));
  size_t scanned = 0;
  const Status scan =
      cluster.client().ScanAll(weights, 50, [&](PartitionId, std::span<const HashedKey> of_partition, auto) {
        scanned += of_partition.size();
        return Status();
      });
  EXPECT_TRUE(scan) << scan.error().message;
  EXPECT_GE(scanned, shared->size());
}

INSTANTIATE_TEST_SUITE_P(Modes, Threads,
                         ::testing::Values(pb::ConsistencySpec::BSP, pb::ConsistencySpec::SSP,
                                           pb::ConsistencySpec::ASP),
                         [](const auto& mode) { return pb::ConsistencySpec::Mode_Name(mode.param); });

TEST(Threads, WorkersJoinAndLeaveInTheMiddleOfAJob) {
  Cluster cluster(2, 1, 3);
  pb::JobSpec spec = MakeJob(pb::ConsistencySpec::SSP);
  spec.mutable_train()->set_epochs(3);
  const auto job = cluster.client().SubmitJob(spec);
  ASSERT_TRUE(job) << job.error().message;
  const auto trained = [](uint64_t examples) {
    return [examples](const pb::JobStatus& status) { return status.examples_total() >= examples; };
  };
  cluster.Wait(*job, trained(1));
  cluster.StartWorker();
  cluster.Wait(*job, trained(kRows));
  cluster.LeaveWorker();
  ExpectLearnt(cluster.Finish(*job));
}

TEST(Threads, WeighTextByWhatTheyCountedFirst) {
  Cluster cluster(2, 2, 3);
  pb::JobSpec spec = MakeJob(pb::ConsistencySpec::BSP);
  spec.mutable_data()->set_format(pb::DataSpec::TEXT);
  spec.mutable_data()->set_train(0, "rows.txt");
  spec.mutable_data()->set_test(0, "rows.txt");
  spec.mutable_data()->mutable_text()->set_weighting(pb::TextSpec::TF_IDF);
  const auto job = cluster.client().SubmitJob(spec);
  ASSERT_TRUE(job) << job.error().message;
  ExpectLearnt(cluster.Finish(*job));
}

TEST(Threads, ACancelledJobMakesRoomForTheNext) {
  Cluster cluster(2, 2, 3);
  pb::JobSpec spec = MakeJob(pb::ConsistencySpec::ASP);
  spec.mutable_train()->set_epochs(1000);
  const auto endless = cluster.client().SubmitJob(spec);
  ASSERT_TRUE(endless);
  const auto next = cluster.client().SubmitJob(MakeJob(pb::ConsistencySpec::ASP));
  ASSERT_TRUE(next);
  cluster.Wait(*endless, [](const pb::JobStatus& status) { return status.examples_total() > 0; });
  EXPECT_TRUE(cluster.client().CancelJob(*endless, "enough"));
  EXPECT_EQ(cluster.Finish(*endless).phase(), pb::CANCELLED);
  ExpectLearnt(cluster.Finish(*next));
}

}  // namespace
}  // namespace sheaf
