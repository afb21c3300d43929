// SIGINT and SIGTERM as a file descriptor, so that an event loop handles them like anything else.
#pragma once

#include <memory>
#include <optional>

#include "common/base/result.h"

namespace sheaf {

// Blocks both signals in the calling thread for as long as it lives: make it in main, before any thread is started.
class SignalFd {
 public:
  static Result<std::unique_ptr<SignalFd>> Create();
  ~SignalFd();
  SignalFd(const SignalFd&) = delete;
  SignalFd& operator=(const SignalFd&) = delete;

  int fd() const { return fd_; }
  // The next signal that has come (SIGINT or SIGTERM), if any. Never blocks.
  std::optional<int> Take();

 private:
  explicit SignalFd(int fd) : fd_(fd) {}
  const int fd_;
};

}  // namespace sheaf
