// One process at a time uses a folder: PATH/LOCK is locked for as long as this lives, and by the system, so that it is
// free again however the process ends.
#pragma once

#include <memory>
#include <string>

#include "common/base/result.h"

namespace sheaf {

class FolderLock {
 public:
  // `who` uses it, for people: "server". kAlreadyExists: another one does.
  static Result<std::unique_ptr<FolderLock>> Take(const std::string& folder, const char* who);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  explicit FolderLock(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace sheaf
