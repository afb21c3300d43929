// The log: how what a shard takes is written down, and done again by the process that comes after.
#include <algorithm>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"
#include "compute/codec/value_codec.h"
#include "server/redo_record.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

Failure Unusable(const std::string& what) { return Fail(ErrorCode::kDataLoss, "the log has ", what); }

// Each key is of one of these partitions, which are ascending.
bool AllIn(std::span<const HashedKey> keys, const std::vector<uint32_t>& partitions, uint32_t partition_count) {
  if (partitions.size() == partition_count) return true;
  std::vector<uint8_t> named(partition_count);
  for (const uint32_t p : partitions) named[p] = 1;
  bool all = true;  // without an early exit: there are many keys, and they are right
  for (const HashedKey key : keys) all &= named[PartitionOf(key, partition_count).value] != 0;
  return all;
}

}  // namespace

// ---- writing

std::vector<RedoWriter*> ShardCore::Impl::WritersOf(Durability level) {
  std::vector<RedoWriter*> writers;
  if (options.log != nullptr && level != Durability::kMemory && !Planted(Bug::kSentBeforeLogged)) {
    commit_level = std::max(commit_level, level);
  }
  if (options.log != nullptr && level != Durability::kMemory) writers.push_back(&log);
  for (auto& [name, copy] : copies) writers.push_back(&copy);
  return writers;
}

std::vector<uint32_t> ShardCore::Impl::ToldTo(const RedoWriter& to, std::vector<uint32_t> named) const {
  if (!to.holds) return named;
  std::erase_if(named, [&](uint32_t p) { return !std::ranges::binary_search(*to.holds, p); });
  return named;
}

bool ShardCore::Impl::IsAll(const RedoWriter& to, const std::vector<uint32_t>& named) const {
  return named == (to.holds ? *to.holds : owned);
}

void ShardCore::Impl::LogConfig(const pb::ClusterConfig& config) {
  if (options.log != nullptr) {
    if (config.table_size() == 0) options.log->BeginAnew();  // nothing is left of what was before
    WriteConfig(log, config, /*base=*/tables.empty() || config.table_size() == 0, HandedOver(config));
    commit_level = std::max(commit_level, Durability::kLog);
  }
  for (auto& [name, copy] : copies) {
    copy.holds = ToldTo(copy, owned);
    WriteConfig(copy, config, /*base=*/false);
  }
}

std::vector<uint32_t> ShardCore::Impl::HandedOver(const pb::ClusterConfig& config) const {
  std::vector<uint32_t> ours = owned;
  std::erase_if(ours, [&](uint32_t p) { return !config.partition(static_cast<int>(p)).handed_over(); });
  return ours;
}

void ShardCore::Impl::WriteConfig(RedoWriter& to, const pb::ClusterConfig& config, bool base,
                                  const std::vector<uint32_t>& takes) {
  pb::RedoHeader header;
  pb::ConfigRecord& record = *header.mutable_config();
  record.set_self(self.value);
  *record.mutable_config() = config;
  record.mutable_config()->clear_server();
  for (const pb::ServerInfo& server : config.server()) {
    const bool ours = std::any_of(server.shard().begin(), server.shard().end(),
                                  [&](const pb::ShardEndpoint& shard) { return PeerId(shard.peer()) == self; });
    if (ours) *record.mutable_config()->add_server() = server;
  }
  record.set_base(base);
  record.mutable_takes()->Add(takes.begin(), takes.end());
  if (base) {
    to.lists.Begin(options.key_list_budget_bytes);
    record.set_list_budget(options.key_list_budget_bytes);
  }
  if (to.holds) {
    record.set_copy(true);
    record.mutable_holds()->Add(to.holds->begin(), to.holds->end());
  }
  to.take(EncodeRedo(header, {}, {}));
  if (!to.holds) last_config = std::move(record);
}

void ShardCore::Impl::WriteImage(RedoWriter& to, uint32_t partition) {
  for (ImagePiece& piece : Export(partition, /*index=*/0)) to.take(std::move(piece));
}

Durability ShardCore::Impl::DurabilityOfTables() const {
  Durability level = Durability::kMemory;
  for (const auto& [id, table] : tables) level = std::max(level, table.durability);
  return level;
}

