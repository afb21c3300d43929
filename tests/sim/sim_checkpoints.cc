// Checkpoints in a simulated cluster: what the shells of scheduler and servers do for them, and what they are held to.
#include <algorithm>
#include <utility>

#include "common/base/partition.h"
#include "common/base/strings.h"
#include "common/checkpoint/catalog.h"
#include "server/part_chain.h"
#include "server/redo_record.h"
#include "tests/sim/sim_nodes.h"

namespace sheaf::sim {
namespace {

// Rows of the pieces of an image, of one job.
using ImageRowMap = std::map<std::pair<uint32_t, HashedKey>, std::vector<float>>;
void AddRows(const Buffer& piece, uint64_t job, ImageRowMap& rows) {
  const auto record = DecodeRedo(piece);
  SHEAF_CHECK(record.has_value());
  if (!record->header.image().has_rows()) return;
  const pb::ImageRows& header = record->header.image().rows();
  if (header.table() / 4 != job) return;
  const auto keys = record->keys.As<HashedKey>();
  const auto floats = record->values.As<float>();
  for (size_t i = 0; i < keys.size(); ++i) {
    rows[{header.table(), keys[i]}].assign(floats.begin() + static_cast<ptrdiff_t>(i * header.width()),
                                           floats.begin() + static_cast<ptrdiff_t>((i + 1) * header.width()));
  }
}

}  // namespace

// ---- the shells

void SimCluster::AskForCheckpoint() {
  SchedulerNode* const node = scheduler_.get();
  if (node == nullptr || node->ended || node->stopped() || node->stalled) return;
  Message message;
  message.header.mutable_create_checkpoint()->set_token(random_.Next());
  message.header.mutable_create_checkpoint()->set_whole(random_.Chance(0.2));
  node->core.OnMessage(PeerId(6), message, node->Now(), node->out);
  AfterScheduler({}, 0);
}

// Again and again, as whoever asks would, until it is taken.
void SimCluster::AskForRestore() {
  SchedulerNode* const node = scheduler_.get();
  if (node != nullptr && !node->ended && !node->stopped() && !node->stalled) {
    if (node->core.FindJob(JobId(job_)) != nullptr) return;
    Message message;
    message.header.mutable_restore_job()->set_token(77);
    message.header.mutable_restore_job()->set_name("latest");
    node->core.OnMessage(PeerId(6), message, node->Now(), node->out);
    AfterScheduler({}, 0);
  }
  network_.Schedule(Milliseconds(100), [this] { AskForRestore(); });
}

// Those that a process has not carried out when it ends never are, but for the first, perhaps.
void SimCluster::TakeFileWork() {
  while (auto work = scheduler_->core.TakeCheckpointWork()) {
    file_work_.push_back(std::move(*work));
    const SchedulerNode* const node = scheduler_.get();
    const uint64_t number = schedulers_;
    file_work_done_at_ = std::max(file_work_done_at_, clock_.Now()) + Within({}, Milliseconds(20));
    network_.Schedule(file_work_done_at_ - clock_.Now(), [this, node, number] {
      if (schedulers_ != number || scheduler_.get() != node || node->ended) return;
      const CheckpointResult result = CarryOutFileWork();
      scheduler_->Do([this, node, number, result] {
        if (schedulers_ != number || scheduler_.get() != node || node->ended) return;
        scheduler_->core.OnCheckpointDone(result, scheduler_->Now(), scheduler_->out);
        AfterScheduler({}, 0);
      });
    });
  }
}

CheckpointResult SimCluster::CarryOutFileWork() {
  const CheckpointWork work = std::move(file_work_.front());
  file_work_.pop_front();
  CheckpointResult result = CarryOut(*files_, work);
  if (work.kind == CheckpointWork::Kind::kCommit && result.status) CheckCommitted(work.manifest);
  if (work.kind == CheckpointWork::Kind::kDrop) Note(Fault::kCheckpointAborted);
  return result;
}

void SimCluster::StepCheckpoints(ServerNode& server, size_t index) {
  ServerNode::ShardNode& shard = server.shards[index];
  if (shard.checkpoints == nullptr || shard.core->refusing()) return;
  ShardStats before, after;
  shard.checkpoints->AddTo(before);
  shard.checkpoints->Step();
  shard.checkpoints->AddTo(after);
  if (after.checkpoint.has_id() && before.checkpoint.id() != after.checkpoint.id()) {
    for (const uint32_t p : shard.core->owned()) {
      ImageRowMap& rows = frozen_[{after.checkpoint.id(), p}].emplace_back();
      for (const ImagePiece& piece : shard.core->Export(p)) AddRows(JoinRecord(piece), job_, rows);
    }
  }
  while (auto work = shard.checkpoints->TakeWork()) {
    shard.files_done_at = std::max(shard.files_done_at, clock_.Now()) + Within({}, Milliseconds(10));
    const std::weak_ptr<int> living = server.alive;
    network_.Schedule(shard.files_done_at - clock_.Now(), [this, living, node = &server, index, work = *work] {
      if (living.expired() || node->ended) return;
      ServerNode::ShardNode& of = node->shards[index];
      const auto* const part = std::get_if<PartWork>(&work);
      ShardCheckpoints::Done done = part != nullptr ? ShardCheckpoints::Done(of.files->Write(*part))
                                                    : ShardCheckpoints::Done(of.files->Read(std::get<ReadWork>(work)));
      node->Do([this, living, node, index, done] {
        if (living.expired() || node->ended) return;
        node->shards[index].checkpoints->OnDone(done, node->Now());
        AfterShard(*node, index);
      });
    });
  }
}

// ---- what they are held to

// From when servers are told to freeze until workers are asked whether they stood still, nobody who is a member then
// pushes.
void SimCluster::WatchCut() {
  for (const auto& item : scheduler_->out.items()) {
    const pb::Header& header = item.message.header;
    const uint64_t freezing = header.server_orders().checkpoint().id();
    if (freezing > cut_ && freezing > cuts_seen_) {
      cut_ = cuts_seen_ = freezing;
      cut_pushers_.clear();
      cut_members_.clear();
      for (const Node* worker : scheduler_->core.members().Alive(pb::WORKER)) cut_members_[worker->peer] = worker->id;
      for (const auto& worker : workers_) {
        if (worker->core->pushes_under_way() > 0) cut_pushers_.insert(worker->self);
      }
    }
    const uint64_t pause = header.worker_orders().pause();
    if (cut_ == 0 || pause != cut_ * 2 + 1) continue;
    for (const PeerId pusher : cut_pushers_) {
      // Who was dead when it began, or has died since, is as any other that died: its batches are computed again.
      const auto member = cut_members_.find(pusher);
      const Node* const now = scheduler_->core.members().FindAlive(pusher);
      if (member != cut_members_.end() && now != nullptr && now->id == member->second) torn_.insert(cut_);
    }
    cut_ = 0;
  }
}

void SimCluster::CheckCommitted(const pb::CheckpointManifest& manifest) {
  Note(Fault::kCheckpoint);
  if (torn_.contains(manifest.id())) {
    Violation("one cut", manifest.name() + " was committed, and a worker pushed while it was cut");
  }
  if (!files_->AllFinished(manifest.name())) {
    Violation("checkpoint", manifest.name() + " is there, and a file of it may be lost");
  }
  const Status whole = VerifyCheckpoint(*files_, manifest.name(), [](size_t) { return Status(); });
  if (!whole) return Violation("checkpoint", whole.error().message);
  for (uint32_t p = 0; p < options_.partitions; ++p) {
    std::vector<std::unique_ptr<FileSource>> files;
    const auto& listed = manifest.partition(static_cast<int>(p)).file();
    if (listed.size() > 1) Note(Fault::kCheckpointBuilt);
    for (const pb::ManifestFile& file : listed) files.push_back(std::move(*files_->Open(manifest.name(), file.name())));
    PartChain chain(std::move(files));
    ImageRowMap rows;
    while (true) {
      const auto piece = chain.Next();
      if (!piece) return Violation("checkpoint", piece.error().message);
      if (!*piece) break;
      AddRows(**piece, job_, rows);
    }
    // A server that is started again may hear an old order and freeze once more; what it writes is not taken.
    const auto& frozen = frozen_[{manifest.id(), p}];
    if (manifest.job() == job_ && std::ranges::find(frozen, rows) == frozen.end()) {
      return Violation("checkpoint", StrCat(manifest.name(), " has other rows in partition ", p,
                                            " than there were when it was frozen"));
    }
  }
  std::erase_if(frozen_, [&](const auto& frozen) { return frozen.first.first < manifest.id(); });
}

void SimCluster::CheckCheckpointsAtEnd() {
  const auto entries = ListCheckpoints(*files_);
  if (!entries) return Violation("checkpoint", entries.error().message);
  if (entries->empty()) return;
  const Status whole = VerifyCheckpoint(*files_, entries->back().name, [](size_t) { return Status(); });
  if (!whole) Violation("checkpoint", "the latest: " + whole.error().message);
  const auto folders = files_->List("");
  for (const std::string& folder : *folders) {
    if (folder.starts_with(".")) Violation("leftovers", "of a checkpoint that is none: " + folder);
  }
}

bool SimCluster::HasCheckpoint() const {
  const auto entries = ListCheckpoints(*files_);
  return entries && !entries->empty() && entries->back().manifest.job() == job_;
}

}  // namespace sheaf::sim
