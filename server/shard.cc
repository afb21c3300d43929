#include "server/shard.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

constexpr size_t kHeldOverhead = 256;  // of an answer
constexpr Duration kCompareEvery = std::chrono::seconds(1);

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

bool HandsOver(const pb::ClusterConfig& config, uint32_t node, uint32_t partition) {
  if (static_cast<int>(partition) >= config.partition_size()) return false;
  const pb::PartitionConfig& at = config.partition(static_cast<int>(partition));
  return at.handed_over() && at.former() == node;
}

MovedPartition FromImage(uint32_t partition, std::vector<Buffer> image) {
  MovedPartition moved;
  moved.partition = partition;
  moved.image = std::move(image);
  return moved;
}

Buffer Joined(const ImagePiece& piece) {
  std::vector<std::byte> bytes;
  for (const Buffer& part : piece) bytes.insert(bytes.end(), part.bytes().begin(), part.bytes().end());
  return Buffer::FromVector(std::move(bytes));
}

}  // namespace

Shard::Shard(PeerId self, ShardOptions options, std::unique_ptr<RedoLog> log)
    : self_(self), options_(options), log_(std::move(log)), core_(self, WithLog(options, log_.get())),
      replicas_(self) {}

Status Shard::OnConfig(Config config, TimePoint now) {
  if (config->generation() <= core_.generation() && !Planted(Bug::kServerTakesOldConfig)) return {};
  CatchUp(now);
  Hold();
  config_ = std::move(config);
  const uint32_t node = NodeOf(*config_, self_);
  std::map<uint32_t, uint64_t> epochs;  // of what was ours
  for (size_t i = 0; i < core_.owned().size(); ++i) epochs[core_.owned()[i]] = core_.owned_epochs()[i];
  const Adopter adopt = [this](const pb::ClusterConfig& by, uint32_t partition) { return TakeOver(by, partition); };
  const Status taken = core_.OnConfig(*config_, now, said_, adopt);
  KeepOwn(*config_, node, epochs);
  // Who is answered now by what has been another's since would believe a word that nobody keeps. (What we hand over is
  // another's when it has all that we did.)
  for (size_t i = 0; i < core_.owned().size(); ++i) {
    owned_at_[core_.owned()[i]] = config_->generation();
    if (const auto was = epochs.find(core_.owned()[i]); was != epochs.end() && was->second == core_.owned_epochs()[i]) {
      epochs.erase(was);
    }
  }
  for (auto was = epochs.begin(); was != epochs.end();) {
    const bool handed_over = HandsOver(*config_, node, was->first);
    if (handed_over) handed_over_[was->first] = config_->partition(static_cast<int>(was->first)).epoch();
    was = handed_over ? epochs.erase(was) : std::next(was);
  }
  const bool taken_back = std::ranges::any_of(handed_over_, [&](const auto& each) {
    const auto partition = static_cast<int>(each.first);
    return partition >= config_->partition_size() || config_->partition(partition).epoch() != each.second;
  });
  if ((!epochs.empty() || taken_back) && !Planted(Bug::kHeldAnswersSurvive)) DropHeld();
  if (held_.empty()) handed_over_.clear();
  for (auto at = copies_.begin(); at != copies_.end();) {
    at->second.OnConfig(*config_, node);
    const bool newest = &at->second == NewestCopyOf(at->first.first);
    const bool over = newest ? at->second.IsOver(*config_) : at->second.empty();
    at = over ? copies_.erase(at) : std::next(at);
  }
  replicas_.OnConfig(config_, core_);
  GoOn(now);
  return taken;
}

void Shard::KeepOwn(const pb::ClusterConfig& config, uint32_t node, const std::map<uint32_t, uint64_t>& were_ours) {
  std::map<uint32_t, Kept> kept;
  for (int p = 0; p < config.partition_size(); ++p) {
    const pb::PartitionConfig& at = config.partition(p);
    const auto us = std::ranges::find(at.replica(), node, &pb::Replica::node);
    if (us == at.replica().end() || !us->in_sync()) continue;
    const auto partition = static_cast<uint32_t>(p);
    if (const auto known = kept_.find(partition); known != kept_.end() && known->second.since == us->since()) {
      kept[partition] = std::move(known->second);
    } else if (HandsOver(config, node, partition) && were_ours.contains(partition)) {
      kept[partition] = {at.epoch(), us->since(), {}};
      for (const ImagePiece& piece : core_.Export(partition, /*index=*/0)) {
        kept[partition].image.push_back(Joined(piece));
      }
    }
  }
  kept_ = std::move(kept);
}

