// A shard of a server that has two, without sockets, and pushes to it: rows of dim 16 with Adagrad in 64 partitions, of
// which it has every other one. For benchmarks.
#pragma once

#include <algorithm>
#include <vector>

#include "bench/kv/sheaf_endpoint.h"
#include "common/base/partition.h"
#include "common/base/random.h"
#include "server/shard_core.h"

namespace sheaf::bench {

inline constexpr uint32_t kBenchPartitions = 64, kBenchTable = 1, kBenchDim = 16, kBenchShards = 2;

class PushedShard {
 public:
  // `log`: nullptr if nothing is kept. With `checkpoints` it notes what has changed for them.
  PushedShard(uint32_t index, RedoLog* log, pb::JobSpec::Durability durability, bool checkpoints = false)
      : index_(index), log_(log), core_(PeerOf(index), {.log = log, .checkpoints = checkpoints}) {
    config_.set_generation(1);
    config_.set_partition_count(kBenchPartitions);
    pb::ServerInfo& server = *config_.add_server();
    for (uint32_t i = 0; i < kBenchShards; ++i) server.add_shard()->set_peer(PeerOf(i).value);
    for (uint32_t p = 0; p < kBenchPartitions; ++p) config_.add_partition()->set_epoch(1);
    *config_.add_table() = TableOf(kBenchTable, kBenchDim, pb::OptimizerSpec::ADAGRAD);
    config_.mutable_table(0)->set_durability(durability);
    for (uint32_t p = index; p < kBenchPartitions; p += kBenchShards) owned_.push_back(p);
  }
  Status Install() {
    Outbox out;
    SHEAF_RETURN_IF_ERROR(core_.OnConfig(config_, {}, out));
    return Commit();
  }
  Status Commit() { return log_ == nullptr ? Status() : log_->Commit(core_.TakeCommitLevel()); }

  Message MakePush(std::vector<HashedKey> keys) {
    std::ranges::sort(keys);
    Message message;
    message.header.set_request(1);
    pb::PushRequest& push = *message.header.mutable_push();
    push.set_stream_high(1);
    push.set_stream_low(index_);
    push.set_seq(seq_++);
    pb::Block& block = *push.add_block();
    block.set_table(kBenchTable);
    block.mutable_keys()->set_inlined(true);
    for (const uint32_t p : owned_) {
      push.add_partition(p);
      push.add_epoch(1);
      block.add_key_count(static_cast<uint32_t>(std::ranges::count_if(
          keys, [p](HashedKey key) { return PartitionOf(key, kBenchPartitions).value == p; })));
    }
    message.values = Buffer::FromVector(std::vector<float>(keys.size() * kBenchDim, 1e-3F));
    message.keys = Buffer::FromVector(std::move(keys));
    return message;
  }
  Status Push(const Message& message) {
    Outbox out;
    core_.OnMessage(PeerId(9), message, {}, out);
    if (out.items().empty() || !out.items().front().message.header.has_push_reply()) {
      return Fail(ErrorCode::kInternal, "a push was refused: ",
                  out.items().empty() ? "" : out.items().front().message.header.ShortDebugString());
    }
    return Commit();
  }
  // The i-th key of this shard's.
  HashedKey Key(uint64_t i) const {
    const uint32_t p = owned_[i % owned_.size()];
    const HashedKey first = PartitionFirstKey(PartitionId(p), kBenchPartitions);
    return first + (MixKey(i) >> 6) % (PartitionLastKey(PartitionId(p), kBenchPartitions) - first);
  }
  std::vector<HashedKey> Keys(uint64_t first, size_t count) const {
    std::vector<HashedKey> keys;
    for (uint64_t i = first; i < first + count; ++i) keys.push_back(Key(i));
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
    return keys;
  }
  ShardCore& core() { return core_; }

 private:
  static PeerId PeerOf(uint32_t index) { return PeerId(100 + index); }

  const uint32_t index_;
  RedoLog* const log_;
  ShardCore core_;
  pb::ClusterConfig config_;
  std::vector<uint32_t> owned_;
  uint64_t seq_ = 0;
};

}  // namespace sheaf::bench
