#include "common/storage/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace sheaf {
namespace {

Failure ErrorOf(const char* act, const std::string& path, int error) {
  const ErrorCode code = error == ENOSPC || error == EDQUOT || error == EFBIG   ? ErrorCode::kResourceExhausted
                         : error == EACCES || error == EPERM || error == EROFS ? ErrorCode::kPermissionDenied
                         : error == ENOENT                                     ? ErrorCode::kNotFound
                                                                               : ErrorCode::kIo;
  return Fail(code, act, " ", path, ": ", std::strerror(error));
}

// Closed when it goes; errno stays what it was.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    const int error = errno;
    if (fd_ >= 0) close(fd_);
    errno = error;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

bool WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return true;
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
  const Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0) return FileError("cannot open the folder", path);
  if (fsync(folder.get()) != 0) return FileError("cannot sync the folder", path);
  return {};
}

Result<std::string> ReadSmallFile(const std::string& path, size_t max_bytes) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return FileError("cannot read", path);
  std::string bytes(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t got = read(file.get(), bytes.data() + size, bytes.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError("cannot read", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > max_bytes) return Fail(ErrorCode::kInvalidArgument, path, " has more than ", max_bytes, " bytes");
  bytes.resize(size);
  return bytes;
}

Status ReplaceFile(const std::string& path, std::string_view bytes) {
  const std::string temporary = path + ".tmp";
  {
    const Descriptor file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (file.get() < 0) return FileError("cannot create", temporary);
    if (!WriteAll(file.get(), bytes) || fsync(file.get()) != 0) {
      const Failure failure = FileError("cannot write", temporary);
      unlink(temporary.c_str());
      return failure;
    }
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) return FileError("cannot rename to", path);
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return SyncFolder(folder.empty() ? "." : folder);
}

}  // namespace sheaf
