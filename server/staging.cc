#include "server/staging.h"

#include <algorithm>
#include <utility>

#include "common/base/planted_bug.h"

namespace sheaf {

bool Staging::IsOldest(const Staged& staged) const {
  return std::all_of(pushes_.begin(), pushes_.end(),
                     [&](const auto& other) { return other.second.born >= staged.born; });
}

Staging::Outcome Staging::Add(const PushKey& push, const SliceOrigin& origin, std::shared_ptr<RequestPart> part,
                              TimePoint now, std::vector<std::shared_ptr<RequestPart>>& parts) {
  // A push that only says that it has many slices must not take more than it pays for.
  const size_t bytes =
      part->bytes + (pushes_.contains(push) ? 0 : origin.slice_count * sizeof(std::shared_ptr<RequestPart>));
  auto at = pushes_.find(push);
  if (at != pushes_.end()) {
    const SliceOrigin& known = at->second.origin;
    if (known.sender == origin.sender && known.attempt > origin.attempt) return Outcome::kOutdated;
    const bool same_attempt = known.sender == origin.sender && known.attempt == origin.attempt;
    if (!(same_attempt || Planted(Bug::kMixedAttempts)) || known.slice_count != origin.slice_count) {
      pushes_.erase(at);
      at = pushes_.end();
    }
  }
  const size_t before = at == pushes_.end() ? 0 : at->second.bytes;
  if (before + bytes > budget_.limit()) {
    if (at != pushes_.end()) pushes_.erase(at);
    return Outcome::kTooLarge;
  }
  if (at != pushes_.end() && at->second.parts[origin.slice] != nullptr) {
    at->second.last = now;
    return Outcome::kStaged;
  }
  // The oldest push always goes on, else many that have begun could keep each other from ending.
  Budget* room = nullptr;
  if (origin.urgent && awaited_.Fits(bytes)) {
    room = &awaited_;
  } else if (budget_.Fits(bytes)) {
    room = &budget_;
  } else if (at != pushes_.end() && IsOldest(at->second)) {
    room = &awaited_;
  }
  if (room == nullptr) {
    if (at != pushes_.end()) at->second.last = now;  // not idle: its sender is told to wait
    return Outcome::kFull;
  }

  if (at == pushes_.end()) {
    at = pushes_.emplace(push, Staged{}).first;
    at->second.origin = origin;
    at->second.parts.resize(origin.slice_count);
    at->second.born = births_++;
  }
  Staged& staged = at->second;
  part->reservation = Reservation(*room, bytes);
  staged.parts[origin.slice] = std::move(part);
  staged.bytes += bytes;
  staged.last = now;
  if (++staged.present < origin.slice_count) return Outcome::kStaged;
  parts = std::move(staged.parts);
  pushes_.erase(at);
  return Outcome::kComplete;
}

size_t Staging::BytesOf(const PushKey& push) const {
  const auto at = pushes_.find(push);
  return at == pushes_.end() ? 0 : at->second.bytes;
}

void Staging::DropIf(const std::function<bool(const PushKey&, const RequestPart&)>& gone) {
  std::erase_if(pushes_, [&](const auto& entry) {
    const auto& parts = entry.second.parts;
    return std::any_of(parts.begin(), parts.end(),
                       [&](const auto& part) { return part != nullptr && gone(entry.first, *part); });
  });
}

void Staging::DropIdle(TimePoint before) {
  std::erase_if(pushes_, [&](const auto& entry) { return entry.second.last < before; });
}

}  // namespace sheaf
