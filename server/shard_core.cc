#include "server/shard_core.h"

#include <algorithm>

#include "common/base/partition.h"
#include "common/base/placement.h"
#include "common/base/planted_bug.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr Duration kSessionSweepEvery = std::chrono::minutes(1);
constexpr Duration kSendersSweepEvery = std::chrono::seconds(10);
constexpr size_t kLeastCredit = size_t{256} << 10;
constexpr size_t kMostCredit = size_t{32} << 20;  // more than nobody takes anyway (ClientOptions)

}  // namespace

ShardCore::Impl::Impl(PeerId self_peer, ShardOptions shard_options)
    : self(self_peer), options(shard_options), budget(shard_options.request_budget_bytes),
      awaited_budget(shard_options.request_budget_bytes), key_lists(shard_options.key_list_budget_bytes),
      staging(budget, awaited_budget),
      log(shard_options.key_list_budget_bytes, [this](std::vector<Buffer> pieces) {
        for (const Buffer& piece : pieces) logged_bytes += piece.size();
        options.log->Append(std::move(pieces));
      }) {}

ShardCore::ShardCore(PeerId self, ShardOptions options) : impl_(std::make_unique<Impl>(self, options)) {}
ShardCore::~ShardCore() = default;

Status ShardCore::OnConfig(const pb::ClusterConfig& config, TimePoint now, Outbox& out, const Adopter& adopt) {
  if (impl_->configured && config.generation() <= impl_->generation && !Planted(Bug::kServerTakesOldConfig)) return {};
  return impl_->TakeConfig(config, impl_->self, nullptr, adopt, now, out);
}

Status ShardCore::OnHandedOver(const pb::ClusterConfig& config, TimePoint now, Outbox& out, const Adopter& adopt) {
  SHEAF_CHECK(config.generation() == impl_->generation, "configuration ", config.generation());
  return impl_->TakeConfig(config, impl_->self, nullptr, adopt, now, out);
}

bool ShardCore::Has(uint32_t partition) const {
  return partition < impl_->partitions.size() && impl_->partitions[partition] != nullptr;
}

std::optional<MovedPartition> ShardCore::Release(uint32_t partition) { return impl_->Release(partition); }

void ShardCore::BeginRedo(const RedoStart& start) {
  impl_ = std::make_unique<Impl>(impl_->self, impl_->options);
  impl_->BeginRedo(start);
}
std::vector<uint32_t> ShardCore::ImagesDue(uint64_t index) const { return impl_->ImagesDue(index); }
std::vector<uint32_t> ShardCore::ImagesMissing() const { return impl_->ImagesMissing(); }
void ShardCore::SetAhead(uint32_t table, HashedKey key, uint64_t index) { impl_->ahead[table][key] = index; }
void ShardCore::SetRedoIndex(uint64_t index) { impl_->redo_index = index; }
Status ShardCore::Redo(const Buffer& record, TimePoint now, const Adopter& adopt) {
  return impl_->Redo(record, now, adopt);
}

void ShardCore::EndRedo() { impl_->EndRedo(); }

Durability ShardCore::TakeCommitLevel() { return std::exchange(impl_->commit_level, Durability::kMemory); }
void ShardCore::RefuseAll(std::string why) { impl_->refuse_all = std::move(why); }
void ShardCore::RefusePushes(std::string why) { impl_->refuse_pushes = std::move(why); }

void ShardCore::OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const auto body = message.header.body_case();
  impl_->NoteSender(from);
  if (!impl_->refuse_all.empty() &&
      (body == pb::Header::kPull || body == pb::Header::kPush || body == pb::Header::kScan)) {
    return impl_->SendRefusal(from, message.header.request(), Refuse(pb::Refusal::OVERLOADED, impl_->refuse_all), out);
  }
  if (!impl_->refuse_pushes.empty() && body == pb::Header::kPush) {
    return impl_->SendRefusal(from, message.header.request(), Refuse(pb::Refusal::OVERLOADED, impl_->refuse_pushes),
                              out);
  }
  switch (body) {
    case pb::Header::kPull:
      return impl_->OnPull(from, message, out);
    case pb::Header::kPush:
      return impl_->OnPush(from, message, now, out);
    case pb::Header::kScan:
      return impl_->OnScan(from, message, out);
    case pb::Header::kRegisterNode:
    case pb::Header::kServerReport:
    case pb::Header::kWorkerReport:
    case pb::Header::kSubmit:
    case pb::Header::kCancel:
    case pb::Header::kGetStatus:
    case pb::Header::kGetConfig:
      return impl_->SendRefusal(
          from, message.header.request(),
          Refuse(pb::Refusal::INVALID, "this is a server's shard: it takes pulls, pushes and scans; ask the scheduler"),
          out);
    default:
      return;  // answers are not answered
  }
}

