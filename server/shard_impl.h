// The inside of ShardCore: its state, and the rules as functions on it. shard_core.cc has dispatch and checks,
// shard_config.cc configurations, shard_push.cc pushes, shard_clock.cc the clocks of BSP, shard_pull.cc pulls and
// scans, shard_rows.cc which rows there are, shard_cold.cc rows that leave memory, shard_redo.cc the log and copies,
// shard_image.cc images, shard_cut.cc checkpoints, shard_stats.cc statistics.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "common/base/block_pool.h"
#include "common/base/random.h"
#include "proto/storage.pb.h"
#include "server/budget.h"
#include "server/key_list_cache.h"
#include "server/moved_partition.h"
#include "server/partition_cut.h"
#include "server/partition_image.h"
#include "server/partition_state.h"
#include "server/redo_writer.h"
#include "server/request_check.h"
#include "server/shard_core.h"
#include "server/staging.h"
#include "server/table_rows.h"

namespace sheaf {

struct ShardCore::Impl {
  struct Table {
    uint32_t id = 0;
    uint64_t job = 0;
    bool sum = false;
    double max_gradient_norm = 0;             // 0: any
    Durability durability = Durability::kMemory;
    uint32_t admit_after = 1;                 // sightings, until a key gets a row
    uint32_t expire_after_s = 0;              // without a push, until a row is dropped; 0: never
    TimePoint pushed_at{};                    // last, about
    RowLayout layout;
    std::unique_ptr<Optimizer> optimizer;
    std::unique_ptr<TableRows> rows;          // once the partitions are known
    std::string error;                        // not empty: the configuration's spec of it cannot be used
    // Cold rows that are asked for: the number of the read that brings them. Never iterated.
    std::unordered_map<HashedKey, uint64_t> coming;
  };
  // What is told of a pass beside its examples.
  struct PassCounts {
    uint64_t duplicates = 0;
    uint64_t staleness = 0;   // greatest distance of an answered pull to the slowest lane
  };
  struct Pass {
    pb::Roster roster;
    float rate_scale = 1;
    PassCounts counts;

    bool bsp() const { return roster.mode() == pb::ConsistencySpec::BSP; }
    const pb::Lane* FindLane(uint32_t lane) const;
  };
  // Which pushes of a session are in, by partition.
  struct Session {
    std::vector<SeqWindow> windows;
    TimePoint last;
  };
  struct SessionHash {
    size_t operator()(const SessionId& id) const { return MixPair(id.high, id.low); }
  };
  struct Pull {
    PeerId from;
    uint64_t request = 0;
    std::optional<pb::Progress> progress;
    RequestPart part;
    TimePoint parked_since;   // if it is traced
  };
  struct Push {
    PeerId from;
    uint64_t request = 0;
    PushKey key;
    SliceOrigin origin;
    std::optional<pb::Progress> progress;
    uint32_t example_count = 0;
    bool pull_after = false;
    bool again = false;                                 // it waits for rows, and is sent once more
    std::shared_ptr<RequestPart> part;                  // of this message
    std::vector<std::shared_ptr<RequestPart>> parts;    // all slices, once the push is complete
    std::vector<uint32_t> missing;                      // partitions that do not have it yet
  };
  using RequestKey = std::pair<PeerId, uint64_t>;
  // A request of which nothing was taken yet, as its rows are not here.
  struct ColdWait {
    uint64_t when = 0;                                            // that read is done; 0: there is room for more rows
    PeerId from;
    uint64_t request = 0;
    std::optional<Pull> pull;
    Message message;                                              // of all others: it is looked at anew
    std::optional<std::pair<uint32_t, uint32_t>> scan;            // of that partition and table
    uint64_t generation = 0;                                      // of the configuration when it came
    uint32_t tries = 0;                                           // it was to be carried out, and had to wait again
    Reservation reservation;
  };
  // Keys that are to be read next.
  struct Wanted {
    uint64_t number = 0;                                          // of the read
    size_t keys = 0;
    std::map<uint32_t, std::vector<HashedKey>> tables;
  };
  // A partition's rows are not to leave until then, and before these reads are done.
  struct Stay {
    TimePoint until{};
    uint64_t reads = 0;
  };
  // Of answers that are on the wire no more. As many as a shard usually has on their way, but no great part of what the
  // shard is given.
  static constexpr size_t kSpareFrameBytes = size_t{16} << 20;
  static constexpr size_t kSpareFrameShare = 4;
  // Nobody repeats the pushes of a session that was quiet for so long: it goes if there is no room.
  static constexpr Duration kQuietSession = std::chrono::minutes(10);
  // In `asleep`: it was dropped later, and there is no image of it.
  static constexpr uint64_t kUntilDropped = ~uint64_t{0};
  // An image that comes in pieces, and the rows of it that are here.
  struct Coming {
    ImageReader reader;
    std::map<uint32_t, std::unique_ptr<RowStore>> rows;  // by table
  };