Durability ShardCore::Impl::DurabilityOf(const Push& push) const {
  Durability level = Durability::kMemory;
  if (push.progress) {
    for (const auto& [id, table] : tables) {
      if (table.job == push.progress->job()) level = std::max(level, table.durability);
    }
    return level;
  }
  for (const auto& part : push.parts) {
    for (const RequestBlock& block : part->blocks) {
      if (const auto table = tables.find(block.table); table != tables.end()) {
        level = std::max(level, table->second.durability);
      }
    }
  }
  return level;
}

void ShardCore::Impl::LogPush(const Push& push) {
  for (RedoWriter* const writer : WritersOf(DurabilityOf(push))) WritePush(*writer, push);
  // Those that had it finish its clock, too.
  if (push.progress && push.missing != push.part->partitions) LogClock(push);
}

void ShardCore::Impl::WritePush(RedoWriter& to, const Push& push) {
  const std::vector<uint32_t> all_taking = ToldTo(to, push.missing);
  std::vector<std::pair<RequestPart*, std::vector<uint32_t>>> parts;  // and who of theirs takes it
  for (const auto& part : push.parts) {
    std::vector<uint32_t> taking;
    std::ranges::set_intersection(part->partitions, all_taking, std::back_inserter(taking));
    if (!taking.empty()) parts.emplace_back(part.get(), std::move(taking));
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    pb::PushRecord record;
    record.set_stream_high(push.key.stream_high);
    record.set_stream_low(push.key.stream_low);
    record.set_seq(push.key.seq);
    if (push.progress) *record.mutable_progress() = *push.progress;
    record.set_example_count(push.example_count);
    record.set_part(static_cast<uint32_t>(i));
    record.set_part_count(static_cast<uint32_t>(parts.size()));
    WritePart(to, *parts[i].first, parts[i].second, std::move(record));
  }
}

void ShardCore::Impl::WritePart(RedoWriter& to, RequestPart& part, const std::vector<uint32_t>& taking,
                                pb::PushRecord of_push) {
  pb::RedoHeader header;
  pb::PushRecord& record = *header.mutable_push();
  record = std::move(of_push);
  if (!IsAll(to, taking)) record.mutable_partition()->Add(taking.begin(), taking.end());
  const bool whole = taking.size() == part.partitions.size();
  if (!whole) part.CutByPartition(static_cast<uint32_t>(partitions.size()));
  std::vector<Buffer> keys, values;
  std::vector<float> scratch;
  for (const RequestBlock& block : part.blocks) {
    pb::Block& added = *record.add_block();
    added.set_table(block.table);
    if (whole) {
      added.set_codec(block.codec);
      added.add_key_count(static_cast<uint32_t>(block.key_count()));
      const bool named = block.list && to.lists.Use(*block.list) != nullptr;
      if (!named) keys.push_back(block.key_bytes);
      if (block.list) {
        added.mutable_keys()->set_signature_high(block.list->high);
        added.mutable_keys()->set_signature_low(block.list->low);
        added.mutable_keys()->set_inlined(!named);
        if (!named) to.lists.Add(*block.list, block.key_bytes.size(), {});
      }
      values.push_back(block.values);
      continue;
    }
    // Some partitions had it, or are no business of this one: only what the others take, as floats, since not every
    // codec can be cut by rows.
    const float* const floats = FloatsOf(block, scratch);
    std::vector<HashedKey> taken_keys;
    std::vector<float> taken_values;
    for (size_t i = 0; i < part.partitions.size(); ++i) {
      if (!std::ranges::binary_search(taking, part.partitions[i])) continue;
      const auto of_partition = block.keys(i);
      taken_keys.insert(taken_keys.end(), of_partition.begin(), of_partition.end());
      taken_values.insert(taken_values.end(), floats + size_t{block.begin[i]} * block.dim,
                          floats + size_t{block.begin[i + 1]} * block.dim);
    }
    added.add_key_count(static_cast<uint32_t>(taken_keys.size()));
    keys.push_back(Buffer::FromVector(std::move(taken_keys)));
    values.push_back(Buffer::FromVector(std::move(taken_values)));
  }
  to.take(EncodeRedo(header, std::move(keys), std::move(values)));
}