void ShardCore::OnTick(TimePoint now, Outbox& out) { impl_->OnTick(now, out); }
bool ShardCore::evicting() const { return impl_->evicting(); }
bool ShardCore::IsShortOfMemory(size_t leaving) { return impl_->IsShortOfMemory(leaving); }
bool ShardCore::HasRoomEnough(size_t leaving) const { return impl_->HasRoomEnough(leaving); }
ShardCore::Copied ShardCore::CopyLeaving(LeavingRows& leaving, size_t max_rows, uint64_t index) {
  return impl_->CopyLeaving(leaving, max_rows, index);
}
size_t ShardCore::Evict(uint32_t partition) { return impl_->Evict(partition); }
void ShardCore::EndEviction(size_t leaving) { impl_->EndEviction(leaving); }
std::optional<ColdRead> ShardCore::TakeColdRead() { return impl_->TakeColdRead(); }
void ShardCore::OnColdRead(ColdRead read, TimePoint now, Outbox& out) { impl_->OnColdRead(std::move(read), now, out); }
bool ShardCore::MayResume() const { return impl_->MayResume(); }
void ShardCore::Resume(TimePoint now, Outbox& out) { impl_->Resume(now, out); }
bool ShardCore::Thaw(uint32_t partition) { return impl_->Thaw(partition); }
uint64_t ShardCore::evicted_rows() const { return impl_->counters.evicted_rows; }
const std::string& ShardCore::failure() const { return impl_->failure; }
Message ShardCore::ScanNow(const pb::ScanRequest& request) {
  Message answer;
  if (MaybeRefusal refusal = impl_->Scan(request, answer)) *answer.header.mutable_refusal() = std::move(*refusal);
  return answer;
}
std::vector<ImagePiece> ShardCore::Export(uint32_t partition, uint64_t index) {
  return impl_->Export(partition, index);
}
Status ShardCore::Import(const Buffer& piece, TimePoint now) { return impl_->Import(piece, now); }
std::optional<RoundBegin> ShardCore::BeginRound() { return impl_->BeginRound(); }
ShardCore::Copied ShardCore::CopyChanged(PartitionSnapshot& snapshot, size_t max_rows) {
  return impl_->CopyChanged(snapshot, max_rows);
}
ShardCore::Copied ShardCore::FinishSnapshot(PartitionSnapshot& snapshot, uint64_t index) {
  return impl_->FinishSnapshot(snapshot, index);
}
std::vector<uint32_t> ShardCore::StoredPartitions() const { return impl_->StoredPartitions(); }
void ShardCore::SetStored(uint32_t partition, bool stored) { impl_->SetStored(partition, stored); }
std::optional<PartitionCut> ShardCore::BeginCut(uint32_t partition, uint64_t job, uint64_t id, uint64_t base) {
  return impl_->BeginCut(partition, job, id, base);
}
ShardCore::Copied ShardCore::CopyCut(PartitionCut& cut, size_t max_rows, std::vector<ImagePiece>& pieces) {
  return impl_->CopyCut(cut, max_rows, pieces);
}
void ShardCore::EndCut(const PartitionCut& cut) { impl_->EndCut(cut); }
void ShardCore::EndCuts() { impl_->EndCuts(); }
void ShardCore::DropImport() { impl_->coming.reset(); }
bool ShardCore::importing() const { return impl_->coming != nullptr; }
void ShardCore::TellRestored(uint32_t partition) { impl_->TellRestored(partition); }
const pb::ConfigRecord& ShardCore::last_config() const { return impl_->last_config; }
void ShardCore::RedoLatestConfig(const pb::ConfigRecord& record) {
  impl_->RedoConfig(pb::ConfigRecord(record), {}, {});
  impl_->only_known_tables = true;
}
uint64_t ShardCore::logged_bytes() const { return impl_->logged_bytes; }
ShardStats ShardCore::stats() const { return impl_->Stats(); }
uint64_t ShardCore::generation() const { return impl_->generation; }
const std::vector<uint32_t>& ShardCore::owned() const { return impl_->owned; }
uint64_t ShardCore::placement() const { return impl_->placement; }
const std::vector<uint64_t>& ShardCore::owned_epochs() const { return impl_->owned_epochs; }
const std::vector<uint32_t>& ShardCore::absent() const { return impl_->absent; }
const std::vector<uint32_t>& ShardCore::coming() const { return impl_->handed_over; }

const pb::Lane* ShardCore::Impl::Pass::FindLane(uint32_t lane) const {
  for (const pb::Lane& known : roster.lane()) {
    if (known.lane() == lane) return &known;
  }
  return nullptr;
}

