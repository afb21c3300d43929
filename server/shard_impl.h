// The inside of ShardCore: its state, and the rules as functions on it. shard_core.cc has configuration and dispatch,
// shard_push.cc pushes, shard_clock.cc the clocks of BSP, shard_pull.cc pulls and scans.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/block_pool.h"
#include "server/budget.h"
#include "server/key_list_cache.h"
#include "server/partition_state.h"
#include "server/request_check.h"
#include "server/row_store.h"
#include "server/shard_core.h"
#include "server/staging.h"

namespace sheaf {

struct ShardCore::Impl {
  struct Table {
    uint32_t id = 0;
    uint64_t job = 0;
    size_t slot = 0;                          // in PartitionState::stores
    bool sum = false;
    RowLayout layout;
    std::unique_ptr<Optimizer> optimizer;
    std::string error;                        // not empty: the configuration's spec of it cannot be used
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
    std::shared_ptr<RequestPart> part;                  // of this message
    std::vector<std::shared_ptr<RequestPart>> parts;    // all slices, once the push is complete
    std::vector<uint32_t> missing;                      // partitions that do not have it yet
  };
  using RequestKey = std::pair<PeerId, uint64_t>;
  // Of answers that are on the wire no more. As many as a shard usually has on their way, but no great part of what the
  // shard is given.
  static constexpr size_t kSpareFrameBytes = size_t{16} << 20;
  static constexpr size_t kSpareFrameShare = 4;

  Impl(PeerId self_peer, ShardOptions shard_options)
      : self(self_peer), options(shard_options), budget(shard_options.request_budget_bytes),
        awaited_budget(shard_options.request_budget_bytes),
        key_lists(shard_options.key_list_budget_bytes), staging(budget, awaited_budget) {}

  // ---- configuration (shard_core.cc)
  Status OnConfig(const pb::ClusterConfig& config, TimePoint now, Outbox& out);
  Status TakePartitions(const pb::ClusterConfig& config);
  Status TakeTables(const pb::ClusterConfig& config);
  void TakeRosters(const pb::ClusterConfig& config);
  void EndPass(const PassKey& pass);
  void TrimLedgers();
  void DropStaleSlices();
  void OnTick(TimePoint now, Outbox& out);
  ShardStats Stats() const;
  std::vector<std::string> WaitingLines() const;

  // ---- checks that pulls and pushes share (shard_core.cc)
  MaybeRefusal CheckEpochs(std::span<const uint32_t> partitions, std::span<const uint64_t> epochs) const;
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
  MaybeRefusal CheckWindows(const Push& push, const Pass* pass, std::vector<uint32_t>& missing);
  // Decodes what is not fp32 into `decoded`, and refuses NaN and infinite values.
  MaybeRefusal CheckValues(const RequestPart& part);
  // Fills push.parts if the push is complete; a slice that is kept is answered.
  MaybeRefusal Stage(Push& push, TimePoint now, Outbox& out);
  // A push for the clock that all wait for: it has room of its own, as it is what makes other room free.
  bool Awaited(const Push& push) const;
  MaybeRefusal ReserveForClock(Push& push);
  MaybeRefusal RefuseIfNeverRoom(const Push& push) const;
  void Accept(const Push& push, const Pass* pass, TimePoint now);
  const SeqWindow* FindWindow(const PartitionState& partition, const PushKey& key) const;
  // A session's streams by partition; nullptr where none is known to be. Until the next look-up of a session.
  std::vector<SessionStream*>& StreamsOf(const PushKey& key);
  void MarkTaken(PartitionState& partition, const Push& push, std::vector<SessionStream*>* streams, TimePoint now);
  void ApplyPart(const RequestPart& part, std::span<const uint32_t> missing, float rate_scale);
  void AnswerPush(const Push& push, bool duplicate, Outbox& out);

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

