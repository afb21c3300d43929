// Planning: which requests an operation is made of, at first and after the placement has changed.
#include <algorithm>
#include <set>

#include "client/client_impl.h"
#include "common/base/strings.h"
#include "compute/codec/value_codec.h"

namespace sheaf {
namespace {

constexpr size_t kMaxSlices = 1024;

bool IsPush(const Operation& operation) {
  return operation.kind == OperationKind::kPush || operation.kind == OperationKind::kPushPull;
}

// What of the part lies in partitions that have not acknowledged the push yet; the flags are by partition.
std::shared_ptr<KeyPart> WithoutAcknowledged(const KeyPart& part, const KeyVector& list,
                                             const std::vector<bool>& acknowledged) {
  std::vector<Segment> open = part.Segments(list, static_cast<uint32_t>(acknowledged.size()));
  std::erase_if(open, [&](const Segment& segment) { return acknowledged[segment.partition]; });
  return KeyPart::Of(open);
}

}  // namespace

OperationId PsClient::Impl::Start(std::unique_ptr<Operation> operation, TimePoint now, Outbox& out) {
  RouteAnew(now, out);
  const OperationId id = next_operation++;
  operation->id = id;
  operation->started = now;
  Operation& added = *(operations[id] = std::move(operation));
  Plan(added, now);
  Pump(now, out);
  return id;
}

void PsClient::Impl::TakeConfig(const pb::ClusterConfig& newer) {
  if (newer.generation() <= config.generation() && config.has_generation()) return;
  config = newer;
  route_anew = true;
  Router next(config);
  obstacle = next.obstacle();
  if (!next.routable() && router.routable()) {
    router.TakeTables(next);   // the partitions are between two homes: stay with the old ones until they have a new one
  } else {
    if (!next.SamePlacement(router)) parts.Clear();
    // LSNs count within one epoch: a partition that was moved may have been put back to a checkpoint.
    const uint32_t known = router.partition_count();
    seen.resize(next.partition_count());
    for (uint32_t p = 0; p < next.partition_count(); ++p) {
      if (p >= known || next.epoch_of(p) != router.epoch_of(p)) seen[p] = {};
    }
    router = std::move(next);
  }
  residuals.KeepOnly([&](TableId table) { return router.TableDim(table) != 0; });
}

void PsClient::Impl::RouteAnew(TimePoint now, Outbox& out) {
  if (!route_anew) return;
  route_anew = false;
  for (const ShardRoute& shard : router.shards()) {
    auto [at, is_new] = peers.try_emplace(shard.peer, shard.peer, shard.name, shard.address, options.credit_bytes);
    if (!is_new) {
      at->second.name = shard.name;
      at->second.address = shard.address;
    }
  }
  for (auto at = operations.begin(); at != operations.end();) {
    const OperationId id = at->first;
    RouteAnew(*at->second, now);   // may end it
    at = operations.upper_bound(id);
  }
  // Peers that left, once nothing waits for them.
  std::set<PeerId> used;
  for (const ShardRoute& shard : router.shards()) used.insert(shard.peer);
  for (const auto& [number, request] : requests) used.insert(request.peer);
  std::erase_if(peers, [&](const auto& entry) { return !used.contains(entry.first); });
  Pump(now, out);
}

void PsClient::Impl::RouteAnew(Operation& operation, TimePoint now) {
  if (!operation.planned) return Plan(operation, now);
  if (operation.acknowledged.size() != router.partition_count()) {
    return End(operation, Fail(ErrorCode::kClosed, "the cluster now has ", router.partition_count(),
                               " partitions, not ", operation.acknowledged.size(), ": it is another cluster"));
  }
  for (const OperationTable& table : operation.tables) {
    if (router.TableDim(table.table) == table.dim) continue;
    return End(operation,
               Fail(ErrorCode::kClosed, "table ", table.table, " is no longer in the configuration (generation ",
                    config.generation(), "): its job has ended"));
  }
  std::vector<uint64_t> displaced_reads;
  bool push_displaced = false;
  for (const uint64_t number : operation.requests) {
    Request& request = requests.at(number);
    if (!router.StillAt(request.peer, *request.partitions)) {
      if (request.kind == RequestKind::kPush) {
        push_displaced = true;
      } else {
        displaced_reads.push_back(number);
      }
    } else if (request.state == RequestState::kWaitsForConfig && config.generation() >= request.wanted_generation) {
      // The newer configuration changes nothing for it: ask again, but not at once for ever.
      request.state = RequestState::kPaused;
      request.timer.OnPause(now, {}, request.number);
    }
  }
  if (operation.kind == OperationKind::kScan) {
    if (router.TableDim(TableId(operation.scan.table())) != operation.scan_dim) {
      return End(operation,
                 Fail(ErrorCode::kClosed, "table ", operation.scan.table(), " is no longer in the configuration"));
    }
    if (displaced_reads.empty()) return;
    Erase(requests.at(displaced_reads.front()));
    return PlanScan(operation, now);
  }
  if (!displaced_reads.empty()) PlanPullAnew(operation, displaced_reads, now);
  if (push_displaced) {
    // All groups not acknowledged are made anew, as the moved partitions may join a shard that has one already.
    // Partitions that have the push skip it; that it is the same push they see by its identity.
    const std::vector<uint64_t> open = operation.requests;
    for (const uint64_t number : open) {
      if (Request& request = requests.at(number); request.kind == RequestKind::kPush) Erase(request);
    }
    operation.groups.clear();
    if (Status status = PlanPush(operation, now); !status) return End(operation, std::move(status));
  }
  FinishIfDone(operation);
}

void PsClient::Impl::Plan(Operation& operation, TimePoint now) {
  if (!router.routable()) return;   // OnTick ends it when that lasts
  operation.planned = true;
  operation.acknowledged.assign(router.partition_count(), false);
  if (Status status = PlanAll(operation, now); !status) return End(operation, std::move(status));
  FinishIfDone(operation);
}

Status PsClient::Impl::PlanAll(Operation& operation, TimePoint now) {
  if (operation.kind == OperationKind::kScan) {
    operation.scan_dim = router.TableDim(TableId(operation.scan.table()));
    if (operation.scan_dim == 0) {
      return Fail(ErrorCode::kNotFound, "no table ", operation.scan.table(), " in generation ", config.generation(),
                  " of the configuration");
    }
    if (operation.scan.partition() >= router.partition_count()) {
      return Fail(ErrorCode::kInvalidArgument, "partition ", operation.scan.partition(), " of ",
                  router.partition_count());
    }
    PlanScan(operation, now);
    return {};
  }
  SHEAF_RETURN_IF_ERROR(PrepareTables(operation));
  if (IsPush(operation)) return PlanPush(operation, now);
  PlanPull(operation, now);
  return {};
}

Status PsClient::Impl::PrepareTables(Operation& operation) {
  const bool is_push = IsPush(operation);
  if (!is_push && operation.pull.codec == pb::WireSpec::INT8) {
    return Fail(ErrorCode::kInvalidArgument, "values are not pulled as INT8: use FP32, BF16 or FP16");
  }
  for (OperationTable& table : operation.tables) {
    table.dim = router.TableDim(table.table);
    if (table.dim == 0) {
      return Fail(ErrorCode::kNotFound, "no table ", table.table, " in generation ", config.generation(),
                  " of the configuration");
    }
    if (table.keys == nullptr || table.keys->size() > UINT32_MAX) {
      return Fail(ErrorCode::kInvalidArgument, "table ", table.table, ": no key list, or one of more than 2^32 keys");
    }
    if (is_push && table.gradients.size() != table.keys->size() * table.dim) {
      return Fail(ErrorCode::kInvalidArgument, "a push of ", table.gradients.size(), " values for ", table.keys->size(),
                  " keys of table ", table.table, ", whose rows have ", table.dim);
    }
  }
  if (is_push) {
    for (OperationTable& table : operation.tables) EncodePayload(operation, table);
  }
  operation.results.resize(operation.tables.size());
  return {};
}

// Once for the whole operation, however often its parts are sent: error feedback must not be added twice.
void PsClient::Impl::EncodePayload(Operation& operation, OperationTable& table) {
  const auto codec = operation.push.codec;
  table.row_bytes = EncodedSize(codec, 1, table.dim);
  if (codec == pb::WireSpec::FP32) {
    table.payload = table.gradients.AsBuffer();
    table.gradients = {};
    return;
  }
  const size_t bytes = EncodedSize(codec, table.keys->size(), table.dim);
  auto room = std::make_shared_for_overwrite<std::byte[]>(bytes);
  const std::span<std::byte> encoded(room.get(), bytes);
  if (codec == pb::WireSpec::INT8 && operation.push.error_feedback) {
    std::vector<float*> rows;
    residuals.Of(table.table, table.dim).Rows(*table.keys, rows);
    EncodeInt8WithFeedback(table.gradients, table.dim, rows, encoded);
  } else {
    EncodeValues(codec, table.gradients, table.dim, encoded);
  }
  table.payload = Buffer(std::move(room), encoded);
  table.gradients = {};
}

void PsClient::Impl::PlanPull(Operation& operation, TimePoint now) {
  std::vector<std::shared_ptr<const ShardParts>> of_table;
  for (const OperationTable& table : operation.tables) of_table.push_back(parts.Get(router, table.keys));
  for (size_t shard = 0; shard < router.shards().size(); ++shard) {
    std::vector<BlockPlan> blocks;
    for (uint32_t t = 0; t < operation.tables.size(); ++t) {
      if (const auto& part = (*of_table[t])[shard]; !part->empty()) blocks.push_back({t, part});
    }
    if (!blocks.empty()) {
      PlanReads(operation, shard, std::move(blocks), now);
    } else if (operation.pull.every_shard) {
      PlanEmptyRead(operation, shard, now);
    }
  }
}

void PsClient::Impl::PlanEmptyRead(Operation& operation, size_t shard, TimePoint now) {
  const ShardRoute& route = router.shards()[shard];
  AddRequest(operation, RequestKind::kPull, route.peer, route.partitions, {}, now);
}

Status PsClient::Impl::PlanPush(Operation& operation, TimePoint now) {
  const bool any_acknowledged = std::ranges::find(operation.acknowledged, true) != operation.acknowledged.end();
  std::vector<std::shared_ptr<const ShardParts>> of_table;
  for (const OperationTable& table : operation.tables) of_table.push_back(parts.Get(router, table.keys));
  for (size_t shard = 0; shard < router.shards().size(); ++shard) {
    std::vector<BlockPlan> blocks;
    for (uint32_t t = 0; t < operation.tables.size(); ++t) {
      std::shared_ptr<KeyPart> part = (*of_table[t])[shard];
      if (any_acknowledged && !part->empty())
        part = WithoutAcknowledged(*part, operation.tables[t].keys, operation.acknowledged);
      if (!part->empty()) blocks.push_back({t, std::move(part)});
    }
    std::shared_ptr<const PartitionSet> partitions;
    if (!operation.push.progress) {
      if (blocks.empty()) continue;
      partitions = any_acknowledged ? TouchedOf(operation, blocks) : PartitionsOf(operation, shard, blocks);
    } else if (!any_acknowledged) {
      partitions = router.shards()[shard].partitions;
    } else {
      auto open = std::make_shared<PartitionSet>();
      for (const uint32_t p : router.shards()[shard].partitions->ids) {
        if (operation.acknowledged[p]) continue;
        open->ids.push_back(p);
        open->epochs.push_back(router.epoch_of(p));
      }
      if (open->ids.empty()) continue;
      partitions = std::move(open);
    }
    SHEAF_RETURN_IF_ERROR(
        PlanGroup(operation, router.shards()[shard].peer, std::move(partitions), std::move(blocks), now, {}));
  }
  return {};
}

Status PsClient::Impl::PlanGroup(Operation& operation, PeerId peer, std::shared_ptr<const PartitionSet> partitions,
                                 std::vector<BlockPlan> blocks, TimePoint now, Duration pause) {
  const bool has_keys = !blocks.empty();
  const uint32_t number = operation.next_group++;
  PushGroup& group = operation.groups[number];
  group.peer = peer;
  group.partitions = partitions;
  group.blocks = blocks;
  std::vector<RequestPlan> plans = CutRequests(std::move(blocks), RowBytes(operation), options.max_payload_bytes,
                                               MaxBlocks(partitions->ids.size()));
  if (plans.size() > kMaxSlices) {
    return Fail(ErrorCode::kInvalidArgument, "a push of ", plans.size(), " slices to one shard, of at most ",
                kMaxSlices, ": push less at once");
  }
  group.attempt = next_attempt++;
  group.slice_count = group.slices_open = static_cast<uint32_t>(plans.size());
  for (uint32_t slice = 0; slice < group.slice_count; ++slice) {
    Request& request = AddRequest(operation, RequestKind::kPush, peer, partitions, std::move(plans[slice]), now);
    request.group = number;
    request.slice = slice;
    // New values come with the reply if one message has it all; else by a pull afterwards.
    request.pull_after = operation.kind == OperationKind::kPushPull && has_keys && group.slice_count == 1;
    if (pause > Duration::zero()) {
      request.state = RequestState::kPaused;
      request.timer.OnPause(now, pause, request.number);
    }
  }
  return {};
}

void PsClient::Impl::PlanReads(Operation& operation, size_t shard, std::vector<BlockPlan> blocks, TimePoint now) {
  size_t partitions_at_most = 0;
  for (const BlockPlan& block : blocks) partitions_at_most += block.part->size();
  partitions_at_most = std::min(partitions_at_most, router.shards()[shard].partitions->ids.size());
  std::vector<RequestPlan> plans =
      CutRequests(std::move(blocks), RowBytes(operation), options.max_payload_bytes, MaxBlocks(partitions_at_most));
  for (RequestPlan& plan : plans) {
    auto partitions = PartitionsOf(operation, shard, plan.blocks);
    AddRequest(operation, RequestKind::kPull, router.shards()[shard].peer, std::move(partitions), std::move(plan), now);
  }
}

void PsClient::Impl::PlanPullAnew(Operation& operation, const std::vector<uint64_t>& displaced, TimePoint now) {
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Segment>> moved;   // by shard and table
  std::set<uint32_t> homes;                                              // of all their partitions, wanted or not
  for (const uint64_t number : displaced) {
    Request& request = requests.at(number);
    for (const uint32_t p : request.partitions->ids) homes.insert(router.shard_of(p));
    for (const BlockPlan& block : request.plan.blocks) {
      for (const Segment& segment :
           block.part->Segments(operation.tables[block.table].keys, router.partition_count())) {
        moved[{router.shard_of(segment.partition), block.table}].push_back(segment);
      }
    }
    Erase(request);
  }
  for (auto at = moved.begin(); at != moved.end();) {
    const uint32_t shard = at->first.first;
    std::vector<BlockPlan> blocks;
    for (; at != moved.end() && at->first.first == shard; ++at) {
      std::ranges::sort(at->second, {}, &Segment::begin);
      blocks.push_back({at->first.second, KeyPart::Of(at->second)});
    }
    homes.erase(shard);
    PlanReads(operation, shard, std::move(blocks), now);
  }
  if (!operation.pull.every_shard) return;
  for (const uint32_t shard : homes) PlanEmptyRead(operation, shard, now);
}

void PsClient::Impl::PlanScan(Operation& operation, TimePoint now) {
  const uint32_t p = operation.scan.partition();
  auto partitions = std::make_shared<PartitionSet>();
  partitions->ids = {p};
  partitions->epochs = {router.epoch_of(p)};
  const size_t bytes = operation.scan.max_rows() * (sizeof(HashedKey) + operation.scan_dim * sizeof(float));
  AddRequest(operation, RequestKind::kScan, router.shards()[router.shard_of(p)].peer, std::move(partitions),
             {{}, bytes}, now);
}

std::shared_ptr<const PartitionSet> PsClient::Impl::PartitionsOf(const Operation& operation, size_t shard,
                                                                 const std::vector<BlockPlan>& blocks) const {
  const auto& all = router.shards()[shard].partitions;
  const auto many = [&](const BlockPlan& block) { return block.part->size() >= all->ids.size(); };
  return std::ranges::any_of(blocks, many) ? all : TouchedOf(operation, blocks);
}

std::shared_ptr<const PartitionSet> PsClient::Impl::TouchedOf(const Operation& operation,
                                                              const std::vector<BlockPlan>& blocks) const {
  auto set = std::make_shared<PartitionSet>();
  for (const BlockPlan& block : blocks) {
    for (const Segment& segment : block.part->Segments(operation.tables[block.table].keys, router.partition_count())) {
      if (set->ids.empty() || set->ids.back() != segment.partition) set->ids.push_back(segment.partition);
    }
  }
  if (blocks.size() > 1) {
    std::ranges::sort(set->ids);
    set->ids.erase(std::unique(set->ids.begin(), set->ids.end()), set->ids.end());
  }
  set->epochs.reserve(set->ids.size());
  for (const uint32_t p : set->ids) set->epochs.push_back(router.epoch_of(p));
  return set;
}

Request& PsClient::Impl::AddRequest(Operation& operation, RequestKind kind, PeerId peer,
                                    std::shared_ptr<const PartitionSet> partitions, RequestPlan plan, TimePoint now) {
  const uint64_t number = next_request++;
  Request& request = requests.emplace_hint(requests.end(), number, Request{})->second;
  request.number = number;
  request.operation = &operation;
  request.kind = kind;
  request.peer = peer;
  request.partitions = std::move(partitions);
  request.plan = std::move(plan);
  request.timer = RetryTimer(options.first_retry, options.longest_retry);
  request.queued_at = now;
  operation.requests.push_back(number);
  peers.at(peer).LineOf(kind).queue().push_back(number);
  MarkToPump(peer);
  return request;
}

std::vector<size_t> PsClient::Impl::RowBytes(const Operation& operation) const {
  std::vector<size_t> bytes;
  bytes.reserve(operation.tables.size());
  // Of the longest form, so that pulls and pushes of any codec are cut alike: INT8 carries a scale with each row.
  for (const OperationTable& table : operation.tables) {
    const size_t values = std::max(table.dim * sizeof(float), EncodedSize(pb::WireSpec::INT8, 1, table.dim));
    bytes.push_back(sizeof(HashedKey) + values);
  }
  return bytes;
}

}  // namespace sheaf
