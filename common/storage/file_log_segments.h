// The files of a log (file_log.h): what they are called, and which there are.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/base/result.h"

namespace sheaf {

std::string SegmentPath(const std::string& folder, uint64_t first);
// Their bytes, by the index of the first record.
Result<std::map<uint64_t, uint64_t>> SegmentsIn(const std::string& folder);
// Takes one away; it may be gone already.
Status RemoveSegment(const std::string& folder, uint64_t first);

}  // namespace sheaf