void ShardCore::Impl::LogClock(const Push& push) {
  const LaneId lane(push.progress->lane());
  const bool finished = std::all_of(push.part->partitions.begin(), push.part->partitions.end(), [&](uint32_t p) {
    const PassClock& clock = Owned(p).passes.at(*push.key.pass).clock;
    for (uint64_t each = push.progress->clock(); each <= push.progress->clock() + push.progress->skipped(); ++each) {
      if (!clock.Finished(lane, each)) return false;
    }
    return true;
  });
  if (finished || Planted(Bug::kClockUnlogged)) return;
  for (RedoWriter* const writer : WritersOf(DurabilityOf(push))) {
    const std::vector<uint32_t> told = ToldTo(*writer, push.part->partitions);
    if (told.empty()) continue;
    pb::RedoHeader header;
    *header.mutable_clock()->mutable_progress() = *push.progress;
    if (!IsAll(*writer, told)) header.mutable_clock()->mutable_partition()->Add(told.begin(), told.end());
    writer->take(EncodeRedo(header, {}, {}));
  }
}

// ---- copies

void ShardCore::BeginCopy(uint64_t name, const pb::ClusterConfig& config, RedoWriter::Take take) {
  const auto [copy, is_new] =
      impl_->copies.try_emplace(name, impl_->options.key_list_budget_bytes, std::move(take));
  SHEAF_CHECK(is_new, "copy ", name, " twice");
  copy->second.holds.emplace();
  impl_->WriteConfig(copy->second, config, /*base=*/true);
}

void ShardCore::GiveToCopy(uint64_t name, uint32_t partition) {
  RedoWriter& copy = impl_->copies.at(name);
  const auto at = std::ranges::lower_bound(*copy.holds, partition);
  SHEAF_CHECK(Has(partition) && (at == copy.holds->end() || *at != partition), "partition ", partition);
  impl_->WriteImage(copy, partition);
  copy.holds->insert(at, partition);
}

void ShardCore::LeaveToCopy(uint64_t name, uint32_t partition, const pb::ClusterConfig& config) {
  RedoWriter& copy = impl_->copies.at(name);
  const auto at = std::ranges::lower_bound(*copy.holds, partition);
  SHEAF_CHECK(Has(partition) && (at == copy.holds->end() || *at != partition), "partition ", partition);
  copy.holds->insert(at, partition);
  impl_->WriteConfig(copy, config, /*base=*/false, {partition});
}

void ShardCore::TakeFromCopy(uint64_t name, const std::set<uint32_t>& partitions, const pb::ClusterConfig& config) {
  RedoWriter& copy = impl_->copies.at(name);
  if (std::erase_if(*copy.holds, [&](uint32_t p) { return partitions.contains(p); }) == 0) return;
  impl_->WriteConfig(copy, config, /*base=*/false);
}

void ShardCore::EndCopy(uint64_t name) { impl_->copies.erase(name); }

// ---- reading

void ShardCore::Impl::BeginRedo(const RedoStart& start) {
  redo_from_base = !start.config;
  redo_from_round = start.config.has_value();
  asleep = start.images;
  ahead.clear();
  if (!start.config) return;
  RedoConfig(*start.config, {}, {});
  for (const uint32_t p : owned) asleep.try_emplace(p, kUntilDropped);
}

std::vector<uint32_t> ShardCore::Impl::ImagesDue(uint64_t index) const {
  std::vector<uint32_t> due;
  for (const auto& [p, from] : asleep) {
    if (from != kUntilDropped && (from <= index || Planted(Bug::kNeverSleeps))) due.push_back(p);
  }
  return due;
}

std::vector<uint32_t> ShardCore::Impl::ImagesMissing() const {
  std::vector<uint32_t> missing;
  for (const auto& [p, from] : asleep) {
    if (from == kUntilDropped) missing.push_back(p);
  }
  return missing;
}

void ShardCore::Impl::KeepAwake(std::vector<uint32_t>& named) const {
  if (asleep.empty() && left.empty()) return;
  std::erase_if(named, [&](uint32_t p) { return asleep.contains(p) || std::ranges::binary_search(left, p); });
}