std::optional<MovedPartition> Shard::Inherit(const pb::ClusterConfig& config, uint32_t partition) {
  if (static_cast<int>(partition) >= config.partition_size()) return std::nullopt;
  const uint64_t epoch = config.partition(static_cast<int>(partition)).epoch();
  if (auto kept = kept_.find(partition); kept != kept_.end() && kept->second.epoch == epoch) {
    MovedPartition moved = FromImage(partition, std::move(kept->second.image));
    kept_.erase(kept);
    return moved;
  }
  for (auto& [name, copy] : copies_) {
    if (copy.HandedOverAt(partition) == epoch) return copy.Release(partition, config.generation());
  }
  return std::nullopt;
}

void Shard::TakeHandedOver(TimePoint now) {
  if (config_ == nullptr) return;  // what is coming is of the log: the configuration of now may say otherwise
  if (core_.generation() != config_->generation()) return;  // it could not take that one at all
  if (std::ranges::none_of(core_.coming(), [this](uint32_t p) { return HasAllOf(p); })) return;
  Hold();
  const Adopter adopt = [this](const pb::ClusterConfig& by, uint32_t partition) { return TakeOver(by, partition); };
  (void)core_.OnHandedOver(*config_, now, said_, adopt);  // what of it cannot be used was said the first time
  for (const uint32_t p : core_.owned()) owned_at_[p] = config_->generation();
  replicas_.OnConfig(config_, core_);
}

bool Shard::HasAllOf(uint32_t partition) {
  const ReplicaCopy* const copy = LatestCopy(partition, config_->generation());
  return copy != nullptr && copy->HandedOverAt(partition) == config_->partition(static_cast<int>(partition)).epoch() &&
         !(core_.Has(partition) && *copy->GivenAt(partition) <= owned_at_[partition]);
}

bool Shard::CanGoOn(const ReplicaCopy& waiting) const {
  const uint32_t partition = waiting.WaitsFor();
  return kept_.contains(partition) || std::ranges::any_of(copies_, [&](const auto& copy) {
           return &copy.second != &waiting && copy.second.GivenAt(partition);
         });
}

bool Shard::DoPending(TimePoint now) {
  const Adopter adopt = [this](const pb::ClusterConfig& by, uint32_t partition) { return Inherit(by, partition); };
  bool progress = false;
  for (auto at = copies_.begin(); at != copies_.end();) {
    const size_t before = at->second.pending();
    const bool done = before == 0 || at->second.Continue(now, adopt);
    progress |= at->second.pending() < before;
    if (done) {
      ++at;
      continue;
    }
    const ShardStats last = at->second.stats();
    compared_rows_ += last.compared_rows;
    copies_differed_ += last.copies_differed;
    if (last.copies_differed > 0) differed_text_ = last.differed_text;
    SayUnknown(at->first.first, at->first.second);
    at = copies_.erase(at);
  }
  return progress;
}

