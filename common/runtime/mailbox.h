// Mailbox: a bounded queue from any threads to one, with a descriptor that an event loop can watch.
//
// Ownership: an item belongs to the mailbox from TryPut to Take. Thread-safety: all functions from any thread, but only
// one thread takes. Errors: kUnavailable when full (it does not grow), kClosed after Close.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/base/result.h"
#include "common/runtime/clock.h"

namespace sheaf {

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(size_t capacity) : capacity_(capacity), fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    SHEAF_CHECK(fd_ >= 0, "no file descriptor left for a mailbox");
  }
  ~Mailbox() { close(fd_); }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  // On failure `item` is left as it was, so that the caller can try again.
  Status TryPut(T&& item) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return Fail(ErrorCode::kClosed, "the mailbox is closed");
      if (items_.size() >= capacity_)
        return Fail(ErrorCode::kUnavailable, "the mailbox is full (", capacity_, " items)");
      items_.push_back(std::move(item));
      if (items_.size() == 1) Raise();
    }
    not_empty_.notify_one();
    return {};
  }
  Status TryPut(const T& item) { return TryPut(T(item)); }

  // The oldest item, or nothing.
  std::optional<T> TryTake() {
    const std::lock_guard lock(mutex_);
    return PopLocked();
  }
  // Waits for an item; nothing after `timeout`, or at once when closed and empty.
  std::optional<T> Take(Duration timeout) {
    std::unique_lock lock(mutex_);
    not_empty_.wait_for(lock, timeout, [this] { return closed_ || !items_.empty(); });
    return PopLocked();
  }

  // Nothing can be put any more; what is in can still be taken. Wakes the taker.
  void Close() {
    {
      const std::lock_guard lock(mutex_);
      if (!closed_ && items_.empty()) Raise();
      closed_ = true;
    }
    not_empty_.notify_all();
  }
  bool closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }
  size_t size() const {
    const std::lock_guard lock(mutex_);
    return items_.size();
  }
  // Readable while there is an item, and always once closed.
  int fd() const { return fd_; }

 private:
  std::optional<T> PopLocked() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    if (items_.empty() && !closed_) Lower();
    return item;
  }
  // An eventfd of value 1 or 0 cannot overflow, so neither call fails.
  void Raise() { SHEAF_CHECK(eventfd_write(fd_, 1) == 0, "eventfd_write"); }
  void Lower() {
    eventfd_t value = 0;
    SHEAF_CHECK(eventfd_read(fd_, &value) == 0, "eventfd_read");
  }

  const size_t capacity_;
  const int fd_;
  mutable std::mutex mutex_;  // guards items_ and closed_, and keeps fd_ in step with them
  std::condition_variable not_empty_;
  std::deque<T> items_;
  bool closed_ = false;
};

}  // namespace sheaf
