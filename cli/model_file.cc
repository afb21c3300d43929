#include "cli/model_file.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <bit>

#include "cli/job_file.h"
#include "cli/safetensors.h"
#include "common/base/check.h"
#include "common/base/random.h"
#include "common/job/job_validate.h"

namespace sheaf::cli {
namespace {

constexpr char kFormat[] = "sheaf-model";
constexpr char kVersion[] = "1";

std::vector<uint64_t> Unmixed(const std::vector<HashedKey>& keys) {
  std::vector<uint64_t> plain(keys.size());
  std::transform(keys.begin(), keys.end(), plain.begin(), UnmixKey);
  return plain;
}

template <typename T>
TensorView View(const std::string& name, TensorType type, std::vector<uint64_t> shape, const std::vector<T>& values) {
  return {name, type, std::move(shape), std::as_bytes(std::span(values))};
}

Result<std::string> Metadata(const SafetensorsReader& file, const std::string& path, const std::string& name) {
  const auto found = file.metadata().find(name);
  if (found == file.metadata().end()) {
    return Fail(ErrorCode::kDataLoss, path, " is not a model of sheaf: its metadata has no \"", name, "\"");
  }
  return found->second;
}

Result<StoredRows> ReadRows(SafetensorsReader& file, const std::string& path, const std::string& keys_name,
                            const std::string& rows_name) {
  SHEAF_ASSIGN_OR_RETURN(std::vector<uint64_t> keys, file.ReadU64(keys_name, 1));
  SHEAF_ASSIGN_OR_RETURN(std::vector<float> rows, file.ReadF32(rows_name, 2));
  const auto& shape = file.tensors().at(rows_name).shape;
  if (shape[0] != keys.size() || shape[1] == 0 || shape[1] > 65536) {
    return Fail(ErrorCode::kDataLoss, path, ": ", rows_name, " is [", shape[0], ", ", shape[1], "], ", keys_name,
                " has ", keys.size(), " keys");
  }
  std::transform(keys.begin(), keys.end(), keys.begin(), MixKey);
  if (std::adjacent_find(keys.begin(), keys.end(), std::greater_equal<>()) != keys.end()) {
    return Fail(ErrorCode::kDataLoss, path, ": ", keys_name, " is not in the order of hashed keys");
  }
  return StoredRows(static_cast<uint32_t>(shape[1]), std::move(keys), std::move(rows));
}

}  // namespace

StoredRows::StoredRows(uint32_t dim, std::vector<HashedKey> keys, std::vector<float> rows)
    : dim_(dim), keys_(std::move(keys)), rows_(std::move(rows)) {
  SHEAF_CHECK(rows_.size() == keys_.size() * dim_, rows_.size(), " numbers for ", keys_.size(), " rows of ", dim_);
  BuildIndex();
}

void StoredRows::Append(HashedKey key, std::span<const float> row) {
  SHEAF_CHECK(row.size() == dim_ && (keys_.empty() || key > keys_.back()), "row out of order");
  if (std::all_of(row.begin(), row.end(), [](float value) { return value == 0; })) return;
  keys_.push_back(key);
  rows_.insert(rows_.end(), row.begin(), row.end());
}

void StoredRows::BuildIndex() {
  bucket_bits_ = std::clamp(static_cast<int>(std::bit_width(keys_.size())) - 1, 1, 32);
  bucket_begin_.assign((size_t{1} << bucket_bits_) + 1, keys_.size());
  size_t bucket = 0;
  for (size_t i = 0; i < keys_.size(); ++i) {
    for (const size_t own = keys_[i] >> (64 - bucket_bits_); bucket <= own; ++bucket) bucket_begin_[bucket] = i;
  }
}

void StoredRows::Lookup(std::span<const HashedKey> wanted, std::span<float> out) const {
  SHEAF_CHECK(!bucket_begin_.empty() && out.size() == wanted.size() * dim_, "lookup without index or room");
  for (size_t i = 0; i < wanted.size(); ++i) {
    const size_t bucket = wanted[i] >> (64 - bucket_bits_);
    const auto end = keys_.begin() + static_cast<std::ptrdiff_t>(bucket_begin_[bucket + 1]);
    const auto found =
        std::lower_bound(keys_.begin() + static_cast<std::ptrdiff_t>(bucket_begin_[bucket]), end, wanted[i]);
    float* row = out.data() + i * dim_;
    if (found == end || *found != wanted[i]) {
      std::fill_n(row, dim_, 0.0f);
    } else {
      std::copy_n(rows_.data() + static_cast<size_t>(found - keys_.begin()) * dim_, dim_, row);
    }
  }
}

Status SaveModel(const std::string& path, const StoredModel& model) {
  std::string spec;
  if (!google::protobuf::TextFormat::PrintToString(model.spec, &spec)) {
    return Fail(ErrorCode::kInternal, "the job cannot be written as text");
  }
  const std::vector<uint64_t> keys = Unmixed(model.weights.keys());
  const std::vector<uint64_t> statistics_keys = Unmixed(model.statistics.keys());
  std::vector<TensorView> tensors = {View("keys", TensorType::kU64, {keys.size()}, keys)};
  const bool has_statistics = model.statistics.size() > 0;
  if (has_statistics) {
    tensors.push_back(View("statistics_keys", TensorType::kU64, {statistics_keys.size()}, statistics_keys));
  }
  tensors.push_back(View("weights", TensorType::kF32, {keys.size(), model.weights.dim()}, model.weights.rows()));
  if (!model.bias.empty()) tensors.push_back(View("bias", TensorType::kF32, {model.bias.size()}, model.bias));
  if (has_statistics) {
    tensors.push_back(View("statistics", TensorType::kF32, {statistics_keys.size(), model.statistics.dim()},
                           model.statistics.rows()));
  }
  return WriteSafetensors(path, {{"format", kFormat}, {"format_version", kVersion}, {"job", spec}}, tensors);
}

Result<StoredModel> LoadModel(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(SafetensorsReader file, SafetensorsReader::Open(path));
  SHEAF_ASSIGN_OR_RETURN(const std::string format, Metadata(file, path, "format"));
  if (format != kFormat)
    return Fail(ErrorCode::kDataLoss, path, " is not a model of sheaf: its format is \"", format, "\"");
  SHEAF_ASSIGN_OR_RETURN(const std::string version, Metadata(file, path, "format_version"));
  if (version != kVersion) {
    return Fail(ErrorCode::kVersionMismatch, path, " has format version ", version, ", this sheaf reads ", kVersion,
                ": use a newer sheaf");
  }
  SHEAF_ASSIGN_OR_RETURN(const std::string job_text, Metadata(file, path, "job"));
  SHEAF_ASSIGN_OR_RETURN(JobFile job, ParseJobText(job_text, path + " (job)"));
  if (const Status valid = ValidateJob(job.spec); !valid) {
    return Fail(ErrorCode::kDataLoss, path, " holds a job that is not valid: ", valid.error().message);
  }
  StoredModel model;
  model.spec = std::move(job.spec);
  SHEAF_ASSIGN_OR_RETURN(model.weights, ReadRows(file, path, "keys", "weights"));
  if (file.tensors().contains("bias")) {
    SHEAF_ASSIGN_OR_RETURN(model.bias, file.ReadF32("bias", 1));
  }
  if (file.tensors().contains("statistics_keys")) {
    SHEAF_ASSIGN_OR_RETURN(model.statistics, ReadRows(file, path, "statistics_keys", "statistics"));
  }
  return model;
}

}  // namespace sheaf::cli
