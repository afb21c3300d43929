#include "common/storage/file_log_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>

#include "common/storage/file_log_segments.h"
#include "common/storage/files.h"

namespace sheaf {

// Opened by itself: the system tells an error of writing once to each who has opened the file, not once to each
// descriptor.
class FileLogDisk::File {
 public:
  explicit File(const std::string& path) : fd_(open(path.c_str(), O_WRONLY | O_CLOEXEC)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  bool is_open() const { return fd_ >= 0; }
  bool Sync() const { return fdatasync(fd_) == 0; }

 private:
  const int fd_;
};

Status FileLogDisk::SyncTo(uint64_t index) {
  std::unique_lock lock(mutex_);
  if (failure_) return Failure{*failure_};
  if (index <= on_disk_) return {};
  const uint64_t committed = committed_;
  if (committed < index) return Fail(ErrorCode::kUnavailable, "record ", index - 1, " of ", folder_, " is not written");
  const std::vector<std::shared_ptr<const File>> files = files_;
  lock.unlock();  // the log goes on meanwhile
  for (const auto& file : files) {
    if (!file->is_open()) return Fail(ErrorCode::kIo, "cannot open the log in ", folder_, " once more, to sync it");
    if (file->Sync()) continue;
    const Failure failure = Fail(ErrorCode::kIo, FileError("cannot sync", folder_).error.message);
    Break(failure.error);
    return failure;
  }
  lock.lock();
  on_disk_ = std::max(on_disk_, committed);
  return {};
}

// The oldest first, so that there is no gap if the process ends; never the last.
void FileLogDisk::TrimTo(uint64_t index) {
  auto segments = SegmentsIn(folder_);
  while (segments && segments->size() > 1 && std::next(segments->begin())->first <= index) {
    if (!RemoveSegment(folder_, segments->begin()->first)) return;
    segments->erase(segments->begin());
  }
}

void FileLogDisk::Begin(uint64_t first, uint64_t next_index) {
  auto file = std::make_shared<const File>(SegmentPath(folder_, first));
  const std::lock_guard lock(mutex_);
  if (files_.empty()) on_disk_ = next_index;
  if (files_.size() > 1) files_.erase(files_.begin());
  files_.push_back(std::move(file));
  committed_ = next_index;
}

void FileLogDisk::Break(const Error& error) {
  const std::lock_guard lock(mutex_);
  if (!failure_) failure_ = error;
  failed_.store(true, std::memory_order_release);
}

void FileLogDisk::RemoveAll() {
  const std::lock_guard lock(mutex_);
  files_.clear();
}

void FileLogDisk::Committed(uint64_t next_index) {
  const std::lock_guard lock(mutex_);
  committed_ = next_index;
}

std::optional<Error> FileLogDisk::failure() const {
  if (!failed_.load(std::memory_order_acquire)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace sheaf
