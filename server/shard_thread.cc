#include "server/shard_thread.h"

#include <glog/logging.h>

#include "common/base/random.h"

namespace sheaf {
namespace {

constexpr Duration kTickEvery = Milliseconds(100);  // also how often statistics are published

ZmqTransportOptions TransportOptions() {
  ZmqTransportOptions options;
  options.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
  return options;
}

}  // namespace

ShardThread::ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options)
    : index_(index), peer_(EntropySeed()), transport_(context, peer_, TransportOptions()),
      loop_(transport_, clock, {.tick_every = kTickEvery}), core_(peer_, options) {}

void ShardThread::Start() {
  thread_ = Thread("shard-" + std::to_string(index_), [this] {
    loop_.Watch(configs_.fd(), [this] { TakeConfigs(); });
    loop_.Run(*this);
  });
}

void ShardThread::Stop() {
  if (!thread_.joinable()) return;
  loop_.Stop();
  thread_.Join();
}

std::optional<ShardStats> ShardThread::TakeStats() {
  std::optional<ShardStats> latest;
  while (auto stats = stats_.TryTake()) latest = std::move(stats);
  return latest;
}

void ShardThread::OnMessage(PeerId from, Message message) {
  core_.OnMessage(from, std::move(message), loop_.Now(), out_);
  Flush();
}

void ShardThread::OnTick(TimePoint now) {
  core_.OnTick(now, out_);
  Flush();
  PublishStats();
}

void ShardThread::TakeConfigs() {
  while (auto config = configs_.TryTake()) {
    if (const Status taken = core_.OnConfig(**config, loop_.Now(), out_); !taken) LOG(ERROR) << taken.error().message;
  }
  Flush();
  PublishStats();  // at once: the scheduler waits until every shard has taken it
}

void ShardThread::PublishStats() {
  // Full: the main thread has older ones to take, and the next tick brings newer ones.
  (void)stats_.TryPut(core_.stats());
}

void ShardThread::Flush() {
  for (Outbox::Item& item : out_.items()) {
    // Lost is lost: the client asks again.
    if (const Status sent = transport_.Send(item.to, std::move(item.message)); !sent) {
      LOG_EVERY_N(WARNING, 100) << "shard " << index_ << ": an answer was not sent: " << sent.error().message;
    }
  }
  out_.clear();
}

}  // namespace sheaf
