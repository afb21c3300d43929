#include "server/replica_copy.h"

#include <algorithm>
#include <vector>

#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

ShardOptions CopyOptions(ShardOptions options) {
  options.is_copy = true;
  options.log = nullptr;
  options.trace = nullptr;
  options.bodies = nullptr;
  return options;
}

}  // namespace

ReplicaCopy::ReplicaCopy(PeerId primary, uint64_t stream, ShardOptions options)
    : primary_(primary), stream_(stream), core_(primary, CopyOptions(options)) {}

Status ReplicaCopy::OnReplicate(const Message& message, TimePoint now) {
  asked_ = true;
  std::vector<Buffer> records;
  SHEAF_RETURN_IF_ERROR(reader_.Read(message.header.replicate(), message.values, records));
  for (const Buffer& record : records) {
    SHEAF_RETURN_IF_ERROR(core_.Redo(record, now));
    if (core_.owned() == up_to_date_) continue;
    for (const uint32_t partition : core_.owned()) {
      if (!std::ranges::binary_search(up_to_date_, partition)) given_at_[partition] = core_.generation();
    }
    up_to_date_ = core_.owned();
  }
  return {};
}

void ReplicaCopy::OnTick(TimePoint now) {
  Outbox nobody;
  core_.OnTick(now, nobody);
}

const pb::Replica* ReplicaCopy::Wanted(const pb::ClusterConfig& config, uint32_t own_node, uint32_t p) const {
  if (p >= static_cast<uint32_t>(config.partition_size())) return nullptr;
  const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
  const auto primary = std::ranges::find(config.server(), partition.primary(), &pb::ServerInfo::node);
  if (primary == config.server().end() || primary->shard_size() == 0) return nullptr;
  if (PeerId(primary->shard(static_cast<int>(p) % primary->shard_size()).peer()) != primary_) return nullptr;
  const auto us = std::ranges::find(partition.replica(), own_node, &pb::Replica::node);
  return us == partition.replica().end() ? nullptr : &*us;
}

void ReplicaCopy::OnConfig(const pb::ClusterConfig& config, uint32_t own_node) {
  for (auto at = given_at_.begin(); at != given_at_.end();) {
    const pb::Replica* const wanted = Wanted(config, own_node, at->first);
    // The primary may know more than we: then we shall hear of it.
    const bool keep = at->second > config.generation() || (wanted != nullptr && wanted->since() <= at->second);
    if (!keep) core_.Release(at->first);
    at = keep ? std::next(at) : given_at_.erase(at);
  }
}

bool ReplicaCopy::IsOver(const pb::ClusterConfig& config, uint32_t own_node) const {
  if (!given_at_.empty() || core_.generation() > config.generation()) return false;
  for (int p = 0; p < config.partition_size(); ++p) {
    if (Wanted(config, own_node, static_cast<uint32_t>(p)) != nullptr) return false;
  }
  return true;
}

void ReplicaCopy::LeaveTo(const ReplicaCopy& later) {
  std::erase_if(given_at_, [&](const auto& given) {
    if (!later.GivenAt(given.first)) return false;
    core_.Release(given.first);
    return true;
  });
}

std::optional<uint64_t> ReplicaCopy::GivenAt(uint32_t partition) const {
  const auto found = given_at_.find(partition);
  return found == given_at_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<MovedPartition> ReplicaCopy::Release(uint32_t partition, uint64_t generation) {
  given_at_.erase(partition);
  if (!Planted(Bug::kMovedCopyConfirms)) silent_until_ = std::max(silent_until_, generation);
  return core_.Release(partition);
}

std::optional<pb::ReplicateReply> ReplicaCopy::TakeReply() {
  if (!asked_ || core_.generation() < silent_until_) return std::nullopt;
  asked_ = false;
  pb::ReplicateReply reply;
  reply.set_stream(stream_);
  reply.set_taken(reader_.read());
  return reply;
}

}  // namespace sheaf
