#include "bench/kv/core_suite.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "bench/kv/sheaf_endpoint.h"
#include "client/ps_client.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/net/envelope.h"
#include "common/runtime/memory.h"
#include "server/shard_core.h"

namespace sheaf::bench {
namespace {

constexpr PeerId kClient(9), kShard(7);
constexpr uint32_t kPartitions = 64;
constexpr uint32_t kTable = 1;
constexpr size_t kListCopies = 48;  // more than the client remembers parts of
constexpr int kWarmUp = 200, kRequests = 3000;

enum class Act { kPush, kPull };

double Now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double MedianMicroseconds(std::vector<double>& seconds) {
  const auto middle = seconds.begin() + static_cast<ptrdiff_t>(seconds.size() / 2);
  std::ranges::nth_element(seconds, middle);
  return *middle * 1e6;
}

ClientOptions WithBodies(ClientOptions options, BodyPool& bodies) {
  options.bodies = &bodies;
  return options;
}

// A client and a shard that are each other's only peers.
class Pair {
 public:
  Pair(uint32_t dim, ClientOptions options)
      : shard_(kShard, {.bodies = &shard_bodies_}), client_(kClient, WithBodies(options, client_bodies_)) {
    pb::ClusterConfig config;
    config.set_generation(1);
    config.set_partition_count(kPartitions);
    pb::ServerInfo& server = *config.add_server();
    server.set_node(0);
    server.set_name("server-0");
    server.add_shard()->set_peer(kShard.value);
    server.mutable_shard(0)->set_address("tcp://127.0.0.1:1");
    for (uint32_t p = 0; p < kPartitions; ++p) {
      config.add_partition()->set_epoch(1);
      config.mutable_partition(static_cast<int>(p))->set_primary(0);
    }
    *config.add_table() = TableOf(kTable, dim, pb::OptimizerSpec::SGD);
    status_ = shard_.OnConfig(config, {}, answers_);
    client_.OnConfig(config);
  }

  // Carries one request out. The times of its two ends are added to their lists.
  Status Request(Act act, const KeyVector& keys, const Floats& gradients) {
    SHEAF_RETURN_IF_ERROR(std::exchange(status_, {}));
    double mark = Now(), client = 0, server = 0;
    const auto lap = [&mark](double& into) {
      const double now = Now();
      into += now - std::exchange(mark, now);
    };
    if (act == Act::kPush) {
      PushOptions options;
      options.identity = {.stream_high = 1, .stream_low = 1, .seq = pushes_++};
      client_.Push({{TableId(kTable), keys, gradients}}, std::move(options), {}, requests_);
    } else {
      client_.Pull({{TableId(kTable), keys}}, {}, {}, requests_);
    }
    SHEAF_RETURN_IF_ERROR(Carry(requests_, client_bodies_, shard_bodies_, [&] { lap(client); },
                                [&](const Message& read) { shard_.OnMessage(kClient, read, {}, answers_); }));
    SHEAF_RETURN_IF_ERROR(Carry(answers_, shard_bodies_, client_bodies_, [&] { lap(server); },
                                [&](const Message& read) { client_.OnMessage(kShard, read, {}, requests_); }));
    const std::vector<Completion> completions = client_.TakeCompletions();
    lap(client);
    client_seconds_.push_back(client);
    server_seconds_.push_back(server);
    if (completions.size() != 1) return Fail(ErrorCode::kInternal, completions.size(), " operations ended, not one");
    return completions.front().status;
  }

  void Forget() {
    client_seconds_.clear();
    server_seconds_.clear();
  }
  double client_us() { return MedianMicroseconds(client_seconds_); }
  double server_us() { return MedianMicroseconds(server_seconds_); }

 private:
  // From one end's outbox to the other end: `sent` is called when a message has left, `take` reads it.
  template <typename Sent, typename Take>
  Status Carry(Outbox& outbox, BodyPool& from, BodyPool& to, Sent sent, Take take) {
    for (auto& [peer, message] : outbox.items()) {
      SHEAF_ASSIGN_OR_RETURN(const size_t size, SealHeader(message));
      header_.resize(std::max(header_.size(), size));
      const std::span<std::byte> header = std::span(header_).first(size);
      WriteHeader(message.header, header);
      from.Recycle(message.header);
      sent();
      SHEAF_ASSIGN_OR_RETURN(Message read,
                             DecodeMessage(header, std::move(message.keys), std::move(message.values), to));
      take(read);
      to.Recycle(read.header);
    }
    outbox.clear();
    return {};
  }

  BodyPool shard_bodies_, client_bodies_;
  ShardCore shard_;
  PsClient client_;
  Status status_;
  Outbox requests_, answers_;
  std::vector<std::byte> header_;
  uint64_t pushes_ = 0;
  std::vector<double> client_seconds_, server_seconds_;
};

Status RunCase(Suite& suite, Act act, size_t key_count, uint32_t dim, bool named) {
  ClientOptions options;
  if (!named) options.min_keys_to_remember = SIZE_MAX;
  std::vector<HashedKey> keys(key_count);
  for (size_t i = 0; i < key_count; ++i) keys[i] = MixKey(i);
  std::ranges::sort(keys);
  std::vector<KeyVector> lists;
  for (size_t i = 0; i < (named ? 1 : kListCopies); ++i) {
    lists.push_back(std::make_shared<const std::vector<HashedKey>>(keys));
  }
  const auto numbers = std::make_shared<const std::vector<float>>(key_count * dim, 1e-3f);
  const Floats gradients(numbers, std::span(*numbers));

  Pair pair(dim, options);
  SHEAF_RETURN_IF_ERROR(pair.Request(Act::kPush, lists[0], gradients));  // so that there are rows to pull
  double client_us = 0, server_us = 0;
  Case made;
  made.name = act == Act::kPush ? "core push" : "core pull";
  made.params = StrCat(key_count, " keys, dim ", dim, named ? ", named" : "");
  made.unit = "us";
  made.ours = [&]() -> Result<double> {
    pair.Forget();
    for (int i = 0; i < kWarmUp + kRequests; ++i) {
      if (i == kWarmUp) pair.Forget();
      SHEAF_RETURN_IF_ERROR(pair.Request(act, lists[static_cast<size_t>(i) % lists.size()], gradients));
    }
    client_us = pair.client_us();
    server_us = pair.server_us();
    return client_us + server_us;
  };
  made.remark = [&] { return StrCat("client ", FormatFixed(client_us, 2), ", server ", FormatFixed(server_us, 2)); };
  return suite.Run(made);
}

}  // namespace

Status RunCores(Suite& suite) {
  KeepFreedMemory();
  const struct {
    size_t keys;
    uint32_t dim;
    bool named;
  } shapes[] = {{1, 1, false},     {4, 1024, false},   {64, 1024, false}, {1000, 1, false},    {1000, 1, true},
                {1000, 16, false}, {10'000, 1, false}, {10'000, 1, true}, {10'000, 16, false}, {100'000, 1, false}};
  for (const auto& [keys, dim, named] : shapes) {
    for (const Act act : {Act::kPush, Act::kPull}) SHEAF_RETURN_IF_ERROR(RunCase(suite, act, keys, dim, named));
  }
  return {};
}

}  // namespace sheaf::bench
