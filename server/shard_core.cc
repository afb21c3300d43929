#include "server/shard_core.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "common/base/partition.h"
#include "common/base/placement.h"
#include "common/base/planted_bug.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kLedgersKept = 4;  // of a job's ended passes
constexpr size_t kMaxWaitingLines = 8;
constexpr Duration kSessionSweepEvery = std::chrono::minutes(1);

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
Status ShardCore::Redo(const Buffer& record, TimePoint now, const Adopter& adopt) {
  return impl_->Redo(record, now, adopt);
}

void ShardCore::EndRedo() { impl_->EndRedo(); }

Durability ShardCore::TakeCommitLevel() { return std::exchange(impl_->commit_level, Durability::kMemory); }
void ShardCore::RefuseAll(std::string why) { impl_->refuse_all = std::move(why); }

void ShardCore::OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  const auto body = message.header.body_case();
  if (!impl_->refuse_all.empty() &&
      (body == pb::Header::kPull || body == pb::Header::kPush || body == pb::Header::kScan)) {
    return impl_->SendRefusal(from, message.header.request(), Refuse(pb::Refusal::OVERLOADED, impl_->refuse_all), out);
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
const std::vector<uint64_t>& ShardCore::owned_epochs() const { return impl_->owned_epochs; }
const std::vector<uint32_t>& ShardCore::absent() const { return impl_->absent; }
const std::vector<uint32_t>& ShardCore::coming() const { return impl_->handed_over; }

const pb::Lane* ShardCore::Impl::Pass::FindLane(uint32_t lane) const {
  for (const pb::Lane& known : roster.lane()) {
    if (known.lane() == lane) return &known;
  }
  return nullptr;
}

// ---- configuration

Status ShardCore::Impl::TakeConfig(const pb::ClusterConfig& config, PeerId member, Holds holds, const Adopter& adopt,
                                   TimePoint now, Outbox& out) {
  SHEAF_RETURN_IF_ERROR(TakePartitions(config, member, holds, adopt));
  if (recording()) LogConfig(config);
  configured = true;
  generation = config.generation();
  Status tables_taken = TakeTables(config);
  std::vector<uint32_t> came;
  for (MovedPartition& moved : std::exchange(adopted, {})) {
    came.push_back(moved.partition);
    Adopt(std::move(moved), now);
  }
  TakeRosters(config);
  TrimLedgers();
  if (!Planted(Bug::kStaleSlicesKept)) DropStaleSlices();
  for (const auto& [key, pass] : passes) {
    if (pass.bsp()) ApplyCompleteClocks(key, pass);
  }
  // As they are now: the log has nothing of what came to them before.
  for (const uint32_t p : redoing ? std::vector<uint32_t>() : came) {
    for (RedoWriter* const writer : WritersOf(DurabilityOfTables())) {
      if (!writer->holds) WriteImage(*writer, p);
    }
  }
  CheckParked(out);
  for (const auto& [key, pass] : passes) AnswerParked(key, out);
  return tables_taken;
}

Status ShardCore::Impl::TakePartitions(const pb::ClusterConfig& config, PeerId member, Holds holds,
                                       const Adopter& adopt) {
  const uint32_t count = static_cast<uint32_t>(config.partition_size());
  if (count > kMaxPartitions || (count != 0 && count != config.partition_count())) {
    return Fail(ErrorCode::kInvalidArgument, "configuration ", config.generation(), " lists ", count, " partitions of ",
                config.partition_count(), " (at most ", kMaxPartitions, "): it is not taken");
  }
  if (!configured && count != 0 && count != partitions.size()) {
    // Their number is for a cluster's life: the log is of another one, whose rows are nobody's here.
    coming.reset();
    tables.clear();
    partitions.clear();
    lsns.clear();
    sessions.clear();
    ++store_version;
  }
  if (!partitions.empty() && count != 0 && count != partitions.size()) {
    return Fail(ErrorCode::kInvalidArgument, "configuration ", config.generation(), " has ", count,
                " partitions, this shard was set up with ", partitions.size(), ": it is not taken");
  }
  std::optional<uint32_t> node;
  uint32_t place = 0;
  uint32_t shard_count = 1;
  for (const pb::ServerInfo& server : config.server()) {
    for (int i = 0; i < server.shard_size(); ++i) {
      if (PeerId(server.shard(i).peer()) != member) continue;
      node = server.node();
      place = static_cast<uint32_t>(i);
      shard_count = static_cast<uint32_t>(server.shard_size());
    }
  }
  listed = node.has_value();
  // Of a configuration that does not list it, a shard with a log learns only that it is taken for dead: what becomes of
  // its partitions it will be told when it is back.
  // A copy keeps what its primary has lost: it may be to become the primary itself.
  const bool keeps =
      options.is_copy || (!listed && options.log != nullptr && !Planted(Bug::kUnlistedDropsAll));
  left.clear();
  absent.clear();
  handed_over.clear();
  std::map<uint32_t, uint64_t> had;  // epochs of those that were ours
  for (size_t i = 0; !options.is_copy && i < owned.size(); ++i) had[owned[i]] = owned_epochs[i];
  owned.clear();
  owned_epochs.clear();
  if (count != 0) partitions.resize(count);
  lsns.resize(partitions.size());
  epochs.assign(partitions.size(), 0);
  is_owned.assign(partitions.size(), 0);
  for (uint32_t p = 0; p < partitions.size(); ++p) {
    if (p < count) epochs[p] = config.partition(static_cast<int>(p)).epoch();
    const bool ours =
        p < count && node && config.partition(static_cast<int>(p)).primary() == *node && p % shard_count == place;
    if (!ours) {
      // Nor may it go before who has taken it over is known to have it.
      const bool former = p < count && node && config.partition(static_cast<int>(p)).former() == *node;
      if (partitions[p] != nullptr && !keeps && (!former || Planted(Bug::kFormerDrops))) DropPartition(p);
      continue;
    }
    if (options.is_copy && std::ranges::find(*holds, p) == holds->end()) continue;
    if (std::optional<MovedPartition> moved = adopt ? adopt(config, p) : std::nullopt) {
      if (partitions[p] != nullptr) DropPartition(p);  // another has had it since
      adopted.push_back(std::move(*moved));
    } else if (config.partition(static_cast<int>(p)).handed_over() && !options.is_copy) {
      const auto was = had.find(p);
      const bool ours_since = (was != had.end() && was->second == epochs[p]) || std::ranges::count(redo_takes, p) > 0;
      if (!ours_since) {
        handed_over.push_back(p);  // what may be here is of before
        continue;
      }
    }
    const bool here = partitions[p] != nullptr || (!adopted.empty() && adopted.back().partition == p);
    if (options.is_copy && !here) {
      left.push_back(p);
      continue;
    }
    if (!here && !redoing && config.partition(static_cast<int>(p)).taking_over() && !Planted(Bug::kTakesOverNothing)) {
      absent.push_back(p);  // it must not begin empty
      continue;
    }
    owned.push_back(p);
    owned_epochs.push_back(epochs[p]);
    is_owned[p] = 1;
    if (here) continue;
    partitions[p] = std::make_unique<PartitionState>();
    partitions[p]->id = PartitionId(p);
  }
  placement = PlacementSignature(owned, owned_epochs);
  return {};
}

pb::Refusal ShardCore::Impl::TakenForDead() const {
  return Refuse(pb::Refusal::UNKNOWN_EPOCH, "configuration ", generation,
                " does not have this server: the scheduler takes it for dead; try again shortly");
}

void ShardCore::Impl::DropPartition(uint32_t partition) {
  if (const auto sleeper = asleep.find(partition); sleeper != asleep.end() && sleeper->second == kUntilDropped) {
    asleep.erase(sleeper);
  }
  partitions[partition].reset();
  lsns[partition] = {};
  for (auto& [id, table] : tables) {
    if (table.rows != nullptr) table.rows->Drop(partition);
  }
  ++store_version;
  for (auto& [id, session] : sessions) session.windows[partition] = {};
}

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

std::optional<MovedPartition> ShardCore::Impl::Release(uint32_t partition) {
  if (partition >= partitions.size() || partitions[partition] == nullptr) return std::nullopt;
  MovedPartition moved;
  moved.partition = partition;
  moved.state = std::move(partitions[partition]);
  moved.lsn = std::exchange(lsns[partition], {});
  for (auto& [id, table] : tables) {
    if (table.rows != nullptr) moved.rows[id] = table.rows->Take(partition);
  }
  ++store_version;
  for (auto& [id, session] : sessions) {
    SeqWindow window = std::exchange(session.windows[partition], {});
    if (!window.empty()) moved.sessions.emplace_back(id, std::move(window));
  }
  if (std::erase(owned, partition) > 0) left.insert(std::ranges::upper_bound(left, partition), partition);
  is_owned[partition] = 0;
  return moved;
}

// Of tables that have ended meanwhile its rows go.
void ShardCore::Impl::Adopt(MovedPartition moved, TimePoint now) {
  const uint32_t p = moved.partition;
  if (!moved.image.empty()) {
    const bool only_known_before = std::exchange(only_known_tables, true);
    coming.reset();
    for (const Buffer& piece : moved.image) SHEAF_CHECK(Import(piece, now).has_value(), "an image of our own");
    only_known_tables = only_known_before;
    return;
  }
  partitions[p] = std::move(moved.state);
  partitions[p]->stored = {};  // our store has nothing of it
  partitions[p]->cut = 0;
  lsns[p] = moved.lsn;
  for (auto& [id, store] : moved.rows) {
    if (Table* const table = FindTable(id); table != nullptr && table->rows != nullptr) {
      if (store != nullptr) store->set_stored(false);
      table->rows->Put(p, std::move(store));
    }
  }
  ++store_version;
  for (auto& [id, window] : moved.sessions) {
    Session& session = sessions[id];
    session.windows.resize(partitions.size());
    if (session.last == TimePoint{}) session.last = now - kQuietSession;  // others go first if there is no room
    session.windows[p] = std::move(window);
  }
}

Status ShardCore::Impl::TakeTables(const pb::ClusterConfig& config) {
  std::set<uint32_t> listed;
  Status status;
  for (const pb::TableSpec& spec : config.table()) {
    listed.insert(spec.id());
    if (tables.contains(spec.id())) continue;
    Table& table = tables[spec.id()];
    table.id = spec.id();
    table.job = spec.job();
    table.sum = spec.update() == pb::TableSpec::SUM;
    table.durability = spec.durability() == pb::JobSpec::FSYNC ? Durability::kFsync
                       : spec.durability() == pb::JobSpec::LOG ? Durability::kLog
                                                               : Durability::kMemory;
    if (spec.dim() == 0 || spec.dim() > kMaxDim) {
      table.error = CheckText("a row of ", spec.dim(), " floats; 1 to ", kMaxDim, " are possible");
    } else if (!std::isfinite(spec.init_stddev())) {
      table.error = "init_stddev is not a finite number";
    } else if (table.sum) {
      table.optimizer = MakeSumOptimizer();
    } else if (auto made = MakeOptimizer(spec.optimizer())) {
      table.optimizer = std::move(*made);
    } else {
      table.error = made.error().message;
    }
    if (table.optimizer == nullptr) {
      status = Fail(ErrorCode::kInvalidArgument, "table ", spec.id(), " (", spec.name(), ") of job ", spec.job(), ": ",
                    table.error);
      continue;
    }
    table.layout = {.dim = spec.dim(),
                    .stride = spec.dim() + table.optimizer->StateDim(spec.dim()),
                    .seed = spec.seed(),
                    .init_stddev = spec.init_stddev(),
                    .init_zero_columns = spec.init_zero_columns(),
                    .optimizer = table.optimizer.get()};
  }
  for (auto at = tables.begin(); at != tables.end();) {
    if (listed.contains(at->first)) {
      ++at;
      continue;
    }
    ++store_version;
    key_lists.ForgetTable(at->first);
    coming.reset();  // it may have rows of it
    at = tables.erase(at);
  }
  for (auto& [id, table] : tables) {
    if (table.rows == nullptr && table.optimizer != nullptr && !partitions.empty())
      table.rows = std::make_unique<TableRows>(&table.layout, static_cast<uint32_t>(partitions.size()));
  }
  return status;
}

void ShardCore::Impl::TakeRosters(const pb::ClusterConfig& config) {
  std::set<PassKey> listed;
  for (const pb::Roster& roster : config.roster()) {
    const PassKey key{roster.job(), roster.pass()};
    listed.insert(key);
    Pass& pass = passes[key];
    pass.roster = roster;
    const double scale = roster.has_learning_rate_scale() ? roster.learning_rate_scale() : 1.0;
    pass.rate_scale = std::isfinite(scale) ? static_cast<float>(scale) : 1.0f;
    for (const auto& partition : partitions) {
      if (partition != nullptr) partition->passes[key].clock.SetLanes(roster);
    }
  }
  // Also passes that only the partition knows: it may have come from another shard, which was behind.
  for (const auto& partition : partitions) {
    if (partition != nullptr) EndPasses(*partition, listed);
  }
  for (auto at = passes.begin(); at != passes.end();) {
    if (!listed.contains(at->first)) ended_counts[at->first] = at->second.counts;
    at = listed.contains(at->first) ? std::next(at) : passes.erase(at);
  }
}

void ShardCore::Impl::EndPasses(PartitionState& partition, const std::set<PassKey>& listed) {
  for (auto at = partition.passes.begin(); at != partition.passes.end();) {
    if (listed.contains(at->first)) {
      ++at;
      continue;
    }
    partition.ended[at->first] = at->second.examples;
    const auto next = std::next(at);
    if (Planted(Bug::kDedupAcrossPasses) && next != partition.passes.end())
      next->second.streams = std::move(at->second.streams);
    at = partition.passes.erase(at);
  }
}

void ShardCore::Impl::TrimLedgers() {
  std::set<uint64_t> jobs;
  for (const auto& [id, table] : tables) jobs.insert(table.job);
  const auto trim = [&](auto& ledgers) {
    uint64_t job = 0;
    size_t kept = 0;
    for (auto at = ledgers.end(); at != ledgers.begin();) {  // from the last pass of each job
      --at;
      if (at->first.job != job || kept == 0) {
        job = at->first.job;
        kept = 0;
      }
      if (!jobs.contains(job) || kept == kLedgersKept) {
        at = ledgers.erase(at);
      } else {
        ++kept;
      }
    }
  };
  for (const auto& partition : partitions) {
    if (partition != nullptr) trim(partition->ended);
  }
  trim(ended_counts);
}

void ShardCore::Impl::DropStaleSlices() {
  staging.DropIf([this](const PushKey& push, const RequestPart& part) {
    if (push.pass && !passes.contains(*push.pass)) return true;
    for (size_t i = 0; i < part.partitions.size(); ++i) {
      const uint32_t p = part.partitions[i];
      if (partitions[p] == nullptr || epochs[p] != part.epochs[i]) return true;
    }
    return std::any_of(part.blocks.begin(), part.blocks.end(),
                       [this](const RequestBlock& block) { return !tables.contains(block.table); });
  });
}

void ShardCore::Impl::OnTick(TimePoint now, Outbox& out) {
  for (const PassKey& pass : std::exchange(half_answered, {})) AnswerParked(pass, out);
  staging.DropIdle(now - options.staging_idle);
  if (now < next_session_sweep) return;
  next_session_sweep = now + kSessionSweepEvery;
  std::erase_if(sessions, [&](const auto& entry) { return entry.second.last < now - options.session_idle; });
}

ShardStats ShardCore::Impl::Stats() const {
  ShardStats stats = counters;
  stats.seen_generation = generation;
  stats.parked_pulls = parked.size();
  stats.staged_pushes = staging.size();
  stats.request_bytes = budget.used() + awaited_budget.used();
  std::map<PassKey, pb::PassLedger> ledgers;
  const auto count = [&](const PassKey& key, uint64_t examples) {
    const auto [at, fresh] = ledgers.try_emplace(key);
    pb::PassLedger& ledger = at->second;
    ledger.set_job(key.job);
    ledger.set_pass(key.pass);
    ledger.set_min_examples(fresh ? examples : std::min(ledger.min_examples(), examples));
    ledger.set_max_examples(std::max(ledger.max_examples(), examples));
  };
  for (const uint32_t p : owned) {
    for (const auto& [key, pass] : Owned(p).passes) count(key, pass.examples);
    for (const auto& [key, examples] : Owned(p).ended) count(key, examples);
    for (const auto& [id, table] : tables) {
      const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(p);
      if (store != nullptr) stats.rows += store->size();
    }
    stats.loads.push_back(LoadOf(p));
    stats.memory_bytes += stats.loads.back().bytes;
  }
  for (auto& [key, ledger] : ledgers) {
    const auto running = passes.find(key);
    const auto ended = ended_counts.find(key);
    const PassCounts counts = running != passes.end()       ? running->second.counts
                              : ended != ended_counts.end() ? ended->second
                                                            : PassCounts();
    ledger.set_duplicates(counts.duplicates);
    ledger.set_staleness(counts.staleness);
    stats.ledgers.push_back(std::move(ledger));
  }
  stats.waiting = WaitingLines();
  return stats;
}

std::vector<std::string> ShardCore::Impl::WaitingLines() const {
  std::vector<std::string> lines;
  for (const auto& [order, pull] : parked) {
    const PassKey key{pull.progress->job(), pull.progress->pass()};
    std::string line = CheckText("lane ", pull.progress->lane(), " waits for ",
                                 WaitingFor(key, pull.part.partitions, pull.progress->clock()));
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(std::move(line));
    if (lines.size() == kMaxWaitingLines) break;
  }
  return lines;
}

// ---- checks that pulls and pushes share

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
  *message.header.mutable_refusal() = std::move(refusal);
  out.Send(to, std::move(message));
}

