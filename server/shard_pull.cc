// Pulls and scans: when they may be answered, and with what.
#include <algorithm>
#include <cstring>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"
#include "common/net/envelope.h"
#include "compute/codec/value_codec.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

// Copies rows of a width known to the compiler, without a call per row. Absent rows are zeros.
template <uint32_t kDim>
void CopyRows(std::span<float* const> rows, std::byte* out) {
  for (const float* row : rows) {
    if (row != nullptr) {
      std::memcpy(out, row, kDim * sizeof(float));
    } else {
      std::memset(out, 0, kDim * sizeof(float));
    }
    out += kDim * sizeof(float);
  }
}

void CopyRows(std::span<float* const> rows, uint32_t dim, std::byte* out) {
  switch (dim) {
    case 1:
      return CopyRows<1>(rows, out);
    case 4:
      return CopyRows<4>(rows, out);
    case 8:
      return CopyRows<8>(rows, out);
    case 9:
      return CopyRows<9>(rows, out);
    case 16:
      return CopyRows<16>(rows, out);
    case 32:
      return CopyRows<32>(rows, out);
    default:
      break;
  }
  for (const float* row : rows) {
    if (row != nullptr) {
      std::memcpy(out, row, dim * sizeof(float));
    } else {
      std::memset(out, 0, dim * sizeof(float));
    }
    out += dim * sizeof(float);
  }
}

// The start values of the rows that are absent, into their places.
void FillAbsent(std::span<const HashedKey> keys, std::span<float* const> rows, const RowLayout& layout,
                std::vector<float>& scratch, std::byte* out) {
  scratch.resize(layout.dim);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (rows[i] != nullptr) continue;
    layout.InitWeights(keys[i], scratch.data());
    std::memcpy(out + i * layout.dim * sizeof(float), scratch.data(), layout.dim * sizeof(float));
  }
}

}  // namespace

void ShardCore::Impl::OnPull(PeerId from, const Message& message, Outbox& out) {
  const bool again = ForgetWait(from, message.header.request());
  // A repeat takes the place of what was parked under its number.
  const auto before = parked_by_request.find({from, message.header.request()});
  std::optional<uint64_t> place;
  Pull pull;
  if (before != parked_by_request.end()) {
    place = before->second;
    pull.parked_since = parked.at(*place).parked_since;
    parked.erase(before->second);
    parked_by_request.erase(before);
  }
  pull.from = from;
  pull.part = std::move(spare_pull_part);
  pull.request = message.header.request();
  if (MaybeRefusal refusal = TakePull(message, pull)) {
    SendRefusal(from, pull.request, std::move(*refusal), out);
    return;
  }
  if (pull.progress && (!MayAnswer(pull) || (place && Planted(Bug::kParkedNeverWoken)))) {
    Park(std::move(pull), place, out);
    return;
  }
  CarryOut(std::move(pull), again, out);
}

void ShardCore::Impl::CarryOut(Pull pull, bool again, Outbox& out) {
  uint64_t when = 0;
  if (evicting() && !RowsAreHere(pull.part, MakesRows::kNo, when)) {
    pull.part.reservation = {};
    const size_t bytes = pull.part.bytes;
    const PeerId from = pull.from;
    const uint64_t request = pull.request;
    MaybeRefusal refusal = Wait({.when = when, .from = from, .request = request, .pull = std::move(pull), .message = {},
                                 .scan = {}, .generation = 0, .tries = 0, .reservation = {}},
                                bytes, again);
    if (refusal) SendRefusal(from, request, std::move(*refusal), out);
    return;
  }
  AnswerPull(pull, out);
  TraceParked(pull);
  pull.part.Clear();
  spare_pull_part = std::move(pull.part);
}

