#include "cli/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace sheaf::cli {
namespace {

ErrorCode CodeOf(int error) {
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) return ErrorCode::kResourceExhausted;
  if (error == EACCES || error == EPERM || error == EROFS) return ErrorCode::kPermissionDenied;
  return ErrorCode::kIo;
}

constexpr size_t kMaxWrite = 64 << 20;

std::string DescriptorPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

// A file without a name, which is gone with the process that writes it, however that ends; -1 where there is no such.
int OpenNameless(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int fd = open(folder.empty() ? "." : folder.c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
  if (fd >= 0 && access(DescriptorPath(fd).c_str(), F_OK) != 0) {  // it could not be given its name
    close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

Failure AtomicFile::SystemError(const char* what) {
  const int error = errno;
  return Fail(CodeOf(error), what, " ", path_, ": ", std::strerror(error),
              temporary_.empty() ? "" : "; nothing was changed there");
}

Result<AtomicFile> AtomicFile::Create(const std::string& path) {
  struct stat info {};
  const bool exists = stat(path.c_str(), &info) == 0;
  if (exists && S_ISDIR(info.st_mode))
    return Fail(ErrorCode::kInvalidArgument, "cannot write ", path, ": it is a folder");
  AtomicFile file(path, "", -1);
  if (exists && !S_ISREG(info.st_mode)) {
    file.fd_ = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (file.fd_ < 0) return file.SystemError("cannot write");
    return file;
  }
  // Through a symbolic link to the file it names, so that the link stays.
  if (exists) {
    std::error_code ignored;
    const auto real = std::filesystem::canonical(path, ignored);
    if (!ignored) file.path_ = real.string();
  }
  file.temporary_ = file.path_ + ".tmp-" + std::to_string(getpid());
  file.fd_ = OpenNameless(file.path_);
  file.nameless_ = file.fd_ >= 0;
  if (file.nameless_) return file;
  file.fd_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file.fd_ < 0 && errno == EEXIST) {  // of a dead process that had our number
    unlink(file.temporary_.c_str());
    file.fd_ = open(file.temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  }
  if (file.fd_ < 0) {
    const Failure failure = file.SystemError("cannot create");
    file.temporary_.clear();
    return failure;
  }
  return file;
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      nameless_(std::exchange(other.nameless_, false)),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty() && !nameless_) unlink(temporary_.c_str());
}

Status AtomicFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), std::min(bytes.size(), kMaxWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("cannot write");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status AtomicFile::Commit() {
  if (temporary_.empty()) {
    if (close(std::exchange(fd_, -1)) != 0) return SystemError("cannot write");
    return {};
  }
  if (fsync(fd_) != 0) return SystemError("cannot write");
  if (nameless_) {
    unlink(temporary_.c_str());  // of a dead process that had our number
    if (linkat(AT_FDCWD, DescriptorPath(fd_).c_str(), AT_FDCWD, temporary_.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return SystemError("cannot write");
    nameless_ = false;
  }
  if (close(std::exchange(fd_, -1)) != 0) return SystemError("cannot write");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return SystemError("cannot rename the finished file to");
  temporary_.clear();
  // The rename itself: best effort, the file's content is safe either way.
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  const int folder_fd = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd >= 0) {
    fsync(folder_fd);
    close(folder_fd);
  }
  return {};
}

Status WriteFileAtomically(const std::string& path, std::string_view text) {
  SHEAF_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  SHEAF_RETURN_IF_ERROR(file.Write(text));
  return file.Commit();
}

}  // namespace sheaf::cli
