// What a fuzz target defines. Bytes that are no valid input must be answered with an Error, never with a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace sheaf {

// Valid inputs to start mutating from, for the replay in the tests. Optional.
std::vector<std::string> FuzzSeeds() __attribute__((weak));

}  // namespace sheaf