  Impl(PeerId self_peer, ShardOptions shard_options);

  // ---- configuration (shard_config.cc)
  // `member`: as whom the configuration knows this shard.
  // `holds`: of a copy, those that it has been given; nullptr: all that the configuration says.
  using Holds = const google::protobuf::RepeatedField<uint32_t>*;
  Status TakeConfig(const pb::ClusterConfig& config, PeerId member, Holds holds, const Adopter& adopt, TimePoint now,
                    Outbox& out);
  Status TakePartitions(const pb::ClusterConfig& config, PeerId member, Holds holds, const Adopter& adopt);
  void DropPartition(uint32_t partition);  // it has moved away
  std::optional<MovedPartition> Release(uint32_t partition);
  void Adopt(MovedPartition moved, TimePoint now);
  Status TakeTables(const pb::ClusterConfig& config);
  void TakeRosters(const pb::ClusterConfig& config);
  static void EndPasses(PartitionState& partition, const std::set<PassKey>& listed);  // those that are not
  void TrimLedgers();
  void DropStaleSlices();
  void OnTick(TimePoint now, Outbox& out);

  // ---- how much those who ask may have under way (shard_core.cc)
  void NoteSender(PeerId from);
  void ForgetSenders(TimePoint now);
  void ShareCredit();

  // ---- checks that pulls and pushes share (shard_core.cc)
  // Fills the part's partitions and epochs: those that the request lists, or all of a placement.
  template <typename Request>
  MaybeRefusal TakePartitionsOf(const Request& request, RequestPart& part) const {
    if (request.has_placement()) {
      if (request.partition_size() > 0 || request.epoch_size() > 0) {
        return Refuse(pb::Refusal::INVALID, "the request names a placement and lists partitions: one of them");
      }
      return TakePlacement(request.placement(), part);
    }
    part.partitions.assign(request.partition().begin(), request.partition().end());
    part.epochs.assign(request.epoch().begin(), request.epoch().end());
    return CheckEpochs(part.partitions, part.epochs);
  }
  MaybeRefusal TakePlacement(const pb::Placement& named, RequestPart& part) const;
  pb::Refusal TakenForDead() const;
  MaybeRefusal CheckEpochs(std::span<const uint32_t> partitions, std::span<const uint64_t> epochs) const;
  // Of the blocks of a request that was taken so.
  BlockContext ContextOf(const RequestPart& part, bool placement);
  // One if all are equal, else one each.
  void AddLsns(std::span<const uint32_t> partitions, google::protobuf::RepeatedField<uint64_t>& out) const;
  MaybeRefusal FindTables(const google::protobuf::RepeatedPtrField<pb::Block>& blocks, const pb::Progress* progress,
                          std::vector<uint32_t>& widths) const;
  // The pass and lane of a training request.
  MaybeRefusal FindPass(const pb::Progress& progress, Pass*& pass);
  void SendRefusal(PeerId to, uint64_t request, pb::Refusal refusal, Outbox& out);
  // An answer without a body, or with an empty one of that kind.
  Message MakeAnswer(uint64_t request, pb::Header::BodyCase kind) const;
  // A values frame to be written; its memory is used again when it has been sent.
  std::shared_ptr<std::byte> MakeFrame(size_t bytes) const;