void ShardCore::Impl::OnTick(TimePoint now, Outbox& out) {
  latest_now = std::max(latest_now, now);
  for (const PassKey& pass : std::exchange(half_answered, {})) AnswerParked(pass, out);
  staging.DropIdle(now - options.staging_idle);
  ForgetSenders(now);
  if (rows_expire && CountTime(now)) ExpireSome();
  if (now < next_session_sweep) return;
  next_session_sweep = now + kSessionSweepEvery;
  std::erase_if(sessions, [&](const auto& entry) { return entry.second.last < now - options.session_idle; });
}

// ---- how much those who ask may have under way

void ShardCore::Impl::NoteSender(PeerId from) {
  if (from == last_sender) return;
  last_sender = from;
  if (!senders.insert(from.value).second || senders.size() <= most_senders) return;
  most_senders = senders.size();
  ShareCredit();
}

// Whoever has asked for nothing for a while has nothing under way.
void ShardCore::Impl::ForgetSenders(TimePoint now) {
  if (now < next_sender_sweep) return;
  next_sender_sweep = now + kSendersSweepEvery;
  most_senders = senders.size();
  senders.clear();
  last_sender = {};
  ShareCredit();
}

void ShardCore::Impl::ShareCredit() {
  const size_t share = std::max(options.request_budget_bytes / std::max<size_t>(most_senders, 1), kLeastCredit);
  credit = share < kMostCredit ? share : 0;
}

// ---- checks that pulls and pushes share

pb::Refusal ShardCore::Impl::TakenForDead() const {
  return Refuse(pb::Refusal::UNKNOWN_EPOCH, "configuration ", generation,
                " does not have this server: the scheduler takes it for dead; try again shortly");
}

MaybeRefusal ShardCore::Impl::TakePlacement(const pb::Placement& named, RequestPart& part) const {
  if (epochs.empty())
    return Refuse(pb::Refusal::UNKNOWN_EPOCH, "this shard has no configuration yet; try again shortly");
  if (!listed) return TakenForDead();
  if (named.signature() != placement || owned.empty()) {
    if (named.generation() < generation) {
      return Refuse(pb::Refusal::STALE_EPOCH, "this shard's partitions are those of configuration ", generation,
                    ", the request's of ", named.generation(), "; fetch the configuration and route again");
    }
    if (named.generation() > generation) {
      return Refuse(pb::Refusal::UNKNOWN_EPOCH, "this shard has configuration ", generation,
                    ", the request is routed by ", named.generation(), "; try again shortly");
    }
    return Refuse(pb::Refusal::UNKNOWN_EPOCH,
                  "the placement that the request names is not this shard's in configuration ", generation,
                  "; try again shortly");
  }
  part.partitions = owned;
  part.epochs = owned_epochs;
  return {};
}

BlockContext ShardCore::Impl::ContextOf(const RequestPart& part, bool whole_placement) {
  return {static_cast<uint32_t>(partitions.size()), part.partitions, whole_placement ? &is_owned : nullptr, placement,
          dims, key_lists};
}

void ShardCore::Impl::AddLsns(std::span<const uint32_t> named, google::protobuf::RepeatedField<uint64_t>& out) const {
  const Lsn first = lsns[named.front()];
  const bool all_equal = std::ranges::all_of(named, [&](uint32_t p) { return lsns[p] == first; });
  out.Reserve(static_cast<int>(all_equal ? 1 : named.size()));
  for (const uint32_t p : all_equal ? named.first(1) : named) out.AddAlreadyReserved(lsns[p].value);
}

MaybeRefusal ShardCore::Impl::CheckEpochs(std::span<const uint32_t> named,
                                          std::span<const uint64_t> named_epochs) const {
  if (epochs.empty())
    return Refuse(pb::Refusal::UNKNOWN_EPOCH, "this shard has no configuration yet; try again shortly");
  const auto count = static_cast<uint32_t>(epochs.size());
  if (MaybeRefusal refusal = CheckPartitions(named, named_epochs.size(), count)) return refusal;
  for (size_t i = 0; i < named.size(); ++i) {
    const uint32_t p = named[i];
    if (named_epochs[i] < epochs[p]) {
      return Refuse(pb::Refusal::STALE_EPOCH, "partition ", p, " is at epoch ", epochs[p], ", the request at ",
                    named_epochs[i], "; fetch the configuration and route again");
    }
    if (named_epochs[i] > epochs[p]) {
      return Refuse(pb::Refusal::UNKNOWN_EPOCH, "partition ", p, " is at epoch ", epochs[p], " here, the request at ",
                    named_epochs[i], "; try again shortly");
    }
    if (is_owned[p] == 0) {
      if (!listed) return TakenForDead();
      // Whoever it was meant for had our address before us.
      return Refuse(pb::Refusal::UNKNOWN_EPOCH, "partition ", p, " is not on this shard at epoch ", epochs[p],
                    "; try again shortly");
    }
  }
  return {};
}

