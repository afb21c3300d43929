// One shard of a server: the rules of pull, push and scan (docs/protocol.md), without socket, thread or clock.
//
// Its owner feeds it configurations, messages and ticks, and sends what it puts into the Outbox.
// Thread-safety: none; it lives on its owner's event loop. Ownership: it owns the rows of its partitions; frames of
//   messages it must keep (parked pulls, staged slices, gradients of a clock that is not complete) by reference.
// Shapes, units: keys [n] hashed, ascending; values [n, dim] row-major; budgets in bytes.
// Errors: every request is answered: with its reply, or with a pb::Refusal of which nothing was applied. Anything may
//   come from the wire; sizes are checked before memory is taken for them.
// Durability: with a log it appends what it takes to it (configurations, pushes, clocks), and is the same again after
//   Redo. Its owner commits before it sends: memory may be ahead of the log, answers never are. Copies of partitions on
//   other servers are told the same, and are Redo all the time.
// Which partitions it holds, it reads from the configuration: those whose primary is the server that lists `self` among
//   its shards, and whose number modulo that server's shard count is the shard's place in the list.
// Algorithms: stale-synchronous parallel (Ho et al., NIPS 2013). BSP keeps the rows' values of before the last applied
//   clock, so that a lane taken over in the middle of a clock computes what its dead holder would have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/net/body_pool.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "common/storage/redo_log.h"
#include "common/trace/trace_log.h"
#include "proto/storage.pb.h"
#include "server/cold_rows.h"
#include "server/moved_partition.h"
#include "server/partition_cut.h"
#include "server/partition_image.h"
#include "server/partition_snapshot.h"
#include "server/redo_writer.h"

namespace sheaf {

struct ShardOptions {
  // For parked pulls, staged slices and gradients kept for BSP. As much again for pushes that all lanes wait for, and
  // for one that is half here: three times this is the most that is held. As much again is what all who ask may have
  // under way together, unless each has so little that its next request is larger.
  size_t request_budget_bytes = size_t{256} << 20;
  size_t key_list_budget_bytes = size_t{64} << 20;   // remembered key lists
  uint32_t retry_after_ms = 50;                      // told to clients when the budget is full
  Duration staging_idle = std::chrono::seconds(10);  // slices whose sender went silent are dropped after it
  TraceLog* trace = nullptr;                         // outlives the shard; nullptr: nothing is traced
  uint32_t trace_track = 0;
  BodyPool* bodies = nullptr;                        // of answers; outlives the shard; nullptr: new for each
  Duration session_idle = std::chrono::hours(1);     // dedup windows of session streams
  RedoLog* log = nullptr;                            // outlives the shard; nullptr: nothing is kept
  bool checkpoints = false;                          // rows that have changed are noted for checkpoints
  // Rows that nobody uses leave memory when rows take more than so much, about, and are then only in this store, which
  // is the one that rounds of snapshots are written to; it outlives the shard. nullptr, or 0: all rows stay.
  ColdStore* cold = nullptr;
  size_t row_limit_bytes = 0;
  // It is a copy of some partitions of another shard, which tells it all it does (Redo), and nobody else.
  bool is_copy = false;
};

inline constexpr size_t kMostPoisoners = 64;

// Of one partition that it is primary of.
struct PartitionLoad {
  uint32_t partition = 0;
  uint64_t bytes = 0;                        // of rows and their indexes
  uint64_t keys = 0;                         // pulled and pushed since the shard was started, about
};

// What the shard's owner reports to the scheduler, and people see.
struct ShardStats {
  uint64_t seen_generation = 0;
  uint64_t memory_bytes = 0;                 // of rows and their indexes
  uint64_t rows = 0;
  uint64_t cold_rows = 0;                    // of them, those that are not in memory
  uint64_t cold_reads = 0;                   // rows that came back
  uint64_t evicted_rows = 0;                 // rows that left memory
  uint64_t expired_rows = 0;                 // rows that were dropped, as nobody had pushed to them for long
  uint64_t unadmitted = 0;                   // gradients of keys that have no row yet
  size_t cold_waits = 0;                     // requests that wait for rows
  uint64_t pushes_applied = 0;
  uint64_t pushes_deduplicated = 0;
  uint64_t pulls_answered = 0;
  uint64_t overloaded = 0;
  uint64_t refused = 0;                      // NOT_YET and OVERLOADED not counted
  uint64_t poisoned = 0;                     // pushes refused as NaN, infinite, or over the job's limit
  std::map<PeerId, uint64_t> poison;         // of whom, at most kMostPoisoners
  std::string poison_text;                   // the latest: whose, and what of it
  uint64_t compared_rows = 0;                // of copies here, with what their primaries have
  uint64_t copies_differed = 0;              // copies that were thrown away, as they had other rows
  std::string differed_text;                 // the latest
  pb::DiskTrouble disk = pb::DISK_SOUND;     // what keeps it from writing its log in good time,
  std::string disk_text;                     // for people
  uint64_t disk_write_us = 0;                // that a write of the log takes, of late
  size_t parked_pulls = 0;
  size_t staged_pushes = 0;
  size_t request_bytes = 0;                  // used of request_budget_bytes
  std::vector<pb::SyncedReplica> synced;     // what is to be told of copies of its partitions
  uint64_t news = 0;                         // rises when there is something that the scheduler should hear at once
  std::vector<PartitionLoad> loads;
  std::vector<pb::PassLedger> ledgers;       // over this shard's partitions; ascending (job, pass)
  pb::CheckpointState checkpoint;            // that it is at, if it has an id
  pb::RestoreState restore;                  // likewise, a job
  std::string failure;                       // not empty: the shard is of no use any more, and why
  std::vector<std::string> waiting;          // "lane 0 waits for lane 1 at clock 41 of job 3", at most 8
};

// Where the records begin that a shard is to do again.
struct RedoStart {
  // In force before the first record, which says that a round of snapshots begins. Nothing: the first record is one
  // that needs none before it.
  std::optional<pb::ConfigRecord> config;
  std::map<uint32_t, uint64_t> images;  // by partition: it is as after the records before this index
};

class ShardCore {
 public:
  ShardCore(PeerId self, ShardOptions options);
  ~ShardCore();
  ShardCore(const ShardCore&) = delete;
  ShardCore& operator=(const ShardCore&) = delete;

