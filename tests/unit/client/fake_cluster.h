// A scripted cluster for tests of the client: it sends nothing by itself; each test decides what is answered, lost,
// repeated or refused. Values pulled are a function of the key, so that a test can tell what must come back.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "client/key_list.h"
#include "client/ps_client.h"
#include "common/base/partition.h"
#include "common/base/placement.h"
#include "common/base/random.h"
#include "compute/codec/value_codec.h"

namespace sheaf::client_test {

inline constexpr uint32_t kTable = 7;
inline constexpr uint32_t kOtherTable = 8;

struct ClusterShape {
  uint32_t partitions = 16;
  uint32_t servers = 2;
  uint32_t shards = 2;      // a server
  uint32_t dim = 3;
  uint32_t other_dim = 1;
  uint64_t generation = 1;
  uint64_t epoch = 1;
  uint64_t first_peer = 100;
};

inline pb::ClusterConfig MakeConfig(const ClusterShape& shape = {}) {
  pb::ClusterConfig config;
  config.set_generation(shape.generation);
  config.set_partition_count(shape.partitions);
  for (uint32_t s = 0; s < shape.servers; ++s) {
    pb::ServerInfo& server = *config.add_server();
    server.set_node(s + 1);
    server.set_name("server-" + std::to_string(s));
    for (uint32_t shard = 0; shard < shape.shards; ++shard) {
      pb::ShardEndpoint& endpoint = *server.add_shard();
      endpoint.set_peer(shape.first_peer + s * 10 + shard);
      endpoint.set_address("tcp://10.0.0." + std::to_string(s) + ":" + std::to_string(7000 + shard));
    }
  }
  for (uint32_t p = 0; p < shape.partitions; ++p) {
    pb::PartitionConfig& partition = *config.add_partition();
    partition.set_epoch(shape.epoch);
    partition.set_primary(1 + p / shape.shards % shape.servers);
  }
  for (const auto& [id, dim] : {std::pair(kTable, shape.dim), std::pair(kOtherTable, shape.other_dim)}) {
    pb::TableSpec& table = *config.add_table();
    table.set_id(id);
    table.set_dim(dim);
  }
  return config;
}

inline KeyVector MakeKeys(size_t count, uint64_t seed = 1) {
  std::vector<HashedKey> keys(count);
  for (size_t i = 0; i < count; ++i) keys[i] = MixPair(seed, i);
  std::ranges::sort(keys);
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

// Small integers: exact under every codec but INT8.
inline float ValueOf(HashedKey key, uint32_t column) {
  return static_cast<float>((key >> 20) % 100) + static_cast<float>(column);
}

inline std::vector<float> ValuesOf(const KeyVector& keys, uint32_t dim) {
  std::vector<float> values;
  for (const HashedKey key : *keys) {
    for (uint32_t c = 0; c < dim; ++c) values.push_back(ValueOf(key, c));
  }
  return values;
}

// A client, the messages it wants sent, and what the shards remember of key lists.
class Harness {
 public:
  explicit Harness(ClientOptions options = {}, const ClusterShape& shape = {})
      : shape_(shape), client(PeerId(5), options) {
    client.OnConfig(MakeConfig(shape));
    NotePlacements();
  }

  std::vector<Outbox::Item> Take() {
    NotePlacements();
    std::vector<Outbox::Item> items = std::move(out.items());
    out.clear();
    return items;
  }
  void Tick(Duration by = Milliseconds(50)) {
    now += by;
    client.OnTick(now, out);
  }
  void TickFor(Duration duration) {
    for (Duration done{}; done < duration; done += Milliseconds(50)) Tick();
  }
  void Deliver(const Outbox::Item& item, Message answer) {
    answer.header.set_request(item.message.header.request());
    client.OnMessage(item.to, std::move(answer), now, out);
  }
  void Refuse(const Outbox::Item& item, pb::Refusal::Reason reason, uint64_t generation = 1, uint32_t pause_ms = 0,
              const std::string& waiting_for = "") {
    Message answer;
    pb::Refusal& refusal = *answer.header.mutable_refusal();
    refusal.set_reason(reason);
    refusal.set_text("because of the test");
    refusal.set_generation(generation);
    if (pause_ms > 0) refusal.set_retry_after_ms(pause_ms);
    if (!waiting_for.empty()) refusal.set_waiting_for(waiting_for);
    Deliver(item, std::move(answer));
  }
  // Answers as a shard would; expects the request to be well made.
  void Answer(const Outbox::Item& item) { Deliver(item, MakeAnswer(item)); }
  void AnswerAll() {
    for (int turns = 0; turns < 100; ++turns) {
      const auto items = Take();
      if (items.empty()) return;
      for (const auto& item : items) Answer(item);
    }
  }

  Message MakeAnswer(const Outbox::Item& item) {
    const pb::Header& header = item.message.header;
    Message answer;
    if (header.has_pull()) {
      for (size_t i = 0; i < Named(item.to, header.pull()).size(); ++i)
        answer.header.mutable_pull_reply()->add_lsn(next_lsn++);
      answer.values = Rows(item, header.pull());
    } else if (header.has_push()) {
      const pb::PushRequest& push = header.push();
      Collect(item, push);
      auto& seen = slices[{item.to, push.attempt()}];
      seen.insert(push.slice());
      pb::PushReply& reply = *answer.header.mutable_push_reply();
      if (seen.size() < push.slice_count()) {
        reply.set_staged(true);
      } else {
        for (size_t i = 0; i < Named(item.to, push).size(); ++i) reply.add_lsn(next_lsn++);
        if (push.pull_after()) answer.values = Rows(item, push);
      }
    }
    return answer;
  }

  // The partitions that a request to `peer` is for, which it lists or names all at once.
  template <typename Request>
  std::vector<uint32_t> Named(PeerId peer, const Request& request) {
    if (!request.has_placement()) {
      EXPECT_EQ(request.partition_size(), request.epoch_size());
      EXPECT_TRUE(std::ranges::is_sorted(request.partition()));
      EXPECT_GT(request.partition_size(), 0);
      return {request.partition().begin(), request.partition().end()};
    }
    EXPECT_EQ(request.partition_size() + request.epoch_size(), 0);
    const auto found = placements.find({peer, request.placement().signature()});
    EXPECT_NE(found, placements.end());
    return found == placements.end() ? std::vector<uint32_t>() : found->second;
  }

  // The keys of a request's blocks, taking them from memory where they are named by signature.
  template <typename Request>
  std::vector<std::vector<HashedKey>> KeysOf(const Outbox::Item& item, const Request& request) {
    std::vector<std::vector<HashedKey>> lists;
    std::vector<HashedKey> inlined;
    if (!item.message.keys.empty()) {
      const auto keys = item.message.keys.template As<HashedKey>();
      inlined.assign(keys.begin(), keys.end());
    }
    size_t at = 0;
    for (const pb::Block& block : request.block()) {
      size_t count = 0;
      EXPECT_EQ(block.key_count_size(), request.has_placement() ? 1 : request.partition_size());
      for (const uint32_t n : block.key_count()) count += n;
      const auto name = std::pair(block.keys().signature_high(), block.keys().signature_low());
      if (block.keys().inlined()) {
        EXPECT_LE(at + count, inlined.size());
        lists.emplace_back(inlined.begin() + at, inlined.begin() + at + count);
        at += count;
        if (block.keys().remember()) memory[item.to][name] = lists.back();
      } else {
        EXPECT_TRUE(memory[item.to].contains(name));
        lists.push_back(memory[item.to][name]);
        EXPECT_EQ(lists.back().size(), count);
      }
      // Every key is in the partition it is counted for, or in one that is named.
      const std::vector<uint32_t> named = Named(item.to, request);
      for (const HashedKey key : lists.back())
        EXPECT_TRUE(std::ranges::binary_search(named, PartitionOf(key, shape_.partitions).value));
      size_t key = 0;
      for (int p = 0; p < request.partition_size(); ++p) {
        for (uint32_t i = 0; i < block.key_count(p); ++i, ++key) {
          EXPECT_EQ(PartitionOf(lists.back()[key], shape_.partitions).value, request.partition(p));
        }
      }
    }
    EXPECT_EQ(at, inlined.size());
    return lists;
  }

  std::vector<Completion> Completions() { return client.TakeCompletions(); }
  Completion OnlyCompletion() {
    auto all = Completions();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Completion{} : std::move(all.front());
  }

  ClusterShape shape_;
  PsClient client;
  Outbox out;
  TimePoint now{};
  uint64_t next_lsn = 1;
  std::map<PeerId, std::map<std::pair<uint64_t, uint64_t>, std::vector<HashedKey>>> memory;
  std::map<std::pair<PeerId, uint64_t>, std::set<uint32_t>> slices;
  std::map<std::pair<PeerId, uint64_t>, std::vector<uint32_t>> placements;   // by peer and signature
  std::map<std::pair<uint32_t, HashedKey>, std::vector<float>> pushed;   // sums, by table and key

 private:
  // What the client's requests may name by now.
  void NotePlacements() {
    for (const pb::ServerInfo& server : client.config().server()) {
      for (int shard = 0; shard < server.shard_size(); ++shard) {
        std::vector<uint32_t> ids;
        std::vector<uint64_t> epochs;
        for (int p = 0; p < client.config().partition_size(); ++p) {
          const pb::PartitionConfig& partition = client.config().partition(p);
          if (partition.primary() != server.node() || p % server.shard_size() != shard) continue;
          ids.push_back(static_cast<uint32_t>(p));
          epochs.push_back(partition.epoch());
        }
        placements[{PeerId(server.shard(shard).peer()), PlacementSignature(ids, epochs)}] = ids;
      }
    }
  }
  uint32_t DimOf(uint32_t table) const { return table == kTable ? shape_.dim : shape_.other_dim; }

  template <typename Request>
  Buffer Rows(const Outbox::Item& item, const Request& request) {
    std::vector<std::byte> bytes;
    const auto lists = KeysOf(item, request);
    for (int b = 0; b < request.block_size(); ++b) {
      const uint32_t dim = DimOf(request.block(b).table());
      std::vector<float> values;
      for (const HashedKey key : lists[b]) {
        for (uint32_t c = 0; c < dim; ++c) values.push_back(ValueOf(key, c));
      }
      const size_t begin = bytes.size();
      const auto codec = request.block(b).codec() == pb::WireSpec::INT8 ? pb::WireSpec::FP32 : request.block(b).codec();
      bytes.resize(begin + EncodedSize(codec, lists[b].size(), dim));
      EncodeValues(codec, values, dim, std::span(bytes).subspan(begin));
    }
    return Buffer::FromVector(std::move(bytes));
  }
  void Collect(const Outbox::Item& item, const pb::PushRequest& push) {
    const auto lists = KeysOf(item, push);
    std::span<const std::byte> bytes = item.message.values.bytes();
    for (int b = 0; b < push.block_size(); ++b) {
      const uint32_t dim = DimOf(push.block(b).table());
      const size_t size = EncodedSize(push.block(b).codec(), lists[b].size(), dim);
      ASSERT_LE(size, bytes.size());
      std::vector<float> values(lists[b].size() * dim);
      DecodeValues(push.block(b).codec(), bytes.first(size), dim, values);
      bytes = bytes.subspan(size);
      for (size_t i = 0; i < lists[b].size(); ++i) {
        auto& sum = pushed[{push.block(b).table(), lists[b][i]}];
        sum.resize(dim);
        for (uint32_t c = 0; c < dim; ++c) sum[c] += values[i * dim + c];
      }
    }
    EXPECT_TRUE(bytes.empty());
  }
};

// Of a training request.
inline std::optional<pb::Progress> Training() {
  pb::Progress progress;
  progress.set_job(1);
  progress.set_clock(4);
  return progress;
}

}  // namespace sheaf::client_test
