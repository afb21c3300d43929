#include "common/runtime/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace sheaf {
namespace {

sigset_t EndingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

}  // namespace

Result<std::unique_ptr<SignalFd>> SignalFd::Create() {
  const sigset_t signals = EndingSignals();
  if (const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0) {
    return Fail(ErrorCode::kIo, "blocking signals: ", std::strerror(error));
  }
  const int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return Fail(ErrorCode::kIo, "signalfd: ", std::strerror(errno));
  return std::unique_ptr<SignalFd>(new SignalFd(fd));
}

SignalFd::~SignalFd() {
  close(fd_);
  const sigset_t signals = EndingSignals();
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

std::optional<int> SignalFd::Take() {
  signalfd_siginfo info;
  if (read(fd_, &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return std::nullopt;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace sheaf
