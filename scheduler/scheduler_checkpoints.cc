// Checkpoints as far as they concern the scheduler's other business: who is told what, and jobs that go on from one.
#include <algorithm>
#include <utility>

#include "common/base/strings.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {

void SchedulerCore::OnCreateCheckpoint(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  auto made = checkpoints_.Create(message.header.create_checkpoint(), Current(), now);
  if (!made) return Refuse(from, message.header.request(), pb::Refusal::INVALID, made.error().message, out);
  Message reply = AnswerTo(message.header.request());
  *reply.header.mutable_checkpoint_status() = std::move(*made);
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnGetCheckpoint(PeerId from, const Message& message, Outbox& out) {
  auto found = checkpoints_.Find(message.header.get_checkpoint().id());
  if (!found) {
    return Refuse(from, message.header.request(), pb::Refusal::NOT_FOUND,
                  StrCat("checkpoint number ", message.header.get_checkpoint().id(),
                         " is not known any more: sheaf checkpoint ls shows what there is"), out);
  }
  Message reply = AnswerTo(message.header.request());
  *reply.header.mutable_checkpoint_status() = std::move(*found);
  out.Send(from, std::move(reply));
}

void SchedulerCore::OnRestoreJob(PeerId from, const Message& message, TimePoint, Outbox& out) {
  const pb::RestoreJob& wanted = message.header.restore_job();
  const uint64_t request = message.header.request();
  if (const auto known = tokens_.find(wanted.token()); known != tokens_.end()) {
    Message reply = AnswerTo(request);
    reply.header.mutable_accepted()->set_job(known->second.value);
    out.Send(from, std::move(reply));
    return;
  }
  const auto refuse = [&](std::string why) { Refuse(from, request, pb::Refusal::INVALID, std::move(why), out); };
  if (!checkpoints_.has_folder()) {
    return refuse("the scheduler has no --checkpoint_dir: start it, and all servers, with the checkpoint's folder");
  }
  if (wanted.name() != "latest") {
    if (const Status fits = CheckCheckpointName(wanted.name()); !fits) return refuse(fits.error().message);
  }
  // Jobs, tables and pushes are known by the job's number, which it keeps.
  if (!jobs_.empty()) {
    return refuse("this cluster has jobs already: a job goes on from a checkpoint in a new cluster only (another "
                  "--data_dir of the scheduler and of the servers, or none)");
  }
  const bool reading = restore_asked_.has_value() && restore_asked_->token == wanted.token();
  if (restore_asked_ && !reading) return refuse("another job is being restored");
  restore_asked_ = Asked{from, request, wanted.token()};
  if (reading) return;
  restore_work_.emplace();
  restore_work_->kind = CheckpointWork::Kind::kRead;
  restore_work_->name = wanted.name();
}

std::optional<CheckpointWork> SchedulerCore::TakeCheckpointWork() {
  if (restore_work_) return std::exchange(restore_work_, std::nullopt);
  return checkpoints_.TakeWork();
}

std::vector<std::string> SchedulerCore::TakeEvents() {
  for (std::string& line : checkpoints_.TakeEvents()) events_.push_back(std::move(line));
  return std::exchange(events_, {});
}

void SchedulerCore::OnCheckpointDone(CheckpointResult result, TimePoint now, Outbox& out) {
  if (result.kind != CheckpointWork::Kind::kRead) {
    checkpoints_.OnDone(result);
  } else if (const auto asked = std::exchange(restore_asked_, std::nullopt)) {
    Status taken = result.status;
    if (taken) {
      result.manifest->content.mutable_submission()->set_token(asked->token);
      taken = TakeCheckpoint(std::move(*result.manifest), now);
    }
    if (taken) {
      Message reply = AnswerTo(asked->request);
      reply.header.mutable_accepted()->set_job(tokens_.at(asked->token).value);
      out.Send(asked->from, std::move(reply));
    } else {
      const bool absent = taken.error().code == ErrorCode::kNotFound;
      Refuse(asked->from, asked->request, absent ? pb::Refusal::NOT_FOUND : pb::Refusal::INVALID,
             taken.error().message, out);
    }
  }
  Settle(now, out);
}

Status SchedulerCore::TakeCheckpoint(Manifest manifest, TimePoint now) {
  pb::CheckpointManifest& content = manifest.content;
  if (!jobs_.empty()) return Fail(ErrorCode::kInvalidArgument, "this cluster has got a job meanwhile");
  if (content.partition_count() != options_.partition_count) {
    return Fail(ErrorCode::kInvalidArgument, "the checkpoint ", content.name(), " has ", content.partition_count(),
                " partitions, this cluster ", options_.partition_count, ": start the scheduler with --partitions=",
                content.partition_count());
  }
  SHEAF_RETURN_IF_ERROR(CheckJob(content.submission().spec()));
  const JobId id(content.job());
  SavedJob saved;
  saved.submission = std::move(*content.mutable_submission());
  saved.plan = std::move(*content.mutable_plan());
  saved.state = std::move(*content.mutable_state());
  saved.ranges.assign(content.ranges().begin(), content.ranges().end());
  saved.evaluation = content.evaluation();
  saved.state.set_tables_dropped(true);
  pb::RestoreRecord& restore = *saved.state.mutable_restore();
  restore.set_name(content.name());
  restore.set_digest_high(manifest.digest.high);
  restore.set_digest_low(manifest.digest.low);
  tokens_.emplace(saved.submission.token(), id);
  next_job_ = std::max(next_job_, id.value + 1);
  jobs_[id] = std::make_unique<Job>(id, std::move(saved), Job::From::kCheckpoint, options_.job, now);
  open_.push_back(id);
  events_.push_back(StrCat("job=", id, " goes on from checkpoint ", content.name()));
  return {};
}

void SchedulerCore::AdvanceRestore(TimePoint now) {
  Job* const job = Current();
  if (job == nullptr || job->restoring() == nullptr || !members_.Awaited().empty()) return;
  if (job->config_dirty() || servers_changed_ || replicas_changed_) return;  // another placement is on its way
  for (const Node* server : members_.Alive(pb::SERVER)) {
    const pb::RestoreState& restored = server->server_report.restore();
    if (restored.job() == job->id().value && !restored.error().empty()) {
      job->Fail(ErrorCode::kDataLoss, server->name + ": " + restored.error(), now);
      touched_.insert(job->id());
      return;
    }
    if (restored.job() != job->id().value || restored.generation() != config().generation()) return;
  }
  job->OnRestored(now);
  events_.push_back(StrCat("job=", job->id(), " is restored"));
}

void SchedulerCore::AddCheckpointOrders(const Node& server, pb::ServerOrders& orders) {
  if (auto order = checkpoints_.OrderTo(server)) *orders.mutable_checkpoint() = std::move(*order);
  const Job* const job = Current();
  if (job == nullptr || job->restoring() == nullptr) return;
  pb::RestoreOrder& order = *orders.mutable_restore();
  order.set_job(job->id().value);
  order.set_name(job->restoring()->name());
  order.set_digest_high(job->restoring()->digest_high());
  order.set_digest_low(job->restoring()->digest_low());
  order.set_generation(config().generation());
}

void SchedulerCore::AdvanceCheckpoints(TimePoint now, Outbox& out) {
  CheckpointBook::Actions actions;
  checkpoints_.Advance({members_, Current(), config().generation(), !recovering_ && AllSettled()}, now, actions);
  if (actions.poke_workers) {
    for (Node* worker : members_.Alive(pb::WORKER)) Poke(*worker, out);
  }
  if (!actions.order_servers) return;
  // Those that do not hear it hear it in the answer to their next report.
  for (const Node* server : members_.Alive(pb::SERVER)) {
    Message message;
    if (const auto order = checkpoints_.OrderTo(*server)) {
      message.header.mutable_server_orders()->set_scheduler_epoch(epoch_);
      *message.header.mutable_server_orders()->mutable_checkpoint() = *order;
    } else {
      message.header.mutable_report_now();
    }
    out.Send(server->peer, std::move(message));
  }
}

}  // namespace sheaf
