// What this build is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sheaf {

// Raised by every change that an older build would misread. Builds talk to each other only under the same number.
inline constexpr uint32_t kWireVersion = 3;

std::string_view BuildVersion();  // 0.1.0
std::string_view BuildCommit();   // short git commit as of configuring, or "unknown"
std::string BuildText();          // sheaf 0.1.0 (commit 203d086, wire 3)

}  // namespace sheaf
