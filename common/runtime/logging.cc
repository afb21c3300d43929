#include "common/runtime/logging.h"

#include <glog/logging.h>

#include <atomic>
#include <iomanip>

namespace sheaf {
namespace {

// Written seldom, read by every log line of any thread: old texts are kept for good rather than locked.
std::atomic<const std::string*> log_role = nullptr;

void WritePrefix(std::ostream& out, const google::LogMessageInfo& line, void* /*unused*/) {
  const google::LogMessageTime& time = line.time;
  const std::string* const role = log_role.load(std::memory_order_acquire);
  out << line.severity[0] << ' ' << std::setfill('0') << 1900 + time.year() << '-' << std::setw(2) << 1 + time.month()
      << '-' << std::setw(2) << time.day() << ' ' << std::setw(2) << time.hour() << ':' << std::setw(2) << time.min()
      << ':' << std::setw(2) << time.sec() << '.' << std::setw(6) << time.usec() << ' '
      << (role != nullptr ? *role : std::string()) << ']';
}

}  // namespace

void SetUpLogging(const char* program, const std::string& role) {
  SetLogRole(role);
  FLAGS_logtostderr = true;
  FLAGS_logbuflevel = -1;
  google::InitGoogleLogging(program, WritePrefix, nullptr);
  google::InstallFailureSignalHandler();
}

void SetLogRole(const std::string& role) { log_role.store(new std::string(role), std::memory_order_release); }

}  // namespace sheaf