MaybeRefusal ShardCore::Impl::TakePull(const Message& message, Pull& pull) {
  const pb::PullRequest& request = message.header.pull();
  RequestPart& part = pull.part;
  if (MaybeRefusal refusal = TakePartitionsOf(request, part)) return refusal;
  const pb::Progress* progress = request.has_progress() ? &request.progress() : nullptr;
  if (MaybeRefusal refusal = FindTables(request.block(), progress, dims)) return refusal;
  if (progress != nullptr) {
    Pass* pass = nullptr;
    if (MaybeRefusal refusal = FindPass(*progress, pass)) return refusal;
    pull.progress = *progress;
    for (const uint32_t p : part.partitions) {
      const PassClock& clock = Owned(p).passes.at({progress->job(), progress->pass()}).clock;
      if (!clock.WouldExceed(LaneId(progress->lane()), progress->clock())) continue;
      return Refuse(pb::Refusal::WINDOW_EXCEEDED, "a pull at clock ", progress->clock(), " of lane ", progress->lane(),
                    " is more than ", SeqWindow::kWindow, " past what partition ", p, " has of it");
    }
  }
  if (MaybeRefusal refusal = CheckMinLsns(request, part.partitions)) return refusal;
  if (!message.values.empty()) return Refuse(pb::Refusal::INVALID, "a pull has no values frame");
  const BlockContext context = ContextOf(part, request.has_placement());
  if (MaybeRefusal refusal = BuildBlocks(request.block(), message.keys, nullptr, context, part.blocks)) return refusal;
  part.bytes = HeldBytes(message, part) + sizeof(Pull);
  return CheckReplySize(part.blocks);
}

MaybeRefusal ShardCore::Impl::CheckMinLsns(const pb::PullRequest& request, std::span<const uint32_t> named) const {
  const auto count = static_cast<size_t>(request.min_lsn_size());
  if (count == 0) return {};
  if (count != 1 && count != named.size()) {
    return Refuse(pb::Refusal::INVALID, "the request has ", named.size(), " partitions but ", count, " min_lsn");
  }
  for (size_t i = 0; i < named.size(); ++i) {
    const uint64_t wanted = request.min_lsn(static_cast<int>(count == 1 ? 0 : i));
    if (lsns[named[i]].value >= wanted) continue;
    return Refuse(pb::Refusal::BEHIND, "partition ", named[i], " is at LSN ", lsns[named[i]], ", the request asks for ",
                  wanted, "; try again shortly");
  }
  return {};
}

// A pull at clock c reads the state after clock c - 1 (BSP), or c - 1 - staleness at least (SSP), of every lane.
bool ShardCore::Impl::MayAnswer(const Pull& pull) const {
  const PassKey key{pull.progress->job(), pull.progress->pass()};
  const pb::Roster& roster = passes.at(key).roster;
  if (roster.mode() == pb::ConsistencySpec::ASP) return true;
  uint64_t ahead = roster.mode() == pb::ConsistencySpec::BSP ? 0 : roster.staleness();
  if (Planted(roster.mode() == pb::ConsistencySpec::BSP ? Bug::kBspPullTooEarly : Bug::kSspBoundOffByOne)) ++ahead;
  if (roster.mode() == pb::ConsistencySpec::SSP && Planted(Bug::kSspBoundIgnored)) return true;
  const uint64_t clock = pull.progress->clock();
  const uint64_t needed = clock > ahead ? clock - ahead : 0;
  return std::all_of(pull.part.partitions.begin(), pull.part.partitions.end(),
                     [&](uint32_t p) { return Owned(p).passes.at(key).clock.frontier() >= needed; });
}

void ShardCore::Impl::AnswerPull(const Pull& pull, Outbox& out) {
  Message message = MakeAnswer(pull.request, pb::Header::kPullReply);
  pb::PullReply& reply = *message.header.mutable_pull_reply();
  AddLsns(pull.part.partitions, *reply.mutable_lsn());
  message.values = ReadRows(pull.part, pull.progress ? &*pull.progress : nullptr);
  if (pull.progress) {
    NoteStaleness(pull);
    if (const auto front = FrontOf(*pull.progress, pull.part.partitions)) reply.set_front(*front);
  }
  out.Send(pull.from, std::move(message));
  ++counters.pulls_answered;
  NoteLoad(pull.part);
}

