// A trained model as a file: what `sheaf export` writes and `sheaf predict` reads. See docs/model-format.md.
//
// Ownership: plain values. Equal models give equal bytes. Thread-safety: many threads may read a const StoredModel.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf::cli {

// Rows of a table by hashed key, for lookups in batches.
class StoredRows {
 public:
  StoredRows() = default;
  // `keys` ascending and distinct, `rows` [n, dim].
  StoredRows(uint32_t dim, std::vector<HashedKey> keys, std::vector<float> rows);

  size_t size() const { return keys_.size(); }
  uint32_t dim() const { return dim_; }
  const std::vector<HashedKey>& keys() const { return keys_; }
  const std::vector<float>& rows() const { return rows_; }

  // Adds a row; its key must be greater than all before. Rows of zeros only are left out: absent means zero.
  void Append(HashedKey key, std::span<const float> row);
  // Call after the last Append, before the first Lookup.
  void BuildIndex();
  // The rows of `wanted` into out [wanted.size(), dim]; zeros for keys that are not there.
  void Lookup(std::span<const HashedKey> wanted, std::span<float> out) const;

 private:
  uint32_t dim_ = 1;
  std::vector<HashedKey> keys_;
  std::vector<float> rows_;
  // Hashed keys are uniform, so their top bits are a good hash: bucket b is [bucket_begin_[b], bucket_begin_[b + 1]).
  std::vector<uint64_t> bucket_begin_;
  int bucket_bits_ = 0;
};

struct StoredModel {
  pb::JobSpec spec;
  StoredRows weights;
  std::vector<float> bias;  // [bias_dim], empty without bias
  StoredRows statistics;    // size 0 if the job needs none
};

Status SaveModel(const std::string& path, const StoredModel& model);
// kDataLoss: no model of ours, or a damaged one. kVersionMismatch: of a newer sheaf.
Result<StoredModel> LoadModel(const std::string& path);

}  // namespace sheaf::cli
