// What people are told of a job.
#include <algorithm>

#include "scheduler/job.h"

namespace sheaf {

std::string Job::StateLine() const {
  std::string line =
      "job=" + std::to_string(id_.value) + " name=" + spec_.name() + " phase=" + pb::JobPhase_Name(phase_);
  if (phase_ == pb::RUNNING && pass_index_ < passes_.size()) {
    line += " pass=" + std::to_string(pass_index_) + " kind=" + pb::PassKind_Name(pass().kind);
    if (pass().epoch > 0) line += " epoch=" + std::to_string(pass().epoch);
    line += step_ == Step::kSettle ? " settling" : " working";
  }
  if (ended() && !detail_.empty()) line += ": " + detail_;
  return line;
}

pb::JobStatus Job::Describe(const Membership& members, TimePoint now, bool whole) const {
  pb::JobStatus status;
  status.set_job(id_.value);
  status.set_name(spec_.name());
  status.set_phase(phase_);
  status.set_detail(detail_);
  if (phase_ == pb::FAILED || phase_ == pb::CANCELLED) status.set_error_code(static_cast<uint32_t>(error_code_));
  status.set_epochs(spec_.train().epochs());
  status.set_workers_lost(workers_lost_);
  if (whole) *status.mutable_brief() = brief_;
  status.set_train_rows(split_rows_[0]);
  if (whole) {
    for (const pb::EvalResult& result : results_) *status.add_eval() = result;
    for (double loss : epoch_loss_) status.add_epoch_train_loss(loss);
  }

  const bool began = began_ != TimePoint{} || phase_ >= pb::PLANNING;
  const TimePoint until = ended() ? ended_at_ : now;
  if (began) status.set_elapsed_seconds(ToSeconds(until - began_));

  uint64_t work_total = 0;
  for (const Pass& each : passes_) work_total += split_rows_[SplitOf(each.kind)];
  const uint64_t in_pass = book_ == nullptr ? 0 : book_->examples() + book_->bad_rows();
  status.set_work_total(work_total);
  status.set_work_done(work_done_ + in_pass);
  status.set_refused_batches(refused_batches_ + (book_ == nullptr ? 0 : book_->refused_batches()));
  status.set_bad_rows(bad_rows_ + (book_ == nullptr ? 0 : book_->bad_rows()));

  uint64_t trained = train_examples_;
  Duration train_time = train_time_;
  if (!epoch_loss_.empty()) status.set_train_loss(epoch_loss_.back());
  status.set_epoch(static_cast<uint32_t>(epoch_loss_.size()));
  if (phase_ == pb::RUNNING && book_ != nullptr && pass_index_ < passes_.size()) {
    status.set_pass(pass_index_);
    status.set_pass_kind(pass().kind);
    status.set_rows_done(in_pass);
    status.set_rows_total(split_rows_[SplitOf(pass().kind)]);
    const double seconds = step_ == Step::kWork ? ToSeconds(now - pass_began_) : 0;
    if (seconds > 0) status.set_examples_per_second(static_cast<double>(in_pass) / seconds);
    if (pass().kind == pb::TRAIN) {
      status.set_epoch(pass().epoch);
      trained += book_->examples();
      if (step_ == Step::kWork) train_time += now - pass_began_;
      if (book_->examples() > 0) status.set_train_loss(book_->running_loss() / static_cast<double>(book_->examples()));
    }
  } else if (ended() && ToSeconds(train_time) > 0) {
    status.set_examples_per_second(static_cast<double>(trained) / ToSeconds(train_time));
  }
  status.set_examples_total(trained);
  status.set_train_seconds(ToSeconds(train_time));

  const PassCounts running = ended() ? PassCounts() : CountsOf(members, pass_index_);
  status.set_pushes_deduplicated(duplicates_ + running.duplicates);
  status.set_staleness(std::max(staleness_, running.staleness));
  return status;
}

}  // namespace sheaf