void Shard::GoOn(TimePoint now) {
  while (DoPending(now)) {
  }
  for (auto at = copies_.begin(); at != copies_.end();) {
    if (!at->second.waits() || CanGoOn(at->second)) {
      ++at;
      continue;
    }
    SayUnknown(at->first.first, at->first.second);
    at = copies_.erase(at);
  }
  if (!core_.coming().empty()) TakeHandedOver(now);
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

// If we have the partition, but another has given us a copy of it since it was last ours, then what we have is of
// before (whoever was primary keeps it for a while).
std::optional<MovedPartition> Shard::TakeOver(const pb::ClusterConfig& config, uint32_t partition) {
  const pb::PartitionConfig& at = config.partition(static_cast<int>(partition));
  ReplicaCopy* const copy = LatestCopy(partition, config.generation());
  if (copy == nullptr) {
    if (core_.Has(partition)) return std::nullopt;
    auto kept = kept_.extract(partition);
    return kept ? std::optional(FromImage(partition, std::move(kept.mapped().image))) : std::nullopt;
  }
  if (core_.Has(partition) && *copy->GivenAt(partition) <= owned_at_[partition]) return std::nullopt;
  const bool unfinished = at.handed_over() && copy->HandedOverAt(partition) != at.epoch();
  if (unfinished && !Planted(Bug::kHandedOverUnfinished)) return std::nullopt;
  return copy->Release(partition, config.generation());
}

bool Shard::CatchUp(TimePoint now) {
  if (!std::exchange(behind_, false)) return false;
  DoPending(now);
  for (auto& [name, copy] : copies_) {
    if (const ReplicaCopy* const newest = NewestCopyOf(name.first); newest != &copy) copy.LeaveTo(*newest);
  }
  GoOn(now);
  return true;
}

void Shard::OnMessage(PeerId from, const Message& message, TimePoint now) {
  CatchUp(now);
  switch (message.header.body_case()) {
    case pb::Header::kReplicate:
      return OnReplicate(from, message);
    case pb::Header::kReplicateReply:
      return replicas_.OnReply(from, message.header.replicate_reply(), now, core_);
    default:
      return core_.OnMessage(from, message, now, refusing_ ? free_ : said_);
  }
}

void Shard::OnReplicate(PeerId from, const Message& message) {
  const pb::Replicate& header = message.header.replicate();
  if (PeerId(header.to()) != self_) return;
  ReplicaCopy* copy = NewestCopyOf(from);
  if (copy != nullptr && header.stream() < copy->stream()) return;  // of an earlier one
  if ((copy == nullptr || header.stream() > copy->stream()) && header.offset() == 0) {
    copy = &copies_.try_emplace({from, header.stream()}, from, header.stream(), options_).first->second;
  }
  if (copy != nullptr && header.stream() == copy->stream()) {
    if (copy->OnReplicate(message)) {
      behind_ = true;
      return;
    }
    copies_.erase({from, header.stream()});
  }
  SayUnknown(from, header.stream());
}

void Shard::SayUnknown(PeerId primary, uint64_t stream) {
  Message answer;
  answer.header.mutable_replicate_reply()->set_stream(stream);
  answer.header.mutable_replicate_reply()->set_unknown(true);
  free_.Send(primary, std::move(answer));
}

void Shard::OnTick(TimePoint now) {
  CatchUp(now);
  core_.OnTick(now, said_);
  if (now >= next_compare_) {
    next_compare_ = now + kCompareEvery;
    core_.CompareCopies();
  }
  for (auto& [name, copy] : copies_) copy.OnTick(now);
  std::erase_if(copies_, [&](const auto& copy) { return copy.second.IsForgotten(now); });
}

Status Shard::Commit() {
  if (log_ == nullptr) return {};
  to_commit_ = std::max(to_commit_, core_.TakeCommitLevel());
  if (to_commit_ == Durability::kMemory) return {};
  SHEAF_RETURN_IF_ERROR(log_->Commit(to_commit_));
  to_commit_ = Durability::kMemory;
  return {};
}

// As if they were lost on their way: they are asked for again.
void Shard::DropHeld() {
  held_.clear();
  held_bytes_ = 0;
}

void Shard::Hold() {
  if (said_.empty()) return;
  size_t bytes = 0;
  for (const Outbox::Item& item : said_.items()) bytes += item.message.values.size() + kHeldOverhead;
  if (held_bytes_ + bytes > options_.request_budget_bytes) return said_.clear();  // as if lost: it is asked for again
  held_bytes_ += bytes;
  held_.push_back({replicas_.Needed(), bytes, std::exchange(said_.items(), {})});
}

void Shard::Say(Outbox& out) {
  while (!held_.empty() && replicas_.Reached(held_.front().marks)) {
    for (Outbox::Item& item : held_.front().items) out.Send(item.to, std::move(item.message));
    held_bytes_ -= held_.front().bytes;
    held_.pop_front();
  }
  if (!held_.empty()) return;
  for (Outbox::Item& item : said_.items()) out.Send(item.to, std::move(item.message));
  said_.clear();
}

// A full disk passes; nothing else does, and nobody must be told what is not in the log.
Status Shard::Flush(TimePoint now, Outbox& out) {
  if (!failure_.empty()) return {};
  if (!core_.failure().empty()) {
    failure_ = core_.failure();
    refusing_ = true;
    return Fail(ErrorCode::kDataLoss, failure_);
  }
  if (!held_.empty() || !replicas_.idle()) Hold();
  replicas_.Flush(now, core_, out);
  if (replicas_.TakeVoided()) DropHeld();
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
    // Of what is handed over to us and not here yet we have not taken the configuration.
    if (core_.coming().empty()) safe_generation_ = core_.generation();
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
  stats.news = news();
  for (const uint32_t partition : core_.absent()) {
    pb::SyncedReplica& absent = stats.synced.emplace_back();
    absent.set_partition(partition);
    absent.set_since(core_.generation());
    absent.set_lost(true);
  }
  if (refusing_ && failure_.empty()) {
    stats.disk = pb::DISK_FULL;
    stats.disk_text = "room on its disk: its log cannot be written";
  }
  stats.compared_rows = compared_rows_;
  stats.copies_differed = copies_differed_;
  stats.differed_text = differed_text_;
  for (const auto& [name, copy] : copies_) {
    const ShardStats of_copy = copy.stats();
    stats.memory_bytes += of_copy.memory_bytes;
    stats.compared_rows += of_copy.compared_rows;
  }
  return stats;
}

}  // namespace sheaf
