#include "server/restorer.h"

#include <algorithm>
#include <string>
#include <utility>

namespace sheaf {

void Restorer::OnOrder(const pb::RestoreOrder& order) {
  if (order.job() == 0) {
    order_.Clear();
    state_.Clear();
    work_.reset();
    return;
  }
  // What was restored once in an epoch has perhaps been pushed to since, and an order may be late.
  if (order.job() != job_) restored_.clear();
  job_ = order.job();
  order_ = order;
  if (state_.job() != order.job()) state_.Clear();
}

void Restorer::Step() {
  // Of exactly that configuration: by a later one others may have taken a partition on, and an order may be late.
  const bool in_force = order_.job() != 0 && core_.generation() == order_.generation();
  if (!in_force || reading_ || work_ || !state_.error().empty()) return;
  if (state_.generation() == core_.generation()) return;
  for (size_t i = 0; i < core_.owned().size(); ++i) {
    const uint32_t p = core_.owned()[i];
    const auto known = restored_.find(p);
    if (known != restored_.end() && known->second == core_.owned_epochs()[i]) continue;
    core_.DropImport();  // of one that was not read to its end
    work_.emplace(ReadWork{order_, p, /*first=*/true});
    reading_epoch_ = core_.owned_epochs()[i];
    return;
  }
  state_.set_job(order_.job());
  state_.set_generation(core_.generation());
}

std::optional<ReadWork> Restorer::TakeWork() {
  if (!work_) return std::nullopt;
  reading_ = work_->partition;
  reading_from_ = work_->order.name();
  return std::exchange(work_, std::nullopt);
}

void Restorer::OnDone(ReadDone done, TimePoint now) {
  reading_.reset();
  if (order_.job() == 0 || order_.name() != reading_from_) return;
  if (!done.status) return Fail(done.status.error().message);
  if (!core_.Has(done.partition)) return;  // it has moved away
  if (done.pieces.empty()) return Fail("the image of partition " + std::to_string(done.partition) + " is not whole");
  for (const Buffer& piece : done.pieces) {
    if (const Status taken = core_.Import(piece, now); !taken) return Fail(taken.error().message);
    if (core_.importing()) continue;
    // In the turn in which it came: a round of snapshots, or a crash, must not find it here and not in the log.
    core_.TellRestored(done.partition);
    restored_[done.partition] = reading_epoch_;
    return;
  }
  const auto at = std::ranges::lower_bound(core_.owned(), done.partition);
  const bool ours = at != core_.owned().end() && *at == done.partition &&
                    core_.owned_epochs()[static_cast<size_t>(at - core_.owned().begin())] == reading_epoch_;
  if (ours) work_.emplace(ReadWork{order_, done.partition, /*first=*/false});  // else it is begun anew
}

void Restorer::Fail(std::string why) {
  state_.set_job(order_.job());
  state_.set_error(std::move(why));
}

}  // namespace sheaf
