#include "tests/sim/sim_job.h"

#include <algorithm>

#include "common/base/partition.h"
#include "common/base/random.h"

namespace sheaf::sim {
namespace {

constexpr uint32_t kHotRows = 4;

}  // namespace

pb::JobSpec MakeSimJob(const SimJobSize& size, pb::ConsistencySpec::Mode mode, uint32_t staleness, uint32_t workers) {
  pb::JobSpec spec;
  spec.set_name("counting");
  spec.mutable_data()->set_format(pb::DataSpec::LIBSVM);
  spec.mutable_data()->add_train(std::to_string(size.rows));  // the name of the file is its length
  spec.mutable_model()->set_bias(false);
  spec.mutable_optimizer()->set_kind(pb::OptimizerSpec::SGD);
  spec.mutable_optimizer()->set_learning_rate(1);
  pb::TrainSpec& train = *spec.mutable_train();
  train.set_epochs(size.epochs);
  train.set_batch_size(size.batch_size);
  train.set_range_batches(size.range_batches);
  train.set_workers(workers);
  spec.mutable_consistency()->set_mode(mode);
  spec.mutable_consistency()->set_staleness(staleness);
  return spec;
}

pb::DataPlan MakeSimPlan(const pb::JobSpec& spec, uint64_t job) {
  pb::DataPlan plan;
  plan.set_job(job);
  pb::PlanFile& file = *plan.add_file();
  file.set_split(0);
  file.set_path(spec.data().train(0));
  file.set_rows(std::stoull(spec.data().train(0)));
  file.set_rows_per_range(spec.train().batch_size() * spec.train().range_batches());
  return plan;
}

HashedKey OwnKey(BatchName batch, PartitionId partition, uint32_t partition_count) {
  const auto [pass, range, number] = batch;
  const HashedKey first = PartitionFirstKey(partition, partition_count);
  const HashedKey width = PartitionLastKey(partition, partition_count) - first;
  // Dense in the low bits, so that two batches never share a row.
  const uint64_t place = (static_cast<uint64_t>(pass) << 40 | static_cast<uint64_t>(range) << 16 | number) + kHotRows;
  return first + place % width;
}

LoadedBatches MakeSimBatches(const pb::LeaseGrant& grant, const pb::JobSpec& spec, uint32_t partition_count) {
  LoadedBatches batches;
  const uint32_t batch_size = spec.train().batch_size();
  for (uint32_t first = 0, number = 0; first < grant.rows().row_count(); first += batch_size, ++number) {
    auto batch = std::make_shared<Batch>();
    batch->labels.resize(std::min(batch_size, grant.rows().row_count() - first));
    std::vector<HashedKey> keys;
    const BatchName name{grant.pass(), grant.range(), number};
    for (uint32_t p = 0; p < partition_count; ++p) keys.push_back(OwnKey(name, PartitionId(p), partition_count));
    for (uint32_t hot = 0; hot < kHotRows; ++hot) keys.push_back(PartitionFirstKey(PartitionId(hot % partition_count), partition_count) + hot);
    std::sort(keys.begin(), keys.end());
    batch->keys = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<TableKeys> CountingStep::Needs(pb::PassKind, const Batch& batch) const {
  return {{weights_, batch.keys}};
}

StepResult CountingStep::Run(pb::PassKind, const Batch& batch, const std::vector<std::vector<float>>& pulled,
                             pb::EvalCounts&) const {
  StepResult result;
  result.gradients.push_back({weights_, batch.keys, std::vector<float>(pulled[0].size(), -amount_)});
  result.loss_sum = static_cast<double>(batch.size());
  return result;
}

}  // namespace sheaf::sim
