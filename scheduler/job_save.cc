// What of a job is in the store, and a job made of that again. Which key holds what: saved_state.h.
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/planted_bug.h"
#include "common/job/job_validate.h"
#include "compute/model/model.h"
#include "scheduler/job.h"
#include "scheduler/job_plan.h"

namespace sheaf {
namespace {

uint64_t Nanoseconds(Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(0, std::chrono::nanoseconds(duration).count()));
}

Duration FromNanoseconds(uint64_t count) {
  return std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(count));
}

}  // namespace

// ---- saved

Job::Mark Job::MarkNow() const {
  return {phase_,           pass_index_, static_cast<int>(step_), confirm_,
          tables_.empty(), restoring_,  workers_lost_,           next_lane_};
}

pb::JobRecord Job::DescribeState(TimePoint now) const {
  pb::JobRecord record;
  record.set_phase(phase_);
  if (ended()) record.set_detail(detail_);
  if (ended()) record.set_error_code(static_cast<uint32_t>(error_code_));
  record.set_bsp_lanes(bsp_lanes_);
  record.set_pass(pass_index_);
  record.set_working(step_ == Step::kWork);
  record.set_tables_dropped(tables_.empty());
  for (const uint64_t rows : split_rows_) record.add_split_rows(rows);
  record.set_confirm(confirm_);
  record.set_confirm_pass(confirm_pass_);
  record.set_confirm_examples(confirm_examples_);
  record.set_train_examples(train_examples_);
  record.set_work_done(work_done_);
  record.set_bad_rows(bad_rows_);
  record.set_refused_batches(refused_batches_);
  record.set_duplicates(duplicates_);
  record.set_staleness(staleness_);
  for (const double loss : epoch_loss_) record.add_epoch_loss(loss);
  for (const pb::EvalResult& result : results_) *record.add_result() = result;
  record.set_workers_lost(workers_lost_);
  record.set_next_lane(next_lane_);
  record.set_max_clock(max_clock_);
  if (phase_ != pb::WAITING) record.set_elapsed_ns(Nanoseconds((ended() ? ended_at_ : now) - began_));
  record.set_train_ns(Nanoseconds(train_time_));
  if (working()) record.set_pass_ns(Nanoseconds(now - pass_began_));
  if (restoring_) *record.mutable_restore() = restore_;
  return record;
}

// All at once: what becomes of it before there are machines needs nothing more.
void Job::SaveCheckpointed(MetaTxn& txn) {
  if (!std::exchange(from_checkpoint_unsaved_, false)) return;
  const SavedJob& saved = *from_checkpoint_;
  Put(txn, SubmissionKey(id_), saved.submission);
  Put(txn, PlanKey(id_), saved.plan);
  Put(txn, JobStateKey(id_), saved.state);
  for (const pb::RangesRecord& block : saved.ranges) {
    if (block.range_size() > 0) Put(txn, RangesKey(id_, block.range(0) / LeaseBook::kBlock), block);
  }
  if (saved.evaluation.has_counts()) Put(txn, EvaluationKey(id_), saved.evaluation);
}

void Job::Save(TimePoint now, bool behind, MetaTxn& txn) {
  if (from_checkpoint_ && !ended()) return SaveCheckpointed(txn);
  if (!submission_saved_) {
    pb::SubmitJob submission;
    *submission.mutable_spec() = spec_;
    submission.set_token(submission_token_);
    Put(txn, SubmissionKey(id_), submission);
    submission_saved_ = true;
  }
  if (std::exchange(plan_unsaved_, false)) {
    Put(txn, PlanKey(id_), plan_);
    plan_saved_ = true;
  }
  if (ended() && std::exchange(plan_saved_, false)) txn.deletes.push_back(PlanKey(id_));
  SaveLanes(txn);
  if (behind || saved_pass_ != pass_index_ || ended()) SaveProgress(txn);
  if (MarkNow() == saved_ && !(behind && working())) return;
  saved_ = MarkNow();
  Put(txn, JobStateKey(id_), DescribeState(now));
}

void Job::SaveLanes(MetaTxn& txn) {
  if (lanes_changed_.empty()) return;
  std::map<LaneId, NodeId> holders;
  for (const auto& [worker, lane] : lane_of_) holders[lane] = worker;
  for (const LaneId lane : std::exchange(lanes_changed_, {})) {
    const int index = LaneIndex(lane);
    const bool is_there = index < roster_.lane_size() && roster_.lane(index).lane() == lane.value;
    if (!is_there || phase_ != pb::RUNNING || pass_index_ >= passes_.size() || !OwnLanes()) {
      txn.deletes.push_back(LaneKeyOf(id_, lane));
      continue;
    }
    pb::LaneRecord record;
    record.set_node(holders.at(lane).value);
    record.set_start_clock(roster_.lane(index).start_clock());
    Put(txn, LaneKeyOf(id_, lane), record);
  }
}

