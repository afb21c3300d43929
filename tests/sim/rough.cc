#include "tests/sim/rough.h"

#include <cstring>
#include <optional>

#include "common/base/strings.h"

namespace sheaf::sim {
namespace {

// What the product has as limits and time-outs, often so small that they matter.
void DrawLimits(Random& random, SimOptions& options) {
  const size_t payloads[] = {4 << 20, 4 << 20, 40, 80};  // a push of one slice; of many, of a few
  options.client.max_payload_bytes = payloads[random.Below(4)];
  if (random.Chance(0.3)) options.client.credit_bytes = 100 + random.Below(400);
  if (random.Chance(0.4)) options.client.deadline = Milliseconds(1000);
  if (random.Chance(0.5)) options.client.min_keys_to_remember = 2;
  if (random.Chance(0.3)) options.shard.key_list_budget_bytes = 2000;
  if (random.Chance(0.4)) options.shard.request_budget_bytes = (12 << 10) + random.Below(12 << 10);
  if (random.Chance(0.3)) options.shard.staging_idle = Milliseconds(500);
  options.pulls_ahead = 1 + static_cast<uint32_t>(random.Below(4));
  options.pushes_ahead = 1 + static_cast<uint32_t>(random.Below(6));
}

void DrawFaults(Random& random, SimOptions& options) {
  options.network.loss = 0.2 * random.NextDouble();
  options.network.duplicate = 0.2 * random.NextDouble();
  options.network.reorder = 0.3 * random.NextDouble();
  options.network.late = random.Chance(0.5) ? 0.05 : 0;
  options.crashes = random.Chance(0.7) ? 0.3 : 0;
  options.replace = random.Chance(0.7);
  options.leaves = random.Chance(0.6) ? 0.3 : 0;
  options.joins = random.Chance(0.5) ? 0.5 : 0;
  options.pauses = random.Chance(0.5) ? 0.4 : 0;
  options.cuts = random.Chance(0.5) ? 0.4 : 0;
  options.flaps = random.Chance(0.5) ? 0.2 : 0;
  options.slow = random.Chance(0.5) ? 0.3 : 0;
  options.server_pauses = random.Chance(0.5) ? 0.6 : 0;
  options.clock_skew = random.Chance(0.7);
  options.stores = random.Chance(0.6);
  if (options.stores && random.Chance(0.4)) options.job.durability = pb::JobSpec::FSYNC;
  if (random.Chance(0.6)) options.replicas = 2 + static_cast<uint32_t>(random.Below(2));
  if (options.stores || options.replicas > 1) {
    options.server_crashes = random.Chance(0.7) ? 0.5 : 0;
    if (options.stores && random.Chance(0.3)) options.server_dead_after = Milliseconds(700);
  }
  if (options.stores) {
    options.snapshot_after_bytes = random.Chance(0.7) ? 500 + random.Below(5000) : ~uint64_t{0};
    options.snapshot_takes = Milliseconds(random.Chance(0.4) ? 5 : 100);
    options.full_disks = random.Chance(0.4) ? 1.5 : 0;
  }
  if (random.Chance(0.7)) options.checkpoints = 3;
  if (random.Chance(0.85)) options.cancel_after = Milliseconds(static_cast<int64_t>(100 + random.Below(1500)));
  options.scheduler_crashes = random.Chance(0.6) ? 0.5 : 0;
  options.store_full = random.Chance(0.3) ? 0.3 : 0;
  options.drains = random.Chance(0.5) ? 1 : 0;
}

// By a generator of its own: the other faults of a seed stay what they were.
void DrawMemory(SimOptions& options) {
  Random random(MixPair(options.seed, 80));
  // Requests wait for as long as a round of snapshots takes: not for those who give up after a second.
  const bool patient = options.client.deadline > std::chrono::seconds(5);
  if (options.stores && patient && random.Chance(0.9)) options.shard.row_limit_bytes = 1000 + random.Below(4000);
}

SimOptions Undisturbed(SimOptions options) {
  options.servers = options.shards = 1;
  options.network = {};
  options.crashes = options.leaves = options.joins = options.pauses = options.server_pauses = 0;
  options.cuts = options.flaps = options.slow = 0;
  options.clock_skew = options.tool = options.stores = false;
  options.server_crashes = options.scheduler_crashes = options.store_full = 0;
  options.replicas = 1;
  options.drains = 0;
  options.checkpoints = 0;
  options.cancel_after = {};
  options.shard.row_limit_bytes = 0;
  return options;
}

// The job of a cluster that has ended, from its last checkpoint on: on other servers, sometimes without faults.
SimOptions Restored(SimOptions options, const SimCluster& before) {
  Random random(MixPair(options.seed, 78));
  if (random.Chance(0.3)) options = Undisturbed(options);
  options.restore_from = &before;
  options.seed = MixPair(options.seed, 79);
  options.servers = 1 + static_cast<uint32_t>(random.Below(3));
  options.shards = 1 + static_cast<uint32_t>(random.Below(2));
  options.checkpoints = 0;
  options.cancel_after = {};
  options.tool = false;
  return options;
}

std::string CompareRows(const std::map<HashedKey, Row>& rows, const std::map<HashedKey, Row>& expected) {
  for (const auto& [key, row] : expected) {
    const auto found = rows.find(key);
    if (found != rows.end() && std::memcmp(found->second.data(), row.data(), sizeof(Row)) == 0) continue;
    return StrCat("same bits: row ", key, " begins with ", found == rows.end() ? 0 : found->second[0],
                  ", without faults with ", row[0]);
  }
  return rows.size() == expected.size() ? "" : "same bits: there are rows that a run without faults does not have";
}

}  // namespace

SimOptions RoughOptions(uint64_t seed) {
  SimOptions options;
  Random random(MixPair(seed, 77));
  options.seed = seed;
  options.servers = 1 + static_cast<uint32_t>(random.Below(3));
  options.shards = 1 + static_cast<uint32_t>(random.Below(2));
  options.workers = 1 + static_cast<uint32_t>(random.Below(5));
  options.mode = static_cast<pb::ConsistencySpec::Mode>(random.Below(3));
  options.staleness = static_cast<uint32_t>(random.Below(4));
  options.job.rows = 60 + static_cast<uint32_t>(random.Below(160));  // lanes of unequal length, a last batch cut short
  options.job.valid_rows = random.Chance(0.3) ? 40 : 0;
  options.job.batch_size = 3 + static_cast<uint32_t>(random.Below(5));
  options.job.range_batches = 1 + static_cast<uint32_t>(random.Below(5));
  const pb::WireSpec::Codec codecs[] = {pb::WireSpec::FP32, pb::WireSpec::BF16, pb::WireSpec::FP16, pb::WireSpec::INT8};
  options.job.push = codecs[random.Below(4)];
  options.job.pull = codecs[random.Below(3)];  // never INT8
  options.job.statistics = random.Chance(0.3);
  options.job.sparse = random.Chance(0.5);
  DrawLimits(random, options);
  DrawFaults(random, options);
  DrawMemory(options);
  return options;
}

void RoughCounts::Add(SimCluster& cluster) {
  for (size_t fault = 0; fault < faults.size(); ++fault) faults[fault] += cluster.faults()[fault];
  const NetworkCounts& sent = cluster.network();
  network.delivered += sent.delivered;
  network.lost += sent.lost;
  network.duplicated += sent.duplicated;
  network.reordered += sent.reordered;
  network.late += sent.late;
  network.slow += sent.slow;
  network.posthumous += sent.posthumous;
  network.unclaimed += sent.unclaimed;
  staleness_checks += cluster.staleness_checks();
  statistics_checks += cluster.statistics_checks();
  replica_checks += cluster.replica_checks();
  tool_pushes += cluster.tool_pushes();
  duplicates += cluster.JobStatusNow().pushes_deduplicated();
}

std::vector<std::pair<const char*, uint64_t>> RoughCounts::Faults() const {
  std::vector<std::pair<const char*, uint64_t>> kinds;
  for (size_t fault = 0; fault < faults.size(); ++fault) {
    kinds.emplace_back(FaultName(static_cast<Fault>(fault)), faults[fault]);
  }
  kinds.insert(kinds.end(), {
                                {"messages lost", network.lost},
                                {"messages duplicated", network.duplicated},
                                {"messages out of order", network.reordered},
                                {"messages late by 0.5 s or more", network.late},
                                {"messages over slow links", network.slow},
                                {"messages that came when their sender had ended", network.posthumous},
                                {"messages for a process that had ended", network.unclaimed},
                                {"pushes recognised as duplicates", duplicates},
                                {"looks at a pull's staleness", staleness_checks},
                                {"looks at statistics", statistics_checks},
                                {"copies compared with their primaries", replica_checks},
                                {"pushes of a tool", tool_pushes},
                            });
  return kinds;
}

std::string RunRough(uint64_t seed, RoughCounts& counts) {
  const SimOptions options = RoughOptions(seed);
  SimCluster cluster(options);
  std::string wrong = cluster.Run();
  counts.Add(cluster);
  if (!wrong.empty()) return wrong;
  std::optional<SimCluster> restored;
  if (cluster.HasCheckpoint()) {
    restored.emplace(Restored(options, cluster));
    wrong = restored->Run();
    counts.Add(*restored);
    if (!wrong.empty()) return wrong + ", restored";
  }
  if (options.mode != pb::ConsistencySpec::BSP) return "";
  ++counts.bsp_runs;
  SimCluster undisturbed(Undisturbed(options));
  wrong = undisturbed.Run();
  if (!wrong.empty()) return wrong + ", without any fault";
  const auto expected = undisturbed.Rows();
  wrong = CompareRows(cluster.Rows(), expected);
  if (!wrong.empty() || !restored) return wrong;
  wrong = CompareRows(restored->Rows(), expected);
  return wrong.empty() ? "" : wrong + ", restored";
}

}  // namespace sheaf::sim
