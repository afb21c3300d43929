// A named thread that is joined. The only place that starts threads, besides ZeroMQ.
//
// Signals are blocked in it, so that they reach the main thread's SignalFd. The body must not let an exception out.
#pragma once

#include <functional>
#include <string>
#include <thread>

namespace sheaf {

class Thread {
 public:
  Thread() = default;
  // `name` is what top and gdb show; the system keeps 15 letters of it.
  Thread(std::string name, std::function<void()> body);
  ~Thread() { Join(); }
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&& other) noexcept;

  // Waits for the body to end; the caller sees to it that it does.
  void Join();
  bool joinable() const { return thread_.joinable(); }

 private:
  std::thread thread_;
};

// Hardware threads this process may use (its CPU affinity counts), at least 1.
int UsableCpuCount();

}  // namespace sheaf
