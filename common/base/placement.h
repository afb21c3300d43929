// The name of a set of partitions with their epochs, so that a request can say "all that you have" in eight bytes.
//
// Client and server compute it from the same configuration. Two sets share a name by chance once in 2^64.
#pragma once

#include <cstdint>
#include <span>

#include "common/base/random.h"

namespace sheaf {

// `epochs` is as long as `partitions`.
constexpr uint64_t PlacementSignature(std::span<const uint32_t> partitions, std::span<const uint64_t> epochs) {
  uint64_t signature = partitions.size();
  for (size_t i = 0; i < partitions.size(); ++i) {
    signature = MixPair(MixPair(signature, partitions[i]), epochs[i]);
  }
  return signature;
}

}  // namespace sheaf
