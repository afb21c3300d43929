#include "scheduler/checkpoint_book.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/base/build_info.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "scheduler/saved_state.h"

namespace sheaf {
namespace {

using Status_ = pb::CheckpointStatus;
using State = pb::CheckpointState;

constexpr size_t kKnown = 64;
constexpr int kMostFiles = 8;  // of a partition: then all of it is written again

std::string MadeUpName(uint64_t id) {
  char name[32];
  std::snprintf(name, sizeof name, "c%06llu", static_cast<unsigned long long>(id));
  return name;
}

}  // namespace

CheckpointBook::CheckpointBook(Options options, CheckpointsFound found, const pb::CheckpointsRecord& saved)
    : options_(options), found_(found), record_(saved) {
  saved_ = record_.SerializeAsString();
  record_.set_next_id(std::max({uint64_t{1}, saved.next_id(), found.greatest_id + 1}));
  if (record_.last().phase() == Status_::RUNNING) {
    const bool is_there = record_.last().id() <= found.greatest_id;
    record_.mutable_last()->set_phase(is_there ? Status_::COMMITTED : Status_::ABORTED);
    record_.mutable_last()->set_detail(is_there ? "" : "the scheduler was started again meanwhile");
  }
  if (record_.has_last()) known_[record_.last().id()] = record_.last();
}

Result<Status_> CheckpointBook::Create(const pb::CreateCheckpoint& request, const Job* job, TimePoint now) {
  if (const auto made = tokens_.find(request.token()); made != tokens_.end()) return known_.at(made->second);
  if (!found_.folder) {
    return Fail(ErrorCode::kInvalidArgument,
                "the scheduler has no --checkpoint_dir: start it, and all servers, with the same one");
  }
  if (!request.name().empty()) SHEAF_RETURN_IF_ERROR(CheckCheckpointName(request.name()));
  if (job == nullptr || !job->running()) {
    return Fail(ErrorCode::kInvalidArgument, "there is nothing to save: no job is running");
  }
  if (phase_ != Phase::kIdle) {
    return Fail(ErrorCode::kInvalidArgument, "the checkpoint ", record_.last().name(),
                " is being made: try again when it is done");
  }
  Begin(request.name(), *job, now);
  whole_ = request.whole();
  tokens_[request.token()] = record_.last().id();
  return record_.last();
}

std::optional<Status_> CheckpointBook::Find(uint64_t id) const {
  const auto known = known_.find(id);
  return known == known_.end() ? std::nullopt : std::optional(known->second);
}

bool CheckpointBook::Due(const Job& job, TimePoint now) {
  const pb::CheckpointSpec& spec = job.spec().checkpoint();
  if (spec.every_s() == 0 && spec.every_passes() == 0) return false;
  const uint32_t passes = job.train_passes_done();
  if (job_seen_ != job.id().value) {
    job_seen_ = job.id().value;
    last_begun_ = now;
    passes_seen_ = passes;
  }
  if (now < not_before_) return false;
  const bool by_time = spec.every_s() > 0 && now - last_begun_ >= std::chrono::seconds(spec.every_s());
  const bool by_passes = spec.every_passes() > 0 && passes >= passes_seen_ + spec.every_passes();
  return by_time || by_passes;
}

void CheckpointBook::Begin(std::string name, const Job& job, TimePoint now) {
  const uint64_t id = record_.next_id();
  record_.set_next_id(id + 1);
  Status_ status;
  status.set_id(id);
  status.set_name(name.empty() ? MadeUpName(id) : std::move(name));
  status.set_phase(Status_::RUNNING);
  status.set_job(job.id().value);
  status.set_pass(job.pass_number());
  *record_.mutable_last() = status;
  known_[id] = status;
  while (known_.size() > kKnown) {
    std::erase_if(tokens_, [&](const auto& token) { return token.second == known_.begin()->first; });
    known_.erase(known_.begin());
  }
  phase_ = Phase::kOpening;
  failed_.clear();
  periodic_ = whole_ = opened_ = false;
  committed_.reset();
  begun_ = entered_ = now;
  last_begun_ = now;
  passes_seen_ = job.train_passes_done();
  order_.Clear();
  order_.set_id(id);
  order_.set_folder(TemporaryFolder(id));
  order_.set_job(job.id().value);
  unconfirmed_.clear();
  servers_.clear();
  processes_.clear();
  manifest_.Clear();
  CheckpointWork work;
  work.kind = CheckpointWork::Kind::kBegin;
  work.id = id;
  work.name = status.name();
  work_.push_back(std::move(work));
}

void CheckpointBook::Enter(Phase phase, TimePoint now) {
  phase_ = phase;
  entered_ = now;
}

void CheckpointBook::Advance(const World& world, TimePoint now, Actions& actions) {
  if (!found_.folder) return;
  Job* const job = world.job;
  if (phase_ == Phase::kIdle) {
    if (job == nullptr || !job->running() || !world.calm || !world.members.Awaited().empty() || !Due(*job, now)) return;
    Begin("", *job, now);
    periodic_ = true;
    keep_ = job->spec().checkpoint().keep();
    return;
  }
  const bool was_holding = holding();
  const bool of_job = job != nullptr && job->id().value == order_.job() && job->running();
  const Duration limit = phase_ == Phase::kWriting || phase_ == Phase::kCommitting ? options_.write_within
                                                                                  : options_.stand_still;
  if (failed_.empty() && !of_job && phase_ < Phase::kWriting) failed_ = "the job has ended";
  if (failed_.empty() && phase_ != Phase::kCommitting && now - entered_ > limit) {
    failed_ = "it took longer than " + FormatSeconds(limit) + ", waiting for " + WaitsFor(world.members);
  }
  if (!failed_.empty() && phase_ != Phase::kCommitting) {
    Abort(failed_, now);
    actions.poke_workers |= was_holding;
    actions.order_servers = true;
    return;
  }
  switch (phase_) {
    case Phase::kIdle:
      break;
    case Phase::kOpening:
      if (!opened_ || !world.calm || !world.members.Awaited().empty()) break;
      pausing_since_ = now;
      Enter(Phase::kPausing, now);
      actions.poke_workers = true;
      break;
    case Phase::kPausing:
      if (AllPaused(world)) Freeze(world, now, actions);
      break;
    case Phase::kFreezing:
      if (!AllServers(State::PREPARED)) break;
      job->DescribeCheckpoint(manifest_, now);
      for (const Node* worker : world.members.Alive(pb::WORKER)) unconfirmed_.insert(worker->id);
      Enter(Phase::kResuming, now);
      actions.poke_workers = true;
      break;
    case Phase::kResuming:
      if (!unconfirmed_.empty()) break;
      record_.mutable_last()->set_pause_seconds(ToSeconds(now - pausing_since_));
      Enter(Phase::kWriting, now);
      actions.poke_workers = true;  // there is work again
      break;
    case Phase::kWriting:
      if (AllServers(Planted(Bug::kCommittedBeforeWritten) ? State::PREPARED : State::WRITTEN)) Commit(now);
      break;
    case Phase::kCommitting:
      if (!committed_) break;
      if (!*committed_) {
        Abort(committed_->error().message, now);
      } else {
        base_ = manifest_;
        base_processes_ = processes_;
        End(Status_::COMMITTED, "", now);
      }
      actions.order_servers = true;
      break;
  }
}

bool CheckpointBook::AllPaused(const World& world) const {
  if (Planted(Bug::kCutWithoutWaiting)) return true;
  return std::ranges::all_of(world.members.Alive(pb::WORKER), [&](const Node* worker) {
    const auto said = paused_.find(worker->id);
    return said != paused_.end() && said->second / 2 == order_.id();
  });
}

bool CheckpointBook::AllServers(State::Phase least) const {
  return std::ranges::all_of(servers_, [&](const auto& server) { return server.second.phase() >= least; });
}

void CheckpointBook::Freeze(const World& world, TimePoint now, Actions& actions) {
  order_.set_generation(world.generation);
  order_.set_base(MayBuild(*world.job) ? base_.id() : 0);
  for (const Node* server : world.members.Alive(pb::SERVER)) {
    servers_[server->id];
    processes_[server->id] = server->peer;
  }
  Enter(Phase::kFreezing, now);
  actions.order_servers = true;
}

bool CheckpointBook::MayBuild(const Job& job) const {
  if (whole_ || base_.id() == 0 || base_.job() != job.id().value) return false;
  uint64_t first = 0, behind = 0;
  for (const pb::ManifestPartition& partition : base_.partition()) {
    if (partition.file_size() >= kMostFiles) return false;
    first += partition.file(0).bytes();
    for (int i = 1; i < partition.file_size(); ++i) behind += partition.file(i).bytes();
  }
  return behind <= first / 2;
}

void CheckpointBook::Commit(TimePoint now) {
  if (const Status made = MakeManifest(); !made) return Abort(made.error().message, now);
  CheckpointWork work;
  work.kind = CheckpointWork::Kind::kCommit;
  work.id = order_.id();
  work.manifest = manifest_;
  work.base = base_.name();
  work_.push_back(std::move(work));
  // Right behind it: the job, and with it this process, may be over before we hear that it is done.
  if (periodic_ && keep_ > 0) {
    CheckpointWork trim;
    trim.kind = CheckpointWork::Kind::kTrim;
    trim.job = order_.job();
    trim.keep = keep_;
    work_.push_back(std::move(trim));
  }
  Enter(Phase::kCommitting, now);
}

// What the job says of itself is in it since all stood still.
Status CheckpointBook::MakeManifest() {
  manifest_.set_name(record_.last().name());
  manifest_.set_id(order_.id());
  manifest_.set_cluster(options_.cluster);
  manifest_.set_build(std::string(BuildVersion()));
  manifest_.set_periodic(periodic_);
  manifest_.set_partition_count(options_.partition_count);
  uint64_t bytes = 0;
  std::vector<const pb::CheckpointPart*> parts(options_.partition_count);
  for (const auto& [server, state] : servers_) {
    for (const pb::CheckpointPart& part : state.part()) {
      if (part.partition() >= parts.size() || parts[part.partition()] != nullptr) {
        return Fail(ErrorCode::kInternal, "two servers have written partition ", part.partition());
      }
      parts[part.partition()] = &part;
    }
  }
  for (uint32_t p = 0; p < options_.partition_count; ++p) {
    const pb::CheckpointPart* const part = parts[p];
    if (part == nullptr && Planted(Bug::kCommittedBeforeWritten)) continue;
    if (part == nullptr) return Fail(ErrorCode::kUnavailable, "nobody has written partition ", p);
    if (!part->whole() && order_.base() == 0) {
      return Fail(ErrorCode::kInternal, "partition ", p, " builds upon a checkpoint that there is not");
    }
    pb::ManifestPartition& listed = *manifest_.add_partition();
    listed.set_lsn(part->lsn());
    if (!part->whole()) *listed.mutable_file() = base_.partition(static_cast<int>(p)).file();
    pb::ManifestFile& file = *listed.add_file();
    file.set_name(PartFileName(p, order_.id()));
    file.set_bytes(part->bytes());
    file.set_digest_high(part->digest_high());
    file.set_digest_low(part->digest_low());
    file.set_rows(part->rows());
    bytes += part->bytes();
  }
  record_.mutable_last()->set_bytes(bytes);
  return {};
}

void CheckpointBook::Abort(const std::string& why, TimePoint now) {
  base_.Clear();  // what has changed since it, servers do not know any more
  CheckpointWork drop;
  drop.kind = CheckpointWork::Kind::kDrop;
  drop.id = order_.id();
  work_.push_back(std::move(drop));
  not_before_ = now + options_.retry_after;
  End(Status_::ABORTED, why, now);
}

void CheckpointBook::End(Status_::Phase phase, const std::string& detail, TimePoint now) {
  Status_& status = *record_.mutable_last();
  status.set_phase(phase);
  status.set_detail(detail);
  status.set_seconds(ToSeconds(now - begun_));
  known_[status.id()] = status;
  phase_ = Phase::kIdle;
  failed_.clear();
  events_.push_back(StrCat("checkpoint=", status.name(), phase == Status_::COMMITTED ? " committed" : " aborted: ",
                           detail, " bytes=", status.bytes(),
                           " pause_ms=", static_cast<int64_t>(status.pause_seconds() * 1000)));
}

void CheckpointBook::OnWorkerReport(NodeId worker, const pb::WorkerReport& report) {
  paused_[worker] = report.paused();
  if (phase_ != Phase::kResuming || !unconfirmed_.contains(worker)) return;
  // Not the word of before it was asked again: that may be of before the servers were frozen.
  if (report.paused() / 2 != order_.id()) {
    failed_ = "a worker has gone on before all servers were frozen";
  } else if (report.paused() % 2 == 1) {
    unconfirmed_.erase(worker);
  }
}

void CheckpointBook::OnServerReport(NodeId server, const State& state) {
  const auto part = servers_.find(server);
  if (part == servers_.end() || phase_ == Phase::kIdle) return;
  if (state.id() != order_.id()) {
    const bool had_it = part->second.phase() == State::PREPARED || part->second.phase() == State::FAILED;
    if (phase_ == Phase::kWriting && had_it) failed_ = "a server has dropped it";
    return;
  }
  if (state.phase() <= part->second.phase()) return;  // overtaken
  if (state.phase() == State::FAILED) failed_ = state.error();
  part->second = state;
}

void CheckpointBook::OnNodeGone(NodeId node) {
  paused_.erase(node);
  if (phase_ == Phase::kIdle || phase_ == Phase::kCommitting) return;
  if (servers_.contains(node)) failed_ = "a server has gone";
  if (unconfirmed_.contains(node)) failed_ = "a worker has gone while all stood still";
}

void CheckpointBook::OnDone(const CheckpointResult& result) {
  using Kind = CheckpointWork::Kind;
  if (!result.status && (result.kind == Kind::kDrop || result.kind == Kind::kTrim)) {
    events_.push_back("checkpoints: files that are not needed any more stay: " + result.status.error().message);
  }
  if (result.id != order_.id() || phase_ == Phase::kIdle) return;
  if (result.kind == Kind::kBegin) {
    opened_ = result.status.has_value();
    if (!opened_) failed_ = result.status.error().message;
  }
  if (result.kind == Kind::kCommit) committed_ = result.status;
}

std::optional<CheckpointWork> CheckpointBook::TakeWork() {
  if (work_.empty()) return std::nullopt;
  CheckpointWork work = std::move(work_.front());
  work_.pop_front();
  return work;
}

uint64_t CheckpointBook::PauseOf(NodeId worker) const {
  if (phase_ == Phase::kPausing || phase_ == Phase::kFreezing) return order_.id() * 2;
  return phase_ == Phase::kResuming && unconfirmed_.contains(worker) ? order_.id() * 2 + 1 : 0;
}

std::optional<pb::CheckpointOrder> CheckpointBook::OrderTo(const Node& server) const {
  const auto is = [&](const std::map<NodeId, PeerId>& processes) {
    const auto found = processes.find(server.id);
    return found != processes.end() && found->second == server.peer;
  };
  if (!ordering() || !is(processes_)) return std::nullopt;
  pb::CheckpointOrder order = order_;
  if (!is(base_processes_)) order.set_base(0);
  return order;
}

std::string CheckpointBook::WaitsFor(const Membership& members) const {
  const auto name = [&](NodeId id) { return members.Find(id) == nullptr ? "?" : members.Find(id)->name; };
  switch (phase_) {
    case Phase::kPausing:
      for (const Node* worker : members.Alive(pb::WORKER)) {
        const auto said = paused_.find(worker->id);
        if (said == paused_.end() || said->second / 2 != order_.id()) return worker->name + " to stand still";
      }
      break;
    case Phase::kFreezing:
      for (const auto& [id, state] : servers_) {
        if (state.phase() < State::PREPARED) return name(id) + " to freeze its partitions";
      }
      break;
    case Phase::kResuming:
      if (!unconfirmed_.empty()) return name(*unconfirmed_.begin()) + " to say that it stood still";
      break;
    case Phase::kWriting:
      for (const auto& [id, state] : servers_) {
        if (state.phase() < State::WRITTEN) return name(id) + " to write its partitions";
      }
      break;
    default:
      break;
  }
  return "servers to come back, or the folder";
}

void CheckpointBook::Save(MetaTxn& txn) {
  std::string bytes = record_.SerializeAsString();
  if (bytes == saved_) return;
  txn.puts.push_back({kCheckpointsKey, bytes});
  saved_ = std::move(bytes);
}

}  // namespace sheaf