  // ---- pushes (shard_push.cc)
  void OnPush(PeerId from, const Message& message, TimePoint now, Outbox& out);
  MaybeRefusal TakePush(Push& push, const Message& message, TimePoint now, Outbox& out);
  MaybeRefusal CheckTrainingPush(const pb::PushRequest& request, Pass*& pass);
  // Which of the push's partitions do not have it yet.
  MaybeRefusal CheckWindows(const Push& push, const Pass* pass, TimePoint now, std::vector<uint32_t>& missing);
  // Decodes what is not fp32 into `decoded`, and refuses NaN and infinite values.
  MaybeRefusal CheckValues(PeerId from, const RequestPart& part);
  // Fills push.parts if the push is complete; a slice that is kept is answered.
  MaybeRefusal Stage(Push& push, TimePoint now, Outbox& out);
  // A push for the clock that all wait for: it has room of its own, as it is what makes other room free.
  bool Awaited(const Push& push) const;
  MaybeRefusal ReserveForClock(Push& push);
  MaybeRefusal RefuseIfNeverRoom(const Push& push) const;
  void Accept(const Push& push, const Pass* pass, TimePoint now);
  // nullptr: nothing of the stream is in.
  const SeqWindow* FindWindow(uint32_t partition, const PushKey& key) const;
  const Session* FindSession(const PushKey& key) const;
  size_t MaxSessions() const;
  void MarkTaken(const Push& push, TimePoint now);
  void ApplyPart(RequestPart& part, std::span<const uint32_t> missing, float rate_scale);
  // Of keys [first, first + count) of the block.
  void ApplyRows(const RequestBlock& block, const float* floats, Table& table, size_t first, size_t count,
                 float rate_scale);
  void AnswerPush(const Push& push, bool duplicate, Outbox& out);

  // ---- which rows there are (shard_rows.cc)
  // The rows that pushes to these keys change, into `rows`; those that are absent are made if their keys are admitted.
  // The others have `unadmitted_row`, which nobody reads, and kNoSlot. `slots` may be nullptr if nothing is admitted
  // late and nobody marks rows.
  void FindPushed(Table& table, std::span<const HashedKey> keys, uint32_t* slots);
  // While the log is done again: rows that are ahead of it have `unadmitted_row` and kNoSlot, too.
  void LeaveOutAhead(const Table& table, std::span<const HashedKey> keys, uint32_t* slots);
  bool IsAhead(uint32_t table, HashedKey key);
  // Those rows are about to change.
  void MarkPushed(Table& table, std::span<const HashedKey> keys, const uint32_t* slots);
  // They have.
  void TimePushed(Table& table, std::span<const HashedKey> keys);
  // Seconds of training, as they pass. Whether any has.
  bool CountTime(TimePoint now);
  void AddTime(uint32_t seconds);
  // Looks for some rows that nobody has pushed to for long.
  void ExpireSome();
  // Somebody has pushed to tables of its job of late.
  bool Trains(const Table& table) const;
  bool IsOld(uint32_t partition, const Table& table, const float* row) const;
  bool MayExpire(uint32_t partition, const Table& table) const;
  // Of rows that are not in memory the times of the next ones are asked for; those that are old come back, and go.
  void AskForAway();
  void TakeTimes(const ColdRange& range, bool of_use);
  void ExpireOf(Table& table, std::span<const HashedKey> keys);
  // Says that they are gone, and drops them.
  void Expire(uint32_t partition, Table& table, std::vector<HashedKey> keys);
  void Drop(uint32_t partition, Table& table, std::span<const HashedKey> keys);
  Status RedoExpire(const pb::ExpireRecord& record, const Buffer& bytes);

  // ---- clocks (shard_clock.cc)
  // Finishes the clock of a push in all its partitions, applies what is complete, and answers parked pulls.
  void FinishClock(const Push& push, Outbox& out);
  // SSP: how far the furthest lane has come, for the answer to a training request, but no further than a clock whose
  // rows of these partitions would be answered now: what is read now may count as read at the clock before it.
  std::optional<uint64_t> FrontOf(const pb::Progress& progress, std::span<const uint32_t> partitions) const;
  void ApplyCompleteClocks(const PassKey& key, const Pass& pass);
  void ApplyClock(const PassKey& key, const Pass& pass, uint64_t clock, std::span<PartitionState* const> parts);
  void ApplyClockToTable(const PassKey& key, const Pass& pass, uint64_t clock, std::span<PartitionState* const> parts,
                         Table& table);
  std::string WaitingFor(const PassKey& pass, std::span<const uint32_t> partitions, uint64_t clock) const;

