#include "common/base/result.h"

namespace sheaf {

std::string_view ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid argument";
    case ErrorCode::kNotFound: return "not found";
    case ErrorCode::kAlreadyExists: return "already exists";
    case ErrorCode::kTimeout: return "timeout";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kOverloaded: return "overloaded";
    case ErrorCode::kStaleEpoch: return "stale epoch";
    case ErrorCode::kClosed: return "closed";
    case ErrorCode::kPermissionDenied: return "permission denied";
    case ErrorCode::kVersionMismatch: return "version mismatch";
    case ErrorCode::kDataLoss: return "data loss";
    case ErrorCode::kResourceExhausted: return "resource exhausted";
    case ErrorCode::kCancelled: return "cancelled";
    case ErrorCode::kIo: return "i/o error";
    case ErrorCode::kInternal: return "internal error";
  }
  return "unknown error";
}

ErrorCode ErrorCodeFromWire(uint32_t number) {
  const bool known = number >= static_cast<uint32_t>(ErrorCode::kInvalidArgument) &&
                     number <= static_cast<uint32_t>(ErrorCode::kInternal);
  return known ? static_cast<ErrorCode>(number) : ErrorCode::kInternal;
}

}  // namespace sheaf