Status ShardCore::Impl::Redo(const Buffer& bytes, TimePoint now, const Adopter& adopt) {
  SHEAF_ASSIGN_OR_RETURN(const RedoRecord record, DecodeRedo(bytes));
  std::optional<MovedPartition> taken;
  if (record.header.config().copy()) {
    SHEAF_ASSIGN_OR_RETURN(taken, Take(record.header.config(), adopt));
  }
  logged_bytes += bytes.size();
  const bool is_base = record.header.config().base(), is_round = record.header.has_round();
  if ((redo_from_base && !is_base) || (redo_from_round && !is_base && !is_round)) {
    return Unusable("lost its beginning: what its records build upon is not there");
  }
  redo_from_base = redo_from_round = false;
  if (is_base || is_round) {
    redo_parts.clear();
    const uint64_t budget = is_base ? record.header.config().list_budget() : record.header.round().list_budget();
    log.lists.Begin(budget > 0 ? budget : options.key_list_budget_bytes);
  }
  redoing = true;
  Status done;
  switch (record.header.body_case()) {
    case pb::RedoHeader::kPush:
      done = RedoPush(record.header.push(), record.keys, record.values, now);
      break;
    case pb::RedoHeader::kClock:
      done = RedoClock(record.header.clock());
      break;
    case pb::RedoHeader::kConfig:
      RedoConfig(record.header.config(), std::move(taken), now);
      break;
    case pb::RedoHeader::kImage: {
      const uint32_t partition = record.header.image().partition();
      // Unless there is no image of it in the store: then it was here all the time, but not as it was.
      const auto sleeper = asleep.find(partition);
      if (sleeper != asleep.end() && sleeper->second != kUntilDropped) break;
      done = Import(bytes, now);
      if (done && options.is_copy && coming == nullptr) TakeAsOwn(partition);
      break;
    }
    case pb::RedoHeader::kCompare:
      done = RedoCompare(record.header.compare(), record.keys);
      break;
    case pb::RedoHeader::kExpire:
      done = RedoExpire(record.header.expire(), record.keys);
      break;
    case pb::RedoHeader::kTime:
      AddTime(record.header.time().seconds());
      break;
    case pb::RedoHeader::kRound:
      break;
    default:
      done = Fail(ErrorCode::kVersionMismatch, "the log has a record of a kind that this build does not know");
  }
  redoing = false;
  return done;
}

// What comes to all of the copy's partitions comes to this one, too, from now on.
void ShardCore::Impl::TakeAsOwn(uint32_t partition) {
  if (const auto at = std::ranges::lower_bound(owned, partition); at == owned.end() || *at != partition) {
    owned.insert(at, partition);
  }
  is_owned[partition] = 1;
  std::erase(left, partition);
}

// What a copy is to take from the one of the primary before.
Result<std::optional<MovedPartition>> ShardCore::Impl::Take(const pb::ConfigRecord& record, const Adopter& adopt) {
  if (record.takes().empty()) return std::optional<MovedPartition>();
  if (record.takes_size() > 1) return Unusable("a copy that takes several partitions at once");
  auto taken = adopt ? adopt(record.config(), record.takes(0)) : std::nullopt;
  if (!taken) return Fail(ErrorCode::kUnavailable, "partition ", record.takes(0), " is not handed over yet");
  return taken;
}

void ShardCore::Impl::RedoConfig(const pb::ConfigRecord& record, std::optional<MovedPartition> taken, TimePoint now) {
  const bool was_redoing = std::exchange(redoing, true);
  Outbox nobody;
  last_config = record;
  if (record.base()) configured = false;  // as after a start: it may be of another cluster, with other partitions
  // What of it could not be used then cannot be used now.
  const Adopter adopt = [&taken](const pb::ClusterConfig&, uint32_t partition) {
    return taken && taken->partition == partition ? std::exchange(taken, {}) : std::nullopt;
  };
  if (!record.copy()) redo_takes.assign(record.takes().begin(), record.takes().end());
  (void)TakeConfig(record.config(), PeerId(record.self()), record.copy() ? &record.holds() : nullptr, adopt, now,
                   nobody);
  redo_takes.clear();
  redoing = was_redoing;
}

