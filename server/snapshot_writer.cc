#include "server/snapshot_writer.h"

#include <glog/logging.h>

#include <string>
#include <utility>

#include "common/base/check.h"

namespace sheaf {

Status SnapshotWriter::Open(OpenAs as) {
  store_.reset();
  SHEAF_ASSIGN_OR_RETURN(store_, open_(as));
  return {};
}

void SnapshotWriter::Start() {
  thread_ = Thread("rows-" + std::to_string(shard_), [this] {
    while (true) {
      const std::optional<SnapshotWork> work = to_do_.Take(std::chrono::hours(1));
      if (!work && to_do_.closed()) return;
      if (work) SHEAF_CHECK(done_.TryPut(CarryOutNext(*work)).has_value(), "nobody takes what is done");
    }
  });
}

void SnapshotWriter::Stop() {
  to_do_.Close();
  thread_.Join();
}

void SnapshotWriter::Put(SnapshotWork work) {
  SHEAF_CHECK(to_do_.TryPut(std::move(work)).has_value(), "a round has too many snapshots under way");
}

Status SnapshotWriter::CarryOutNext(const SnapshotWork& work) {
  if (failure_ && work.round == failed_round_) return Failure{*failure_};
  Status done;
  if (store_ == nullptr) done = Open(OpenAs::kFound);
  if (!done && done.error().code == ErrorCode::kDataLoss) {
    // All is in memory, and after a round that failed all is written again.
    LOG(ERROR) << "shard " << shard_ << ": its snapshots are put aside and written anew: " << done.error().message;
    done = Open(OpenAs::kAfresh);
  }
  if (done) done = CarryOut(*store_, work);
  if (done) return done;
  LOG(ERROR) << "shard " << shard_ << ": a round of snapshots ends, the log goes on: " << done.error().message;
  store_.reset();
  failed_round_ = work.round;
  failure_ = done.error();
  return done;
}

}  // namespace sheaf