// Blocks of a pass that is over go; those of the running one that have changed come.
void Job::SaveProgress(MetaTxn& txn) {
  std::set<uint32_t> changed;
  if (book_ != nullptr) changed = book_->TakeUnsaved();
  if (saved_pass_ != pass_index_ || ended()) {
    for (const uint32_t block : std::exchange(saved_blocks_, {})) {
      if (!changed.contains(block)) txn.deletes.push_back(RangesKey(id_, block));
    }
    if (std::exchange(evaluation_saved_, false)) txn.deletes.push_back(EvaluationKey(id_));
    saved_pass_ = pass_index_;
  }
  for (const uint32_t block : changed) {
    pb::RangesRecord record = book_->DescribeBlock(block, LeaseBook::Progress::kTaken);
    record.set_pass(pass_index_);
    Put(txn, RangesKey(id_, block), record);
    saved_blocks_.insert(block);
  }
  if (changed.empty() || Updates(pass().kind)) return;
  pb::EvalRecord evaluation;
  evaluation.set_pass(pass_index_);
  *evaluation.mutable_counts() = eval_counts_;
  if (evaluation_saved_) std::erase(txn.deletes, EvaluationKey(id_));
  Put(txn, EvaluationKey(id_), evaluation);
  evaluation_saved_ = true;
}

// ---- and found again

Job::Job(JobId id, SavedJob saved, From from, JobOptions options, TimePoint now)
    : id_(id), spec_(saved.submission.spec()), submission_token_(saved.submission.token()),
      options_(options), submission_saved_(true), from_checkpoint_unsaved_(from == From::kCheckpoint),
      submitted_(now) {
  brief_.set_job(id_.value);
  *brief_.mutable_spec() = spec_;
  detail_ = "waits for its turn";
  // Without tables: servers have nothing of it yet, and it waits for them. With tables they may have some of it.
  if (saved.state.has_restore() && saved.state.tables_dropped()) {
    saved_ = MarkNow();
    from_checkpoint_ = std::move(saved);
    return;
  }
  restore_ = saved.state.restore();
  restoring_ = saved.state.has_restore();
  if (const Status restored = Restore(std::move(saved), now); !restored) {
    Fail(ErrorCode::kDataLoss, "the scheduler was started again and cannot go on with it: " + restored.error().message,
         now);
  }
  config_dirty_ = config_urgent_ = !ended();
}

Status Job::Restore(SavedJob saved, TimePoint now) {
  SHEAF_RETURN_IF_ERROR(ValidateJob(spec_));
  if (const auto model = MakeModel(spec_.model()); !model) return Failure{model.error()};
  const pb::JobRecord& state = saved.state;
  if (state.phase() != pb::JOB_UNKNOWN) phase_ = state.phase();
  for (int i = 0; i < state.split_rows_size() && i < 3; ++i) split_rows_[i] = state.split_rows(i);
  bsp_lanes_ = state.bsp_lanes();
  pass_index_ = saved_pass_ = state.pass();
  confirm_ = state.confirm();
  confirm_pass_ = state.confirm_pass();
  confirm_examples_ = state.confirm_examples();
  train_examples_ = state.train_examples();
  work_done_ = state.work_done();
  bad_rows_ = state.bad_rows();
  refused_batches_ = state.refused_batches();
  duplicates_ = state.duplicates();
  staleness_ = state.staleness();
  epoch_loss_.assign(state.epoch_loss().begin(), state.epoch_loss().end());
  results_.assign(state.result().begin(), state.result().end());
  workers_lost_ = state.workers_lost();
  train_time_ = FromNanoseconds(state.train_ns());
  if (phase_ != pb::WAITING) began_ = now - FromNanoseconds(state.elapsed_ns());
  for (const auto& [lane, record] : saved.lanes) lanes_changed_.insert(lane);  // those that are no more go
  for (const pb::RangesRecord& block : saved.ranges) {
    if (block.range_size() > 0) saved_blocks_.insert(block.range(0) / LeaseBook::kBlock);
  }
  plan_saved_ = saved.plan.file_size() > 0;
  evaluation_saved_ = saved.evaluation.has_counts();
  if (ended()) {
    error_code_ = ErrorCodeFromWire(state.error_code());
    detail_ = state.detail();
    ended_at_ = now;
    MakePasses();
    if (!state.tables_dropped()) MakeTables();
    saved_ = MarkNow();
    return {};
  }
  if (phase_ == pb::RUNNING) SHEAF_RETURN_IF_ERROR(RestorePass(saved, now));
  saved_ = MarkNow();
  return {};
}