  // ---- what it says of itself (shard_stats.cc)
  // A pull is answered, or a push is taken.
  void NoteLoad(const RequestPart& part);
  PartitionLoad LoadOf(uint32_t partition) const;
  ShardStats Stats() const;
  std::vector<std::string> WaitingLines() const;

  // ---- images (shard_image.cc)
  // Rows that have changed are to be found again.
  bool marking() const { return options.log != nullptr || options.checkpoints; }
  std::vector<ImagePiece> Export(uint32_t partition, uint64_t index);
  // `job`: of which passes are told; 0: all.
  std::vector<ImagePiece> ExportState(uint32_t partition, uint64_t index, std::vector<ImageTable> with_rows,
                                      uint64_t job = 0) const;
  Status Import(const Buffer& piece, TimePoint now);
  Status TakeImageRows(const ImageTable& table, std::span<const HashedKey> keys, std::span<const float> floats);
  // The partition becomes what the image says.
  void Install(PartitionImage image, TimePoint now);

  // ---- rounds of snapshots (shard_image.cc)
  using Copied = ShardCore::Copied;
  std::optional<RoundBegin> BeginRound();
  Copied CopyChanged(PartitionSnapshot& snapshot, size_t max_rows);
  Copied FinishSnapshot(PartitionSnapshot& snapshot, uint64_t index);
  bool BeginSnapshot(PartitionSnapshot& snapshot);
  std::vector<uint32_t> StoredPartitions() const;
  void SetStored(uint32_t partition, bool stored);
  // Tables whose rows go into snapshots, and that have some in the partition.
  template <typename Work>
  void ForEachStore(uint32_t partition, Work work) {
    for (auto& [id, table] : tables) {
      RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
      if (store != nullptr && store->size() > 0 && table.durability != Durability::kMemory) work(table, *store);
    }
  }

  // ---- checkpoints (shard_cut.cc)
  std::optional<PartitionCut> BeginCut(uint32_t partition, uint64_t job, uint64_t id, uint64_t base);
  Copied CopyCut(PartitionCut& cut, size_t max_rows, std::vector<ImagePiece>& pieces);
  void EndCut(const PartitionCut& cut);
  void EndCuts();
  void TellRestored(uint32_t partition);

  // ---- pulls and scans (shard_pull.cc)
  void OnPull(PeerId from, const Message& message, Outbox& out);
  MaybeRefusal TakePull(const Message& message, Pull& pull);
  MaybeRefusal CheckMinLsns(const pb::PullRequest& request, std::span<const uint32_t> partitions) const;
  bool MayAnswer(const Pull& pull) const;
  void AnswerPull(const Pull& pull, Outbox& out);
  void NoteStaleness(const Pull& pull);
  // `place` is its place in the line, if it had one.
  void TraceParked(const Pull& pull) const;
  void Park(Pull pull, std::optional<uint64_t> place, Outbox& out);
  // Answers the parked pulls of a pass that may be answered now, in the order they came.
  // Only so many bytes at a time; the next tick goes on.
  void AnswerParked(const PassKey& pass, Outbox& out);
  // After a new configuration: refuses those that it decides.
  void CheckParked(Outbox& out);
  // The values frame of an answer. `progress` is that of a training pull.
  Buffer ReadRows(const RequestPart& part, const pb::Progress* progress);
  void UseUndo(std::span<const HashedKey> keys, const Table& table, const pb::Progress& progress);
  void OnScan(PeerId from, const Message& message, Outbox& out);
  MaybeRefusal Scan(const pb::ScanRequest& request, Message& answer);
  // Its rows are away, and it waits for them.
  bool WaitsForRows(PeerId from, const Message& message, MaybeRefusal& refusal);

