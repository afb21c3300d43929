#include "common/runtime/logging.h"

#include <glog/logging.h>

#include <atomic>
#include <iomanip>
#include <memory>
#include <mutex>
#include <set>

namespace sheaf {
namespace {

// Written seldom, read by every log line of any thread without a lock: so a text stays where it is for good.
std::atomic<const std::string*> log_role = nullptr;

const std::string* KeepForGood(const std::string& role) {
  static std::mutex mutex;
  // Never destroyed: threads may log to the last.
  static auto& kept = *std::make_unique<std::set<std::string>>().release();
  const std::lock_guard lock(mutex);
  return &*kept.insert(role).first;
}

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

void SetLogRole(const std::string& role) { log_role.store(KeepForGood(role), std::memory_order_release); }

}  // namespace sheaf
