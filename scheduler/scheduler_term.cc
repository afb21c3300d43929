#include "scheduler/scheduler_term.h"

#include <glog/logging.h>

#include <optional>
#include <utility>

#include "common/base/failpoint.h"

namespace sheaf {
namespace {

constexpr Duration kFullRetry = Milliseconds(500), kUnavailableRetry = Milliseconds(100);

struct PhasePoints {
  Failpoint unsaved;
  std::optional<Failpoint> saved;
  Failpoint told;
};
PhasePoints PointsOf(CheckpointBook::Phase phase) {
  using Phase = CheckpointBook::Phase;
  switch (phase) {
    case Phase::kOpening:
      return {"scheduler.opening.unsaved", Failpoint("scheduler.opening.saved"), "scheduler.opening.told"};
    case Phase::kPausing:
      return {"scheduler.pausing.unsaved", std::nullopt, "scheduler.pausing.told"};
    case Phase::kFreezing:
      return {"scheduler.freezing.unsaved", std::nullopt, "scheduler.freezing.told"};
    case Phase::kResuming:
      return {"scheduler.resuming.unsaved", std::nullopt, "scheduler.resuming.told"};
    case Phase::kWriting:
      return {"scheduler.writing.unsaved", std::nullopt, "scheduler.writing.told"};
    case Phase::kCommitting:
      return {"scheduler.committing.unsaved", std::nullopt, "scheduler.committing.told"};
    case Phase::kIdle:
      break;
  }
  return {"scheduler.ended.unsaved", Failpoint("scheduler.ended.saved"), "scheduler.ended.told"};
}

}  // namespace

SchedulerTerm::SchedulerTerm(SchedulerOptions options, MetaStore& store, SavedState saved,
                             std::unique_ptr<CheckpointKeeper> checkpoints, Transport& transport, const Clock& clock,
                             std::function<bool()> may_send)
    : checkpoints_(std::move(checkpoints)), transport_(transport), may_send_(std::move(may_send)),
      keeper_(store, saved.epoch), core_(std::move(options), clock.Now(), std::move(saved)) {}

void SchedulerTerm::OnMessage(PeerId from, const Message& message, TimePoint now) {
  if (!try_again_) core_.OnMessage(from, message, now, out_);
}

void SchedulerTerm::OnTick(TimePoint now) {
  if (!try_again_) core_.OnTick(now, out_);
}

void SchedulerTerm::OnCheckpointsDone(TimePoint now) {
  while (auto done = checkpoints_->TakeDone()) core_.OnCheckpointDone(std::move(*done), now, out_);
}

Status SchedulerTerm::Flush(TimePoint now) {
  const bool new_phase = core_.checkpoint_phase() != phase_told_;
  const PhasePoints points = PointsOf(core_.checkpoint_phase());
  if (new_phase) Pass(points.unsaved);
  if (!outcome_ || (try_again_ && now < *try_again_) || !Commit(now)) return outcome_;
  if (new_phase && points.saved) Pass(*points.saved);
  if (!may_send_()) {
    outcome_ = Fail(ErrorCode::kAlreadyExists, "its lease could not be renewed in time");
    return outcome_;
  }
  Send();
  while (checkpoints_ != nullptr) {
    auto work = core_.TakeCheckpointWork();
    if (!work) break;
    checkpoints_->Put(std::move(*work));
  }
  phase_told_ = core_.checkpoint_phase();
  if (new_phase) Pass(points.told);
  return {};
}

bool SchedulerTerm::Commit(TimePoint now) {
  const Status saved = keeper_.Commit(core_, now);
  if (saved) {
    if (try_again_) LOG(INFO) << "the store can be written again";
    try_again_.reset();
    return true;
  }
  const ErrorCode code = saved.error().code;
  if (code == ErrorCode::kResourceExhausted || code == ErrorCode::kUnavailable) {
    const bool full = code == ErrorCode::kResourceExhausted;
    if (!try_again_) {
      LOG(ERROR) << saved.error().message << ": nothing is answered until "
                 << (full ? "there is room" : "it can be reached");
    }
    try_again_ = now + (full ? kFullRetry : kUnavailableRetry);
    return false;
  }
  outcome_ = Wrap(saved.error(), "what the scheduler knows cannot be kept");
  return false;
}

void SchedulerTerm::Send() {
  for (const std::string& line : core_.TakeEvents()) LOG(INFO) << line;
  for (Outbox::Item& item : out_.items()) {
    const uint64_t request = item.message.header.request();
    const Status sent = transport_.Send(item.to, std::move(item.message));
    if (sent) continue;
    // Reports are repeated: what cannot be sent now is said again.
    LOG_EVERY_N(WARNING, 100) << "not sent: " << sent.error().message;
    if (sent.error().code != ErrorCode::kInvalidArgument || request == 0) continue;
    Message refusal;  // an answer that no message can hold: whoever asked would ask for ever
    refusal.header.set_request(request);
    refusal.header.mutable_refusal()->set_reason(pb::Refusal::INVALID);
    refusal.header.mutable_refusal()->set_text("the answer is too large: " + sent.error().message);
    (void)transport_.Send(item.to, std::move(refusal));
  }
  out_.clear();
}

}  // namespace sheaf