// Nothing is answered before the scheduler has said what of it all is still ours.
void ShardCore::Impl::EndRedo() {
  for (const auto& [p, from] : std::exchange(asleep, {})) {
    if (p < partitions.size() && partitions[p] != nullptr) DropPartition(p);
  }
  only_known_tables = false;
  redo_parts.clear();
  ahead.clear();
  log.lists.DropKeys();
  configured = listed = false;
  generation = 0;
  epochs.clear();
  owned.clear();
  owned_epochs.clear();
  is_owned.clear();
  placement = 0;
}

Result<std::vector<uint32_t>> ShardCore::Impl::PartitionsOf(
    const google::protobuf::RepeatedField<uint32_t>& named) const {
  if (named.empty()) {
    std::vector<uint32_t> all;
    std::ranges::merge(owned, left, std::back_inserter(all));
    return all;
  }
  std::vector<uint32_t> found(named.begin(), named.end());
  for (size_t i = 0; i < found.size(); ++i) {
    const bool known = found[i] < partitions.size() &&
                       (partitions[found[i]] != nullptr || std::ranges::binary_search(left, found[i]));
    if (!known || (i > 0 && found[i - 1] >= found[i])) {
      return Unusable(CheckText("a push for partition ", found[i], ", which was not this shard's then"));
    }
  }
  return found;
}

Status ShardCore::Impl::CheckProgress(const pb::Progress& progress, std::span<const uint32_t> named) const {
  const auto pass = passes.find({progress.job(), progress.pass()});
  if (pass == passes.end() || pass->second.FindLane(progress.lane()) == nullptr) {
    return Unusable(CheckText("a push of lane ", progress.lane(), " of pass ", progress.pass(), " of job ",
                              progress.job(), ", which was not there then"));
  }
  if (progress.skipped() >= SeqWindow::kWindow) return Unusable("a push that leaves out too many clocks");
  for (const uint32_t p : named) {
    const PassClock& clock = Owned(p).passes.at(pass->first).clock;
    if (clock.WouldExceed(LaneId(progress.lane()), progress.clock() + progress.skipped())) {
      return Unusable(CheckText("a push of a clock that is too far ahead: ", progress.clock()));
    }
  }
  return {};
}

Result<Buffer> ShardCore::Impl::RedoKeys(const pb::Block& block, const Buffer& keys, size_t& at) {
  const uint64_t bytes = block.key_count_size() == 1 ? block.key_count(0) * sizeof(HashedKey) : 0;
  const KeySignature signature{block.keys().signature_high(), block.keys().signature_low()};
  if (block.has_keys() && !block.keys().inlined()) {
    const Buffer* const known = log.lists.Use(signature);
    if (known == nullptr || known->size() != bytes) return Unusable("a push whose key list is not before it");
    return *known;
  }
  if (block.key_count_size() != 1 || bytes > keys.size() - at) return Unusable("a push whose keys are cut short");
  Buffer own = keys.Slice(at, bytes);
  at += bytes;
  // A copy: else the whole segment that it lies in would be kept.
  if (block.has_keys()) log.lists.Add(signature, bytes, Buffer::CopyOf(own.bytes()));
  return own;
}

// Of a list that comes again and again a copy looks the rows up once, as its primary does.
void ShardCore::Impl::RememberRows(const pb::Block& from, RequestBlock& block) {
  const KeySignature signature{from.keys().signature_high(), from.keys().signature_low()};
  if (key_lists.Get(signature) == nullptr) key_lists.Put(signature, block.key_bytes.bytes());
  if (key_lists.Get(signature) != nullptr) block.slots = key_lists.SlotsOf(signature, block.table);
}

