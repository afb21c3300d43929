// The scheduler's thread for the files of checkpoints: it does what the core wants, in order, and says what came of it.
//
// Made by the main thread, which puts and takes; the folder is locked for as long as it lives, so that one cluster at a
// time makes checkpoints in it. One of several schedulers does without: it leads, and the folder is their cluster's.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "common/storage/folder_lock.h"
#include "scheduler/checkpoint_work.h"

namespace sheaf {

class CheckpointKeeper {
 public:
  enum class Lock { kTake, kNone };
  // kAlreadyExists: another scheduler uses the folder.
  static Result<std::unique_ptr<CheckpointKeeper>> Open(const std::string& folder, Lock lock);
  ~CheckpointKeeper();

  const CheckpointsFound& found() const { return found_; }
  void Put(CheckpointWork work);
  // Readable when something is done.
  int done_fd() const { return done_.fd(); }
  std::optional<CheckpointResult> TakeDone() { return done_.TryTake(); }

 private:
  CheckpointKeeper(std::unique_ptr<FolderLock> lock, std::unique_ptr<FileSpace> space, CheckpointsFound found);
  void Run();

  const std::unique_ptr<FolderLock> lock_;  // nullptr: without
  const std::unique_ptr<FileSpace> space_;
  const CheckpointsFound found_;
  Mailbox<CheckpointWork> to_do_{1024};
  Mailbox<CheckpointResult> done_{1024};
  Thread thread_;
};

}  // namespace sheaf
