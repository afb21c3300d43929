#include "server/shard_thread.h"

#include <glog/logging.h>

#include <algorithm>

#include "common/base/failpoint.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/net/local_address.h"
#include "common/runtime/host_id.h"

namespace sheaf {
namespace {

constexpr Duration kLookForRoomEvery = std::chrono::seconds(1);
constexpr uint64_t kRoomToGoOn = 2;           // times the reserve: it is not to be full again at once
constexpr Duration kShardTickEvery = Milliseconds(100);  // also how often statistics are published
constexpr uint64_t kWorthSaving = uint64_t{8} << 20;      // of log, which would have to be done again
constexpr uint64_t kSavedInAMoment = uint64_t{32} << 20;  // of rows, with their index

ZmqTransportOptions ShardTransport() {
  ZmqTransportOptions options;
  options.on_problem = [](const std::string& text) { LOG(WARNING) << text; };
  return options;
}

// Track 0 is the server's own loop.
ShardOptions OptionsOf(ShardOptions options, uint32_t index, BodyPool& bodies, ColdStore* cold) {
  options.trace_track = 1 + index;
  options.cold = cold;
  options.bodies = &bodies;
  return options;
}

}  // namespace

ShardThread::ShardThread(ZmqContext& context, const Clock& clock, uint32_t index, ShardOptions options,
                         Durable durable, FileSpace* checkpoints)
    : index_(index),
      trace_(options.trace),
      peer_(EntropySeed()),
      transport_(context, peer_, ShardTransport()),
      loop_(transport_, clock, {.tick_every = kShardTickEvery}),
      host_(HostId()),
      shard_(peer_, OptionsOf(std::move(options), index, transport_.bodies(), durable.rows.get()),
             WatchLog(std::move(durable.log), clock, disk_)),
      rows_(std::move(durable.rows)), reserve_(std::move(durable.reserve)),
      checkpoints_(shard_, ShardCheckpoints::kRowsAStep),
      checkpoint_files_(index, checkpoints) {
  if (rows_ != nullptr) snapshotter_.emplace(shard_.core(), *shard_.log(), durable.options);
}

Result<Recovered> ShardThread::Recover(const RecoveryProgress& progress) {
  if (shard_.log() == nullptr) return Recovered{};
  ShardCore& core = shard_.core();
  RedoLog& log = *shard_.log();
  auto recovered = RecoverShard(core, log, &rows_->store(), loop_.Now(), progress);
  if (!recovered && recovered.error().code == ErrorCode::kDataLoss) {
    const auto complete = LogIsComplete(log);
    if (!complete || !*complete) return recovered;
    LOG(WARNING) << "shard " << index_ << ": its snapshots are put aside, as its log has all of it: "
                 << recovered.error().message;
    SHEAF_RETURN_IF_ERROR(rows_->Open(OpenAs::kAfresh));
    recovered = RecoverShard(core, log, &rows_->store(), loop_.Now(), progress);
  }
  if (recovered && recovered->store_is_ahead) {
    LOG(WARNING) << "shard " << index_
                 << ": the end of its log was lost with the power; what its snapshots have of it is kept";
    SHEAF_RETURN_IF_ERROR(SaveAll(core, log, rows_->store(), loop_.Now()));
  }
  return recovered;
}

void ShardThread::Start() {
  thread_ = Thread("shard-" + std::to_string(index_), [this] {
    loop_.Watch(configs_.fd(), [this] { TakeConfigs(); });
    loop_.Watch(tasks_.fd(), [this] {
      while (const auto tasks = tasks_.TryTake()) checkpoints_.OnTasks(*tasks);
    });
    loop_.Watch(checkpoint_files_.done_fd(), [this] {
      while (auto done = checkpoint_files_.TakeDone()) checkpoints_.OnDone(std::move(*done), loop_.Now());
    });
    if (rows_ != nullptr) {
      rows_->Start();
      loop_.Watch(rows_->done_fd(), [this] {
        while (const auto done = rows_->TakeDone()) OnSnapshotDone(*done);
      });
      loop_.Watch(rows_->reads_fd(), [this] {
        while (auto read = rows_->TakeRead()) shard_.OnColdRead(std::move(*read), loop_.Now());
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
  checkpoint_files_.Stop();
}

void ShardThread::SaveBeforeEnd() {
  if (rows_ == nullptr || shard_.refusing() || !snapshotter_->idle()) return;
  const uint64_t grown = snapshotter_->log_since_round();
  const uint64_t at_most = std::min<uint64_t>(grown, shard_.core().stats().memory_bytes);  // which it writes
  if (grown < kWorthSaving || at_most > kSavedInAMoment) return;
  if (const Status open = rows_->OpenIfClosed(); !open) return;
  if (const Status saved = SaveAll(shard_.core(), *shard_.log(), rows_->store(), loop_.Now()); !saved) {
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
  shard_.OnMessage(from, message, loop_.Now());
  if (shard_.immediate()) Flush();
}

void ShardThread::OnTurnEnd(TimePoint now) {
  shard_.Resume(now);
  if (!shard_.immediate()) Flush();
  if (shard_.CatchUp(now)) Flush();
  if (shard_.news() != published_news_) PublishStats();
  if (snapshotter_ && !shard_.refusing()) StepSnapshots(now);
  if (!shard_.refusing()) StepCheckpoints();
}

// The workers wait for it to be frozen: that is said at once.
void ShardThread::StepCheckpoints() {
  if (checkpoints_.Step()) {
    if (checkpoints_.frozen()) Pass("server.frozen");
    PublishStats();
  }
  while (auto work = checkpoints_.TakeWork()) checkpoint_files_.Put(std::move(*work));
  if (checkpoints_.eager()) loop_.RequestTurn();
}

void ShardThread::OnSnapshotDone(const Status& done) {
  const SnapshotStats before = snapshotter_->stats();
  snapshotter_->OnDone(done, loop_.Now());
  const SnapshotStats& now = snapshotter_->stats();
  if (now.rounds == before.rounds) return;
  LOG(INFO) << "shard " << index_ << ": round of snapshots " << now.rounds << ": " << FormatBytes(now.last_bytes)
            << " of rows in " << FormatSeconds(now.last) << "; its log has " << FormatBytes(shard_.log()->bytes());
}

// All that was taken is committed.
void ShardThread::StepSnapshots(TimePoint now) {
  snapshotter_->Step(now);
  while (auto work = snapshotter_->TakeWork()) rows_->Put(std::move(*work));
  while (auto read = shard_.TakeColdRead()) rows_->Put(std::move(*read));
  if (snapshotter_->eager() || shard_.core().MayResume()) loop_.RequestTurn();
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
  shard_.OnTick(now);
  Flush();
  LookForRoom(now);
  PublishStats();
}

void ShardThread::TakeConfigs() {
  while (auto config = configs_.TryTake()) {
    if (const Status taken = shard_.OnConfig(*config, loop_.Now()); !taken) LOG(ERROR) << taken.error().message;
  }
  for (const PeerId gone : shard_.TakeDisconnections()) transport_.Disconnect(gone);
  for (const pb::ShardEndpoint& backup : shard_.TakeConnections()) {
    if (const Status done = transport_.Connect(PeerId(backup.peer()), AddressToReach(backup, host_)); !done) {
      LOG(ERROR) << "shard " << index_ << " cannot reach the shard that is to have a copy of it: "
                 << done.error().message;
    }
  }
  Flush();
  PublishStats();  // at once: the scheduler waits until every shard has taken it
}

void ShardThread::PublishStats() {
  ShardStats stats = shard_.stats();
  checkpoints_.AddTo(stats);
  // Full: the main thread has older ones to take, and the next tick brings newer ones.
  published_news_ = shard_.news();
  (void)stats_.TryPut(std::move(stats));
}

void ShardThread::OnFullDisk() {
  if (reserve_ == nullptr || short_of_room_ || !reserve_->taken()) return;
  short_of_room_ = true;
  reserve_->GiveUp();
  shard_.RefusePushes("the server's disk is full: pulls are answered, pushes when there is room");
  snapshotter_->RequestRound();  // after which the log can be cut
}

void ShardThread::LookForRoom(TimePoint now) {
  if (!short_of_room_ || now < next_look_ || shard_.refusing()) return;
  next_look_ = now + kLookForRoomEvery;
  if (!reserve_->Take(kRoomToGoOn)) return;
  short_of_room_ = false;
  shard_.RefusePushes("");
  LOG(INFO) << "shard " << index_ << ": there is room on the disk again: pushes are taken";
}

void ShardThread::Flush() {
  const bool was_refusing = shard_.refusing();
  if (const Status written = shard_.Flush(loop_.Now(), out_); !written) {
    const bool full = written.error().code == ErrorCode::kResourceExhausted;
    LOG(ERROR) << "shard " << index_ << ": " << written.error().message
               << (full ? ": nothing is answered until there is room" : "");
    if (full) OnFullDisk();
    if (!full) PublishStats();
  } else if (was_refusing && !shard_.refusing()) {
    LOG(INFO) << "shard " << index_ << ": the log can be written again";
  }
  for (Outbox::Item& item : out_.items()) {
    // Lost is lost: the client asks again.
    if (const Status sent = transport_.Send(item.to, std::move(item.message)); !sent) {
      LOG_EVERY_N(WARNING, 100) << "shard " << index_ << ": a message was not sent: " << sent.error().message;
    }
  }
  out_.clear();
}

}  // namespace sheaf
