// Configurations: what of a shard's partitions, tables and passes comes and goes by them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

#include "common/base/partition.h"
#include "common/base/placement.h"
#include "common/base/planted_bug.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kLeastSlabBytes = 16 << 10;
constexpr size_t kLedgersKept = 4;  // of a job's ended passes

}  // namespace

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
    table.max_gradient_norm = table.sum ? 0 : spec.optimizer().max_gradient_norm();
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
    const bool timed = spec.rows().expire_after_s() > 0;
    table.admit_after = spec.rows().admit_after();
    table.expire_after_s = spec.rows().expire_after_s();
    table.layout = {.dim = spec.dim(),
                    .stride = spec.dim() + table.optimizer->StateDim(spec.dim()) + (timed ? 1 : 0),
                    .seed = spec.seed(),
                    .init_stddev = spec.init_stddev(),
                    .init_zero_columns = spec.init_zero_columns(),
                    .optimizer = table.optimizer.get(),
                    .timed = timed};
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
  for (const auto& partition : partitions) {
    if (partition == nullptr) continue;
    std::erase_if(partition->sightings, [&](const auto& each) { return !listed.contains(each.first); });
  }
  rows_expire = std::ranges::any_of(tables, [](const auto& each) { return each.second.expire_after_s > 0; });
  for (auto& [id, table] : tables) {
    if (table.rows != nullptr || table.optimizer == nullptr || partitions.empty()) continue;
    if (options.row_limit_bytes > 0) {  // of a copy, too: its rows may become ours
      table.layout.counts_uses = true;
      const size_t share = std::bit_floor(options.row_limit_bytes / partitions.size() / 4);
      table.layout.slab_bytes = std::clamp(share, kLeastSlabBytes, RowLayout().slab_bytes);
    }
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

}  // namespace sheaf
