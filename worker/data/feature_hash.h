// How strings become raw feature keys: XXH3 (64 bit, seeded). Internal to worker/data: include it from .cc files only.
#pragma once

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <string_view>

#include "common/base/random.h"

namespace sheaf {

inline uint64_t HashText(std::string_view text, uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

}  // namespace sheaf
