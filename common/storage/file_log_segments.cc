#include "common/storage/file_log_segments.h"

#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <filesystem>

#include "common/storage/files.h"

namespace sheaf {

std::string SegmentPath(const std::string& folder, uint64_t first) {
  char name[32];
  std::snprintf(name, sizeof(name), "%020" PRIu64 ".redo", first);
  return folder + "/" + name;
}

Result<std::map<uint64_t, uint64_t>> SegmentsIn(const std::string& folder) {
  std::map<uint64_t, uint64_t> segments;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename();
    uint64_t first = 0;
    if (std::sscanf(name.c_str(), "%20" SCNu64, &first) == 1 && SegmentPath(folder, first) == folder + "/" + name) {
      segments[first] = entry.file_size(failed);
    }
  }
  if (failed) return Fail(ErrorCode::kIo, "cannot read ", folder, ": ", failed.message());
  return segments;
}

Status RemoveSegment(const std::string& folder, uint64_t first) {
  const std::string path = SegmentPath(folder, first);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return FileError("cannot remove", path);
  return {};
}

}  // namespace sheaf
