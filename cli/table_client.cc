#include "cli/table_client.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "common/base/random.h"

namespace sheaf::cli {
namespace {

constexpr size_t kScansInFlight = 8;             // partitions read ahead: their rows are kept until their turn comes
constexpr size_t kScanBytes = 2 << 20;           // of one answer
constexpr Duration kTick = Milliseconds(20);

ClientOptions OptionsWith(Duration deadline) {
  ClientOptions options;
  options.deadline = deadline;
  return options;
}

// A partition being scanned.
struct PartitionScan {
  uint32_t partition = 0;
  std::vector<HashedKey> keys;
  std::vector<float> rows;
  bool done = false;
};

}  // namespace

TableClient::TableClient(ZmqContext& context, const pb::ClusterConfig& config, Duration deadline, Interrupted interrupted)
    : self_(EntropySeed()), transport_(context, self_), client_(self_, OptionsWith(deadline)), interrupted_(std::move(interrupted)) {
  client_.OnConfig(config);
  next_push_ = {EntropySeed(), EntropySeed(), 0};
}

Result<std::unique_ptr<TableClient>> TableClient::Connect(ZmqContext& context, const pb::ClusterConfig& config, Duration deadline,
                                                          Interrupted interrupted) {
  if (config.partition_size() == 0) return Fail(ErrorCode::kUnavailable, "the cluster has no servers yet");
  std::unique_ptr<TableClient> client(new TableClient(context, config, deadline, std::move(interrupted)));
  for (const pb::ServerInfo& server : config.server()) {
    for (const pb::ShardEndpoint& shard : server.shard()) {
      const Status connected = client->transport_.Connect(PeerId(shard.peer()), shard.address());
      if (!connected) return Wrap(connected.error(), server.name());
    }
  }
  return client;
}

Result<uint32_t> TableClient::DimOf(TableId table) const {
  for (const pb::TableSpec& spec : client_.config().table()) {
    if (spec.id() == table.value) return spec.dim();
  }
  return Fail(ErrorCode::kNotFound, "table ", table, " is not in the cluster any more: only the tables of the latest jobs are kept");
}

Status TableClient::Turn() {
  for (Outbox::Item& item : out_.items()) {
    // A message that cannot be sent is a lost message: the client sends it again.
    (void)transport_.Send(item.to, std::move(item.message)).has_value();
  }
  out_.clear();
  bool received = false;
  while (auto message = transport_.Receive()) {
    client_.OnMessage(message->from, std::move(message->message), clock_.Now(), out_);
    received = true;
  }
  client_.OnTick(clock_.Now(), out_);
  if (interrupted_) SHEAF_RETURN_IF_ERROR(interrupted_());
  if (!received && out_.empty()) transport_.Poll(kTick, {});
  return {};
}

OperationId TableClient::StartScan(TableId table, uint32_t partition, std::optional<HashedKey> after, uint32_t max_rows) {
  return client_.Scan(table, PartitionId(partition), after, max_rows, clock_.Now(), out_);
}

Status TableClient::ScanAll(TableId table, const RowSink& sink) {
  SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, DimOf(table));
  const auto max_rows = static_cast<uint32_t>(std::max<size_t>(1, kScanBytes / (sizeof(HashedKey) + dim * sizeof(float))));
  const uint32_t partitions = client_.config().partition_count();
  std::map<uint32_t, PartitionScan> open;            // by partition: handed on in this order
  std::map<OperationId, uint32_t> partition_of;
  uint32_t next = 0;
  while (next < partitions || !open.empty()) {
    for (; next < partitions && open.size() < kScansInFlight; ++next) {
      open[next].partition = next;
      partition_of[StartScan(table, next, std::nullopt, max_rows)] = next;
    }
    for (PsClient::ScanResult& result : client_.TakeScans()) {
      const auto found = partition_of.find(result.operation);
      if (found == partition_of.end()) continue;
      PartitionScan& scan = open[found->second];
      partition_of.erase(found);
      if (!result.status) return Failure{result.status.error()};
      scan.keys.insert(scan.keys.end(), result.keys.begin(), result.keys.end());
      scan.rows.insert(scan.rows.end(), result.values.begin(), result.values.end());
      scan.done = result.done || result.keys.empty();
      if (!scan.done) partition_of[StartScan(table, scan.partition, result.keys.back(), max_rows)] = scan.partition;
    }
    while (!open.empty() && open.begin()->second.done) {
      const PartitionScan& scan = open.begin()->second;
      for (size_t i = 0; i < scan.keys.size(); ++i) {
        SHEAF_RETURN_IF_ERROR(sink(scan.keys[i], std::span(scan.rows).subspan(i * dim, dim)));
      }
      open.erase(open.begin());
    }
    if (!open.empty()) SHEAF_RETURN_IF_ERROR(Turn());
  }
  return {};
}

Result<std::vector<HashedKey>> TableClient::SomeKeys(TableId table, size_t most) {
  SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, DimOf(table));
  const auto fits = static_cast<uint32_t>(std::max<size_t>(1, kScanBytes / (sizeof(HashedKey) + dim * sizeof(float))));
  const uint32_t partitions = client_.config().partition_count();
  const auto share = static_cast<uint32_t>(std::min<size_t>(fits, (most + partitions - 1) / partitions));
  std::vector<HashedKey> keys;
  for (uint32_t partition = 0; partition < partitions && keys.size() < most; ++partition) {
    const OperationId operation = StartScan(table, partition, std::nullopt, share);
    for (bool done = false; !done;) {
      for (PsClient::ScanResult& result : client_.TakeScans()) {
        if (result.operation != operation) continue;
        if (!result.status) return Failure{result.status.error()};
        keys.insert(keys.end(), result.keys.begin(), result.keys.end());
        done = true;
      }
      if (!done) SHEAF_RETURN_IF_ERROR(Turn());
    }
  }
  return keys;
}

Result<Completion> TableClient::WaitFor(OperationId operation) {
  for (;;) {
    for (Completion& completion : client_.TakeCompletions()) {
      if (completion.operation != operation) continue;
      if (!completion.status) return Failure{completion.status.error()};
      return std::move(completion);
    }
    SHEAF_RETURN_IF_ERROR(Turn());
  }
}

Result<std::vector<float>> TableClient::Pull(TableId table, SharedKeys keys) {
  const OperationId operation = client_.Pull({{table, std::move(keys)}}, {}, clock_.Now(), out_);
  SHEAF_ASSIGN_OR_RETURN(Completion completion, WaitFor(operation));
  return std::move(completion.values.at(0));
}

Status TableClient::Push(TableId table, SharedKeys keys, std::vector<float> gradients) {
  PushOptions options;
  options.identity = next_push_;
  ++next_push_.seq;
  std::vector<TableGradients> tables;
  tables.push_back({table, std::move(keys), std::move(gradients)});
  const auto completion = WaitFor(client_.Push(std::move(tables), options, clock_.Now(), out_));
  if (!completion) return Failure{completion.error()};
  return {};
}

}  // namespace sheaf::cli
