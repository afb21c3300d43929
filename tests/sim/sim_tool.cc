#include "tests/sim/sim_tool.h"

#include <algorithm>

#include "common/base/partition.h"
#include "common/base/strings.h"

namespace sheaf::sim {
namespace {

// What passes by itself: then the same once more.
bool Passes(ErrorCode code) {
  return code == ErrorCode::kTimeout || code == ErrorCode::kOverloaded || code == ErrorCode::kUnavailable;
}

constexpr uint32_t kKeysEach = 4;                    // in each partition
constexpr uint64_t kFirstPlace = uint64_t{1} << 58;  // beyond the rows of all batches (OwnKey)
constexpr Duration kAskAnywayAfter = Milliseconds(1000);
constexpr Duration kAskEvery = Milliseconds(100);
constexpr size_t kMostAtOnce = 4;

HashedKey ToolKey(uint32_t partition, uint32_t which, uint32_t partition_count) {
  return PartitionFirstKey(PartitionId(partition), partition_count) + kFirstPlace + which;
}

}  // namespace

bool SimTool::IsToolKey(HashedKey key, uint32_t partition_count) {
  return key - PartitionFirstKey(PartitionOf(key, partition_count), partition_count) >= kFirstPlace;
}

SimTool::SimTool(PeerId self, ClientOptions client, uint64_t seed, uint64_t job, pb::ConsistencySpec::Mode mode)
    : job_(job),
      mode_(mode),
      sliced_(client.max_payload_bytes < 4096),
      client_(self, client),
      random_(seed),
      stream_high_(random_.Next()),
      stream_low_(random_.Next()) {}

const pb::TableSpec* SimTool::Table() const {
  const pb::TableSpec* found = nullptr;
  for (const pb::TableSpec& table : client_.config().table()) {
    if (table.job() == job_ && (found == nullptr || table.update() == pb::TableSpec::SUM)) found = &table;
  }
  return found;
}

void SimTool::OnMessage(PeerId from, Message message, TimePoint now, Outbox& out) {
  if (from == kSchedulerPeer) {
    if (message.header.has_config()) TakeConfig(message.header.config());
    return;
  }
  client_.OnMessage(from, std::move(message), now, out);
}

void SimTool::TakeConfig(const pb::ClusterConfig& config) {
  for (const pb::ServerInfo& server : config.server()) {
    for (const pb::ShardEndpoint& shard : server.shard()) {
      if (connected_.insert(PeerId(shard.peer())).second) to_connect_.emplace_back(shard.peer(), shard.address());
    }
  }
  client_.OnConfig(config);
}

void SimTool::OnTick(TimePoint now, Outbox& out) {
  client_.OnTick(now, out);
  for (Completion& completion : client_.TakeCompletions()) Take(std::move(completion), now, out);
  for (const PsClient::ScanResult& scan : client_.TakeScans()) Take(scan);
  // As BlockingClient: now and then in any case, as a server that is silent may be another process by now.
  const bool wanted = Table() == nullptr || client_.wants_config();
  if (now >= ask_at_ + (wanted ? Duration::zero() : kAskAnywayAfter)) {
    ask_at_ = now + kAskEvery;
    Message ask;
    ask.header.set_request(++request_);
    ask.header.mutable_get_config();
    out.Send(kSchedulerPeer, std::move(ask));
  }
  if (Table() == nullptr || begun_ == kOperations || operations_.size() + scans_.size() >= kMostAtOnce) return;
  if (!random_.Chance(0.3)) return;
  ++begun_;
  if (random_.Chance(0.1)) {
    BeginScan(now, out);
  } else {
    Begin(now, out);
  }
}

void SimTool::Begin(TimePoint now, Outbox& out) {
  using Kind = Operation::Kind;
  const uint32_t partitions = client_.config().partition_count();
  std::set<HashedKey> keys;
  for (uint64_t n = 1 + random_.Below(6); n > 0; --n) {
    const auto partition = static_cast<uint32_t>(random_.Below(partitions));
    keys.insert(ToolKey(partition, static_cast<uint32_t>(random_.Below(kKeysEach)), partitions));
  }
  Operation operation{random_.Chance(0.25) ? Kind::kPull : Kind::kPush, {keys.begin(), keys.end()}, 0, {}};
  // BSP has no push that answers with values, and neither has a push of slices.
  if (operation.kind == Kind::kPush && mode_ != pb::ConsistencySpec::BSP && !sliced_ && random_.Chance(0.3))
    operation.kind = Kind::kPushPull;
  for (const HashedKey key : keys) operation.at_least.push_back(acknowledged_[key]);
  if (operation.kind != Kind::kPull) {
    operation.seq = next_seq_++;
    for (const HashedKey key : keys) ++pushed_[key];
  }
  Send(std::move(operation), now, out);
}

// Under the identity that it has, for the first time or again.
void SimTool::Send(Operation operation, TimePoint now, Outbox& out) {
  using Kind = Operation::Kind;
  if (Table() == nullptr) {
    wrong_ = "the table is gone";
    return;
  }
  const pb::TableSpec& table = *Table();
  const auto keys = std::make_shared<const std::vector<HashedKey>>(operation.keys);
  OperationId id = 0;
  if (operation.kind == Kind::kPull) {
    id = client_.Pull({{TableId(table.id()), keys}}, {}, now, out);
  } else {
    PushOptions options;
    options.identity = {stream_high_, stream_low_, operation.seq};
    const float one = table.update() == pb::TableSpec::SUM ? 1.0F : -1.0F;  // a gradient is subtracted
    std::vector<TableGradients> gradients;
    gradients.push_back({TableId(table.id()), keys, std::vector<float>(keys->size() * table.dim(), one)});
    id = operation.kind == Kind::kPush ? client_.Push(std::move(gradients), options, now, out)
                                       : client_.PushPull(std::move(gradients), options, now, out);
  }
  operations_[id] = std::move(operation);
}

void SimTool::CheckValue(HashedKey key, float value, uint32_t at_least, const char* what) {
  if (value >= static_cast<float>(at_least) && value <= static_cast<float>(pushed_[key])) return;
  wrong_ = StrCat("a ", what, " showed ", value, " pushes of key ", key, ", of which ", at_least,
                  " were acknowledged before it and ", pushed_[key], " sent");
}

void SimTool::Take(Completion completion, TimePoint now, Outbox& out) {
  using Kind = Operation::Kind;
  auto found = operations_.extract(completion.operation);
  if (!found) return;
  Operation& operation = found.mapped();
  if (!completion.status) {
    const Error& error = completion.status.error();
    if (!Passes(error.code)) wrong_ = StrCat("an operation failed: ", error.message);
    return Send(std::move(operation), now, out);
  }
  const uint32_t own = operation.kind == Kind::kPull ? 0 : 1;
  for (size_t i = 0; i < operation.keys.size(); ++i) {
    if (!completion.values.empty()) {
      const Floats& rows = completion.values[0];
      const size_t dim = rows.size() / operation.keys.size();
      for (size_t at = 0; at < dim; ++at)
        CheckValue(operation.keys[i], rows[i * dim + at], operation.at_least[i] + own, "pull");
    }
    acknowledged_[operation.keys[i]] += own;
  }
}

void SimTool::BeginScan(TimePoint now, Outbox& out) {
  const uint32_t partitions = client_.config().partition_count();
  Scanned scanned{static_cast<uint32_t>(random_.Below(partitions)), {}};
  for (uint32_t which = 0; which < kKeysEach; ++which) {
    const HashedKey key = ToolKey(scanned.partition, which, partitions);
    scanned.at_least[key] = acknowledged_[key];
  }
  const HashedKey after = ToolKey(scanned.partition, 0, partitions) - 1;
  const OperationId id =
      client_.Scan(TableId(Table()->id()), PartitionId(scanned.partition), after, 2 * kKeysEach, now, out);
  scans_[id] = std::move(scanned);
}

void SimTool::Take(const PsClient::ScanResult& scan) {
  const auto found = scans_.extract(scan.operation);
  if (!found) return;
  if (!scan.status) {
    const Error& error = scan.status.error();
    if (!Passes(error.code)) wrong_ = StrCat("a scan failed: ", error.message);
    return;
  }
  std::map<HashedKey, float> rows;
  for (size_t i = 0; i < scan.keys.size(); ++i) {
    if (i > 0 && scan.keys[i - 1] >= scan.keys[i]) wrong_ = "a scan came out of order";
    rows[scan.keys[i]] = scan.values[i * (scan.values.size() / scan.keys.size())];
  }
  if (!scan.done) wrong_ = "a scan of a few rows did not come to their end";
  for (const auto& [key, at_least] : found.mapped().at_least) {
    const auto row = rows.find(key);
    CheckValue(key, row == rows.end() ? 0 : row->second, at_least, "scan");
  }
}

}  // namespace sheaf::sim
