#include "worker/bad_gradients.h"

#include "common/base/strings.h"
#include "compute/codec/gradient_check.h"

namespace sheaf {

std::optional<std::string> FindPoison(const pb::JobSpec& spec, const StepResult& result) {
  GradientCheck check(spec.optimizer().max_gradient_norm());
  for (const TableGradients& table : result.gradients) check.Add(table.values);
  return check.Wrong();
}

std::string BatchText(const pb::LeaseGrant& grant, uint32_t batch) {
  const pb::RangeSpec& rows = grant.rows();
  return StrCat("batch ", batch, " of range ", grant.range(), " (rows ", rows.first_row() + 1, " to ",
                rows.first_row() + rows.row_count(), " of ", rows.path(), ")");
}

std::optional<std::string> BadGradients::NoteRefused(uint64_t job, const std::string& why) {
  if (job != job_) in_row_ = 0;
  job_ = job;
  ++total_;
  ++in_row_;
  const bool power_of_two = (in_row_ & (in_row_ - 1)) == 0;
  if (!power_of_two) return std::nullopt;
  return StrCat(why, " (left out, the ", in_row_, ". in a row of job ", job, ")");
}

void BadGradients::NoteGood(uint64_t job) {
  if (job == job_) in_row_ = 0;
}

void BadGradients::AddTo(pb::WorkerReport& report) const {
  if (total_ == 0) return;
  report.set_refused_batches(total_);
  report.set_refused_job(job_);
  report.set_refused_in_row(in_row_);
}

}  // namespace sheaf
