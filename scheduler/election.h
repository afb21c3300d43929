// Which of several schedulers leads: what this one should ask the common store next, and whether it may act as leader.
//
//                    no leader                 lease                    we made the key
//   +-> kWatching --------------> kGranting ----------> kCampaigning --------------------> kLeading
//   |     ^   ^  somebody leads        | no answer           | another was first              | a renewal was not
//   |     |   +------------------------+---------------------+                                | answered in time, or
//   |     +--------------------------- lease ended, or surely over --- kResigning <-----------+ GiveUp()
//
// Who makes the key `leader`, with a lease that the store ends by itself, leads as long as the key is there: its
// revision of creation is never used again, and every write compares it (EtcdFence). Between writes we act by our own
// clock: from when a grant or renewal was *asked for*, for the lease's time less a margin. So we stop before the store
// can give the key to another, however long answers take and whenever this process is stopped, if clocks go equally
// fast within the margin.
//
// A state machine without I/O: its owner (Leadership) does what Next() says, one thing at a time, and tells what came
// of it. Thread-safety: none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/runtime/clock.h"

namespace sheaf {

struct ElectionOptions {
  std::string name;                            // of this process among all that ever ran; in the key's value
  std::string address;                         // where it is reached, for those who ask another one
  Duration ttl = std::chrono::seconds(5);      // of the lease
  Duration look_every = Milliseconds(200);     // how soon a standby sees that nobody leads; and after a failure
};

// What the key `leader` says.
struct LeaderRecord {
  std::string name{}, address{};
  int64_t create_revision = 0;
  int64_t lease = 0;
  // As the key's value, and back; what cannot be read is a leader without an address.
  static std::string Value(const std::string& name, const std::string& address);
  static LeaderRecord Read(const std::string& value, int64_t create_revision, int64_t lease);
};

class Election {
 public:
  enum class Step {
    kNone,      // until WakeAt()
    kLook,      // read the key
    kGrant,     // ask for a lease
    kCampaign,  // make the key with lease(), if there is none; read it if there is one
    kRenew,     // lease()
    kRevoke,    // lease(): the key goes with it
  };

  Election(ElectionOptions options, TimePoint now) : options_(std::move(options)), next_at_(now) {}

  // What is to be done now; its outcome must be told before the next call.
  Step Next(TimePoint now);
  TimePoint WakeAt() const;

  void OnLooked(const std::optional<LeaderRecord>& leader, TimePoint now);
  void OnGranted(int64_t lease, Duration ttl, TimePoint now);
  // `leader`: who made the key, we or another.
  void OnCampaigned(const std::optional<LeaderRecord>& leader, TimePoint now);
  void OnRenewed(Duration ttl, TimePoint now);  // zero: the lease has ended
  void OnRevoked(TimePoint now);
  // The last step was not answered: it may be done or not.
  void OnFailed(TimePoint now);
  // Leads no more, and lets others at once. Nothing if it does not lead.
  void GiveUp(TimePoint now);

  // Nothing: we do not lead. The create revision of our key: whatever we write compares it.
  std::optional<int64_t> term() const { return leading() ? std::optional(revision_) : std::nullopt; }
  // Until then we may act as leader of that term, without hearing from the store.
  TimePoint valid_until() const { return valid_until_; }
  // Who led when we looked last; without an address: nobody, or not known.
  const LeaderRecord& leader() const { return leader_; }
  int64_t lease() const { return lease_; }
  std::string Value() const { return LeaderRecord::Value(options_.name, options_.address); }

 private:
  enum class State { kWatching, kGranting, kCampaigning, kLeading, kResigning };
  bool leading() const { return state_ == State::kLeading; }
  void Watch(TimePoint next_at);
  void TakeLeader(const LeaderRecord& leader, TimePoint now);
  void TakeTtl(Duration ttl);
  Duration RenewEvery() const { return options_.ttl * 3 / 10; }

  const ElectionOptions options_;
  State state_ = State::kWatching;
  TimePoint next_at_;          // of the next step
  TimePoint asked_at_;         // when the last step was begun
  int64_t lease_ = 0;          // 0: we have none
  TimePoint valid_until_;      // by our clock, less a margin
  TimePoint over_at_;          // the lease has surely ended by then
  int64_t revision_ = 0;       // while leading
  LeaderRecord leader_;
};

}  // namespace sheaf
