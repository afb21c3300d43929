#include "bench/kv/sheaf_endpoint.h"

#include <unistd.h>

#include <chrono>

#include "common/base/random.h"
#include "common/net/local_address.h"
#include "common/runtime/host_id.h"
#include "common/runtime/memory.h"
#include "common/storage/file_log.h"
#include "common/storage/rocks_store.h"
#include "server/memory_shares.h"
#include "server/shard_thread.h"

namespace sheaf::bench {
namespace {

constexpr Duration kTickEvery = Milliseconds(20);

ClientOptions WithBodies(ClientOptions options, BodyPool& bodies) {
  options.bodies = &bodies;
  return options;
}

Result<pb::ShardEndpoint> BindShard(ShardThread& shard) {
  SHEAF_ASSIGN_OR_RETURN(const std::string address, shard.Bind("tcp://127.0.0.1:0"));
  pb::ShardEndpoint endpoint;
  endpoint.set_peer(shard.peer().value);
  endpoint.set_address(address);
  if (shard.Bind(LocalAddress(shard.peer()))) endpoint.set_host(HostId());
  return endpoint;
}

}  // namespace

pb::TableSpec TableOf(uint32_t id, uint32_t dim, pb::OptimizerSpec::Kind optimizer) {
  pb::TableSpec table;
  table.set_id(id);
  table.set_job(1);
  table.set_name("bench");
  table.set_dim(dim);
  table.set_seed(1);
  table.mutable_optimizer()->set_kind(optimizer);
  table.mutable_optimizer()->set_learning_rate(0.01);
  return table;
}

namespace {

Result<ShardThread::Durable> OpenDurable(const ServerSpec& spec) {
  ShardThread::Durable durable;
  if (spec.data_dir.empty()) return durable;
  const MemoryShares memory = ShareMemory(spec.memory_limit);
  const RocksStoreOptions rocks{.write_buffer_bytes = memory.unflushed / 2,
                                .memory = std::make_shared<const RocksMemory>(memory.unflushed, memory.cache),
                                .point_reads = spec.memory_limit > 0,
                                .cache_point_reads = false};
  if (spec.memory_limit > 0) durable.options.flush_bytes = rocks.write_buffer_bytes;
  SHEAF_ASSIGN_OR_RETURN(durable.log, FileLog::Open(spec.data_dir + "/log", {}));
  durable.rows = std::make_unique<SnapshotWriter>(
      0, [path = spec.data_dir + "/rows", rocks](OpenAs) { return OpenRocksStore(path, rocks); },
      spec.memory_limit > 0 ? SnapshotWriter::RowsLeave::kYes : SnapshotWriter::RowsLeave::kNo);
  SHEAF_RETURN_IF_ERROR(durable.rows->Open(OpenAs::kFound));
  return durable;
}

}  // namespace

void ServeSheaf(const ServerSpec& spec, const Announce& announce) {
  KeepFreedMemory();
  ZmqContext context;
  SystemClock clock;
  auto durable = OpenDurable(spec);
  if (!durable) return;
  ShardOptions options;
  options.row_limit_bytes = ShareMemory(spec.memory_limit).rows;
  if (spec.memory_mb > 0) {
    options.request_budget_bytes = (spec.memory_mb << 20) / 6;
    options.key_list_budget_bytes = (spec.memory_mb << 20) / 6;
  }
  ShardThread shard(context, clock, 0, options, std::move(*durable), nullptr);
  const auto own = BindShard(shard);
  if (!own || !shard.Recover([](size_t) { return Status(); })) return;
  auto config = std::make_shared<pb::ClusterConfig>();
  config->set_generation(1);
  config->set_partition_count(spec.partitions);
  pb::ServerInfo& server = *config->add_server();
  server.set_node(1);
  server.set_name("server-0");
  *server.add_shard() = *own;
  if (!spec.backup.empty()) {
    pb::ServerInfo& backup = *config->add_server();
    backup.set_node(2);
    backup.set_name("server-1");
    if (!backup.add_shard()->ParseFromString(spec.backup)) return;
  }
  for (uint32_t p = 0; p < spec.partitions; ++p) {
    pb::PartitionConfig& partition = *config->add_partition();
    partition.set_epoch(1);
    partition.set_primary(1);
    if (spec.backup.empty()) continue;
    pb::Replica& replica = *partition.add_replica();
    replica.set_node(2);
    replica.set_since(1);
  }
  for (const pb::TableSpec& table : spec.tables) *config->add_table() = table;
  shard.Start();
  (void)shard.Offer(config);  // the first of eight: there is room
  announce(config->SerializeAsString());
  for (;;) pause();
}

void ServeBackup(const Announce& announce) {
  KeepFreedMemory();
  ZmqContext context;
  SystemClock clock;
  ShardThread shard(context, clock, 0, {}, ShardThread::Durable{}, nullptr);
  const auto own = BindShard(shard);
  if (!own) return;
  shard.Start();
  announce(own->SerializeAsString());
  for (;;) pause();
}

Result<std::unique_ptr<SheafClient>> SheafClient::Connect(const std::string& announced, Way way,
                                                          ClientOptions options) {
  pb::ClusterConfig config;
  if (!config.ParseFromString(announced))
    return Fail(ErrorCode::kDataLoss, "the bench server announced no configuration");
  std::unique_ptr<SheafClient> client(new SheafClient(options));
  const pb::ShardEndpoint& shard = config.server(0).shard(0);
  const uint64_t host = way == Way::kTcp ? 0 : HostId();
  SHEAF_RETURN_IF_ERROR(client->transport_.Connect(PeerId(shard.peer()), AddressToReach(shard, host)));
  client->client_.OnConfig(config);
  return client;
}

SheafClient::SheafClient(ClientOptions options)
    : transport_(context_, PeerId(EntropySeed())),
      client_(transport_.self(), WithBodies(options, transport_.bodies())),
      session_(EntropySeed()) {}

void SheafClient::Flush() {
  for (Outbox::Item& item : out_.items()) (void)transport_.Send(item.to, std::move(item.message));
  out_.clear();
}

Result<size_t> SheafClient::Turn() {
  // One answer at a time, as the limit's client: what is asked next goes before the other answers are looked at.
  auto received = transport_.Receive();
  if (!received) {
    transport_.Poll(kTickEvery, {});
    received = transport_.Receive();
  }
  const TimePoint now = clock_.Now();
  if (received) {
    client_.OnMessage(received->from, received->message, now, out_);
    transport_.bodies().Recycle(received->message.header);
  }
  if (now >= next_tick_) {
    next_tick_ = now + kTickEvery;
    client_.OnTick(now, out_);
  }
  const std::vector<Completion> done = client_.TakeCompletions();
  for (const Completion& completion : done) {
    if (!completion.status) return Failure{completion.status.error()};
  }
  return done.size();
}

Result<DriveResult> SheafClient::Drive(uint32_t window, double seconds, const Start& start) {
  const TimePoint begin = clock_.Now();
  const TimePoint end = begin + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  DriveResult result;
  for (uint32_t i = 0; i < window; ++i) start(client_, begin, out_);
  Flush();
  while (client_.operations_in_flight() > 0) {
    SHEAF_ASSIGN_OR_RETURN(const size_t ended, Turn());
    result.operations += ended;
    const TimePoint now = clock_.Now();
    for (size_t i = 0; i < ended && now < end; ++i) start(client_, now, out_);
    Flush();
  }
  result.seconds = ToSeconds(clock_.Now() - begin);
  return result;
}

Result<std::vector<double>> SheafClient::RoundTrips(size_t count, const Start& start) {
  std::vector<double> seconds;
  seconds.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const TimePoint begin = clock_.Now();
    start(client_, begin, out_);
    Flush();
    while (client_.operations_in_flight() > 0) {
      SHEAF_ASSIGN_OR_RETURN([[maybe_unused]] const size_t ended, Turn());
      Flush();
    }
    seconds.push_back(ToSeconds(clock_.Now() - begin));
  }
  return seconds;
}

}  // namespace sheaf::bench