  // Takes a newer configuration; an older or equal one changes nothing. Parked pulls that the change decides are
  // answered. An error names what of the configuration cannot be used; the rest is in force.
  // A partition that it makes ours is taken from `adopt`, if that has it; else it is what it was here, or begins empty.
  Status OnConfig(const pb::ClusterConfig& config, TimePoint now, Outbox& out, const Adopter& adopt = {});
  // The same configuration once more: something that is handed over by it is to be had now.
  Status OnHandedOver(const pb::ClusterConfig& config, TimePoint now, Outbox& out, const Adopter& adopt);
  // Keeps of the message only its frames, by reference: its header is the caller's to use again.
  void OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out);
  // Drops what nobody came back for. Call about once a second.
  void OnTick(TimePoint now, Outbox& out);

  // ---- doing again what an earlier process has left: before all else, and in order (server/recovery.h)
  // Forgets all that it has. Records follow; `start`: from which on, and what stands for those before.
  void BeginRedo(const RedoStart& start);
  // A partition of which there is an image sleeps until the records before its index are done: what they say is in the
  // image. These are to be imported before record `index` is done.
  std::vector<uint32_t> ImagesDue(uint64_t index) const;
  // Rows that the store has as they were after the records before `index`, which come after those of the image: what
  // records before that say of them is in them.
  void SetAhead(uint32_t table, HashedKey key, uint64_t index);
  void SetRedoIndex(uint64_t index);  // of the record that is done next
  // Does again what a record says. kDataLoss: it cannot be; the shard is of no use then. kUnavailable: of a copy, the
  // record says that a partition comes from `adopt`, which has it not; nothing has changed.
  Status Redo(const Buffer& record, TimePoint now, const Adopter& adopt = {});
  // In force when the last images were made, of which the log has lost the records. Rows of other tables than it has
  // are left out of images from now on: those tables had gone.
  void RedoLatestConfig(const pb::ConfigRecord& record);
  // Partitions of which there should have been an image, as they were not dropped.
  std::vector<uint32_t> ImagesMissing() const;
  // After the last record. What still sleeps is dropped. The shard then waits for a configuration, whatever its
  // generation.
  void EndRedo();

  // From now on `take` is told what the shard does, in records for a copy's Redo: first where the configuration that it
  // has just taken leaves it, then what comes to the partitions that it has been given. They keep their order.
  void BeginCopy(uint64_t name, const pb::ClusterConfig& config, RedoWriter::Take take);
  void GiveToCopy(uint64_t name, uint32_t partition);
  // The same of one that the copy's shard has already, from the primary before: as it was handed over to us.
  void LeaveToCopy(uint64_t name, uint32_t partition, const pb::ClusterConfig& config);
  // It is not told of them any more. (A configuration by itself takes from it what is no longer the shard's own.)
  void TakeFromCopy(uint64_t name, const std::set<uint32_t>& partitions, const pb::ClusterConfig& config);
  void EndCopy(uint64_t name);
  // Tells copies what the next rows of theirs are, so that they may see whether they have them so. A second, say.
  void CompareCopies();
  // Of a copy: it has the partition.
  bool Has(uint32_t partition) const;
  // All there is of a partition: it has it no longer. Nothing if it has not.
  std::optional<MovedPartition> Release(uint32_t partition);

  // How safe the log must be before anything is sent that was put into the Outbox since the last call: answers show
  // only what is. kMemory: nothing was appended.
  Durability TakeCommitLevel();
  // Pulls, pushes and scans are refused for now, and told why (the log cannot be written: what an answer would show is
  // not safe). Empty: no longer.
  void RefuseAll(std::string why);
  // Pushes alone, and what else would make the log longer but for configurations.
  void RefusePushes(std::string why);

