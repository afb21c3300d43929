#include "compute/mix_keys.h"

#include "common/base/check.h"
#include "common/base/random.h"
#include "compute/kernel.h"

namespace sheaf {
namespace {

SHEAF_TARGET_CLONES void Mix(const uint64_t* raw, HashedKey* hashed, size_t count) {
  SHEAF_INDEPENDENT
  for (size_t i = 0; i < count; ++i) hashed[i] = MixKey(raw[i]);
}

}  // namespace

void MixKeys(std::span<const uint64_t> raw, std::span<HashedKey> hashed) {
  SHEAF_CHECK(raw.size() == hashed.size());
  Mix(raw.data(), hashed.data(), raw.size());
}

}  // namespace sheaf