  MaybeRefusal CheckAgain(const Pull& pull);
  // Answers it, or has it wait for its rows.
  void CarryOut(Pull pull, bool again, Outbox& out);

  // ---- rows that leave memory (shard_cold.cc)
  bool evicting() const { return options.cold != nullptr && options.row_limit_bytes > 0 && !options.is_copy; }
  size_t row_limit() const { return options.row_limit_bytes; }
  bool MayLeave(const Table& table) const;
  bool MayLeave(uint32_t partition, const Table& table) const;
  size_t RowBytes() const;
  void CountRowBytes();
  bool HasRoom() const;
  void GiveWay();
  bool IsShortOfMemory(size_t leaving);
  bool HasRoomEnough(size_t leaving) const;
  double ShareThatLeaves() const;
  Copied CopyLeaving(LeavingRows& leaving, size_t max_rows, uint64_t index);
  size_t Evict(uint32_t partition);
  void EndEviction(size_t leaving);
  std::vector<HashedKey> KeysThatStay(uint32_t partition, uint32_t table) const;
  void AddUndoKeys(uint32_t partition, uint32_t table, std::vector<HashedKey>& keys) const;
  enum class MakesRows { kNo, kYes };
  bool RowsAreHere(const RequestPart& part, MakesRows makes, uint64_t& when);
  bool IsCold(const Table& table, HashedKey key) const;
  uint64_t AskFor(Table& table, HashedKey key);
  std::optional<ColdRead> TakeColdRead();
  void OnColdRead(ColdRead read, TimePoint now, Outbox& out);
  void TakeRange(ColdRange& range, bool of_use);
  bool Thaw(uint32_t partition);
  // `again`: it has waited before, and its sender has asked for it once more.
  MaybeRefusal Wait(ColdWait wait, size_t bytes, bool again);
  // A repeat takes the place of what it repeats. True: there was such.
  bool ForgetWait(PeerId from, uint64_t request);
  void Resume(TimePoint now, Outbox& out);
  bool MayResume() const;
  void ResumePull(Pull pull, Outbox& out);
  Status ReadNow(ColdRead& read);
  void NoteFailure(const Status& status);
  Status TakeBackNow(const std::vector<std::shared_ptr<RequestPart>>& parts);
  // The same of one table's keys.
  Status TakeBackNow(uint32_t table, std::span<const HashedKey> keys);
  void AddCold(const Table& table, std::span<const HashedKey> keys, ColdRead& read) const;
  Status TakeBackNow(ColdRead read);
  std::optional<HashedKey> CopyAll(Table& table, uint32_t partition, HashedKey from, size_t max_rows,
                                   std::vector<HashedKey>& keys, std::vector<float>& into);

