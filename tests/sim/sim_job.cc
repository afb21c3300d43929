#include "tests/sim/sim_job.h"

#include <algorithm>
#include <cmath>

#include "common/base/partition.h"
#include "common/base/random.h"

namespace sheaf::sim {
namespace {

const std::string kSparseName = "counting-sparse";

uint64_t HashOf(BatchName batch) {
  const auto [pass, range, number] = batch;
  return MixPair(MixPair(pass, range), number);
}

bool IsSparse(const pb::JobSpec& spec) { return spec.name() == kSparseName; }

HashedKey HotKey(uint32_t hot, uint32_t partition_count) {
  return PartitionFirstKey(PartitionId(hot % partition_count), partition_count) + hot;
}

}  // namespace

bool HasOwnRow(BatchName batch, PartitionId partition, uint32_t partition_count, bool sparse) {
  if (!sparse) return true;
  const uint64_t hash = HashOf(batch);
  return hash % partition_count == partition.value || MixPair(hash, partition.value) % 4 == 0;  // at least one
}

bool TouchesHotRow(BatchName batch, uint32_t hot, bool sparse) {
  return !sparse || MixPair(HashOf(batch), ~uint64_t{hot}) % 2 == 0;
}

pb::JobSpec MakeSimJob(const SimJobSize& size, pb::ConsistencySpec::Mode mode, uint32_t staleness, uint32_t workers) {
  pb::JobSpec spec;
  spec.set_name(size.sparse ? kSparseName : "counting");
  spec.mutable_data()->set_format(size.statistics ? pb::DataSpec::TEXT : pb::DataSpec::LIBSVM);
  if (size.statistics) spec.mutable_data()->mutable_text()->set_weighting(pb::TextSpec::TF_IDF);
  spec.mutable_data()->add_train(std::to_string(size.rows));  // the name of the file is its length
  spec.mutable_model()->set_bias(false);
  spec.mutable_model()->set_loss(pb::ModelSpec::SOFTMAX);
  spec.mutable_model()->set_classes(kDim);
  spec.mutable_optimizer()->set_kind(pb::OptimizerSpec::SGD);
  spec.mutable_optimizer()->set_learning_rate(1);
  pb::TrainSpec& train = *spec.mutable_train();
  train.set_epochs(size.epochs);
  train.set_batch_size(size.batch_size);
  train.set_range_batches(size.range_batches);
  train.set_workers(workers);
  if (size.valid_rows > 0) spec.mutable_data()->add_valid(std::to_string(size.valid_rows));
  spec.set_durability(size.durability);
  spec.mutable_wire()->set_push(size.push);
  spec.mutable_wire()->set_pull(size.pull);
  spec.mutable_consistency()->set_mode(mode);
  spec.mutable_consistency()->set_staleness(staleness);
  return spec;
}

pb::DataPlan MakeSimPlan(const pb::JobSpec& spec, uint64_t job) {
  pb::DataPlan plan;
  plan.set_job(job);
  const auto add = [&](uint32_t split, const std::string& path) {
    pb::PlanFile& file = *plan.add_file();
    file.set_split(split);
    file.set_path(path);
    file.set_rows(std::stoull(path));
    file.set_rows_per_range(spec.train().batch_size() * spec.train().range_batches());
    for (uint64_t first = 0; first < file.rows(); first += file.rows_per_range()) file.add_offset(first);
  };
  add(0, spec.data().train(0));
  if (spec.data().valid_size() > 0) add(1, spec.data().valid(0));
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

bool IsHotKey(HashedKey key, uint32_t partition_count) {
  return key - PartitionFirstKey(PartitionOf(key, partition_count), partition_count) < kHotRows;
}

LoadedBatches MakeSimBatches(const pb::LeaseGrant& grant, const pb::JobSpec& spec, uint32_t partition_count) {
  LoadedBatches batches;
  const uint32_t batch_size = spec.train().batch_size();
  for (uint32_t first = 0, number = 0; first < grant.rows().row_count(); first += batch_size, ++number) {
    auto batch = std::make_shared<Batch>();
    batch->labels.resize(std::min(batch_size, grant.rows().row_count() - first));
    std::vector<HashedKey> keys;
    const BatchName name{grant.pass(), grant.range(), number};
    for (uint32_t p = 0; p < partition_count; ++p) {
      if (HasOwnRow(name, PartitionId(p), partition_count, IsSparse(spec)))
        keys.push_back(OwnKey(name, PartitionId(p), partition_count));
    }
    for (uint32_t hot = 0; hot < kHotRows; ++hot) {
      if (TouchesHotRow(name, hot, IsSparse(spec))) keys.push_back(HotKey(hot, partition_count));
    }
    std::sort(keys.begin(), keys.end());
    batch->keys = std::make_shared<const std::vector<HashedKey>>(std::move(keys));
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::map<HashedKey, uint32_t> SimStatistics(const pb::LeaseGrant& grant, const pb::JobSpec& spec,
                                            uint32_t partition_count) {
  const auto rows = static_cast<uint32_t>(std::stoul(spec.data().train(0)));
  const uint32_t range_rows = spec.train().batch_size() * spec.train().range_batches();
  const uint32_t ranges = (rows + range_rows - 1) / range_rows;
  std::map<HashedKey, uint32_t> hot_counts;
  for (uint32_t first = 0; first < rows; first += spec.train().batch_size()) {
    const uint32_t range = first / range_rows, batch = first % range_rows / spec.train().batch_size();
    for (uint32_t hot = 0; hot < kHotRows; ++hot) {
      hot_counts[HotKey(hot, partition_count)] += TouchesHotRow({0, range, batch}, hot, IsSparse(spec));
    }
  }
  pb::LeaseGrant counted;
  counted.set_range(grant.range() % ranges);
  counted.mutable_rows()->set_row_count(std::min(range_rows, rows - counted.range() * range_rows));
  std::map<HashedKey, uint32_t> counts;
  for (const auto& batch : MakeSimBatches(counted, spec, partition_count)) {
    for (const HashedKey key : *batch->keys) counts[key] = IsHotKey(key, partition_count) ? hot_counts[key] : 1;
  }
  return counts;
}

std::vector<TableKeys> CountingStep::Needs(pb::PassKind kind, const Batch& batch) const {
  if (kind == pb::STATISTICS) return {};
  return {{weights_, batch.keys}};
}

Result<StepResult> CountingStep::Run(pb::PassKind kind, const Batch& batch,
                                     const std::vector<Floats>& pulled, pb::EvalCounts& eval) const {
  StepResult result;
  result.loss_sum = static_cast<double>(batch.size());
  if (kind == pb::STATISTICS) {
    result.gradients.push_back({statistics_, batch.keys, std::vector<float>(batch.keys->size(), 1.0F)});
    return result;
  }
  if (kind != pb::TRAIN) {
    eval.set_examples(eval.examples() + batch.size());
    return result;
  }
  uint64_t name = 0;
  for (const HashedKey key : *batch.keys) name = MixPair(name, key);
  const float stamp = static_cast<float>(1 + MixPair(stamps_, ++computed_) % 255) / 1024;
  float seen = 0;  // of all hot rows: what one shard answered must matter to what is pushed to another
  for (size_t i = 0; i < pulled[0].size(); ++i) {
    if (IsHotKey((*batch.keys)[i / kDim], partition_count_)) seen += pulled[0][i];
  }
  std::vector<float> gradients;
  for (size_t i = 0; i < pulled[0].size(); ++i) {
    const HashedKey key = (*batch.keys)[i / kDim];
    const bool hot = IsHotKey(key, partition_count_);
    if (bsp_ && hot) {
      // Of very different sizes, so that nearly every sum is rounded, and its order shows.
      const uint64_t drawn = MixPair(MixPair(name, key), i % kDim);
      gradients.push_back(seen / 16 - std::ldexp(static_cast<float>(drawn >> 40), -24 - static_cast<int>(drawn % 12)));
    } else {
      gradients.push_back(bsp_ || hot ? -1.0F : -1.0F - stamp);
    }
  }
  result.gradients.push_back({weights_, batch.keys, std::move(gradients)});
  return result;
}

}  // namespace sheaf::sim
