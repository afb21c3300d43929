#include "scheduler/scheduler_shell.h"

#include <glog/logging.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr Duration kFullRetry = Milliseconds(500);

}  // namespace

Result<std::unique_ptr<SchedulerShell>> SchedulerShell::Open(ZmqContext& context, const Clock& clock,
                                                             SchedulerOptions options, const Folders& folders) {
  std::unique_ptr<SchedulerFolder> folder;
  auto memory = std::make_unique<MemoryMetaStore>();
  SavedState saved;
  if (folders.data.empty()) {
    SHEAF_ASSIGN_OR_RETURN(saved, TakeOver(*memory, options.partition_count, EntropySeed() | 1));
  } else {
    SHEAF_ASSIGN_OR_RETURN(folder, SchedulerFolder::Open(folders.data, options.partition_count));
    saved = folder->TakeSaved();
  }
  std::unique_ptr<CheckpointKeeper> checkpoints;
  if (!folders.checkpoints.empty()) {
    SHEAF_ASSIGN_OR_RETURN(checkpoints, CheckpointKeeper::Open(folders.checkpoints));
    options.checkpoints = checkpoints->found();
  }
  return std::unique_ptr<SchedulerShell>(new SchedulerShell(context, clock, std::move(options), std::move(folder),
                                                            std::move(memory), std::move(saved),
                                                            std::move(checkpoints)));
}

SchedulerShell::SchedulerShell(ZmqContext& context, const Clock& clock, SchedulerOptions options,
                               std::unique_ptr<SchedulerFolder> folder, std::unique_ptr<MemoryMetaStore> memory,
                               SavedState saved, std::unique_ptr<CheckpointKeeper> checkpoints)
    : folder_(std::move(folder)), memory_(std::move(memory)), checkpoints_(std::move(checkpoints)),
      transport_(context, kSchedulerPeer,
                 [this] {
                   ZmqTransportOptions transport;
                   transport.on_disconnected = [this](PeerId peer) { core_.OnDisconnected(peer, loop_.Now()); };
                   transport.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
                   return transport;
                 }()),
      loop_(transport_, clock),
      keeper_(folder_ == nullptr ? static_cast<MetaStore&>(*memory_) : folder_->store(), saved.epoch),
      core_(std::move(options), clock.Now(), std::move(saved)) {}

Result<std::string> SchedulerShell::Bind(const std::string& address) { return transport_.Bind(address); }

Status SchedulerShell::Run(int stop_fd, const std::function<void()>& take_signal) {
  loop_.Watch(stop_fd, [&] {
    take_signal();
    loop_.Stop();
  });
  if (checkpoints_ != nullptr) {
    loop_.Watch(checkpoints_->done_fd(), [this] {
      while (auto done = checkpoints_->TakeDone()) core_.OnCheckpointDone(std::move(*done), loop_.Now(), out_);
      Flush(loop_.Now());
    });
  }
  loop_.Run(*this);
  return outcome_;
}

void SchedulerShell::OnMessage(PeerId from, Message message) {
  if (!try_again_) core_.OnMessage(from, message, loop_.Now(), out_);
}

void SchedulerShell::OnTick(TimePoint now) {
  if (!try_again_) core_.OnTick(now, out_);
  Flush(now);
}

void SchedulerShell::Flush(TimePoint now) {
  if (!outcome_ || (try_again_ && now < *try_again_) || !Commit(now)) return;
  Send();
  while (checkpoints_ != nullptr) {
    auto work = core_.TakeCheckpointWork();
    if (!work) break;
    checkpoints_->Put(std::move(*work));
  }
}

bool SchedulerShell::Commit(TimePoint now) {
  const Status saved = keeper_.Commit(core_, now);
  if (saved) {
    if (try_again_) LOG(INFO) << "the store can be written again";
    try_again_.reset();
    return true;
  }
  if (saved.error().code == ErrorCode::kResourceExhausted) {
    if (!try_again_) LOG(ERROR) << saved.error().message << ": nothing is answered until there is room";
    try_again_ = now + kFullRetry;
    return false;
  }
  outcome_ = Wrap(saved.error(), "what the scheduler knows cannot be kept");
  loop_.Stop();
  return false;
}

void SchedulerShell::Send() {
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
