#include "server/replica_copy.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "common/base/planted_bug.h"
#include "server/redo_record.h"

namespace sheaf {
namespace {

constexpr Duration kForgottenAfter = std::chrono::seconds(10);

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

Status ReplicaCopy::OnReplicate(const Message& message) {
  asked_ = true;
  std::vector<Buffer> records;
  SHEAF_RETURN_IF_ERROR(reader_.Read(message.header.replicate(), message.values, records));
  for (Buffer& record : records) {
    SHEAF_ASSIGN_OR_RETURN(const RedoRecord decoded, DecodeRedo(record));
    may_wait_ |= decoded.header.has_config();
    waiting_.push_back(std::move(record));
  }
  if (!may_wait_) taken_ = reader_.read();
  return {};
}

Status ReplicaCopy::Continue(TimePoint now, const Adopter& adopt) {
  told_at_ = now;
  while (!waiting_.empty()) {
    const Status done = core_.Redo(waiting_.front(), now, adopt);
    if (!done && done.error().code == ErrorCode::kUnavailable) return {};
    waiting_.pop_front();
    SHEAF_RETURN_IF_ERROR(done);
    if (core_.owned() != up_to_date_) NoteGiven();
  }
  may_wait_ = false;
  asked_ |= taken_ != reader_.read();
  taken_ = reader_.read();
  return {};
}

uint32_t ReplicaCopy::WaitsFor() const {
  const auto record = DecodeRedo(waiting_.front());
  return record && record->header.config().takes_size() > 0 ? record->header.config().takes(0) : 0;
}

void ReplicaCopy::NoteGiven() {
  for (const uint32_t partition : core_.owned()) {
    if (std::ranges::binary_search(up_to_date_, partition)) continue;
    given_at_[partition] = core_.generation();
    if (!Planted(Bug::kHandOverTakenBack)) handed_over_.erase(partition);
  }
  for (const uint32_t partition : up_to_date_) {
    if (!std::ranges::binary_search(core_.owned(), partition) && given_at_.contains(partition)) {
      NoteHandedOver(partition);
    }
  }
  up_to_date_ = core_.owned();
}

// The record says that the primary has taken an epoch in which it is the partition's no longer.
void ReplicaCopy::NoteHandedOver(uint32_t partition) {
  const pb::ClusterConfig& config = core_.last_config().config();
  if (static_cast<int>(partition) >= config.partition_size()) return;
  const pb::PartitionConfig& at = config.partition(static_cast<int>(partition));
  const bool its_own = config.server_size() == 1 && config.server(0).node() == at.former();
  if (!at.handed_over() || !its_own) return;
  if (auto moved = core_.Release(partition)) handed_over_[partition] = {at.epoch(), std::move(*moved)};
}

void ReplicaCopy::OnTick(TimePoint now) {
  Outbox nobody;
  core_.OnTick(now, nobody);
}

const pb::Replica* ReplicaCopy::Wanted(const pb::ClusterConfig& config, uint32_t own_node, uint32_t p) {
  if (p >= static_cast<uint32_t>(config.partition_size())) return nullptr;
  const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
  const auto us = std::ranges::find(partition.replica(), own_node, &pb::Replica::node);
  return us == partition.replica().end() ? nullptr : &*us;
}

bool ReplicaCopy::IsHandedTo(const pb::ClusterConfig& config, uint32_t own_node, uint32_t p) {
  if (p >= static_cast<uint32_t>(config.partition_size())) return false;
  const pb::PartitionConfig& partition = config.partition(static_cast<int>(p));
  return partition.handed_over() && partition.primary() == own_node;
}

void ReplicaCopy::OnConfig(const pb::ClusterConfig& config, uint32_t own_node) {
  for (auto at = given_at_.begin(); at != given_at_.end();) {
    const pb::Replica* const wanted = Wanted(config, own_node, at->first);
    // The primary may know more than we: then we shall hear of it. If it has handed the partition over, who comes after
    // it takes it from here.
    const bool keep = at->second > config.generation() || (wanted != nullptr && wanted->since() <= at->second) ||
                      IsHandedTo(config, own_node, at->first);
    if (!keep) {
      core_.Release(at->first);
      handed_over_.erase(at->first);
    }
    at = keep ? std::next(at) : given_at_.erase(at);
  }
}

bool ReplicaCopy::IsOver(const pb::ClusterConfig& config) const {
  if (!given_at_.empty() || core_.generation() > config.generation()) return false;
  return std::ranges::none_of(config.server(), [this](const pb::ServerInfo& server) {
    return std::ranges::find(server.shard(), primary_.value, &pb::ShardEndpoint::peer) != server.shard().end();
  });
}

bool ReplicaCopy::IsForgotten(TimePoint now) const {
  return given_at_.empty() && waiting_.empty() && now - told_at_ > kForgottenAfter;
}

void ReplicaCopy::LeaveTo(const ReplicaCopy& later) {
  std::erase_if(given_at_, [&](const auto& given) {
    if (!later.GivenAt(given.first)) return false;
    core_.Release(given.first);
    handed_over_.erase(given.first);
    return true;
  });
}

std::optional<uint64_t> ReplicaCopy::GivenAt(uint32_t partition) const {
  const auto found = given_at_.find(partition);
  return found == given_at_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<uint64_t> ReplicaCopy::HandedOverAt(uint32_t partition) const {
  const auto found = handed_over_.find(partition);
  return found == handed_over_.end() ? std::nullopt : std::optional(found->second.epoch);
}

std::optional<MovedPartition> ReplicaCopy::Release(uint32_t partition, uint64_t generation) {
  given_at_.erase(partition);
  if (auto handed_over = handed_over_.extract(partition)) return std::move(handed_over.mapped().partition);
  if (!Planted(Bug::kMovedCopyConfirms)) silent_until_ = std::max(silent_until_, generation);
  return core_.Release(partition);
}

std::optional<pb::ReplicateReply> ReplicaCopy::TakeReply() {
  if (!asked_ || core_.generation() < silent_until_) return std::nullopt;
  asked_ = false;
  pb::ReplicateReply reply;
  reply.set_stream(stream_);
  reply.set_taken(taken_);
  return reply;
}

}  // namespace sheaf