Message ShardCore::Impl::MakeAnswer(uint64_t request, pb::Header::BodyCase kind) const {
  Message message;
  message.header.set_request(request);
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
  if (known.version != store_version) {
    std::ranges::fill(known.slots, kNoSlot);
    known.complete = false;
    known.version = store_version;
  }
  return known.slots.data();
}

void ShardCore::Impl::NoteSlots(const RequestBlock& block) {
  if (block.slots == nullptr || block.slots->complete) return;
  block.slots->complete = std::ranges::find(block.slots->slots, kNoSlot) == block.slots->slots.end();
}

namespace {

// Of two shards whoever is less far counts, unless one of them has failed.
void Merge(const pb::CheckpointState& shard, pb::CheckpointState& sum, bool first) {
  using State = pb::CheckpointState;
  if (first || (shard.id() >= sum.id() && shard.phase() == State::FAILED)) {
    sum = shard;
  } else if (sum.phase() == State::FAILED && sum.id() >= shard.id()) {
    return;
  } else if (shard.id() != sum.id()) {
    sum.Clear();
  } else {
    sum.set_phase(std::min(sum.phase(), shard.phase()));
    sum.mutable_part()->MergeFrom(shard.part());
  }
}

void Merge(const pb::RestoreState& shard, pb::RestoreState& sum, bool first) {
  if (first || !shard.error().empty()) {
    sum = shard;
  } else if (sum.error().empty() && (shard.job() != sum.job() || shard.generation() != sum.generation())) {
    sum.Clear();
  }
}

}  // namespace

