#include "common/storage/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>

#include "common/storage/files.h"

namespace sheaf {

Result<std::unique_ptr<FolderLock>> FolderLock::Take(const std::string& folder, const char* who) {
  const std::string path = folder + "/LOCK";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return FileError("cannot write", path);
  std::unique_ptr<FolderLock> lock(new FolderLock(fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return FileError("cannot lock", path);
    return Fail(ErrorCode::kAlreadyExists, folder, " is in use by another ", who, ": give each its own --data_dir");
  }
  return lock;
}

FolderLock::~FolderLock() { close(fd_); }

}  // namespace sheaf