void ShardCore::Impl::NoteStaleness(const Pull& pull) {
  const PassKey key{pull.progress->job(), pull.progress->pass()};
  uint64_t& greatest = passes.at(key).counts.staleness;
  for (const uint32_t p : pull.part.partitions) {
    const uint64_t frontier = Owned(p).passes.at(key).clock.frontier();
    if (pull.progress->clock() > frontier) greatest = std::max(greatest, pull.progress->clock() - frontier);
  }
}

void ShardCore::Impl::TraceParked(const Pull& pull) const {
  if (options.trace == nullptr || pull.parked_since == TimePoint()) return;
  options.trace->End(pb::PARKED, options.trace_track, pull.parked_since, pull.progress->lane(), pull.progress->clock());
}

void ShardCore::Impl::Park(Pull pull, std::optional<uint64_t> place, Outbox& out) {
  const PassKey key{pull.progress->job(), pull.progress->pass()};
  const std::string waiting_for = WaitingFor(key, pull.part.partitions, pull.progress->clock());
  pb::Refusal refusal = Refuse(pb::Refusal::NOT_YET, "lane ", pull.progress->lane(), " waits for ", waiting_for);
  refusal.set_waiting_for(waiting_for);
  SendRefusal(pull.from, pull.request, std::move(refusal), out);
  // Without room it is not kept: it waits all the same, and its repeats ask again. That is no overload.
  if (!budget.Fits(pull.part.bytes)) return;
  pull.part.reservation = Reservation(budget, pull.part.bytes);
  if (options.trace != nullptr && pull.parked_since == TimePoint()) pull.parked_since = options.trace->Begin();
  const uint64_t order = place ? *place : next_parked++;
  parked_by_request[{pull.from, pull.request}] = order;
  parked.emplace(order, std::move(pull));
}

void ShardCore::Impl::AnswerParked(const PassKey& pass, Outbox& out) {
  // Answers wait in memory until they are sent: those of a thousand lanes at once would be gigabytes.
  constexpr size_t kAnswerBytes = size_t{64} << 20;
  size_t answered = 0;
  for (auto at = parked.begin(); at != parked.end();) {
    const Pull& pull = at->second;
    const bool of_pass = pull.progress->job() == pass.job && pull.progress->pass() == pass.pass;
    if (!of_pass || !MayAnswer(pull) || Planted(Bug::kParkedNeverWoken)) {
      ++at;
      continue;
    }
    if (answered > kAnswerBytes) {
      half_answered.insert(pass);
      return;
    }
    parked_by_request.erase({pull.from, pull.request});
    const size_t before = out.items().size();
    CarryOut(std::move(at->second), /*again=*/false, out);
    for (size_t i = before; i < out.items().size(); ++i) answered += out.items()[i].message.values.size();
    at = parked.erase(at);
  }
}

// Of a pull that was taken before, by a configuration that may have changed since.
MaybeRefusal ShardCore::Impl::CheckAgain(const Pull& pull) {
  Pass* pass = nullptr;
  MaybeRefusal refusal;
  if (pull.progress) refusal = FindPass(*pull.progress, pass);
  if (!refusal) refusal = CheckEpochs(pull.part.partitions, pull.part.epochs);
  for (const RequestBlock& block : pull.part.blocks) {
    if (!refusal && FindTable(block.table) == nullptr)
      refusal = Refuse(pb::Refusal::CLOSED, "table ", block.table, " is gone: its job has ended");
  }
  return refusal;
}

void ShardCore::Impl::CheckParked(Outbox& out) {
  for (auto at = parked.begin(); at != parked.end();) {
    const Pull& pull = at->second;
    MaybeRefusal refusal = CheckAgain(pull);
    if (!refusal) {
      ++at;
      continue;
    }
    SendRefusal(pull.from, pull.request, std::move(*refusal), out);
    parked_by_request.erase({pull.from, pull.request});
    at = parked.erase(at);
  }
}

