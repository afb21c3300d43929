// One shard of a server, without I/O: its own partitions, the copies of them elsewhere, its copies of others', its log;
// and when what it has to say may be said.
//
// Its owner (ShardThread, or the simulator) feeds it configurations, messages and ticks, and after each, or after a few
// together, calls Flush, which commits the log and gives the messages that may leave. Answers show only what is safe:
// what the log has, and every backup that may become the primary. State is ahead of that, answers never are.
// Thread-safety: none. Ownership: owns the core and the log.
// While the disk is full answers wait, and requests are refused; another error of the log makes the shard useless
// (ShardStats.failure).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "common/storage/redo_log.h"
#include "server/replica_copy.h"
#include "server/replica_set.h"
#include "server/shard_core.h"

namespace sheaf {

class Shard {
 public:
  using Config = std::shared_ptr<const pb::ClusterConfig>;

  // `log`: nullptr if nothing is kept.
  Shard(PeerId self, ShardOptions options, std::unique_ptr<RedoLog> log);

  // As in ShardCore.
  Status OnConfig(Config config, TimePoint now);
  void OnMessage(PeerId from, const Message& message, TimePoint now);
  void OnTick(TimePoint now);
  // Rows that are not in memory, as in ShardCore.
  std::optional<ColdRead> TakeColdRead() { return core_.TakeColdRead(); }
  void OnColdRead(ColdRead read, TimePoint now) {
    core_.OnColdRead(std::move(read), now, refusing_ ? free_ : said_);
  }
  // Requests that waited for room for their rows, if there is some now. Call before Flush.
  void Resume(TimePoint now) {
    if (core_.MayResume()) core_.Resume(now, refusing_ ? free_ : said_);
  }
  // An error: the log could not be written, and this is the first time that it is said.
  Status Flush(TimePoint now, Outbox& out);
  // Does for copies of others' partitions what they were told since: who waits for them is answered first, in Flush.
  // To be called when there is time, and then Flush again if it says that there was something to do; whatever needs
  // copies does it before, but for Export.
  bool CatchUp(TimePoint now);
  // Answers need not wait for anything: nothing is gained by a Flush for many.
  bool immediate() const { return log_ == nullptr && replicas_.idle(); }

  std::vector<pb::ShardEndpoint> TakeConnections() { return replicas_.TakeConnections(); }
  std::vector<PeerId> TakeDisconnections() { return replicas_.TakeDisconnections(); }
  ShardStats stats() const;
  // As it is, ahead of what may be told; and what it wants to say since the last Flush. For those who look on.
  ShardCore& core() { return core_; }
  Outbox& said() { return said_; }
  RedoLog* log() { return log_.get(); }  // nullptr: nothing is kept
  // The log cannot be written, now or ever.
  bool refusing() const { return refusing_; }
  // Pulls are answered, pushes are told why not; empty: no longer.
  void RefusePushes(std::string why) { core_.RefusePushes(std::move(why)); }
  uint64_t generation() const { return core_.generation(); }
  // Rises when there is something new in what stats() tells the scheduler.
  uint64_t news() const { return safe_generation_ + replicas_.news(); }
  const std::vector<uint32_t>& owned() const { return core_.owned(); }
  // What the shard has done until now is safe once IsSafe(what SafePoint says now): the log has it, and every copy that
  // may become the primary.
  ReplicaSet::Marks SafePoint() const { return replicas_.Needed(); }
  bool IsSafe(const ReplicaSet::Marks& marks) const {
    return !refusing_ && to_commit_ == Durability::kMemory && replicas_.Reached(marks);
  }
  // All of a partition, its own or a copy (ShardCore::Export); nothing if it has none.
  std::vector<ImagePiece> Export(uint32_t partition);

 private:
  // What was said when the streams had come to `marks`.
  struct Held {
    ReplicaSet::Marks marks;
    size_t bytes = 0;
    std::vector<Outbox::Item> items;
  };
  void OnReplicate(PeerId from, const Message& message);
  void SayUnknown(PeerId primary, uint64_t stream);
  ReplicaCopy* NewestCopyOf(PeerId primary);  // nullptr: there is none
  // Given before that generation; nullptr: there is none.
  ReplicaCopy* LatestCopy(uint32_t partition, uint64_t before);
  std::optional<MovedPartition> TakeOver(const pb::ClusterConfig& config, uint32_t partition);
  // For a copy of the primary that it was handed over to in this configuration.
  std::optional<MovedPartition> Inherit(const pb::ClusterConfig& config, uint32_t partition);
  void TakeHandedOver(TimePoint now);
  // Keeps what we hand over and are to have a copy of, as it is now.
  void KeepOwn(const pb::ClusterConfig& config, uint32_t node, const std::map<uint32_t, uint64_t>& were_ours);
  // It is handed over to us, and here is all of it.
  bool HasAllOf(uint32_t partition);
  // Some copy here, or we, could still come to what `waiting` waits for.
  bool CanGoOn(const ReplicaCopy& waiting) const;
  // Copies do what they were told, as far as they can; those that cannot at all are given up. Whether any has come
  // further.
  bool DoPending(TimePoint now);
  // Copies may have come to where others can go on. Whatever waits and cannot is given up.
  void GoOn(TimePoint now);
  Status Commit();
  // What was said since the last call must wait for what was written until now.
  void Hold();
  void DropHeld();
  void Say(Outbox& out);

  const PeerId self_;
  const ShardOptions options_;
  const std::unique_ptr<RedoLog> log_;
  ShardCore core_;
  ReplicaSet replicas_;
  // By primary and stream: what an earlier stream has brought is kept until a configuration says what becomes of it.
  std::map<std::pair<PeerId, uint64_t>, ReplicaCopy> copies_;
  bool behind_ = false;                         // some copy may have something to do
  Outbox said_;                                 // since the last Hold
  std::deque<Held> held_;
  size_t held_bytes_ = 0;                       // never more than request_budget_bytes
  std::map<uint32_t, uint64_t> owned_at_;       // generation by which a partition was last ours
  Config config_;                               // that the core has taken
  // What we handed over and are to have a copy of, until who has it now tells us to go on from it.
  struct Kept {
    uint64_t epoch = 0;         // of who has it now
    uint64_t since = 0;         // of us as a replica
    std::vector<Buffer> image;
  };
  std::map<uint32_t, Kept> kept_;
  std::map<uint32_t, uint64_t> handed_over_;    // what we have handed over, to which epoch, while answers are held
  Outbox free_;                                 // shows nothing that has to be safe
  Durability to_commit_ = Durability::kMemory;  // of what was appended and is not committed yet
  uint64_t safe_generation_ = 0;                // the latest configuration that the log has, too
  bool refusing_ = false;                       // the log cannot be written
  std::string failure_;
  uint64_t compared_rows_ = 0, copies_differed_ = 0;  // of copies that are gone
  std::string differed_text_;
  TimePoint next_compare_{};
};

}  // namespace sheaf
