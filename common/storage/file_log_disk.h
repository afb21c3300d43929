// How a log in files is synced and cut by another thread than its own: that one says what there is to be synced, in
// files that are opened here once more; what there is to be removed, the folder says. To
// remove a segment takes tens of milliseconds, in which its pages are freed.
//
// Thread-safety: as RedoLogDisk says; all beside its functions is the log's thread's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/storage/redo_log.h"

namespace sheaf {

class FileLogDisk final : public RedoLogDisk {
 public:
  explicit FileLogDisk(std::string folder) : folder_(std::move(folder)) {}

  Status SyncTo(uint64_t index) override;
  void TrimTo(uint64_t index) override;

  // A segment begins, or the last is there already, and goes on with that record; what is before the segment before it
  // is on the disk.
  void Begin(uint64_t first, uint64_t next_index);
  void RemoveAll();  // there are no segments any more
  void Committed(uint64_t next_index);
  void Break(const Error& error);  // the log is broken
  // A page that could not be written may be marked clean: a second try would succeed and mean nothing. The log ends.
  std::optional<Error> failure() const;

 private:
  class File;

  const std::string folder_;
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<const File>> files_;  // at most two
  uint64_t committed_ = 0;                          // records below were written
  uint64_t on_disk_ = 0;                            // records below were synced
  std::optional<Error> failure_;
  std::atomic<bool> failed_ = false;
};

}  // namespace sheaf