MaybeRefusal ShardCore::Impl::FindTables(const google::protobuf::RepeatedPtrField<pb::Block>& blocks,
                                         const pb::Progress* progress, std::vector<uint32_t>& widths) const {
  widths.clear();
  for (int b = 0; b < blocks.size(); ++b) {
    const uint32_t id = blocks[b].table();
    const auto table = tables.find(id);
    if (table == tables.end()) {
      // Without a progress the client's generation is not known; it compares ours with its own.
      if (progress == nullptr || progress->generation() > generation) {
        return Refuse(pb::Refusal::UNKNOWN_TABLE, "table ", id, " is not in configuration ", generation,
                      " of this server");
      }
      return Refuse(pb::Refusal::CLOSED, "table ", id, " is gone: its job has ended");
    }
    if (!table->second.error.empty())
      return Refuse(pb::Refusal::INVALID, "table ", id, " cannot be used: ", table->second.error);
    for (int earlier = 0; earlier < b; ++earlier) {
      if (blocks[earlier].table() == id)
        return Refuse(pb::Refusal::INVALID, "table ", id, " has two blocks in one request");
    }
    widths.push_back(table->second.layout.dim);
  }
  return {};
}

MaybeRefusal ShardCore::Impl::FindPass(const pb::Progress& progress, Pass*& pass) {
  const bool ahead = progress.generation() > generation;
  const auto found = passes.find({progress.job(), progress.pass()});
  const pb::Lane* lane = found == passes.end() ? nullptr : found->second.FindLane(progress.lane());
  if (lane == nullptr) {
    const std::string what = found == passes.end() ? CheckText("pass ", progress.pass(), " of job ", progress.job())
                                                   : CheckText("lane ", progress.lane(), " in pass ", progress.pass(),
                                                               " of job ", progress.job());
    if (ahead)
      return Refuse(pb::Refusal::UNKNOWN_EPOCH, what, " is not in configuration ", generation,
                    " of this server yet; try again shortly");
    return Refuse(pb::Refusal::CLOSED, what, " has ended");
  }
  if (progress.has_lane_start() && progress.lane_start() != lane->start_clock()) {
    return Refuse(pb::Refusal::INVALID, "lane ", progress.lane(), " of job ", progress.job(), " starts at clock ",
                  lane->start_clock(), ", not at ", progress.lane_start());
  }
  pass = &found->second;
  return {};
}

void ShardCore::Impl::SendRefusal(PeerId to, uint64_t request, pb::Refusal refusal, Outbox& out) {
  if (refusal.reason() == pb::Refusal::OVERLOADED) {
    refusal.set_retry_after_ms(options.retry_after_ms);
    ++counters.overloaded;
  } else if (refusal.reason() != pb::Refusal::NOT_YET) {
    ++counters.refused;
  }
  refusal.set_generation(generation);
  Message message;
  message.header.set_request(request);
  if (credit > 0) message.header.set_credit(credit);
  *message.header.mutable_refusal() = std::move(refusal);
  out.Send(to, std::move(message));
}

Message ShardCore::Impl::MakeAnswer(uint64_t request, pb::Header::BodyCase kind) const {
  Message message;
  message.header.set_request(request);
  if (credit > 0) message.header.set_credit(credit);
  if (options.bodies != nullptr) options.bodies->Reuse(kind, message.header);
  return message;
}

std::shared_ptr<std::byte> ShardCore::Impl::MakeFrame(size_t bytes) const {
  auto words =
      std::allocate_shared_for_overwrite<uint64_t[]>(PoolAllocator<uint64_t>(frames), (bytes + 7) / sizeof(uint64_t));
  auto* const begin = reinterpret_cast<std::byte*>(words.get());
  return {std::move(words), begin};
}

ShardCore::Impl::Table* ShardCore::Impl::FindTable(uint32_t id) {
  const auto found = tables.find(id);
  return found == tables.end() ? nullptr : &found->second;
}

uint32_t* ShardCore::Impl::SlotsOf(const RequestBlock& block) {
  if (block.slots == nullptr) return nullptr;
  KnownSlots& known = *block.slots;
  if (known.version != store_version + slots_version) {
    std::ranges::fill(known.slots, kNoSlot);
    known.complete = false;
    known.version = store_version + slots_version;
  }
  return known.slots.data();
}

void ShardCore::Impl::NoteSlots(const RequestBlock& block) {
  if (block.slots == nullptr || block.slots->complete) return;
  block.slots->complete = std::ranges::find(block.slots->slots, kNoSlot) == block.slots->slots.end();
}
}  // namespace sheaf
