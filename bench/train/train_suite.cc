#include "bench/train/train_suite.h"

#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <iomanip>
#include <sstream>

#include "bench/train/job_run.h"
#include "bench/train/one_process.h"
#include "bench/train/reader_suite.h"
#include "bench/train/sample_rows.h"
#include "common/runtime/temp_folder.h"
#include "common/base/strings.h"
#include "common/runtime/memory.h"

namespace sheaf::bench {
namespace {

Status WriteRows(const std::string& folder, size_t rows) {
  std::ofstream file(folder + "/rows", std::ios::binary);
  file << LibsvmRows(rows, LibsvmValues::kOnes, 1);
  if (!file.flush()) return Fail(ErrorCode::kIo, "cannot write into ", folder);
  return {};
}

pb::JobSpec LibsvmJob(uint32_t batch_size, uint32_t epochs) {
  pb::JobSpec spec;
  spec.set_name("bench");
  spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  spec.mutable_data()->add_train("rows");
  spec.mutable_model()->set_loss(pb::ModelSpec::LOGISTIC);
  spec.mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD);
  spec.mutable_train()->set_batch_size(batch_size);
  spec.mutable_train()->set_range_batches(4);
  spec.mutable_train()->set_epochs(epochs);
  spec.mutable_consistency()->set_mode(pb::ConsistencySpec::SSP);
  spec.mutable_consistency()->set_staleness(8);
  return spec;
}

Status RunLinear(Suite& suite, uint32_t epochs) {
  Case linear;
  linear.name = "train linear";
  linear.params = StrCat("batch 10,000, ", epochs, epochs == 1 ? " epoch" : " epochs");
  linear.unit = "ex/s";
  if (!suite.Wanted(linear.name, linear.params)) return {};
  const TempFolder folder;
  SHEAF_RETURN_IF_ERROR(WriteRows(folder.path(), 1'000'000));
  const pb::JobSpec spec = LibsvmJob(10'000, epochs);
  linear.ours = [&] { return ExamplesPerSecond(spec, folder.path(), {}); };
  linear.limit_name = "one process, no wire";
  linear.limit = [&] { return TrainInOneProcess(spec, folder.path()); };
  linear.bar = Bar::AtLeast(0.6);
  return suite.Run(linear);
}

double ChildSeconds() {
  rusage usage{};
  getrusage(RUSAGE_CHILDREN, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A run, and how many processors its processes kept busy from its first to its last moment.
Result<double> Measured(const pb::JobSpec& spec, const std::string& folder, const JobRun& run, double& processors) {
  const auto begin = std::chrono::steady_clock::now();
  const double before = ChildSeconds();
  Result<double> rate = ExamplesPerSecond(spec, folder, run);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
  processors = (ChildSeconds() - before) / wall.count();
  return rate;
}

Status RunScaled(Suite& suite, const TempFolder& folder, const std::string& params, const pb::JobSpec& spec,
                 const Bar& bar) {
  Case scale;
  scale.name = "2 + 2 processes";
  scale.params = params;
  scale.unit = "ex/s";
  if (!suite.Wanted(scale.name, scale.params)) return {};
  double of_two = 0, of_one = 0;
  scale.ours = [&] { return Measured(spec, folder.path(), {.servers = 2, .workers = 2}, of_two); };
  scale.limit_name = "1 + 1 processes";
  scale.limit = [&] { return Measured(spec, folder.path(), {.servers = 1, .workers = 1}, of_one); };
  scale.bar = bar;
  scale.remark = [&] {
    std::ostringstream text;
    text << std::fixed << std::setprecision(2) << of_two << " processors busy, " << of_one << " with 1 + 1";
    return text.str();
  };
  return suite.Run(scale);
}

}  // namespace

Status RunTrain(const TrainOptions& options, Suite& suite) {
  KeepFreedMemory();  // as every process of ours does
  SHEAF_RETURN_IF_ERROR(RunReaders({.seconds = options.seconds}, suite));
  SHEAF_RETURN_IF_ERROR(RunLinear(suite, 1));
  return RunLinear(suite, 10);
}

Status RunScale(Suite& suite) {
  const TempFolder folder;
  SHEAF_RETURN_IF_ERROR(WriteRows(folder.path(), 1'000'000));
  pb::JobSpec machine = LibsvmJob(4096, 5);
  machine.mutable_model()->set_kind(pb::ModelSpec::FACTORIZATION_MACHINE);
  machine.mutable_model()->set_factors(16);
  // The bar is for what peers' 1.37 was measured with. Where 1 + 1 keeps most of a small host's processors busy, more
  // processes have nothing to gain there: the remark says how many.
  SHEAF_RETURN_IF_ERROR(RunScaled(suite, folder, "linear, batch 10,000", LibsvmJob(10'000, 10), Bar::AtLeast(1.3)));
  SHEAF_RETURN_IF_ERROR(RunScaled(suite, folder, "linear, batch 1,000", LibsvmJob(1000, 10), {}));
  return RunScaled(suite, folder, "FM, 16 factors, batch 4,096", machine, {});
}

}  // namespace sheaf::bench
