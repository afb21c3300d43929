// What our programs answer to the shell that started them.
#pragma once

#include "common/base/result.h"

namespace sheaf {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;        // the job or command failed
inline constexpr int kExitUsage = 2;         // wrong flags or arguments
inline constexpr int kExitNotFound = 3;
inline constexpr int kExitTimeout = 5;
inline constexpr int kExitUnavailable = 6;   // nobody answers
inline constexpr int kExitPermission = 7;
inline constexpr int kExitBug = 70;          // ours (EX_SOFTWARE)
inline constexpr int kExitConfig = 78;       // wrong configuration (EX_CONFIG)

constexpr int ExitCodeOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return kExitConfig;
    case ErrorCode::kNotFound: return kExitNotFound;
    case ErrorCode::kTimeout: return kExitTimeout;
    case ErrorCode::kUnavailable:
    case ErrorCode::kOverloaded: return kExitUnavailable;
    case ErrorCode::kPermissionDenied: return kExitPermission;
    case ErrorCode::kInternal: return kExitBug;
    default: return kExitFailed;
  }
}

}  // namespace sheaf
