#include "common/net/scheduler_list.h"

#include <algorithm>
#include <utility>

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr size_t kMostAddresses = 16;
constexpr Duration kPatience = std::chrono::seconds(1);        // with one that is silent
constexpr Duration kLeaderless = std::chrono::seconds(2);      // with one that knows of no leader: it will soon
constexpr Duration kBetween = Milliseconds(100);               // changes: two that name each other cost little
constexpr Duration kSilentFor = std::chrono::seconds(5);       // others may not know yet that it is
constexpr Duration kLongestRound = Milliseconds(500);

std::vector<std::string> Addresses(const std::string& text) {
  std::vector<std::string> addresses;
  for (const std::string_view address : Split(text, ',')) addresses.emplace_back(Trim(address));
  if (addresses.empty()) addresses.emplace_back();
  return addresses;
}

}  // namespace

SchedulerList::SchedulerList(std::string text)
    : text_(std::move(text)), addresses_(Addresses(text_)), current_(addresses_.front()) {}

Status SchedulerList::Check(const std::string& text) {
  const std::vector<std::string> addresses = Addresses(text);
  if (std::ranges::any_of(addresses, &std::string::empty)) {
    return Fail(ErrorCode::kInvalidArgument, "an empty address in --scheduler=", text);
  }
  if (addresses.size() > kMostAddresses) {
    return Fail(ErrorCode::kInvalidArgument, addresses.size(), " addresses in --scheduler, ", kMostAddresses,
                " at most");
  }
  return {};
}

void SchedulerList::OnHeard() {
  asked_ = false;
  waiting_since_.reset();
  leaderless_since_.reset();
  next_.clear();
  if (silent_ == current_) silent_.clear();
}

void SchedulerList::OnNotLeader(const std::string& leader, uint64_t term, TimePoint now) {
  asked_ = false;
  waiting_since_.reset();
  // Who stands by may not know yet that the leader it names is silent, or not the leader any more.
  if (leader == silent_ && silent_term_ == 0) silent_term_ = term;
  const bool known_silent = leader == silent_ && term <= silent_term_ && now < silent_until_;
  const bool outdated = term < term_;
  term_ = std::max(term_, term);
  if (!leader.empty() && leader != current_ && !known_silent && !outdated) return GoTo(leader, now);
  if (!leaderless_since_) leaderless_since_ = now;
}

bool SchedulerList::OnTick(TimePoint now) {
  const Duration gap = last_tick_ ? now - *last_tick_ : Duration::zero();
  last_tick_ = now;
  if (gap > kLongestRound && waiting_since_) *waiting_since_ += gap;
  if (std::exchange(asked_, false) && !waiting_since_) waiting_since_ = now;
  if (several() && next_.empty()) {
    if (waiting_since_ && now - *waiting_since_ > kPatience) {
      silent_ = current_;
      silent_term_ = term_;
      silent_until_ = now + kSilentFor;
      GoToNext(now);
    } else if (leaderless_since_ && now - *leaderless_since_ > kLeaderless) {
      GoToNext(now);
    }
  }
  if (next_.empty() || now < next_at_) return false;
  current_ = std::exchange(next_, "");
  next_at_ = now + kBetween;
  waiting_since_.reset();
  leaderless_since_.reset();
  return true;
}

void SchedulerList::GoTo(std::string address, TimePoint now) {
  next_ = std::move(address);
  next_at_ = std::max(next_at_, now);
}

// That one alone is left out of which we know that it is silent; also the one that we come from.
void SchedulerList::GoToNext(TimePoint now) {
  for (size_t step = 1; step <= addresses_.size(); ++step) {
    const std::string& address = addresses_[(index_ + step) % addresses_.size()];
    const bool known_silent = address == silent_ && now < silent_until_ && addresses_.size() > 2;
    if (address == current_ || known_silent) continue;
    index_ = (index_ + step) % addresses_.size();
    return GoTo(address, now);
  }
  leaderless_since_.reset();  // there is no other
}

}  // namespace sheaf