// ---- checkpoints

void Job::DescribeCheckpoint(pb::CheckpointManifest& manifest, TimePoint now) const {
  manifest.set_job(id_.value);
  *manifest.mutable_submission()->mutable_spec() = spec_;
  manifest.mutable_submission()->set_token(submission_token_);
  *manifest.mutable_plan() = plan_;
  *manifest.mutable_state() = DescribeState(now);
  for (uint32_t block = 0; book_ != nullptr && block < book_->CountBlocks(); ++block) {
    pb::RangesRecord record = book_->DescribeBlock(block, LeaseBook::Progress::kAll);
    if (record.range_size() == 0) continue;
    record.set_pass(pass_index_);
    *manifest.add_ranges() = std::move(record);
  }
  const bool evaluates = pass_index_ < passes_.size() && !Updates(pass().kind);
  if (!evaluates || manifest.ranges().empty()) return;
  manifest.mutable_evaluation()->set_pass(pass_index_);
  *manifest.mutable_evaluation()->mutable_counts() = eval_counts_;
}

// There are machines now.
void Job::BeginRestore(TimePoint now) {
  SavedJob saved = std::move(*from_checkpoint_);
  from_checkpoint_.reset();
  restore_ = saved.state.restore();
  saved.state.clear_restore();
  saved.state.set_tables_dropped(false);
  phase_ = pb::RUNNING;
  restoring_ = true;
  if (const Status restored = Restore(std::move(saved), now); !restored) {
    return Fail(ErrorCode::kDataLoss, "it cannot go on from the checkpoint " + restore_.name() + ": " +
                                          restored.error().message, now);
  }
  if (phase_ != pb::RUNNING) {
    return Fail(ErrorCode::kDataLoss, "the checkpoint " + restore_.name() + " is of a job that did not run", now);
  }
  saved_ = {};  // what is in the store says less
  MarkUrgent();
}

void Job::OnRestored(TimePoint now) {
  restoring_ = false;
  settle_since_ = now;
  ++work_version_;
  detail_.clear();
}

Status Job::RestorePass(const SavedJob& saved, TimePoint now) {
  SHEAF_RETURN_IF_ERROR(UsePlan(saved.plan));
  plan_ = saved.plan;
  if (pass_index_ > passes_.size()) return sheaf::Fail(ErrorCode::kDataLoss, "there is no pass ", pass_index_);
  MakeTables();
  StartPass(now);
  next_lane_ = saved.state.next_lane();
  if (Planted(Bug::kLanesNumberedAnew)) next_lane_ = saved.lanes.empty() ? 0 : saved.lanes.rbegin()->first.value + 1;
  if (pass_index_ == passes_.size()) return {};
  if (saved.state.working()) {
    step_ = Step::kWork;
    lanes_made_ = true;
    pass_began_ = now - FromNanoseconds(saved.state.pass_ns());
    ++work_version_;
  }
  max_clock_ = saved.state.max_clock();
  for (const auto& [lane, record] : saved.lanes) {
    if (!OwnLanes()) break;
    lane_of_[NodeId(record.node())] = lane;
    pb::Lane* const entry = roster_.add_lane();
    entry->set_lane(lane.value);
    entry->set_start_clock(record.start_clock());
    lanes_made_ = true;
  }
  const bool evaluates = !Updates(pass().kind);
  if (evaluates && saved.ranges.empty() != !saved.evaluation.has_counts()) {
    return sheaf::Fail(ErrorCode::kDataLoss, "ranges and results of an evaluation do not belong together");
  }
  if (evaluates) eval_counts_ = saved.evaluation.counts();
  for (const pb::RangesRecord& block : saved.ranges) {
    if (block.pass() != pass_index_ || !book_->RestoreBlock(block)) {
      return sheaf::Fail(ErrorCode::kDataLoss, "the progress that is saved is not of pass ", pass_index_);
    }
  }
  return {};
}

}  // namespace sheaf
