#include "common/storage/file_errors.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace sheaf {
namespace {

Failure ErrorOf(const char* act, const std::string& path, int error) {
  const ErrorCode code = error == ENOSPC || error == EDQUOT || error == EFBIG   ? ErrorCode::kResourceExhausted
                         : error == EACCES || error == EPERM || error == EROFS ? ErrorCode::kPermissionDenied
                                                                               : ErrorCode::kIo;
  return Fail(code, act, " ", path, ": ", std::strerror(error));
}

}  // namespace

Failure FileError(const char* act, const std::string& path) { return ErrorOf(act, path, errno); }

Status MakeFolders(const std::string& path) {
  std::error_code failed;
  std::filesystem::create_directories(path, failed);
  if (failed) return ErrorOf("cannot make the folder", path, failed.value());
  return {};
}

Status SyncFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError("cannot open the folder", path);
  const bool synced = fsync(fd) == 0;
  const int error = errno;
  close(fd);
  return synced ? Status() : Status(ErrorOf("cannot sync the folder", path, error));
}

}  // namespace sheaf
