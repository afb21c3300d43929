// What a run is held to: at every message, and at the end.
#include <algorithm>
#include <cmath>
#include <sstream>
#include <utility>

#include "common/base/partition.h"
#include "tests/sim/sim_nodes.h"

namespace sheaf::sim {
namespace {

std::string BatchText(const BatchName& batch) {
  return "batch " + std::to_string(std::get<2>(batch)) + " of range " + std::to_string(std::get<1>(batch)) +
         " in pass " + std::to_string(std::get<0>(batch));
}

}  // namespace

// ---- checks at every message

void SimCluster::NotePush(const pb::PushRequest& push) {
  const pb::Progress& progress = push.progress();
  if (progress.job() != job_) return;
  const ClockName clock{progress.pass(), progress.lane(), progress.clock()};
  const BatchName batch{progress.pass(), static_cast<uint32_t>(push.stream_low()), static_cast<uint32_t>(push.seq())};
  // Clocks that were left out are finished by this push too.
  for (uint64_t each = progress.clock(); each <= progress.clock() + progress.skipped(); ++each) {
    batches_of_clock_[{progress.pass(), progress.lane(), each}].insert(batch);
  }
  if (Bsp() && progress.pass() >= FirstTrainingPass()) {
    const ClockName before{progress.pass(), progress.lane(), progress.clock() - 1};
    if (progress.clock() > 0 && acknowledged_[before].size() != options_.partitions) {
      Violation("order", BatchText(batch) + " is pushed while lane " + std::to_string(progress.lane()) +
                             " has not been acknowledged everywhere the clock before");
    }
  }
  if (Bsp() && progress.pass() >= FirstTrainingPass() &&
      clock_of_batch_.try_emplace(batch, clock).first->second != clock) {
    Violation("clocks", BatchText(batch) + " was computed at two clocks, the second is " +
                            std::to_string(progress.clock()) + " of lane " + std::to_string(progress.lane()));
  }
}

// Called after every event of the scheduler, before what it says leaves.
void SimCluster::AfterScheduler(PeerId from, uint64_t seen_generation) {
  if (!CommitScheduler()) return;
  const pb::ClusterConfig& config = scheduler_->core.config();
  generation_before_event_ = lanes_of_generation_;
  if (config.generation() > lanes_of_generation_) NoteTakeOvers(config);
  if (config.generation() > lanes_of_generation_) {
    lanes_of_generation_ = config.generation();
    for (const pb::Roster& roster : config.roster()) {
      for (const pb::Lane& lane : roster.lane())
        lanes_[{config.generation(), roster.job(), roster.pass(), lane.lane()}] = lane.start_clock();
    }
  }
  CheckNumbers();
  for (const auto& item : scheduler_->out.items()) {
    const pb::Header& header = item.message.header;
    if (header.has_worker_orders() && item.to == from) CheckGrants(header.worker_orders(), seen_generation);
  }
  WatchCut();
  scheduler_->Flush();
  TakeFileWork();
}

void SimCluster::NoteTakeOvers(const pb::ClusterConfig& config) {
  for (int p = 0; p < config.partition_size(); ++p) {
    const pb::PartitionConfig& now_it = config.partition(p);
    pb::PartitionConfig& known = partitions_[p];
    const pb::PartitionConfig before = std::exchange(known, now_it);
    const bool moved = before.primary() != 0 && before.primary() != now_it.primary() && config.table_size() > 0;
    moved_ |= moved;
    if (moved && !now_it.handed_over()) Note(Fault::kTakeOver);
    if (before.handed_over() && now_it.primary() == before.primary() && !now_it.taking_over()) Note(Fault::kHandOver);
    if (before.handed_over() && now_it.taking_over() && !now_it.handed_over()) Note(Fault::kHandOverCut);
    if (before.handed_over() && moved) Note(Fault::kHandOverCut);
  }
}

void SimCluster::CheckNumbers() {
  for (const auto& item : scheduler_->out.items()) {
    const pb::Header& header = item.message.header;
    if (header.worker_orders().has_config_update() || header.server_orders().has_config_update()) {
      const pb::ClusterConfig& config = scheduler_->core.config();
      const auto [sent, is_new] = configs_sent_.try_emplace(config.generation());
      if (is_new) sent->second = config.SerializeAsString();
      if (!is_new && sent->second != config.SerializeAsString())
        Violation("numbers", "there are two configurations " + std::to_string(config.generation()));
    }
    for (const pb::LeaseGrant& grant : header.worker_orders().lease()) {
      if (!grant.has_job()) continue;
      const LeaseName name{item.to, grant.job(), grant.pass(), grant.range()};
      if (leases_sent_.try_emplace(grant.lease(), name).first->second != name)
        Violation("numbers", "there are two leases " + std::to_string(grant.lease()));
    }
  }
}

void SimCluster::CheckGrants(const pb::WorkerOrders& orders, uint64_t seen_generation) {
  pb::ConfigUpdate update;
  SHEAF_CHECK(update.ParseFromString(orders.config_update()));
  const uint64_t generation = orders.has_config_update() ? update.config().generation() : seen_generation;
  // Two configurations can come of one event: what was in the first is not known here.
  if (generation > generation_before_event_ && generation < lanes_of_generation_) return;
  for (const pb::LeaseGrant& grant : orders.lease()) {
    if (grant.kind() != pb::TRAIN) continue;
    const auto lane = lanes_.find({generation, grant.job(), grant.pass(), grant.lane()});
    if (lane == lanes_.end() || lane->second != grant.lane_start()) {
      Violation("grant", "lease " + std::to_string(grant.lease()) + " is of lane " + std::to_string(grant.lane()) +
                             ", which is not in configuration " + std::to_string(generation));
    }
  }
}

// Called after every event of a shard, before its answers leave, now or later: by what it knows when it makes them.
void SimCluster::AfterShard(ServerNode& server, size_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  if (!server.ended) shard.core->Resume(server.Now());
  for (const auto& item : shard.core->said().items()) {
    const pb::Header& header = item.message.header;
    const RequestName name{ShardPeerOf(server, index), item.to, header.request()};
    const auto pull = pulls_.find(name);
    if (header.has_pull_reply() && pull != pulls_.end() && pull->second.has_progress()) {
      CheckPull(server, index, pull->second, header.pull_reply().front());
    }
    const auto push = pushes_.find(name);
    const bool whole = header.has_push_reply() && !header.push_reply().staged() && push != pushes_.end();
    if (whole && !InBspTraining(push->second)) CheckPushed(server, index, push->second);
    // When the answer leaves, other partitions may be here.
    if (whole) said_for_[name].insert(push->second.partition().begin(), push->second.partition().end());
  }
  if (server.ended || !FlushShard(server, index)) {
    shard.out.clear();
    return;
  }
  for (const auto& item : shard.out.items()) {
    const pb::Header& header = item.message.header;
    const RequestName name{ShardPeerOf(server, index), item.to, header.request()};
    if (header.has_pull_reply()) {
      pulls_.erase(name);
    } else if (header.has_push_reply() && !header.push_reply().staged()) {
      const auto push = pushes_.extract(name);
      if (push && InBspTraining(push.mapped())) {
        const pb::Progress& progress = push.mapped().progress();
        acknowledged_[{progress.pass(), progress.lane(), progress.clock()}].merge(said_for_[name]);
      }
      said_for_.erase(name);
    }
  }
  shard.Flush();
  StepSnapshots(server, index);
  StepCheckpoints(server, index);
  StepColdReads(server, index);
}

// Then lanes are what they are from the beginning, and pushes are kept until their clock is complete.
bool SimCluster::InBspTraining(const pb::PushRequest& push) const {
  return Bsp() && push.progress().job() == job_ && push.progress().pass() >= FirstTrainingPass();
}

uint32_t SimCluster::TableIn(const pb::ClusterConfig& config, Which which) const {
  const auto table = std::find_if(config.table().begin(), config.table().end(), [&](const pb::TableSpec& each) {
    return each.job() == job_ && (each.update() == pb::TableSpec::SUM) == (which == Which::kStatistics);
  });
  return table == config.table().end() ? 0 : table->id();
}

// Absent rows are 0.
float SimCluster::OwnRow(ServerNode& server, size_t index, BatchName batch, PartitionId partition) {
  const HashedKey key = OwnKey(batch, partition, options_.partitions);
  pb::ScanRequest request;
  request.set_table(
      TableIn(server.config, std::get<0>(batch) < FirstTrainingPass() ? Which::kStatistics : Which::kWeights));
  request.set_partition(partition.value);
  request.set_epoch(server.config.partition(static_cast<int>(partition.value)).epoch());
  request.set_resume(true);
  request.set_after_key(key - 1);
  request.set_max_rows(1);
  const Message reply = server.shards[index].core->core().ScanNow(request);
  if (!reply.header.has_scan_reply() || reply.header.scan_reply().row_count() == 0) return 0;
  return reply.keys.As<HashedKey>()[0] == key ? reply.values.As<float>()[0] : 0;
}

void SimCluster::CheckPushed(ServerNode& server, size_t index, const pb::PushRequest& push) {
  if (push.progress().job() != job_) return;
  const BatchName batch{push.progress().pass(), static_cast<uint32_t>(push.stream_low()),
                        static_cast<uint32_t>(push.seq())};
  for (const uint32_t partition : push.partition()) {
    if (!HasOwnRow(batch, PartitionId(partition), options_.partitions, options_.job.sparse)) continue;
    const int times = TimesOf(OwnRow(server, index, batch, PartitionId(partition)));
    if (times == 1) continue;
    Violation("acknowledgement", "a push of " + BatchText(batch) + " was acknowledged, and is applied " +
                                     std::to_string(times) + " times in partition " + std::to_string(partition));
  }
}

// By the roster that the shard itself has: it cannot wait for a lane that it has not heard of.
void SimCluster::CheckPull(ServerNode& server, size_t index, const pb::PullRequest& pull, uint64_t front) {
  const pb::Progress& at = pull.progress();
  const pb::Roster* roster = nullptr;
  for (const pb::Roster& each : server.config.roster()) {
    if (each.job() == at.job() && each.pass() == at.pass()) roster = &each;
  }
  if (at.job() != job_ || roster == nullptr || options_.mode == pb::ConsistencySpec::ASP) return;
  const uint64_t staleness = Bsp() ? 0 : roster->staleness();
  const uint64_t counts_as = std::max(at.clock(), front > 0 && staleness >= 2 ? front - 1 : 0);
  if (counts_as < staleness + 1) return;
  const uint64_t must = counts_as - staleness - 1;
  for (const pb::Lane& lane : roster->lane()) {
    if (must < lane.start_clock() || must >= lane.end_clock()) continue;
    const std::set<BatchName>& batches = batches_of_clock_[{at.pass(), lane.lane(), must}];
    for (const uint32_t partition : pull.partition()) {
      ++checks_;
      const bool applied = std::any_of(batches.begin(), batches.end(), [&](const BatchName& batch) {
        return !HasOwnRow(batch, PartitionId(partition), options_.partitions, options_.job.sparse) ||
               OwnRow(server, index, batch, PartitionId(partition)) > 0;
      });
      if (applied) continue;
      Violation("staleness", "a pull at clock " + std::to_string(counts_as) + " of lane " + std::to_string(at.lane()) +
                                 " was answered without clock " + std::to_string(must) + " of lane " +
                                 std::to_string(lane.lane()) + " in partition " + std::to_string(partition));
    }
  }
}

// ---- checks at the end

void SimCluster::CheckEnd() {
  const pb::JobStatus status = JobStatusNow();
  if (status.phase() != pb::FINISHED) return Violation("job", "it ended as " + status.ShortDebugString());
  const uint64_t examples = static_cast<uint64_t>(options_.job.rows) * options_.job.epochs;
  if (status.examples_total() != examples) {
    Violation("accounting", std::to_string(status.examples_total()) + " examples were counted, " +
                                std::to_string(examples) + " are there");
  }
  for (const double loss : status.epoch_train_loss()) {
    if (loss != 1) Violation("accounting", "the mean loss is " + std::to_string(loss) + ", of losses that are all 1");
  }
  for (const pb::EvalResult& result : status.eval()) {
    if (result.examples() != options_.job.valid_rows) {
      Violation("accounting", std::to_string(result.examples()) + " rows were evaluated, " +
                                  std::to_string(options_.job.valid_rows) + " are there");
    }
  }
  // A server, or the scheduler, may just be starting again.
  faults_on_ = false;
  network_.HealAll();
  const bool restarts = options_.stores || options_.replicas > 1 || options_.scheduler_crashes > 0;
  if (restarts) network_.RunFor(std::chrono::seconds(6));
  if (options_.drains > 0) {
    ChangeServer(pb::ChangeNode::UNCHANGED, {});
    network_.RunFor(std::chrono::seconds(6));
  }
  CheckRows();
  if (options_.replicas > 1 || options_.drains > 0) CheckReplicas();
  if (options_.job.statistics) CheckStatisticsRows();
  if (tool_ != nullptr) CheckToolRows();
  files_->SetFull(false);
  // What is still under way comes to its end: then shards hold nothing for anybody.
  faults_on_ = false;
  network_.HealAll();
  network_.RunFor(std::chrono::seconds(2));
  CheckCheckpointsAtEnd();
  for (const auto& server : servers_) {
    const ShardStats stats = server->Stats();
    if (stats.parked_pulls + stats.staged_pushes + stats.request_bytes > 0) {
      Violation("leftovers", std::to_string(stats.parked_pulls) + " parked pulls, " +
                                 std::to_string(stats.staged_pushes) + " staged pushes, " +
                                 std::to_string(stats.request_bytes) + " bytes of a shard's budget");
    }
  }
}

// At rest, all copies of a partition are the same.
void SimCluster::CheckReplicas() {
  const pb::ClusterConfig& config = scheduler_->core.config();
  const auto image_of = [&](uint32_t node, uint32_t p) {
    std::vector<std::byte> bytes;
    for (const pb::ServerInfo& info : config.server()) {
      if (info.node() != node) continue;
      const PeerId peer(info.shard(static_cast<int>(p % options_.shards)).peer());
      for (auto& server : servers_) {
        if (server == nullptr || ShardPeerOf(*server, p % options_.shards) != peer) continue;
        Shard& shard = *server->shards[p % options_.shards].core;
        shard.CatchUp(server->Now());
        for (const ImagePiece& piece : shard.Export(p)) {
          for (const Buffer& part : piece) bytes.insert(bytes.end(), part.bytes().begin(), part.bytes().end());
        }
      }
    }
    return bytes;
  };
  for (uint32_t p = 0; p < options_.partitions; ++p) {
    const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
    const auto primary = image_of(partition.primary(), p);
    if (partition.replica_size() + 1 != static_cast<int>(std::min(options_.replicas, options_.servers))) {
      Violation("replicas", "partition " + std::to_string(p) + " has " + std::to_string(partition.replica_size()) +
                                " replicas: " + partition.ShortDebugString());
    }
    for (const pb::Replica& replica : partition.replica()) {
      ++replica_checks_;
      if (!replica.in_sync()) {
        Violation("replicas", "a copy of partition " + std::to_string(p) + " is not in sync at the end: " +
                                  partition.ShortDebugString());
      } else if (image_of(replica.node(), p) != primary) {
        Violation("replicas", "a copy of partition " + std::to_string(p) + " is not what its primary has");
      }
    }
  }
}

void SimCluster::CheckRows() {
  const std::map<HashedKey, Row> rows = Rows();
  const uint32_t batch_rows = options_.job.batch_size, range_rows = batch_rows * options_.job.range_batches;
  const uint32_t passes_an_epoch = options_.job.valid_rows > 0 ? 2 : 1;
  std::vector<uint32_t> lane_clocks(options_.workers);  // BSP: range r belongs to lane r mod L
  for (uint32_t first = 0; first < options_.job.rows; first += batch_rows)
    ++lane_clocks[first / range_rows % options_.workers];
  std::map<std::pair<BatchName, PeerId>, float> stamps;
  size_t own_rows = 0;
  for (uint32_t epoch = 0; epoch < options_.job.epochs; ++epoch) {
    for (uint32_t first = 0; first < options_.job.rows; first += batch_rows) {
      const BatchName name{FirstTrainingPass() + epoch * passes_an_epoch, first / range_rows,
                           first % range_rows / batch_rows};
      const uint64_t clock = std::get<2>(clock_of_batch_[name]);
      const auto lanes =
          std::count_if(lane_clocks.begin(), lane_clocks.end(), [clock](uint32_t end) { return clock < end; });
      for (uint32_t p = 0; p < options_.partitions; ++p) {
        if (!HasOwnRow(name, PartitionId(p), options_.partitions, options_.job.sparse)) continue;
        ++own_rows;
        const auto row = rows.find(OwnKey(name, PartitionId(p), options_.partitions));
        const Row values = row == rows.end() ? Row{} : row->second;
        const float value = values[0];
        if (Bsp() ? std::abs(value * static_cast<float>(lanes) - 1) > 1e-5F : TimesOf(value) != 1) {
          Violation("exactly-once",
                    BatchText(name) + " came to " + std::to_string(value) + " in partition " + std::to_string(p) +
                        (Bsp() ? ", not to one of " + std::to_string(lanes) + " lanes" : ", not to once"));
        }
        const uint32_t server =
            static_cast<uint32_t>(scheduler_->core.config().partition(static_cast<int>(p)).primary());
        // Who holds it now need not be who took it.
        if (moved_ || options_.restore_from != nullptr) continue;
        const auto stamp = stamps.try_emplace({name, ShardPeer(server, p % options_.shards)}, value).first;
        if (stamp->second != value || std::count(values.begin(), values.end(), value) != kDim)
          Violation("one attempt", BatchText(name) + " was put together from two computations");
      }
    }
  }
  if (rows.size() > own_rows + kHotRows) Violation("exactly-once", "there are rows that no batch made");
}

// What the statistics pass should have counted, when a range is weighted by it.
void SimCluster::CheckStatistics(const pb::LeaseGrant& grant, const pb::JobSpec& spec,
                                 const Floats& statistics) {
  if (grant.job() != job_) return;
  ++statistics_checks_;
  const auto expected = SimStatistics(grant, spec, options_.partitions);
  if (statistics.size() != expected.size()) return Violation("statistics", "a worker was given too many or too few");
  size_t at = 0;
  for (const auto& [key, count] : expected) {
    const float value = statistics[at++];
    if (value == static_cast<float>(count)) continue;
    Violation("statistics", "key " + std::to_string(key) + " was counted " + std::to_string(value) +
                                " times before pass " + std::to_string(grant.pass()) + ", not " +
                                std::to_string(count));
  }
}

void SimCluster::CheckStatisticsRows() {
  const std::map<HashedKey, std::vector<float>> rows = Read(Which::kStatistics, /*of_tool=*/false);
  const uint32_t batch_rows = options_.job.batch_size, range_rows = batch_rows * options_.job.range_batches;
  size_t own_rows = 0;
  for (uint32_t first = 0; first < options_.job.rows; first += batch_rows) {
    const BatchName name{0, first / range_rows, first % range_rows / batch_rows};
    for (uint32_t p = 0; p < options_.partitions; ++p) {
      if (!HasOwnRow(name, PartitionId(p), options_.partitions, options_.job.sparse)) continue;
      ++own_rows;
      const auto row = rows.find(OwnKey(name, PartitionId(p), options_.partitions));
      if (row != rows.end() && row->second[0] == 1) continue;
      Violation("exactly-once", BatchText(name) + " was not counted once in partition " + std::to_string(p));
    }
  }
  if (rows.size() > own_rows + kHotRows) Violation("exactly-once", "there are statistics that no batch made");
}

void SimCluster::CheckToolRows() {
  const auto rows = Read(options_.job.statistics ? Which::kStatistics : Which::kWeights, /*of_tool=*/true);
  for (const auto& [key, pushed] : tool_->tool.pushed()) {
    const auto row = rows.find(key);
    const float value = row == rows.end() ? 0 : row->second[0];
    if (value == static_cast<float>(pushed)) continue;
    Violation("tool", "a row that was pushed to " + std::to_string(pushed) + " times came to " + std::to_string(value));
  }
  for (const auto& [key, values] : rows) {
    const auto pushed = tool_->tool.pushed().find(key);
    if (pushed == tool_->tool.pushed().end() && values[0] != 0)
      Violation("tool", "there are rows that it did not push");
  }
}

}  // namespace sheaf::sim
