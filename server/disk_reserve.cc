#include "server/disk_reserve.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>

namespace sheaf {

// Without room for all of it, or where files cannot be given room in advance, there is no reserve: that is no error.
bool DiskReserve::Take(uint64_t times) {
  if (taken_) return true;
  unlink(path_.c_str());  // of a process before, perhaps of another size
  struct statvfs disk {};
  if (statvfs(std::filesystem::path(path_).parent_path().c_str(), &disk) != 0) return false;
  if (disk.f_bavail * disk.f_frsize < times * bytes_) return false;
  const int fd = open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  taken_ = fallocate(fd, 0, 0, static_cast<off_t>(bytes_)) == 0;
  close(fd);
  if (!taken_) unlink(path_.c_str());
  return taken_;
}

void DiskReserve::GiveUp() {
  unlink(path_.c_str());
  taken_ = false;
}

}  // namespace sheaf