  // ---- the log (shard_redo.cc)
  // Each is told to the log, if what it speaks of is to outlive the process, and to all copies.
  void LogConfig(const pb::ClusterConfig& config);
  // Those of ours that the configuration hands over to us.
  std::vector<uint32_t> HandedOver(const pb::ClusterConfig& config) const;
  void LogPush(const Push& push);
  void LogClock(const Push& push);
  void WritePush(RedoWriter& to, const Push& push);
  // `record` says who the push is.
  void WritePart(RedoWriter& to, RequestPart& part, const std::vector<uint32_t>& taking, pb::PushRecord record);
  // `takes`: ConfigRecord.takes
  void WriteConfig(RedoWriter& to, const pb::ClusterConfig& config, bool base,
                   const std::vector<uint32_t>& takes = {});
  void WriteImage(RedoWriter& to, uint32_t partition);
  Durability DurabilityOf(const Push& push) const;
  Durability DurabilityOfTables() const;  // the greatest
  // Who is told of what is as durable as that.
  std::vector<RedoWriter*> WritersOf(Durability level);
  // Of these partitions, those that it is told of.
  std::vector<uint32_t> ToldTo(const RedoWriter& to, std::vector<uint32_t> partitions) const;
  bool IsAll(const RedoWriter& to, const std::vector<uint32_t>& partitions) const;
  void BeginRedo(const RedoStart& start);
  std::vector<uint32_t> ImagesDue(uint64_t index) const;
  std::vector<uint32_t> ImagesMissing() const;
  Status Redo(const Buffer& record, TimePoint now, const Adopter& adopt);
  Result<std::optional<MovedPartition>> Take(const pb::ConfigRecord& record, const Adopter& adopt);
  void RedoConfig(const pb::ConfigRecord& record, std::optional<MovedPartition> taken, TimePoint now);
  void EndRedo();
  void TakeAsOwn(uint32_t partition);
  // Takes away those that sleep, and those that a copy has given away.
  void KeepAwake(std::vector<uint32_t>& named) const;
  Status RedoPush(const pb::PushRecord& record, const Buffer& keys, const Buffer& values, TimePoint now);
  // The keys of a block of a record; moves `at` behind those that the record has.
  Result<Buffer> RedoKeys(const pb::Block& block, const Buffer& keys, size_t& at);
  void RememberRows(const pb::Block& from, RequestBlock& block);
  Status RedoClock(const pb::ClockRecord& record);
  Status RedoCompare(const pb::CompareRecord& record, const Buffer& keys);
  void CompareCopies();
  bool HasCopyElsewhere(uint32_t partition) const;
  void WriteCompare(uint32_t partition, const Table& table, const RowStore& store, const std::vector<HashedKey>& keys,
                    std::span<const float* const> found);
  // The partitions that a record names, all of them ours.
  Result<std::vector<uint32_t>> PartitionsOf(const google::protobuf::RepeatedField<uint32_t>& named) const;
  Status CheckProgress(const pb::Progress& progress, std::span<const uint32_t> named) const;
  // Somebody is told what the shard does.
  bool recording() const { return (options.log != nullptr || !copies.empty()) && !redoing; }

  Table* FindTable(uint32_t id);
  // The slots of a block's keys, as far as they are known; nullptr if nobody remembers them.
  uint32_t* SlotsOf(const RequestBlock& block);
  // After all partitions' keys of a block were looked up.
  static void NoteSlots(const RequestBlock& block);
  PartitionState& Owned(uint32_t partition) { return *partitions[partition]; }
  const PartitionState& Owned(uint32_t partition) const { return *partitions[partition]; }

  const PeerId self;
  const ShardOptions options;
  // Before all that holds reservations of them.
  Budget budget;
  Budget awaited_budget;

  bool configured = false;
  bool listed = false;                                     // in the configuration
  uint64_t generation = 0;
  std::vector<uint64_t> epochs;                            // by partition
  std::vector<std::unique_ptr<PartitionState>> partitions;  // by id; nullptr: not ours
  std::vector<Lsn> lsns;                                   // by partition: pushes taken, those kept for BSP included
  std::vector<uint32_t> owned;                             // ids, ascending
  std::vector<uint64_t> owned_epochs;
  std::vector<uint8_t> is_owned;                           // by partition
  std::vector<uint32_t> left;                              // of a copy: its primary believes that it has them
  std::vector<uint32_t> absent;                            // ours by the configuration, and nobody's
  std::vector<uint32_t> handed_over;                       // to us, and not here yet
  std::vector<uint32_t> redo_takes;                        // of the record that is being done: such as were here
  std::vector<MovedPartition> adopted;                     // by the configuration that is being taken
  uint64_t placement = 0;                                  // the signature of what is owned
  std::map<uint32_t, Table> tables;
  std::map<PassKey, Pass> passes;
  std::set<PassKey> half_answered;   // passes with parked pulls that may be answered, and wait for the next tick only
  std::map<PassKey, PassCounts> ended_counts;

  std::unordered_map<SessionId, Session, SessionHash> sessions;  // order of iteration never matters
  KeyListCache key_lists;
  uint64_t store_version = 1;                              // another one whenever a store is dropped
  uint64_t slots_version = 0;                              // likewise, when rows have left one
  Staging staging;
  std::map<uint64_t, Pull> parked;                         // in the order they came
  std::map<RequestKey, uint64_t> parked_by_request;
  uint64_t next_parked = 0;
  TimePoint next_session_sweep{};