Buffer ShardCore::Impl::ReadRows(const RequestPart& part, const pb::Progress* progress) {
  size_t bytes = 0;
  for (const RequestBlock& block : part.blocks)
    bytes += EncodedSize(ReplyCodec(block.codec), block.key_count(), block.dim);
  if (bytes == 0) return {};
  const std::shared_ptr<std::byte> frame = MakeFrame(bytes);
  std::byte* out = frame.get();
  rows.resize(kMaxLookupKeys);
  for (const RequestBlock& block : part.blocks) {
    const Table& table = *FindTable(block.table);
    const auto codec = ReplyCodec(block.codec);
    uint32_t* const slots = SlotsOf(block);
    const bool known = slots != nullptr && block.slots->complete;
    ForEachLookup(block.key_count(), [&](size_t first, size_t count) {
      const auto keys = block.keys().subspan(first, count);
      if (known) {
        table.rows->Address(keys, slots + first, table.layout.dim, rows.data());
      } else {
        table.rows->Find(keys, rows.data(), slots == nullptr ? nullptr : slots + first);
      }
      if (progress != nullptr && !Planted(Bug::kNoUndo)) UseUndo(keys, table, *progress);
      const std::span<float* const> found(rows.data(), count);
      // Absent rows have their start values, which need no looking for where all are zeros.
      const bool all_here =
          table.layout.StartsAtZero() || std::find(found.begin(), found.end(), nullptr) == found.end();
      if (codec == pb::WireSpec::FP32) {
        CopyRows(found, block.dim, out);
        if (!all_here) FillAbsent(keys, found, table.layout, absent_scratch, out);
      } else {
        floats_scratch.resize(count * block.dim);
        auto* floats = reinterpret_cast<std::byte*>(floats_scratch.data());
        CopyRows(found, block.dim, floats);
        if (!all_here) FillAbsent(keys, found, table.layout, absent_scratch, floats);
        EncodeValues(codec, floats_scratch, block.dim, {out, EncodedSize(codec, count, block.dim)});
      }
      out += EncodedSize(codec, count, block.dim);
    });
    NoteSlots(block);
  }
  return Buffer(frame, {frame.get(), bytes});
}

// BSP: a lane whose holder died between its pushes to two servers is computed again, at a clock that this server has
// applied already. It must see the rows as they were before.
void ShardCore::Impl::UseUndo(std::span<const HashedKey> keys, const Table& table, const pb::Progress& progress) {
  const PassKey pass{progress.job(), progress.pass()};
  if (!passes.at(pass).bsp()) return;
  const auto count = static_cast<uint32_t>(partitions.size());
  for (size_t i = 0; i < keys.size();) {
    const PartitionId id = PartitionOf(keys[i], count);
    const HashedKey last = PartitionLastKey(id, count);
    Undo& undo = Owned(id.value).passes.at(pass).undo;
    const auto touched = undo.valid && undo.clock == progress.clock() ? undo.tables.find(table.id) : undo.tables.end();
    for (; i < keys.size() && keys[i] <= last; ++i) {
      if (touched == undo.tables.end()) continue;
      auto& [changed, weights] = touched->second;
      const auto at = std::ranges::lower_bound(changed, keys[i]);
      if (at != changed.end() && *at == keys[i])
        rows[i] = weights.data() + (at - changed.begin()) * static_cast<ptrdiff_t>(table.layout.dim);
    }
  }
}

void ShardCore::Impl::OnScan(PeerId from, const Message& message, Outbox& out) {
  ForgetWait(from, message.header.request());
  MaybeRefusal no_room;
  if (WaitsForRows(from, message, no_room)) {
    if (no_room) SendRefusal(from, message.header.request(), std::move(*no_room), out);
    return;
  }
  Message answer;
  answer.header.set_request(message.header.request());
  if (credit > 0) answer.header.set_credit(credit);
  if (MaybeRefusal refusal = Scan(message.header.scan(), answer)) {
    SendRefusal(from, message.header.request(), std::move(*refusal), out);
    return;
  }
  out.Send(from, std::move(answer));
}

