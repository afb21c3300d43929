#include "bench/child.h"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <fstream>

#include "bench/allocations.h"
#include "common/base/strings.h"

namespace sheaf::bench {
namespace {

double SecondsOf(clockid_t clock) {
  timespec now{};
  if (clock_gettime(clock, &now) != 0) return 0;
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

bool WriteAll(int fd, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = write(fd, bytes, size);
    if (written <= 0) return false;
    bytes += written;
    size -= static_cast<size_t>(written);
  }
  return true;
}

bool ReadAll(int fd, char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = read(fd, bytes, size);
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<Child>> Child::Fork(const std::string& name, const std::function<void(const Announce&)>& serve) {
  void* const page =
      mmap(nullptr, sizeof(std::atomic<uint64_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return Fail(ErrorCode::kResourceExhausted, name, ": no shared page");
  auto& allocations = *static_cast<std::atomic<uint64_t>*>(page);  // zero, which is a valid counter
  int ends[2];
  if (pipe(ends) != 0) return Fail(ErrorCode::kResourceExhausted, name, ": no pipe");
  const pid_t pid = fork();
  if (pid < 0) return Fail(ErrorCode::kResourceExhausted, name, ": cannot fork");
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(ends[0]);
    CountAllocationsIn(allocations);
    serve([&](const std::string& text) {
      const uint64_t size = text.size();
      if (!WriteAll(ends[1], reinterpret_cast<const char*>(&size), sizeof(size)) ||
          !WriteAll(ends[1], text.data(), text.size())) {
        _exit(1);
      }
      close(ends[1]);
    });
    _exit(0);
  }
  close(ends[1]);
  uint64_t size = 0;
  std::string announced;
  bool ok = ReadAll(ends[0], reinterpret_cast<char*>(&size), sizeof(size));
  if (ok) {
    announced.resize(size);
    ok = ReadAll(ends[0], announced.data(), size);
  }
  close(ends[0]);
  std::unique_ptr<Child> child(new Child(pid, allocations, std::move(announced)));
  if (!ok) return Fail(ErrorCode::kUnavailable, name, " ended before it was ready: see its message above");
  return child;
}

Child::~Child() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

double Child::CpuSeconds() const {
  clockid_t clock{};
  return clock_getcpuclockid(pid_, &clock) == 0 ? SecondsOf(clock) : 0;
}

size_t Child::ResidentBytes() const {
  std::ifstream statm(StrCat("/proc/", pid_, "/statm"));
  size_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

double OwnCpuSeconds() { return SecondsOf(CLOCK_PROCESS_CPUTIME_ID); }

}  // namespace sheaf::bench
