#include "server/checkpointer.h"

#include <utility>

namespace sheaf {

void Checkpointer::OnOrder(const pb::CheckpointOrder& order) {
  if (order.id() == 0 || order.id() > latest_) {
    if (order.id() != order_.id()) Drop();
  }
  if (order.id() <= latest_) return;
  latest_ = order.id();
  order_ = order;
}

void Checkpointer::Drop() {
  core_.EndCuts();
  cuts_.clear();
  next_ = 0;
  under_way_ -= ready_.size();
  ready_.clear();
  order_.Clear();
  state_.Clear();
}

void Checkpointer::Step() {
  if (order_.id() == 0) return;
  if (!state_.has_id()) {
    if (core_.generation() >= order_.generation()) Freeze();
    return;
  }
  if (eager()) Copy();
}

bool Checkpointer::eager() const {
  return state_.phase() == pb::CheckpointState::PREPARED && next_ < cuts_.size() && under_way_ < kMostUnderWay;
}

void Checkpointer::Freeze() {
  state_.set_id(order_.id());
  state_.set_phase(pb::CheckpointState::PREPARED);
  for (const uint32_t p : core_.owned()) {
    if (auto cut = core_.BeginCut(p, order_.job(), order_.id(), order_.base())) cuts_.push_back(std::move(*cut));
  }
  if (!core_.absent().empty() || !core_.coming().empty()) return Fail("a partition is being taken over");
  if (cuts_.empty()) state_.set_phase(pb::CheckpointState::WRITTEN);
}

void Checkpointer::Copy() {
  PartitionCut& cut = cuts_[next_];
  PartWork work;
  work.id = order_.id();
  work.folder = order_.folder();
  work.part.set_partition(cut.partition);
  work.part.set_lsn(cut.lsn.value);
  work.part.set_whole(cut.whole);
  work.part.set_rows(cut.rows);
  work.pieces = std::exchange(cut.state, {});
  const ShardCore::Copied copied = core_.CopyCut(cut, rows_a_step_, work.pieces);
  if (copied == ShardCore::Copied::kGone) return Fail("a partition has moved, or a table is gone");
  work.last = copied == ShardCore::Copied::kAll;
  if (work.last) {
    core_.EndCut(cut);
    work.end = ++next_ == cuts_.size();
  }
  if (work.pieces.empty() && !work.last) return;
  ready_.push_back(std::move(work));
  ++under_way_;
}

std::optional<PartWork> Checkpointer::TakeWork() {
  if (ready_.empty()) return std::nullopt;
  PartWork work = std::move(ready_.front());
  ready_.pop_front();
  return work;
}

void Checkpointer::OnDone(const PartDone& done) {
  --under_way_;
  if (done.id != state_.id() || state_.phase() != pb::CheckpointState::PREPARED) return;
  if (!done.status) return Fail(done.status.error().message);
  if (done.parts.empty()) return;
  for (const pb::CheckpointPart& part : done.parts) *state_.add_part() = part;
  if (state_.part_size() == static_cast<int>(cuts_.size())) state_.set_phase(pb::CheckpointState::WRITTEN);
}

void Checkpointer::Fail(std::string why) {
  core_.EndCuts();
  cuts_.clear();
  next_ = 0;
  under_way_ -= ready_.size();
  ready_.clear();
  state_.clear_part();
  state_.set_phase(pb::CheckpointState::FAILED);
  state_.set_error(std::move(why));
}

}  // namespace sheaf
