// A server in a process of its own, forked before any thread runs.
//
// The child calls `serve` with a function that tells the parent its address (once), and ends when the parent does.
// Thread-safety: none; fork all children before the first ZeroMQ context is made.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/base/result.h"

namespace sheaf::bench {

using Announce = std::function<void(const std::string&)>;

class Child {
 public:
  // `name` is for errors. Waits until the child has announced itself.
  static Result<std::unique_ptr<Child>> Fork(const std::string& name,
                                             const std::function<void(const Announce&)>& serve);
  ~Child();  // kills it

  const std::string& announced() const { return announced_; }
  // CPU seconds of all its threads so far.
  double CpuSeconds() const;
  // Calls of operator new of all its threads so far.
  uint64_t Allocations() const { return allocations_->load(std::memory_order_relaxed); }
  // Bytes of memory it holds now.
  size_t ResidentBytes() const;

 private:
  Child(pid_t pid, const std::atomic<uint64_t>& allocations, std::string announced)
      : pid_(pid), allocations_(&allocations), announced_(std::move(announced)) {}
  const pid_t pid_;
  const std::atomic<uint64_t>* const allocations_;  // on a page shared with it, for good
  const std::string announced_;
};

// CPU seconds of this process's threads.
double OwnCpuSeconds();

}  // namespace sheaf::bench