  // ---- pulls and scans (shard_pull.cc)
  void OnPull(PeerId from, const Message& message, Outbox& out);
  MaybeRefusal TakePull(const Message& message, Pull& pull);
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
  void UseUndo(std::span<const RowSection> piece, const Table& table, const pb::Progress& progress);
  void OnScan(PeerId from, const Message& message, Outbox& out);
  MaybeRefusal Scan(const pb::ScanRequest& request, Message& answer);

  Table* FindTable(uint32_t id);
  // The slots of a block's keys, as far as they are known; nullptr if nobody remembers them.
  uint32_t* SlotsOf(const RequestBlock& block);
  // After all partitions' keys of a block were looked up.
  static void NoteSlots(const RequestBlock& block);
  RowStore& StoreOf(PartitionState& partition, const Table& table);
  PartitionState& Owned(uint32_t partition) { return *partitions[partition]; }
  const PartitionState& Owned(uint32_t partition) const { return *partitions[partition]; }

  const PeerId self;
  const ShardOptions options;
  // Before all that holds reservations of them.
  Budget budget;
  Budget awaited_budget;

  bool configured = false;
  uint64_t generation = 0;
  std::vector<uint64_t> epochs;                            // by partition
  std::vector<std::unique_ptr<PartitionState>> partitions;  // by id; nullptr: not ours
  std::vector<uint32_t> owned;                             // ids, ascending
  std::map<uint32_t, Table> tables;
  std::vector<bool> slot_used;
  std::map<PassKey, Pass> passes;
  std::set<PassKey> half_answered;   // passes with parked pulls that may be answered, and wait for the next tick only
  std::map<PassKey, PassCounts> ended_counts;

  // What PartitionState::sessions has, found once a session rather than once a partition and push. Emptied whenever
  // a stream ends.
  std::unordered_map<SessionId, std::vector<SessionStream*>, SessionHash> session_streams;
  KeyListCache key_lists;
  uint64_t store_version = 1;                              // another one whenever a store is dropped
  Staging staging;
  std::map<uint64_t, Pull> parked;                         // in the order they came
  std::map<RequestKey, uint64_t> parked_by_request;
  uint64_t next_parked = 0;
  TimePoint next_session_sweep{};

  ShardStats counters;                                     // only its counters are kept up

  // Memory reused from request to request.
  const std::shared_ptr<BlockPool> frames =
      std::make_shared<BlockPool>(std::min(kSpareFrameBytes, options.request_budget_bytes / kSpareFrameShare));
  std::shared_ptr<RequestPart> spare_push_part;
  RequestPart spare_pull_part;
  std::vector<uint32_t> dims, spare_missing;
  std::vector<std::shared_ptr<RequestPart>> spare_parts;
  std::vector<RowSection> sections;
  std::vector<float*> rows;
  std::vector<float> floats_scratch;
  std::vector<float> absent_scratch;
  std::vector<std::vector<float>> decoded;
};

// Takes sections in chunks of at most kMaxLookupKeys keys: work(sections of the chunk, its first key's index, its
// keys). Uses the sections up: where a chunk ends within one, that one is cut to its part, then to what is left.
template <typename Work>
void ForEachChunk(std::span<RowSection> sections, Work work) {
  size_t first = 0;  // key
  size_t begin = 0;  // section
  size_t count = 0;
  for (size_t end = 0; end < sections.size();) {
    const RowSection whole = sections[end];
    if (count + whole.keys.size() <= kMaxLookupKeys) {
      count += whole.keys.size();
      ++end;
      continue;
    }
    const size_t taken = kMaxLookupKeys - count;
    sections[end] = whole.First(taken);
    work(std::span<const RowSection>(sections).subspan(begin, end + (taken > 0 ? 1 : 0) - begin), first,
         kMaxLookupKeys);
    sections[end] = whole.From(taken);
    first += kMaxLookupKeys;
    begin = end;
    count = 0;
  }
  if (count > 0) work(std::span<const RowSection>(sections).subspan(begin), first, count);
}

}  // namespace sheaf
