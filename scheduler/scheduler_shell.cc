#include "scheduler/scheduler_shell.h"

#include <glog/logging.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace sheaf {

SchedulerShell::SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options)
    : transport_(context, kSchedulerPeer,
                 [] {
                   ZmqTransportOptions transport;
                   transport.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
                   return transport;
                 }()),
      loop_(transport_, clock), core_(std::move(options), clock.Now()) {}

Result<std::string> SchedulerShell::Bind(const std::string& address) { return transport_.Bind(address); }

void SchedulerShell::Run(int stop_fd, const std::function<void()>& take_signal) {
  loop_.Watch(stop_fd, [&] {
    take_signal();
    loop_.Stop();
  });
  loop_.Run(*this);
}

void SchedulerShell::OnMessage(PeerId from, Message message) {
  core_.OnMessage(from, message, loop_.Now(), out_);
  Flush();
}

void SchedulerShell::OnTick(TimePoint now) {
  core_.OnTick(now, out_);
  Flush();
}

void SchedulerShell::Flush() {
  for (const std::string& line : core_.TakeEvents()) LOG(INFO) << line;
  for (Outbox::Item& item : out_.items()) {
    const uint64_t request = item.message.header.request();
    const Status sent = transport_.Send(item.to, std::move(item.message));
    if (sent) continue;
    // Reports are repeated: what cannot be sent now is said again.
    LOG_EVERY_N(WARNING, 100) << "not sent: " << sent.error().message;
    if (sent.error().code != ErrorCode::kInvalidArgument || request == 0) continue;
    Message refusal;  // an answer that no message can hold: whoever asked would ask for ever
    refusal.header.set_request(request);
    refusal.header.mutable_refusal()->set_reason(pb::Refusal::INVALID);
    refusal.header.mutable_refusal()->set_text("the answer is too large: " + sent.error().message);
    (void)transport_.Send(item.to, std::move(refusal));
  }
  out_.clear();
}

Status WriteAddressFile(const std::string& path, const std::string& address) {
  const std::string temporary = path + ".tmp";
  {
    std::ofstream file(temporary, std::ios::trunc);
    file << address << '\n';
    file.flush();
    if (!file) return Fail(ErrorCode::kIo, "cannot write ", temporary, ": ", std::strerror(errno));
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0) {
    return Fail(ErrorCode::kIo, "cannot rename ", temporary, " to ", path, ": ", std::strerror(errno));
  }
  return {};
}

}  // namespace sheaf