ShardStats MergeStats(const std::vector<ShardStats>& shards) {
  ShardStats sum;
  std::map<std::pair<uint64_t, uint32_t>, pb::PassLedger> ledgers;
  bool first = true;
  for (const ShardStats& shard : shards) {
    sum.seen_generation = first ? shard.seen_generation : std::min(sum.seen_generation, shard.seen_generation);
    first = false;
    sum.memory_bytes += shard.memory_bytes;
    sum.rows += shard.rows;
    sum.pushes_applied += shard.pushes_applied;
    sum.pushes_deduplicated += shard.pushes_deduplicated;
    sum.pulls_answered += shard.pulls_answered;
    sum.overloaded += shard.overloaded;
    sum.refused += shard.refused;
    sum.parked_pulls += shard.parked_pulls;
    sum.staged_pushes += shard.staged_pushes;
    sum.request_bytes += shard.request_bytes;
    if (sum.failure.empty()) sum.failure = shard.failure;
    Merge(shard.checkpoint, sum.checkpoint, &shard == &shards.front());
    Merge(shard.restore, sum.restore, &shard == &shards.front());
    sum.synced.insert(sum.synced.end(), shard.synced.begin(), shard.synced.end());
    sum.news += shard.news;
    sum.loads.insert(sum.loads.end(), shard.loads.begin(), shard.loads.end());
    for (const pb::PassLedger& ledger : shard.ledgers) {
      const auto [at, fresh] = ledgers.try_emplace({ledger.job(), ledger.pass()}, ledger);
      if (fresh) continue;
      pb::PassLedger& into = at->second;
      into.set_min_examples(std::min(into.min_examples(), ledger.min_examples()));
      into.set_max_examples(std::max(into.max_examples(), ledger.max_examples()));
      into.set_duplicates(into.duplicates() + ledger.duplicates());
      into.set_staleness(std::max(into.staleness(), ledger.staleness()));
    }
    for (const std::string& line : shard.waiting) {
      const bool known = std::find(sum.waiting.begin(), sum.waiting.end(), line) != sum.waiting.end();
      if (!known && sum.waiting.size() < kMaxWaitingLines) sum.waiting.push_back(line);
    }
  }
  for (auto& [key, ledger] : ledgers) sum.ledgers.push_back(std::move(ledger));
  return sum;
}

}  // namespace sheaf
