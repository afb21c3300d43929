#include "server/recovery.h"

#include <algorithm>
#include <utility>

#include "server/redo_record.h"
#include "server/snapshot_store.h"
#include "server/snapshotter.h"

namespace sheaf {
namespace {

class Recovery {
 public:
  Recovery(ShardCore& core, RedoLog& log, KvStore* store, TimePoint now, const RecoveryProgress& progress)
      : core_(core), log_(log), store_(store), now_(now), progress_(progress) {}

  Result<Recovered> Run() {
    SHEAF_RETURN_IF_ERROR(Begin());
    SHEAF_RETURN_IF_ERROR(log_.Replay(from_, [&](uint64_t index, const Buffer& record) -> Status {
      SHEAF_RETURN_IF_ERROR(WakeBefore(index));
      core_.SetRedoIndex(index);
      if (const Status done = core_.Redo(record, now_); !done) return Wrap(done.error(), "record ", index);
      ++recovered_.records;
      if (recovered_.records % kLookAtMemoryEvery == 0) MakeRoom();
      recovered_.log_bytes += record.size();
      return progress_(record.size());
    }));
    if (recovered_.store_is_ahead) SHEAF_RETURN_IF_ERROR(TakeLatestConfig());
    SHEAF_RETURN_IF_ERROR(WakeBefore(recovered_.store_is_ahead ? kAll : log_.next_index()));
    if (const auto missing = core_.ImagesMissing(); !missing.empty() && !recovered_.store_is_ahead) {
      return Fail(ErrorCode::kDataLoss, "the store of snapshots has no image of partition ", missing.front(),
                  ", although it has a complete round");
    }
    core_.EndRedo();
    return recovered_;
  }

 private:
  static constexpr uint64_t kLookAtMemoryEvery = 64;  // records
  static constexpr uint64_t kAll = ~uint64_t{0} - 1;

  Status Begin() {
    RedoStart start;
    from_ = log_.first_index();
    if (store_ != nullptr) {
      SHEAF_ASSIGN_OR_RETURN(StoredRound stored, ReadRound(*store_));
      if (stored.round && stored.round->begin() >= from_) {
        from_ = stored.round->begin();
        start.config = stored.round->config();
        start.images = std::move(stored.images);
        recovered_.store_is_ahead |= stored.round->end() > log_.next_index();
      } else {
        // The log began anew since, or was never cut. Images are of use if they are later.
        recovered_.store_is_void = stored.round.has_value();
        for (const auto& [partition, index] : stored.images) {
          if (index > from_) start.images[partition] = index;
        }
      }
    }
    for (const auto& [partition, index] : start.images) recovered_.store_is_ahead |= index > log_.next_index();
    recovered_.store_is_ahead |= start.config && from_ >= log_.next_index();  // the round's own record is lost
    core_.BeginRedo(start);
    return {};
  }

  // In which the latest images were made: the log may have lost it.
  Status TakeLatestConfig() {
    SHEAF_ASSIGN_OR_RETURN(const auto config, ReadLatestConfig(*store_));
    core_.RedoLatestConfig(config && config->config().generation() > core_.generation() ? *config
                                                                                        : core_.last_config());
    return {};
  }

  Status WakeBefore(uint64_t index) {
    for (const uint32_t partition : core_.ImagesDue(index)) {
      const Status read = ReadImage(*store_, partition, [&](const Buffer& piece) -> Status {
        recovered_.image_bytes += piece.size();
        SHEAF_RETURN_IF_ERROR(core_.Import(piece, now_));
        return progress_(piece.size());
      }, [&](uint32_t table, HashedKey key, uint64_t ahead) -> Status {
        if (ahead > log_.next_index()) {
          return Fail(ErrorCode::kDataLoss, "a row is as after record ", ahead - 1, ", the log ends before record ",
                      log_.next_index());
        }
        core_.SetAhead(table, key, ahead);
        ++recovered_.rows_ahead;
        return {};
      });
      if (!read) return Wrap(read.error(), "the image of partition ", partition);
      const auto due = core_.ImagesDue(index);
      if (std::ranges::find(due, partition) != due.end()) {
        return Fail(ErrorCode::kDataLoss, "the image of partition ", partition, " is not whole");
      }
      core_.SetStored(partition, true);
      awake_.push_back(partition);
      ++recovered_.partitions;
      MakeRoom();
    }
    return {};
  }

  // What was read back for records that were done, too.
  void MakeRoom() {
    if (!core_.IsShortOfMemory()) return;
    for (const uint32_t here : awake_) core_.Evict(here);
  }

  ShardCore& core_;
  RedoLog& log_;
  KvStore* const store_;
  const TimePoint now_;
  const RecoveryProgress& progress_;
  Recovered recovered_;
  uint64_t from_ = 0;
  std::vector<uint32_t> awake_;  // partitions whose images were read
};

}  // namespace

Result<Recovered> RecoverShard(ShardCore& core, RedoLog& log, KvStore* store, TimePoint now,
                               const RecoveryProgress& progress) {
  return Recovery(core, log, store, now, progress).Run();
}

Result<bool> LogIsComplete(RedoLog& log) {
  bool complete = log.first_index() == log.next_index();
  const Status read = log.Replay(log.first_index(), [&](uint64_t /*index*/, const Buffer& bytes) -> Status {
    SHEAF_ASSIGN_OR_RETURN(const RedoRecord record, DecodeRedo(bytes));
    complete = record.header.config().base();
    return Fail(ErrorCode::kCancelled, "the first is all that is asked for");
  });
  if (!read && read.error().code != ErrorCode::kCancelled) return Failure{read.error()};
  return complete;
}

Status SaveAll(ShardCore& core, RedoLog& log, KvStore& store, TimePoint now) {
  Snapshotter snapshotter(core, log, {});
  snapshotter.RequestRound();
  snapshotter.Step(now);
  if (snapshotter.idle()) return {};  // it has nothing
  SHEAF_RETURN_IF_ERROR(log.Commit(core.TakeCommitLevel()));
  while (!snapshotter.idle()) {
    snapshotter.Step(now);
    while (const auto work = snapshotter.TakeWork()) {
      const Status done = CarryOut(store, *work);
      snapshotter.OnDone(done, now);
      if (!done) return done;
    }
  }
  return {};
}

}  // namespace sheaf
