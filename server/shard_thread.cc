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
ShardOptions OptionsOf(ShardOptions options, uint32_t index, BodyPool& bodies, RedoLog* log) {
  options.trace_track = 1 + index;
  options.bodies = &bodies;
  options.log = log;
  return options;
}

}  // namespace

ShardThread::ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options,
                         std::unique_ptr<RedoLog> log)
    : index_(index),
      trace_(options.trace),
      peer_(EntropySeed()),
      transport_(context, peer_, TransportOptions()),
      loop_(transport_, clock, {.tick_every = kTickEvery}),
      log_(std::move(log)),
      core_(peer_, OptionsOf(std::move(options), index, transport_.bodies(), log_.get())) {}

Status ShardThread::Recover(const std::function<Status(size_t)>& on_record) {
  if (log_ == nullptr) return {};
  core_.BeginRedo(log_->first_index());
  const Status read = log_->Replay(0, [&](uint64_t index, const Buffer& record) {
    const Status done = core_.Redo(record, loop_.Now());
    return done ? on_record(record.size()) : Status(Wrap(done.error(), "record ", index));
  });
  core_.EndRedo();
  return read;
}

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
  if (held_) {
    Outbox refusal;  // shows nothing of what is not safe
    core_.OnMessage(from, message, loop_.Now(), refusal);
    return Send(refusal);
  }
  core_.OnMessage(from, message, loop_.Now(), out_);
  if (log_ == nullptr) Flush();
}

void ShardThread::OnTurnEnd(TimePoint /*now*/) {
  if (log_ != nullptr) Flush();
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
  ShardStats stats = core_.stats();
  stats.failure = failure_;
  (void)stats_.TryPut(std::move(stats));
}

Status ShardThread::Commit() {
  if (log_ == nullptr || !failure_.empty()) return {};
  to_commit_ = std::max(to_commit_, core_.TakeCommitLevel());
  if (to_commit_ == Durability::kMemory) return {};
  SHEAF_RETURN_IF_ERROR(log_->Commit(to_commit_));
  to_commit_ = Durability::kMemory;
  return {};
}

// A full disk passes; nothing else does, and nobody must be told what is not in the log.
void ShardThread::OnCommitFailed(const Error& error) {
  if (!held_) {
    LOG(ERROR) << "shard " << index_ << ": " << error.message
               << (error.code == ErrorCode::kResourceExhausted ? ": nothing is answered until there is room" : "");
    held_.emplace();
    core_.RefuseAll("the server cannot write its log: " + error.message);
  }
  if (error.code == ErrorCode::kResourceExhausted) return;
  failure_ = error.message;
  PublishStats();
}

void ShardThread::Flush() {
  const Status committed = Commit();
  if (!committed) OnCommitFailed(committed.error());
  if (!committed || !failure_.empty()) {
    for (Outbox::Item& item : out_.items()) held_->Send(item.to, std::move(item.message));
    out_.clear();
    return;
  }
  if (held_) {
    LOG(INFO) << "shard " << index_ << ": the log can be written again";
    core_.RefuseAll("");
    Send(*held_);
    held_.reset();
  }
  Send(out_);
}

void ShardThread::Send(Outbox& out) {
  for (Outbox::Item& item : out.items()) {
    // Lost is lost: the client asks again.
    if (const Status sent = transport_.Send(item.to, std::move(item.message)); !sent) {
      LOG_EVERY_N(WARNING, 100) << "shard " << index_ << ": an answer was not sent: " << sent.error().message;
    }
  }
  out.clear();
}

}  // namespace sheaf
