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

// Track 0 is the server's own loop.
ShardOptions OptionsOf(ShardOptions options, uint32_t index, BodyPool& bodies) {
  options.trace_track = 1 + index;
  options.bodies = &bodies;
  return options;
}

}  // namespace

ShardThread::ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options)
    : index_(index),
      trace_(options.trace),
      peer_(EntropySeed()),
      transport_(context, peer_, TransportOptions()),
      loop_(transport_, clock, {.tick_every = kTickEvery}),
      core_(peer_, OptionsOf(std::move(options), index, transport_.bodies())) {}

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
  if (trace_ != nullptr && trace_->on()) {
    Traced(from, message);
  } else {
    Serve(from, message);
  }
  transport_.bodies().Recycle(message.header);
}

void ShardThread::Serve(PeerId from, const Message& message) {
  core_.OnMessage(from, message, loop_.Now(), out_);
  Flush();
}

void ShardThread::Traced(PeerId from, const Message& message) {
  const TimePoint begin = trace_->Begin();
  Serve(from, message);
  const bool pull = message.header.has_pull(), push = message.header.has_push();
  if (pull || push) {
    const pb::Progress& progress = pull ? message.header.pull().progress() : message.header.push().progress();
    trace_->End(pull ? pb::SERVE_PULL : pb::SERVE_PUSH, 1 + index_, begin, progress.lane(), progress.clock());
  }
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
