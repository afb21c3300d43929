#include "bench/checkpoints/cluster_suite.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/failover/training_cluster.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/checkpoint/disk_space.h"

namespace sheaf::bench {
namespace {

constexpr int kServers = 2;
constexpr uint32_t kDim = 16;
constexpr size_t kLoadBatch = 10'000;
constexpr Duration kMadeWithin = std::chrono::minutes(5);
constexpr Duration kMinute = std::chrono::minutes(1);
constexpr double kPauseBar = 0.2, kSpeedBar = 0.8, kTrainingBar = 0.95, kChangedBar = 0.15;

class Bench {
 public:
  explicit Bench(const ClusterCheckpointOptions& options) : rows_(options.rows_a_server * kServers) {}

  Status Start() {
    SHEAF_RETURN_IF_ERROR(cluster_.Start({.servers = kServers,
                                          .replicas = 1,
                                          .model = StrCat("model { kind: FACTORIZATION_MACHINE factors: ", kDim - 1,
                                                          " }"),
                                          .checkpoints = true}));
    SHEAF_ASSIGN_OR_RETURN(space_, OpenDiskSpace(cluster_.checkpoint_dir(), IfAbsent::kFail));
    return Touch(rows_);
  }

  // Pushes to so many of the rows, those that come next; they are made if they are not there.
  Status Touch(uint64_t rows) {
    for (uint64_t done = 0; done < rows; done += kLoadBatch) {
      std::vector<HashedKey> keys;
      for (size_t i = 0; i < std::min<uint64_t>(kLoadBatch, rows - done); ++i) keys.push_back(NextKey());
      std::ranges::sort(keys);
      std::vector<TableGradients> tables;
      std::vector<float> gradients(keys.size() * kDim, 1e-3F);
      tables.push_back({cluster_.table(), std::make_shared<const std::vector<HashedKey>>(std::move(keys)),
                        std::move(gradients)});
      SHEAF_RETURN_IF_ERROR(cluster_.client().Push(std::move(tables)));
    }
    return {};
  }

  enum class Kind { kWhole, kChanges };
  Result<pb::CheckpointStatus> Make(Kind kind) {
    const std::string before = std::exchange(last_, "");
    SHEAF_ASSIGN_OR_RETURN(pb::CheckpointStatus status,
                           cluster_.client().CreateCheckpoint("", kind == Kind::kWhole));
    const TimePoint end = cluster_.clock().Now() + kMadeWithin;
    while (status.phase() == pb::CheckpointStatus::RUNNING) {
      SHEAF_RETURN_IF_ERROR(cluster_.Wait(end, "a checkpoint is made"));
      SHEAF_ASSIGN_OR_RETURN(status, cluster_.client().GetCheckpoint(status.id()));
    }
    if (status.phase() != pb::CheckpointStatus::COMMITTED) return Fail(ErrorCode::kInternal, status.detail());
    last_ = status.name();
    if (!before.empty()) SHEAF_RETURN_IF_ERROR(space_->RemoveFolder(before));
    return status;
  }

  // Seconds for so many bytes into one file, synced.
  Result<double> WriteRaw(uint64_t bytes) {
    const std::vector<std::byte> piece(size_t{1} << 20, std::byte{7});
    SHEAF_RETURN_IF_ERROR(space_->MakeFolder("raw"));
    const TimePoint begin = cluster_.clock().Now();
    SHEAF_ASSIGN_OR_RETURN(const auto sink, space_->Create("raw", "file"));
    for (uint64_t done = 0; done < bytes; done += piece.size()) SHEAF_RETURN_IF_ERROR(sink->Append(piece));
    SHEAF_RETURN_IF_ERROR(sink->Finish());
    const double seconds = ToSeconds(cluster_.clock().Now() - begin);
    SHEAF_RETURN_IF_ERROR(space_->RemoveFolder("raw"));
    return seconds;
  }

  // Examples a second from now until `end`.
  class Window {
   public:
    static Result<Window> Begin(Bench& bench) {
      Window window(bench);
      SHEAF_ASSIGN_OR_RETURN(window.examples_, bench.Examples());
      window.begin_ = bench.cluster_.clock().Now();
      return window;
    }
    Result<double> End(Duration length) {
      TrainingCluster& cluster = bench_.cluster_;
      while (cluster.clock().Now() < begin_ + length) SHEAF_RETURN_IF_ERROR(cluster.Wait(begin_ + 2 * length, "time"));
      SHEAF_ASSIGN_OR_RETURN(const uint64_t examples, bench_.Examples());
      return static_cast<double>(examples - examples_) / ToSeconds(cluster.clock().Now() - begin_);
    }

   private:
    explicit Window(Bench& bench) : bench_(bench) {}

    Bench& bench_;
    TimePoint begin_{};
    uint64_t examples_ = 0;
  };