  // All of a partition, as it is after the records of the log before `index`; nothing if it is not here.
  // (server/partition_image.h)
  std::vector<ImagePiece> Export(uint32_t partition, uint64_t index);
  // Takes the next piece of an image. When all are here, its partition becomes what it says, whatever it was before, in
  // the passes and tables of the configuration. kDataLoss: it is damaged, or of a table that is not here; nothing has
  // changed, and the pieces so far are forgotten.
  Status Import(const Buffer& piece, TimePoint now);

  // ---- rounds of snapshots (server/snapshotter.h)
  // Appends the record that one begins with. Nothing: there is no configuration in force.
  std::optional<RoundBegin> BeginRound();
  // Copies rows of the snapshot's partition that have changed since its last one, about so many. kMore: call again, in
  // the same turn or a later one. kGone: it is not here any more.
  enum class Copied { kMore, kAll, kGone };
  Copied CopyChanged(PartitionSnapshot& snapshot, size_t max_rows);
  // Completes it as the partition is now: all records before `index`, and no other, are done and committed.
  Copied FinishSnapshot(PartitionSnapshot& snapshot, uint64_t index);
  // Those here of which all that is not in a later snapshot is in the ones that were finished.
  std::vector<uint32_t> StoredPartitions() const;
  // The partition's last image was read from the store (true), or whatever the store has of it is of no use.
  void SetStored(uint32_t partition, bool stored);

  // ---- tables larger than memory
  bool evicting() const;  // rows may leave memory
  // Rows take so much that some should leave, also without those that are about to, which take so many bytes.
  bool IsShortOfMemory(size_t leaving = 0);
  // And so little that no more need to.
  bool HasRoomEnough(size_t leaving) const;
  // Copies, of a partition's rows that are to leave, those that the store has not as they are; about so many at a time,
  // as of record `index` (FinishSnapshot). kMore, kGone: as of CopyChanged. When what was copied is flushed, Evict.
  Copied CopyLeaving(LeavingRows& leaving, size_t max_rows, uint64_t index);
  // The store has the partition's last image and rows that were copied since, flushed: some of its rows leave.
  // Answers how many were looked at.
  size_t Evict(uint32_t partition);
  // All has left that could for now, but for so many bytes.
  void EndEviction(size_t leaving);
  // What is to be read from the store of cold rows, in this order, and handed back; nothing: that is all for now.
  std::optional<ColdRead> TakeColdRead();
  void OnColdRead(ColdRead read, TimePoint now, Outbox& out);
  // Requests that waited for room are carried out, if there is some.
  bool MayResume() const;
  void Resume(TimePoint now, Outbox& out);
  // All rows of the partition are in memory. If not, they are asked for, and will be for a while.
  bool Thaw(uint32_t partition);
  // As a scan; blocks for rows that are not in memory. For those who look on.
  Message ScanNow(const pb::ScanRequest& request);
  uint64_t evicted_rows() const;  // as in ShardStats
  // Not empty: rows that had left memory are lost, and why. The shard is of no use any more.
  const std::string& failure() const;

  // ---- checkpoints (server/checkpointer.h)
  // Freezes what a partition has of a job, for checkpoint `id`: all of it, or what has changed since it was frozen for
  // `base`, if that was its last. Nothing: it is not here. Takes no longer the more rows there are, but for a bit each.
  std::optional<PartitionCut> BeginCut(uint32_t partition, uint64_t job, uint64_t id, uint64_t base);
  // Tells the next rows, about so many. kMore: call again, also if there were none.
  Copied CopyCut(PartitionCut& cut, size_t max_rows, std::vector<ImagePiece>& pieces);
  void EndCut(const PartitionCut& cut);
  void EndCuts();                 // of all partitions
  // Some pieces of an image were imported, and not all.
  bool importing() const;
  void DropImport();              // those pieces are forgotten
  // An image that was imported is told to the log and to copies.
  void TellRestored(uint32_t partition);

  const pb::ConfigRecord& last_config() const;  // in force, or before an earlier process ended
  uint64_t logged_bytes() const;  // appended and done again

  ShardStats stats() const;
  uint64_t generation() const;
  const std::vector<uint32_t>& owned() const;  // the partitions that are the shard's by the configuration, ascending
  uint64_t placement() const;                  // their signature, with their epochs (common/base/placement.h)
  const std::vector<uint64_t>& owned_epochs() const;  // of each of them
  // Those that it should have taken over, and nobody here has a copy of.
  const std::vector<uint32_t>& absent() const;
  // Those that are handed over to it, and are not here yet.
  const std::vector<uint32_t>& coming() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Adds the shards of one server up: sums, and the least and greatest count of each ledger.
ShardStats MergeStats(const std::vector<ShardStats>& shards);

}  // namespace sheaf
