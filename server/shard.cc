#include "server/shard.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

ShardOptions WithLog(ShardOptions options, RedoLog* log) {
  options.log = log;
  return options;
}

// As which node a configuration knows a shard; 0: it does not.
uint32_t NodeOf(const pb::ClusterConfig& config, PeerId shard) {
  for (const pb::ServerInfo& server : config.server()) {
    for (const pb::ShardEndpoint& endpoint : server.shard()) {
      if (PeerId(endpoint.peer()) == shard) return server.node();
    }
  }
  return 0;
}

}  // namespace

Shard::Shard(PeerId self, ShardOptions options, std::unique_ptr<RedoLog> log)
    : self_(self), options_(options), log_(std::move(log)), core_(self, WithLog(options, log_.get())),
      replicas_(self) {}

Status Shard::OnConfig(Config config, TimePoint now) {
  if (config->generation() <= core_.generation() && !Planted(Bug::kServerTakesOldConfig)) return {};
  Hold();
  const std::vector<uint32_t> owned = core_.owned();
  const Adopter adopt = [&](uint32_t partition) { return TakeOver(partition, config->generation()); };
  const Status taken = core_.OnConfig(*config, now, said_, adopt);
  // Who has been answered by what is another's now would believe a word that nobody keeps.
  if (!std::ranges::includes(core_.owned(), owned) && !Planted(Bug::kHeldAnswersSurvive)) held_.clear();
  const uint32_t node = NodeOf(*config, self_);
  for (auto at = copies_.begin(); at != copies_.end();) {
    at->second.OnConfig(*config, node);
    const bool newest = &at->second == NewestCopyOf(at->first.first);
    const bool over = newest ? at->second.IsOver(*config, node) : at->second.empty();
    at = over ? copies_.erase(at) : std::next(at);
  }
  replicas_.OnConfig(std::move(config), core_);
  return taken;
}

// Of several copies the one that was given last: those before are of primaries before. One that was given later than
// the configuration is of a primary that comes after us.
ReplicaCopy* Shard::LatestCopy(uint32_t partition, uint64_t before) {
  ReplicaCopy* latest = nullptr;
  for (auto& [name, copy] : copies_) {
    const auto given = copy.GivenAt(partition);
    if (given && *given < before && (latest == nullptr || *given >= *latest->GivenAt(partition))) latest = &copy;
  }
  return latest;
}

ReplicaCopy* Shard::NewestCopyOf(PeerId primary) {
  const auto behind = copies_.upper_bound({primary, ~uint64_t{0}});
  if (behind == copies_.begin()) return nullptr;
  const auto newest = std::prev(behind);
  return newest->first.first == primary ? &newest->second : nullptr;
}

// If we have the partition, but by a configuration from before another gave us a copy of it, then it was not ours in
// between, and what we have is of before.
std::optional<MovedPartition> Shard::TakeOver(uint32_t partition, uint64_t generation) {
  ReplicaCopy* const copy = LatestCopy(partition, generation);
  if (copy == nullptr) return std::nullopt;
  if (core_.Has(partition) && *copy->GivenAt(partition) <= core_.generation()) return std::nullopt;
  return copy->Release(partition, generation);
}

void Shard::OnMessage(PeerId from, const Message& message, TimePoint now) {
  switch (message.header.body_case()) {
    case pb::Header::kReplicate:
      return OnReplicate(from, message, now);
    case pb::Header::kReplicateReply:
      return replicas_.OnReply(from, message.header.replicate_reply(), now, core_);
    default:
      return core_.OnMessage(from, message, now, refusing_ ? free_ : said_);
  }
}

void Shard::OnReplicate(PeerId from, const Message& message, TimePoint now) {
  const pb::Replicate& header = message.header.replicate();
  if (PeerId(header.to()) != self_) return;
  ReplicaCopy* copy = NewestCopyOf(from);
  if (copy != nullptr && header.stream() < copy->stream()) return;  // of an earlier one
  if ((copy == nullptr || header.stream() > copy->stream()) && header.offset() == 0) {
    copy = &copies_.try_emplace({from, header.stream()}, from, header.stream(), options_).first->second;
  }
  if (copy != nullptr && header.stream() == copy->stream()) {
    if (copy->OnReplicate(message, now)) {
      for (auto at = copies_.lower_bound({from, 0}); &at->second != copy; ++at) at->second.LeaveTo(*copy);
      return;
    }
    copies_.erase({from, header.stream()});
  }
  Message answer;
  answer.header.mutable_replicate_reply()->set_stream(header.stream());
  answer.header.mutable_replicate_reply()->set_unknown(true);
  free_.Send(from, std::move(answer));
}

void Shard::OnTick(TimePoint now) { core_.OnTick(now, refusing_ ? free_ : said_); }

Status Shard::Commit() {
  if (log_ == nullptr) return {};
  to_commit_ = std::max(to_commit_, core_.TakeCommitLevel());
  if (to_commit_ == Durability::kMemory) return {};
  SHEAF_RETURN_IF_ERROR(log_->Commit(to_commit_));
  to_commit_ = Durability::kMemory;
  return {};
}

void Shard::Hold() {
  if (said_.empty()) return;
  held_.push_back({replicas_.Needed(), std::exchange(said_.items(), {})});
}

void Shard::Say(Outbox& out) {
  while (!held_.empty() && replicas_.Reached(held_.front().marks)) {
    for (Outbox::Item& item : held_.front().items) out.Send(item.to, std::move(item.message));
    held_.pop_front();
  }
  if (!held_.empty()) return;
  for (Outbox::Item& item : said_.items()) out.Send(item.to, std::move(item.message));
  said_.clear();
}

// A full disk passes; nothing else does, and nobody must be told what is not in the log.
Status Shard::Flush(TimePoint now, Outbox& out) {
  if (!failure_.empty()) return {};
  if (!held_.empty() || !replicas_.idle()) Hold();
  replicas_.Flush(now, core_, out);
  for (auto& [name, copy] : copies_) {
    if (auto reply = copy.TakeReply()) {
      Message message;
      *message.header.mutable_replicate_reply() = std::move(*reply);
      out.Send(name.first, std::move(message));
    }
  }
  for (Outbox::Item& item : free_.items()) out.Send(item.to, std::move(item.message));
  free_.clear();
  const Status committed = Commit();
  if (committed) {
    safe_generation_ = core_.generation();
    if (std::exchange(refusing_, false)) core_.RefuseAll("");
    Say(out);
    return {};
  }
  if (committed.error().code != ErrorCode::kResourceExhausted) failure_ = committed.error().message;
  if (std::exchange(refusing_, true)) return {};
  core_.RefuseAll("the server cannot write its log: " + committed.error().message);
  return committed;
}

std::vector<ImagePiece> Shard::Export(uint32_t partition) {
  if (core_.Has(partition)) return core_.Export(partition, /*index=*/0);
  ReplicaCopy* const copy = LatestCopy(partition, ~uint64_t{0});
  return copy == nullptr ? std::vector<ImagePiece>() : copy->Export(partition);
}

ShardStats Shard::stats() const {
  ShardStats stats = core_.stats();
  stats.failure = failure_;
  stats.seen_generation = safe_generation_;
  stats.synced = replicas_.Synced();
  for (const auto& [name, copy] : copies_) stats.memory_bytes += copy.stats().memory_bytes;
  return stats;
}

}  // namespace sheaf
