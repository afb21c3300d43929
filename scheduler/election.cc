#include "scheduler/election.h"

#include <algorithm>
#include <utility>

namespace sheaf {

std::string LeaderRecord::Value(const std::string& name, const std::string& address) { return name + " " + address; }

LeaderRecord LeaderRecord::Read(const std::string& value, int64_t create_revision, int64_t lease) {
  LeaderRecord record{.name = value, .create_revision = create_revision, .lease = lease};
  const size_t space = value.find(' ');
  if (space == std::string::npos) return record;
  record.name = value.substr(0, space);
  record.address = value.substr(space + 1);
  return record;
}

Election::Step Election::Next(TimePoint now) {
  if (leading() && now >= valid_until_) GiveUp(now);
  if (state_ == State::kResigning && now >= over_at_) Watch(now);
  if (now < next_at_) return Step::kNone;
  asked_at_ = now;
  switch (state_) {
    case State::kWatching: return Step::kLook;
    case State::kGranting: return Step::kGrant;
    case State::kCampaigning: return Step::kCampaign;
    case State::kLeading: return Step::kRenew;
    case State::kResigning: return Step::kRevoke;
  }
  return Step::kNone;
}

TimePoint Election::WakeAt() const {
  return leading() ? std::min(next_at_, valid_until_) : state_ == State::kResigning ? std::min(next_at_, over_at_)
                                                                                    : next_at_;
}

void Election::Watch(TimePoint next_at) {
  state_ = State::kWatching;
  lease_ = 0;
  next_at_ = next_at;
}

void Election::OnLooked(const std::optional<LeaderRecord>& leader, TimePoint now) {
  leader_ = leader.value_or(LeaderRecord());
  if (leader) {
    next_at_ = now + options_.look_every;
    return;
  }
  state_ = State::kGranting;
  next_at_ = now;
}

void Election::TakeTtl(Duration ttl) {
  // The store may have given more; what we asked for will do. A fifth is for clocks that do not go equally fast.
  valid_until_ = asked_at_ + std::min(ttl, options_.ttl) * 4 / 5;
}

void Election::OnGranted(int64_t lease, Duration ttl, TimePoint now) {
  lease_ = lease;
  TakeTtl(ttl);
  over_at_ = now + ttl * 2;
  state_ = State::kCampaigning;
  next_at_ = now;
}

void Election::OnCampaigned(const std::optional<LeaderRecord>& leader, TimePoint now) {
  if (!leader) return OnFailed(now);
  TakeLeader(*leader, now);
}

void Election::TakeLeader(const LeaderRecord& leader, TimePoint now) {
  leader_ = leader;
  if (leader.name != options_.name || leader.lease != lease_ || now >= valid_until_) {
    // Another was first, or this was answered too late. The lease is given back, so that the key goes if it is ours.
    state_ = State::kResigning;
    next_at_ = now;
    return;
  }
  state_ = State::kLeading;
  revision_ = leader.create_revision;
  next_at_ = asked_at_ + RenewEvery();
}

void Election::OnRenewed(Duration ttl, TimePoint now) {
  if (ttl <= Duration::zero()) return Watch(now);
  TakeTtl(ttl);
  over_at_ = std::max(over_at_, now + ttl * 2);
  next_at_ = asked_at_ + RenewEvery();
}

void Election::OnRevoked(TimePoint now) {
  // Whoever gave up lets others go first.
  Watch(now + options_.look_every);
}

void Election::OnFailed(TimePoint now) {
  next_at_ = now + options_.look_every;
  switch (state_) {
    case State::kWatching: leader_ = {}; break;
    case State::kGranting: state_ = State::kWatching; break;  // a lease that nobody knows of ends by itself
    case State::kCampaigning: state_ = State::kResigning; break;  // the key may be there: it goes with its lease
    case State::kLeading:
    case State::kResigning: break;
  }
}

void Election::GiveUp(TimePoint now) {
  if (!leading()) return;
  state_ = State::kResigning;
  leader_ = {};
  next_at_ = now;
}

}  // namespace sheaf
