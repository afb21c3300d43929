// What a fuzz target defines. Bytes that are no valid input must be answered with an Error, never with a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/base/random.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sheaf {

// How the replay in the tests changes an input, where flipped bits would only make it unreadable. Optional.
void FuzzMutate(std::string& input, Random& random) __attribute__((weak));

}  // namespace sheaf