  std::unordered_set<uint64_t> senders;                    // since the last sweep
  PeerId last_sender{};
  size_t most_senders = 0;                                 // since the last sweep but one
  TimePoint next_sender_sweep{};
  uint64_t credit = 0;                                     // of each; 0: they need not be told
  uint64_t requests_seen = 0;
  std::vector<uint64_t> keys_served;                       // by partition; about
  ShardStats counters;                                     // only its counters are kept up

  std::unique_ptr<Coming> coming;                          // or nullptr
  bool only_known_tables = false;                          // of images; the rows of others are left out

  bool redoing = false;
  Durability commit_level = Durability::kMemory;
  RedoWriter log;                                          // if there is one; its lists are also those of a reader
  std::map<uint64_t, RedoWriter> copies;                   // by name
  pb::ConfigRecord last_config;                            // in force, as it is logged
  uint64_t logged_bytes = 0;
  bool redo_from_base = false;                             // the log's first record must be one that needs none before
  bool redo_from_round = false;                            // or one that a round begins with
  std::map<uint32_t, uint64_t> asleep;                     // partitions whose images are as of before these records
  // By table and key: the store has the row as after the records before that one. Not of those that are older than
  // their partition's image, or as old.
  std::map<uint32_t, std::unordered_map<HashedKey, uint64_t>> ahead;
  uint64_t redo_index = 0;                                 // of the record that is done
  std::vector<std::shared_ptr<RequestPart>> redo_parts;    // of a push whose last part has not been read yet
  std::string refuse_all;                                  // not empty: why
  std::string refuse_pushes;                               // likewise
  uint32_t compare_partition = 0, compare_table = 0;       // that copies are compared in next, from this key on
  HashedKey compare_from = 0;

  bool rows_expire = false;                                // of some table
  TimePoint time_counted{};                                // until then
  uint32_t expire_partition = 0, expire_table = 0;         // that are looked at next, from this key on
  HashedKey expire_from = 0;
  uint32_t away_partition = 0, away_table = 0;             // likewise, of those that are not in memory
  HashedKey away_from = 0;
  bool away_asked_for = false;
  std::vector<float> unadmitted_row;
  std::vector<HashedKey> marked_keys;                      // memory of MarkPushed
  std::vector<uint32_t> marked_slots;

  // Rows that leave memory.
  size_t row_bytes = 0;                                    // what rows took when it was looked at last
  size_t over_limit = 0;                                   // so much more may be here, for a while
  bool gave_way = false;                                   // since all had their turn to leave
  size_t most_asked_bytes = 0;                             // of rows, by one request that had to wait
  std::deque<Wanted> wanted;                               // reads that have not begun
  uint64_t last_read = 0, last_begun_read = 0, last_done_read = 0;  // numbers of those that were asked for, ...
  std::deque<ColdRange> ranges_wanted;
  bool range_under_way = false;
  std::set<std::pair<uint32_t, uint32_t>> thawing;         // partitions and tables of ranges
  std::map<uint32_t, Stay> stay;                           // by partition
  std::map<uint64_t, ColdWait> cold_waits;                 // in the order they came
  std::map<RequestKey, uint64_t> cold_wait_by_request;
  uint64_t next_cold_wait = 0;
  bool resuming = false;                                   // what is carried out has waited
  uint32_t resumed_tries = 0;                              // likewise, so often
  TimePoint latest_now{};
  std::string failure;                                     // not empty: rows are lost, and why

  // Memory reused from request to request.
  const std::shared_ptr<BlockPool> frames =
      std::make_shared<BlockPool>(std::min(kSpareFrameBytes, options.request_budget_bytes / kSpareFrameShare));
  std::shared_ptr<RequestPart> spare_push_part;
  RequestPart spare_pull_part;
  std::vector<uint32_t> dims, spare_missing;
  std::vector<std::shared_ptr<RequestPart>> spare_parts;
  std::vector<float*> rows;
  std::vector<uint32_t> slots_scratch;
  std::vector<float> floats_scratch;
  std::vector<float> absent_scratch;
  std::vector<std::vector<float>> decoded;
};

}  // namespace sheaf
