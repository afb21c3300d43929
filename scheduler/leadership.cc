#include "scheduler/leadership.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace sheaf {
namespace {

constexpr Duration kLongestWait = std::chrono::seconds(1);
constexpr Duration kLongestAttempt = std::chrono::seconds(1);

// So short that a renewal that is not answered leaves time for another, at another member.
EtcdClient::Options ClientOptions(Duration ttl) {
  const Duration attempt = std::min(ttl / 5, kLongestAttempt);
  return {.attempt = attempt, .connect = attempt / 2};
}

std::optional<LeaderRecord> RecordOf(const EtcdRangeAnswer& read) {
  if (read.entries.empty()) return std::nullopt;
  const EtcdEntry& entry = read.entries.front();
  return LeaderRecord::Read(entry.value, entry.create_revision, entry.lease);
}

int64_t SecondsOf(Duration duration) { return std::max<int64_t>(1, duration / std::chrono::seconds(1)); }

}  // namespace

Leadership::Leadership(EtcdAddress store, ElectionOptions options, const Clock& clock)
    : clock_(clock), key_(store.prefix + "/leader"), options_(std::move(options)),
      client_(store.endpoints, ClientOptions(options_.ttl)), election_(options_, clock.Now()),
      thread_("leadership", [this] { Run(); }) {}

Leadership::~Leadership() {
  give_up_.Close();
  thread_.Join();
}

Leadership::View Leadership::Look() {
  (void)news_.TryTake();
  const std::lock_guard lock(mutex_);
  return shared_.view;
}

bool Leadership::MayAct(int64_t term) const {
  const std::lock_guard lock(mutex_);
  return shared_.view.term == term && Now() < shared_.valid_until;
}

void Leadership::GiveUp(int64_t term) {
  // Full: the thread has been told often enough.
  (void)give_up_.TryPut(term);
}

void Leadership::Run() {
  while (!give_up_.closed()) {
    const Duration wait = std::min(election_.WakeAt() - Now(), kLongestWait);
    if (wait > Duration::zero()) {
      if (const auto term = give_up_.Take(wait); term && election_.term() == term) election_.GiveUp(Now());
    }
    Publish();  // before anything takes time
    if (const auto step = election_.Next(Now()); step != Election::Step::kNone) {
      Publish();
      Do(step);
      Publish();
    }
  }
  if (election_.lease() != 0) (void)client_.Revoke(election_.lease());
}

void Leadership::Do(Election::Step step) {
  switch (step) {
    case Election::Step::kNone: return;
    case Election::Step::kLook: {
      const auto read = client_.Range({.key = key_});
      if (!read) return Fail(read.error());
      election_.OnLooked(RecordOf(*read), Now());
      break;
    }
    case Election::Step::kGrant: {
      const auto lease = client_.Grant(SecondsOf(options_.ttl));
      if (!lease) return Fail(lease.error());
      election_.OnGranted(lease->id, std::chrono::seconds(lease->ttl_s), Now());
      break;
    }
    case Election::Step::kCampaign: {
      // Our own key, read as anybody's: its revision of creation is what counts.
      const EtcdTxn make{.compares = {EtcdCompare::Absent(key_)},
                         .then = {EtcdOp::Put(key_, election_.Value(), election_.lease()), EtcdOp::Read({.key = key_})},
                         .otherwise = {EtcdOp::Read({.key = key_})}};
      const auto answer = client_.Txn(make);
      if (!answer) return Fail(answer.error());
      election_.OnCampaigned(answer->ranges.empty() ? std::nullopt : RecordOf(answer->ranges.back()), Now());
      break;
    }
    case Election::Step::kRenew: {
      const auto lease = client_.KeepAlive(election_.lease());
      if (!lease) return Fail(lease.error());
      election_.OnRenewed(std::chrono::seconds(lease->ttl_s), Now());
      break;
    }
    case Election::Step::kRevoke: {
      const Status revoked = client_.Revoke(election_.lease());
      if (!revoked) return Fail(revoked.error());
      election_.OnRevoked(Now());
      break;
    }
  }
  if (std::exchange(in_trouble_, false)) LOG(INFO) << "etcd answers again";
}

void Leadership::Fail(const Error& error) {
  if (!std::exchange(in_trouble_, true)) LOG(WARNING) << error.message;
  election_.OnFailed(Now());
}

void Leadership::Publish() {
  const View view{election_.term(), election_.leader().address, election_.leader().create_revision};
  {
    const std::lock_guard lock(mutex_);
    shared_.valid_until = election_.valid_until();
    if (shared_.view == view) return;
    shared_.view = view;
  }
  (void)news_.TryPut(true);  // full: there is news already
}

}  // namespace sheaf
