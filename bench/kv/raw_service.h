// What the limits' servers do with a request, whatever wire it came over: a fixed header, keys, numbers, a table.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/kv/minimal_table.h"

namespace sheaf::bench {

enum class RawOp : uint32_t { kDensePush = 1, kDensePull, kDensePushPull, kSparsePush, kSparsePull };

struct RawHeader {
  RawOp op = RawOp::kDensePull;
  uint32_t table = 0;
  uint64_t keys = 0;         // 8 bytes each
  uint64_t value_bytes = 0;  // of the request
  uint64_t reply_bytes = 0;  // wanted
  uint8_t padding[32] = {};
};
static_assert(sizeof(RawHeader) == 64);

struct SparseSpec {
  uint32_t table = 0;
  size_t rows = 0;
  uint32_t dim = 0;
  bool adagrad = false;
};

class RawService {
 public:
  RawService(size_t dense_floats, const std::vector<SparseSpec>& sparse);

  // Carries the request out; `reply` has header.reply_bytes.
  void Handle(const RawHeader& header, std::span<const HashedKey> keys, const float* values, std::byte* reply);

 private:
  MinimalTable& TableOf(uint32_t table);  // made at its first use

  std::vector<float> dense_;
  const std::vector<SparseSpec> specs_;
  std::vector<std::unique_ptr<MinimalTable>> sparse_;  // by table id
};

}  // namespace sheaf::bench