 private:
  Result<uint64_t> Examples() {
    SHEAF_ASSIGN_OR_RETURN(const pb::ClusterStatus status, cluster_.client().GetStatus(JobId(0)));
    if (status.job_size() == 0) return Fail(ErrorCode::kInternal, "there is no job");
    return status.job(0).examples_total();
  }
  // Uniform, as hashed keys are: the same ones come again when all have come.
  HashedKey NextKey() {
    const uint64_t number = next_++ % rows_;
    return MixKey((uint64_t{1} << 40) + number);  // no feature of the job
  }

  const uint64_t rows_;
  TrainingCluster cluster_;
  std::unique_ptr<FileSpace> space_;
  std::string last_;  // that was made
  uint64_t next_ = 0;
};

Status MeasurePauses(Bench& bench, int pauses, Suite& suite) {
  std::vector<double> seconds;
  for (int i = 0; i < pauses; ++i) {
    SHEAF_ASSIGN_OR_RETURN(const auto made, bench.Make(Bench::Kind::kChanges));
    seconds.push_back(made.pause_seconds());
  }
  const double p99 = Quantile(seconds, 0.99);
  Row row = suite.Measured("workers stand still", StrCat("p99 of ", pauses), "s", One(p99), "target", One(kPauseBar),
                   p99 / kPauseBar, Bar::AtMost(1));
  row.remark = StrCat("median ", Quantile(seconds, 0.5), " s, longest ", Quantile(seconds, 1), " s");
  suite.Add(std::move(row));
  return {};
}

Status MeasureWhole(Bench& bench, int rounds, Suite& suite) {
  std::vector<double> ours, raw, speed_ratios, trained, quiet, training_ratios;
  for (int i = 0; i < rounds; ++i) {
    SHEAF_ASSIGN_OR_RETURN(auto before, Bench::Window::Begin(bench));
    SHEAF_ASSIGN_OR_RETURN(const double rate_before, before.End(kMinute / 2));
    SHEAF_ASSIGN_OR_RETURN(auto during, Bench::Window::Begin(bench));
    SHEAF_ASSIGN_OR_RETURN(const auto made, bench.Make(Bench::Kind::kWhole));
    SHEAF_ASSIGN_OR_RETURN(const double rate, during.End(kMinute));
    SHEAF_ASSIGN_OR_RETURN(auto after, Bench::Window::Begin(bench));
    SHEAF_ASSIGN_OR_RETURN(const double rate_after, after.End(kMinute / 2));
    SHEAF_ASSIGN_OR_RETURN(const double raw_seconds, bench.WriteRaw(made.bytes()));
    const double megabytes = static_cast<double>(made.bytes()) / 1e6;
    ours.push_back(megabytes / made.seconds());
    raw.push_back(megabytes / raw_seconds);
    speed_ratios.push_back(raw_seconds / made.seconds());
    trained.push_back(rate);
    quiet.push_back((rate_before + rate_after) / 2);
    training_ratios.push_back(rate / quiet.back());
  }
  suite.Add(suite.Measured("checkpoint written while training", StrCat(kServers, " servers"), "MB/s", SeriesOf(ours),
                   "one raw file", SeriesOf(raw), Quantile(speed_ratios, 0.5), Bar::AtLeast(kSpeedBar)));
  suite.Add(suite.Measured("training with a whole checkpoint a minute", "2 workers", "examples/s", SeriesOf(trained),
                   "without", SeriesOf(quiet), Quantile(training_ratios, 0.5), Bar::AtLeast(kTrainingBar)));
  return {};
}

Status MeasureChanges(Bench& bench, uint64_t rows, Suite& suite) {
  SHEAF_ASSIGN_OR_RETURN(const auto whole, bench.Make(Bench::Kind::kWhole));
  SHEAF_RETURN_IF_ERROR(bench.Touch(rows / 20));
  SHEAF_ASSIGN_OR_RETURN(const auto changed, bench.Make(Bench::Kind::kChanges));
  const auto megabytes = [](const pb::CheckpointStatus& status) { return static_cast<double>(status.bytes()) / 1e6; };
  suite.Add(suite.Measured("checkpoint after 5 % of rows have changed", "and those of training", "MB",
                   One(megabytes(changed)), "whole", One(megabytes(whole)), megabytes(changed) / megabytes(whole),
                   Bar::AtMost(kChangedBar)));
  return {};
}

}  // namespace

Status RunClusterCheckpoints(const ClusterCheckpointOptions& options, Suite& suite) {
  Bench bench(options);
  SHEAF_RETURN_IF_ERROR(bench.Start());
  SHEAF_RETURN_IF_ERROR(MeasureChanges(bench, options.rows_a_server * kServers, suite));
  SHEAF_RETURN_IF_ERROR(MeasureWhole(bench, options.rounds, suite));
  return MeasurePauses(bench, options.pauses, suite);
}

}  // namespace sheaf::bench