Status ShardCore::Impl::RedoPush(const pb::PushRecord& record, const Buffer& keys, const Buffer& values,
                                 TimePoint now) {
  if (record.part() != redo_parts.size() || record.part() >= record.part_count()) {
    // The first part of another push: the one before it was never whole, and never answered.
    if (record.part() != 0 || record.part_count() == 0) return Unusable("a push with a part missing");
    redo_parts.clear();
  }
  auto part = std::make_shared<RequestPart>();
  SHEAF_ASSIGN_OR_RETURN(part->partitions, PartitionsOf(record.partition()));
  size_t key_at = 0, value_at = 0;
  for (const pb::Block& from : record.block()) {
    const Table* const table = FindTable(from.table());
    if (table == nullptr || table->rows == nullptr)
      return Unusable(CheckText("a push to table ", from.table(), ", which was not there then, or cannot be used"));
    RequestBlock& block = part->blocks.emplace_back();
    block.table = from.table();
    block.dim = table->layout.dim;
    block.codec = from.codec();
    SHEAF_ASSIGN_OR_RETURN(block.key_bytes, RedoKeys(from, keys, key_at));
    if (options.is_copy && from.has_keys()) RememberRows(from, block);
    const size_t bytes = EncodedSize(block.codec, block.key_count(), block.dim);
    if (bytes > values.size() - value_at) return Unusable("a push whose values are cut short");
    block.values = values.Slice(value_at, bytes);
    value_at += bytes;
    if (!AllIn(block.keys(), part->partitions, static_cast<uint32_t>(partitions.size()))) {
      return Unusable("a push with a key of a partition that it does not name");
    }
  }
  redo_parts.push_back(std::move(part));
  if (redo_parts.size() < record.part_count()) return {};

  Push push;
  push.parts = std::exchange(redo_parts, {});
  push.key = {.pass = std::nullopt,
              .stream_high = record.stream_high(),
              .stream_low = record.stream_low(),
              .seq = record.seq()};
  push.example_count = record.example_count();
  for (const auto& each : push.parts) {
    push.missing.insert(push.missing.end(), each->partitions.begin(), each->partitions.end());
  }
  std::ranges::sort(push.missing);
  push.missing.erase(std::unique(push.missing.begin(), push.missing.end()), push.missing.end());
  KeepAwake(push.missing);
  if (push.missing.empty()) return {};
  push.part = std::make_shared<RequestPart>();
  push.part->partitions = push.missing;
  const Pass* pass = nullptr;
  if (record.has_progress()) {
    SHEAF_RETURN_IF_ERROR(CheckProgress(record.progress(), push.missing));
    push.progress = record.progress();
    push.key.pass = PassKey{record.progress().job(), record.progress().pass()};
    pass = &passes.at(*push.key.pass);
  }
  if (pass != nullptr && pass->bsp()) {
    // They are kept for a while: not with all of the segment that they lie in.
    for (const auto& each : push.parts) {
      for (RequestBlock& block : each->blocks) {
        block.key_bytes = Buffer::CopyOf(block.key_bytes.bytes());
        block.values = Buffer::CopyOf(block.values.bytes());
      }
    }
  }
  // A session's may be there twice: a shard that has no room for more forgets those that were quiet.
  for (const uint32_t p : pass == nullptr ? std::span<const uint32_t>() : std::span<const uint32_t>(push.missing)) {
    const SeqWindow* const window = FindWindow(p, push.key);
    const bool taken = window != nullptr && window->Contains(push.key.seq);
    const bool too_far =
        window != nullptr ? window->WouldExceed(push.key.seq) : push.key.seq >= SeqWindow::kWindow;
    if (taken || too_far) return Unusable(CheckText("push ", push.key.seq, " twice, or too early"));
  }
  if (evicting()) SHEAF_RETURN_IF_ERROR(TakeBackNow(push.parts));
  Accept(push, pass, now);
  Outbox nobody;
  if (pass != nullptr) FinishClock(push, nobody);
  return {};
}

Status ShardCore::Impl::RedoClock(const pb::ClockRecord& record) {
  Push push;
  push.part = std::make_shared<RequestPart>();
  SHEAF_ASSIGN_OR_RETURN(push.part->partitions, PartitionsOf(record.partition()));
  KeepAwake(push.part->partitions);
  if (push.part->partitions.empty()) return {};
  SHEAF_RETURN_IF_ERROR(CheckProgress(record.progress(), push.part->partitions));
  push.progress = record.progress();
  push.key.pass = PassKey{record.progress().job(), record.progress().pass()};
  Outbox nobody;
  FinishClock(push, nobody);
  return {};
}

}  // namespace sheaf
