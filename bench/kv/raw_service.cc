#include "bench/kv/raw_service.h"

#include <algorithm>
#include <cstring>

#include "compute/kernel.h"

namespace sheaf::bench {
namespace {

SHEAF_TARGET_CLONES void Descend(float* weights, const float* gradients, size_t count) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) weights[i] -= 0.01f * gradients[i];
}

}  // namespace

RawService::RawService(size_t dense_floats, const std::vector<SparseSpec>& sparse)
    : dense_(dense_floats), specs_(sparse) {}

MinimalTable& RawService::TableOf(uint32_t table) {
  if (sparse_.size() <= table) sparse_.resize(table + 1);
  if (sparse_[table] == nullptr) {
    const auto spec = std::ranges::find(specs_, table, &SparseSpec::table);
    sparse_[table] = std::make_unique<MinimalTable>(spec->rows, spec->dim, spec->adagrad);
  }
  return *sparse_[table];
}

void RawService::Handle(const RawHeader& header, std::span<const HashedKey> keys, const float* values,
                        std::byte* reply) {
  switch (header.op) {
    case RawOp::kDensePush:
      return Descend(dense_.data(), values, header.value_bytes / sizeof(float));
    case RawOp::kDensePushPull:
      Descend(dense_.data(), values, header.value_bytes / sizeof(float));
      [[fallthrough]];
    case RawOp::kDensePull:
      std::memcpy(reply, dense_.data(), header.reply_bytes);
      return;
    case RawOp::kSparsePush:
      return TableOf(header.table).Push(keys, values);
    case RawOp::kSparsePull:
      return TableOf(header.table).Pull(keys, reinterpret_cast<float*>(reply));
  }
}

}  // namespace sheaf::bench
