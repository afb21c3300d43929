#include "server/shard_thread.h"

#include <glog/logging.h>

#include <algorithm>

#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr Duration kTickEvery = Milliseconds(100);  // also how often statistics are published
constexpr uint64_t kWorthSaving = uint64_t{8} << 20;      // of log, which would have to be done again
constexpr uint64_t kSavedInAMoment = uint64_t{32} << 20;  // of rows, with their index

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
                         Durable durable)
    : index_(index),
      trace_(options.trace),
      peer_(EntropySeed()),
      transport_(context, peer_, TransportOptions()),
      loop_(transport_, clock, {.tick_every = kTickEvery}),
      log_(std::move(durable.log)),
      core_(peer_, OptionsOf(std::move(options), index, transport_.bodies(), log_.get())),
      rows_(std::move(durable.rows)) {
  if (rows_ != nullptr) snapshotter_.emplace(core_, *log_, durable.options);
}

Result<Recovered> ShardThread::Recover(const RecoveryProgress& progress) {
  if (log_ == nullptr) return Recovered{};
  auto recovered = RecoverShard(core_, *log_, &rows_->store(), loop_.Now(), progress);
  if (!recovered && recovered.error().code == ErrorCode::kDataLoss) {
    const auto complete = LogIsComplete(*log_);
    if (!complete || !*complete) return recovered;
    LOG(WARNING) << "shard " << index_ << ": its snapshots are put aside, as its log has all of it: "
                 << recovered.error().message;
    SHEAF_RETURN_IF_ERROR(rows_->Open(OpenAs::kAfresh));
    recovered = RecoverShard(core_, *log_, &rows_->store(), loop_.Now(), progress);
  }
  if (recovered && recovered->store_is_ahead) {
    LOG(WARNING) << "shard " << index_
                 << ": the end of its log was lost with the power; what its snapshots have of it is kept";
    SHEAF_RETURN_IF_ERROR(SaveAll(core_, *log_, rows_->store(), loop_.Now()));
  }
  return recovered;
}

void ShardThread::Start() {
  thread_ = Thread("shard-" + std::to_string(index_), [this] {
    loop_.Watch(configs_.fd(), [this] { TakeConfigs(); });
    if (rows_ != nullptr) {
      rows_->Start();
      loop_.Watch(rows_->done_fd(), [this] {
        while (const auto done = rows_->TakeDone()) OnSnapshotDone(*done);
      });
    }
    loop_.Run(*this);
  });
}

void ShardThread::Stop() {
  if (!thread_.joinable()) return;
  loop_.Stop();
  thread_.Join();
  if (rows_ != nullptr) rows_->Stop();
}

void ShardThread::SaveBeforeEnd() {
  if (rows_ == nullptr || held_ || !failure_.empty() || !snapshotter_->idle()) return;
  const uint64_t grown = snapshotter_->log_since_round();
  const uint64_t at_most = std::min<uint64_t>(grown, core_.stats().memory_bytes);  // which it writes
  if (grown < kWorthSaving || at_most > kSavedInAMoment) return;
  if (const Status open = rows_->OpenIfClosed(); !open) return;
  if (const Status saved = SaveAll(core_, *log_, rows_->store(), loop_.Now()); !saved) {
    LOG(WARNING) << "shard " << index_ << ": no last round of snapshots: " << saved.error().message;
  }
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

void ShardThread::OnTurnEnd(TimePoint now) {
  if (log_ != nullptr) Flush();
  if (snapshotter_ && !held_ && failure_.empty()) StepSnapshots(now);
}

void ShardThread::OnSnapshotDone(const Status& done) {
  const SnapshotStats before = snapshotter_->stats();
  snapshotter_->OnDone(done, loop_.Now());
  const SnapshotStats& now = snapshotter_->stats();
  if (now.rounds == before.rounds) return;
  LOG(INFO) << "shard " << index_ << ": round of snapshots " << now.rounds << ": " << FormatBytes(now.last_bytes)
            << " of rows in " << FormatSeconds(now.last) << "; its log has " << FormatBytes(log_->bytes());
}

// All that was taken is committed.
void ShardThread::StepSnapshots(TimePoint now) {
  snapshotter_->Step(now);
  while (auto work = snapshotter_->TakeWork()) rows_->Put(std::move(*work));
  if (snapshotter_->eager()) loop_.RequestTurn();
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
