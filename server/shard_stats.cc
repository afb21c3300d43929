// What a shard says of itself: how much there is, how often it is asked for, who waits for whom. For the scheduler, and
// for people.
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/partition.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kMaxWaitingLines = 8;
// Of the load one request stands for so many. A prime: what clients do in turn should not fall on the same one each
// time.
constexpr uint64_t kOneOf = 61;

}  // namespace

void ShardCore::Impl::NoteLoad(const RequestPart& part) {
  if (++requests_seen % kOneOf != 0) return;
  keys_served.resize(partitions.size());
  const auto count = static_cast<uint32_t>(partitions.size());
  for (const RequestBlock& block : part.blocks) {
    const auto keys = block.keys();
    for (auto at = keys.begin(); at != keys.end();) {
      const PartitionId partition = PartitionOf(*at, count);
      const auto next = std::partition_point(at, keys.end(), [&](HashedKey key) {
        return PartitionOf(key, count).value <= partition.value;
      });
      keys_served[partition.value] += static_cast<uint64_t>(next - at) * kOneOf;
      at = next;
    }
  }
}

PartitionLoad ShardCore::Impl::LoadOf(uint32_t partition) const {
  PartitionLoad load{.partition = partition};
  for (const auto& [id, table] : tables) {
    const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store != nullptr) load.bytes += store->memory_bytes();
  }
  if (partition < keys_served.size()) load.keys = keys_served[partition];
  return load;
}

ShardStats ShardCore::Impl::Stats() const {
  ShardStats stats = counters;
  stats.seen_generation = generation;
  stats.parked_pulls = parked.size();
  stats.staged_pushes = staging.size();
  stats.cold_waits = cold_waits.size();
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
      if (store == nullptr) continue;
      stats.rows += store->size();
      stats.cold_rows += store->cold();
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
  if (!refuse_pushes.empty()) {
    stats.disk = pb::DISK_FULL;
    stats.disk_text = "room on its disk: it takes no pushes";
  }
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

void AddTrouble(const ShardStats& shard, ShardStats& sum) {
  sum.poisoned += shard.poisoned;
  for (const auto& [peer, count] : shard.poison) {
    if (sum.poison.contains(peer) || sum.poison.size() < kMostPoisoners) sum.poison[peer] += count;
  }
  if (!shard.poison_text.empty()) sum.poison_text = shard.poison_text;
  sum.compared_rows += shard.compared_rows;
  sum.copies_differed += shard.copies_differed;
  if (!shard.differed_text.empty()) sum.differed_text = shard.differed_text;
  sum.disk_write_us = std::max(sum.disk_write_us, shard.disk_write_us);
  if (shard.disk > sum.disk) {
    sum.disk = shard.disk;
    sum.disk_text = shard.disk_text;
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
    sum.cold_rows += shard.cold_rows;
    sum.cold_reads += shard.cold_reads;
    sum.evicted_rows += shard.evicted_rows;
    sum.expired_rows += shard.expired_rows;
    sum.unadmitted += shard.unadmitted;
    sum.cold_waits += shard.cold_waits;
    sum.pushes_applied += shard.pushes_applied;
    sum.pushes_deduplicated += shard.pushes_deduplicated;
    sum.pulls_answered += shard.pulls_answered;
    sum.overloaded += shard.overloaded;
    sum.refused += shard.refused;
    AddTrouble(shard, sum);
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