bool ShardCore::Impl::WaitsForRows(PeerId from, const Message& message, MaybeRefusal& refusal) {
  const pb::ScanRequest& request = message.header.scan();
  const Table* const table = evicting() ? FindTable(request.table()) : nullptr;
  const bool known = table != nullptr && table->rows != nullptr && request.partition() < partitions.size();
  const RowStore* const store = known ? table->rows->store(request.partition()) : nullptr;
  if (store == nullptr || Thaw(request.partition()) || store->cold() == 0) return false;
  const std::pair<uint32_t, uint32_t> of{request.partition(), table->id};
  refusal = Wait({.when = 0, .from = from, .request = message.header.request(), .pull = {}, .message = message,
                  .scan = of, .generation = 0, .tries = 0, .reservation = {}},
                 sizeof(ColdWait), /*again=*/false);
  return true;
}

MaybeRefusal ShardCore::Impl::Scan(const pb::ScanRequest& request, Message& answer) {
  const uint32_t named[] = {request.partition()};
  const uint64_t named_epochs[] = {request.epoch()};
  if (MaybeRefusal refusal = CheckEpochs(named, named_epochs)) return refusal;
  Table* const table = FindTable(request.table());
  if (table == nullptr)
    return Refuse(pb::Refusal::UNKNOWN_TABLE, "table ", request.table(), " is not in configuration ", generation,
                  " of this server");
  if (!table->error.empty())
    return Refuse(pb::Refusal::INVALID, "table ", request.table(), " cannot be used: ", table->error);
  const auto count = static_cast<uint32_t>(partitions.size());
  const PartitionId id(request.partition());
  if (request.resume() && PartitionOf(request.after_key(), count) != id) {
    return Refuse(pb::Refusal::INVALID, "after_key ", request.after_key(), " is not a key of partition ", id);
  }
  if (request.max_rows() == 0) return Refuse(pb::Refusal::INVALID, "max_rows is 0: ask for at least one row");

  const RowStore* store = table->rows->store(id.value);
  const size_t row_bytes = table->layout.dim * sizeof(float);
  const size_t max_rows = std::min<size_t>(request.max_rows(), kMaxPayloadBytes / (row_bytes + sizeof(HashedKey)));
  std::vector<HashedKey> keys;
  std::vector<const float*> found;
  const bool at_end = request.resume() && request.after_key() == PartitionLastKey(id, count);
  bool done = true;
  std::vector<float> merged;
  if (store != nullptr && !at_end) {
    const HashedKey from = request.resume() ? request.after_key() + 1 : PartitionFirstKey(id, count);
    if (store->cold() == 0) {
      done = store->Scan(from, max_rows, keys, found);
    } else {
      done = !CopyAll(*table, id.value, from, max_rows, keys, merged) && keys.size() <= max_rows;
      keys.resize(std::min(keys.size(), max_rows));
      for (size_t i = 0; i < keys.size(); ++i) found.push_back(merged.data() + i * table->layout.stride);
    }
  }
  pb::ScanReply& reply = *answer.header.mutable_scan_reply();
  reply.set_row_count(static_cast<uint32_t>(keys.size()));
  reply.set_done(done);
  reply.set_lsn(lsns[id.value].value);
  if (keys.empty()) return {};
  const size_t bytes = keys.size() * row_bytes;
  const std::shared_ptr<std::byte> frame = MakeFrame(bytes);
  std::byte* to = frame.get();
  for (const float* row : found) {
    std::memcpy(to, row, row_bytes);
    to += row_bytes;
  }
  answer.keys = Buffer::FromVector(std::move(keys));
  answer.values = Buffer(frame, {frame.get(), bytes});
  return {};
}

}  // namespace sheaf
