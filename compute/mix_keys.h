// Hashing many keys at once.
#pragma once

#include <cstdint>
#include <span>

#include "common/base/ids.h"

namespace sheaf {

// hashed[i] = MixKey(raw[i]), of the width the processor has. The two may be the same memory; equal lengths.
void MixKeys(std::span<const uint64_t> raw, std::span<HashedKey> hashed);

}  // namespace sheaf
