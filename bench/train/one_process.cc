#include "bench/train/one_process.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "common/runtime/mailbox.h"
#include "compute/batch.h"
#include "compute/model/model.h"
#include "compute/optim/optimizer.h"
#include "server/table_rows.h"
#include "worker/data/data_source.h"

namespace sheaf::bench {
namespace {

using BatchPointer = std::shared_ptr<const Batch>;

// Everything a server keeps of a table, in one partition.
class Table {
 public:
  explicit Table(const pb::OptimizerSpec& spec, uint32_t dim)
      : dim_(dim), optimizer_(MakeOptimizer(spec).value()), layout_(Layout()), table_(&layout_, 1) {}

  void Pull(std::span<const HashedKey> keys, float* values) {
    ForEachLookup(keys.size(), [&](size_t first, size_t count) {
      table_.FindOrCreate(keys.subspan(first, count), rows_, nullptr);
      for (size_t i = 0; i < count; ++i) std::copy_n(rows_[i], dim_, values + (first + i) * dim_);
    });
  }
  void Push(std::span<const HashedKey> keys, const float* gradients) {
    ForEachLookup(keys.size(), [&](size_t first, size_t count) {
      table_.FindOrCreate(keys.subspan(first, count), rows_, nullptr);
      optimizer_->Apply({rows_, count}, gradients + first * dim_, dim_, 1.0f);
    });
  }

 private:
  RowLayout Layout() const {
    RowLayout layout;
    layout.dim = dim_;
    layout.stride = dim_ + optimizer_->StateDim(dim_);
    layout.optimizer = optimizer_.get();
    return layout;
  }

  const uint32_t dim_;
  const std::unique_ptr<Optimizer> optimizer_;
  const RowLayout layout_;
  TableRows table_;
  float* rows_[kMaxLookupKeys];
};

Status ReadAll(const pb::JobSpec& spec, const std::string& folder, const pb::DataPlan& plan,
               Mailbox<BatchPointer>& out) {
  SHEAF_ASSIGN_OR_RETURN(const auto source, MakeDataSource(spec, folder));
  const size_t batch_size = spec.train().batch_size();
  for (const pb::PlanFile& file : plan.file()) {
    for (uint64_t first = 0; first < file.rows(); first += file.rows_per_range()) {
      pb::RangeSpec range;
      range.set_path(file.path());
      range.set_first_row(first);
      range.set_row_count(static_cast<uint32_t>(std::min<uint64_t>(file.rows_per_range(), file.rows() - first)));
      range.set_byte_offset(file.offset(static_cast<int>(first / file.rows_per_range())));
      range.set_file_bytes(file.bytes());
      SHEAF_ASSIGN_OR_RETURN(const RowBlock rows, source->ReadRange(range));
      for (size_t begin = 0; begin < rows.size(); begin += batch_size) {
        const size_t count = std::min(batch_size, rows.size() - begin);
        SHEAF_RETURN_IF_ERROR(out.TryPut(std::make_shared<const Batch>(MakeBatch(rows, begin, count, {}))));
      }
    }
  }
  return {};
}

}  // namespace

Result<double> TrainInOneProcess(const pb::JobSpec& spec, const std::string& folder) {
  SHEAF_ASSIGN_OR_RETURN(const pb::DataPlan plan, PlanData(spec, folder, nullptr));
  SHEAF_ASSIGN_OR_RETURN(const auto model, MakeModel(spec.model()));
  uint64_t rows = 0;
  for (const pb::PlanFile& file : plan.file()) rows += file.rows();
  Table weights(spec.optimizer(), static_cast<uint32_t>(model->row_dim()));
  Table bias(spec.optimizer(), 1);
  const std::vector<HashedKey> bias_key{1};
  std::vector<float> pulled, gradient, bias_value(1), bias_gradient(1);
  uint64_t examples = 0;
  const auto train = [&](const Batch& batch) {
    const auto dim = static_cast<size_t>(model->row_dim());
    pulled.resize(batch.keys->size() * dim);
    gradient.resize(pulled.size());
    weights.Pull(*batch.keys, pulled.data());
    bias.Pull(bias_key, bias_value.data());
    model->Gradient(batch, pulled, bias_value, gradient, bias_gradient);
    weights.Push(*batch.keys, gradient.data());
    bias.Push(bias_key, bias_gradient.data());
    examples += batch.size();
  };

  const auto begin = std::chrono::steady_clock::now();
  Mailbox<BatchPointer> read(rows / spec.train().batch_size() + plan.file_size() + 2);
  Status reading;
  std::thread reader([&] {
    reading = ReadAll(spec, folder, plan, read);
    read.Close();
  });
  std::vector<BatchPointer> batches;
  while (examples < rows) {
    std::optional<BatchPointer> batch = read.Take(std::chrono::milliseconds(100));
    if (!batch && read.closed()) break;
    if (!batch) continue;
    train(**batch);
    batches.push_back(std::move(*batch));
  }
  reader.join();
  SHEAF_RETURN_IF_ERROR(reading);
  for (uint32_t epoch = 1; epoch < spec.train().epochs(); ++epoch) {
    for (const BatchPointer& batch : batches) train(*batch);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return static_cast<double>(examples) / seconds;
}

}  // namespace sheaf::bench
