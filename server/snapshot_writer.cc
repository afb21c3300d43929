#include "server/snapshot_writer.h"

#include <glog/logging.h>
#include <poll.h>

#include <chrono>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/memory.h"
#include "server/snapshot_store.h"

namespace sheaf {
namespace {

constexpr int kTryAgainAfterMs = 100;
constexpr Duration kGiveBackEvery = std::chrono::seconds(5);
constexpr size_t kWorthTwo = 32;  // keys

}  // namespace

Status SnapshotWriter::Open(OpenAs as) {
  store_.reset();
  SHEAF_ASSIGN_OR_RETURN(store_, open_(as));
  return {};
}

void SnapshotWriter::Start() {
  thread_ = Thread("rows-" + std::to_string(shard_), [this] {
    auto gave_back_at = std::chrono::steady_clock::now();
    if (rows_leave_ == RowsLeave::kYes) GiveBackFreedMemory();  // whole partitions were here, one after the other
    while (true) {
      const std::optional<SnapshotWork> work = to_do_.Take(kGiveBackEvery);
      if (!work && to_do_.closed()) return;
      if (work) SHEAF_CHECK(done_.TryPut(CarryOutNext(*work)).has_value(), "nobody takes what is done");
      // Rows that have left, and batches of them, would be kept.
      const auto now = std::chrono::steady_clock::now();
      if (rows_leave_ == RowsLeave::kNo || now - gave_back_at < kGiveBackEvery) continue;
      GiveBackFreedMemory();
      gave_back_at = now;
    }
  });
  if (rows_leave_ == RowsLeave::kNo) return;
  reader_ = Thread("cold-" + std::to_string(shard_), [this] {
    while (true) {
      std::optional<ColdRead> read = reads_.Take(std::chrono::hours(1));
      if (!read && reads_.closed()) return;
      if (!read) continue;
      ReadInTwo(*read);
      // A full disk passes; until then a store that was let go of cannot be opened.
      while (!read->status && read->status.error().code == ErrorCode::kResourceExhausted && !reads_.closed()) {
        poll(nullptr, 0, kTryAgainAfterMs);
        ReadNow(*read);
      }
      SHEAF_CHECK(reads_done_.TryPut(std::move(*read)).has_value(), "nobody takes what was read");
    }
  });
  half_reader_ = Thread("cold-too-" + std::to_string(shard_), [this] {
    while (true) {
      std::optional<ColdRead> half = halves_.Take(std::chrono::hours(1));
      if (!half && halves_.closed()) return;
      if (!half) continue;
      ReadNow(*half);
      SHEAF_CHECK(halves_done_.TryPut(std::move(*half)).has_value(), "nobody takes half of what was read");
    }
  });
}

// A row takes RocksDB about ten microseconds, of which little is the disk's.
void SnapshotWriter::ReadInTwo(ColdRead& read) {
  size_t keys = 0;
  for (const ColdTable& table : read.tables) keys += table.keys.size();
  if (keys < kWorthTwo) return ReadNow(read);
  ColdRead half = TakeHalf(read);
  SHEAF_CHECK(halves_.TryPut(std::move(half)).has_value(), "half of a read is lost");
  ReadNow(read);
  while (true) {
    const std::optional<ColdRead> done = halves_done_.Take(std::chrono::hours(1));
    if (done) return JoinHalf(read, *done);
  }
}

void SnapshotWriter::Stop() {
  to_do_.Close();
  reads_.Close();
  thread_.Join();
  reader_.Join();
  halves_.Close();
  half_reader_.Join();
}

void SnapshotWriter::Put(ColdRead read) {
  SHEAF_CHECK(reads_.TryPut(std::move(read)).has_value(), "too many reads under way");
}

void SnapshotWriter::ReadNow(ColdRead& read) {
  {
    const std::shared_lock lock(opening_);
    if (store_ != nullptr) {
      read.status = ReadRows(*store_, read);
      return;
    }
  }
  const std::unique_lock lock(opening_);
  read.status = store_ == nullptr ? Open(OpenAs::kFound) : Status();
  if (read.status) read.status = ReadRows(*store_, read);
}

void SnapshotWriter::Put(SnapshotWork work) {
  SHEAF_CHECK(to_do_.TryPut(std::move(work)).has_value(), "a round has too many snapshots under way");
}

Status SnapshotWriter::CarryOutNext(const SnapshotWork& work) {
  if (failure_ && work.attempt == failed_attempt_) return Failure{*failure_};
  Status done;
  {
    const std::unique_lock lock(opening_);
    if (store_ == nullptr) done = Open(OpenAs::kFound);
  }
  if (!done && done.error().code == ErrorCode::kDataLoss && rows_leave_ == RowsLeave::kNo) {
    // All is in memory, and after a round that failed all is written again.
    LOG(ERROR) << "shard " << shard_ << ": its snapshots are put aside and written anew: " << done.error().message;
    done = Open(OpenAs::kAfresh);
  }
  if (done) done = CarryOut(*store_, work);
  if (done) return done;
  LOG(ERROR) << "shard " << shard_ << ": a round of snapshots ends, the log goes on: " << done.error().message;
  const std::unique_lock lock(opening_);
  store_.reset();
  failed_attempt_ = work.attempt;
  failure_ = done.error();
  return done;
}

}  // namespace sheaf
