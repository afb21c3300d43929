#include "scheduler/election.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "common/base/random.h"

namespace sheaf {
namespace {

using Step = Election::Step;
constexpr Duration kTtl = std::chrono::seconds(5);

class ElectionTest : public ::testing::Test {
 protected:
  static ElectionOptions Me() { return {.name = "me", .address = "tcp://me:1"}; }
  static LeaderRecord Other() { return {.name = "you", .address = "tcp://you:1", .create_revision = 7, .lease = 9}; }
  static LeaderRecord Mine(int64_t lease) {
    return {.name = "me", .address = "tcp://me:1", .create_revision = 12, .lease = lease};
  }
  void Lead(int64_t lease = 5) {
    ASSERT_EQ(election_.Next(now_), Step::kLook);
    election_.OnLooked(std::nullopt, now_);
    ASSERT_EQ(election_.Next(now_), Step::kGrant);
    election_.OnGranted(lease, kTtl, now_);
    ASSERT_EQ(election_.Next(now_), Step::kCampaign);
    election_.OnCampaigned(Mine(lease), now_);
    ASSERT_TRUE(election_.term());
  }
  Step NextAfter(Duration time) {
    now_ += time;
    return election_.Next(now_);
  }

  TimePoint now_{std::chrono::seconds(100)};
  Election election_{Me(), now_};
};

TEST_F(ElectionTest, LooksOnAsLongAsAnotherLeads) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(election_.Next(now_), Step::kLook);
    election_.OnLooked(Other(), now_);
    EXPECT_EQ(election_.Next(now_), Step::kNone);
    EXPECT_FALSE(election_.term());
    EXPECT_EQ(election_.leader().address, "tcp://you:1");
    now_ = election_.WakeAt();
  }
}

TEST_F(ElectionTest, LeadsWhenItHasMadeTheKeyAndRenewsItsLease) {
  Lead();
  EXPECT_EQ(election_.term(), 12);
  EXPECT_EQ(election_.valid_until(), now_ + std::chrono::seconds(4));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(NextAfter(Milliseconds(1499)), Step::kNone);
    EXPECT_EQ(NextAfter(Milliseconds(1)), Step::kRenew);
    election_.OnRenewed(kTtl, now_);
    EXPECT_EQ(election_.valid_until(), now_ + std::chrono::seconds(4));
  }
}

TEST_F(ElectionTest, CountsTheLeaseFromWhenItWasAskedForNotFromTheAnswer) {
  Lead();
  ASSERT_EQ(NextAfter(Milliseconds(1500)), Step::kRenew);
  const TimePoint asked = now_;
  now_ += Milliseconds(2000);
  election_.OnRenewed(kTtl, now_);
  EXPECT_EQ(election_.valid_until(), asked + std::chrono::seconds(4));
}

TEST_F(ElectionTest, StopsBeforeTheLeaseCanHaveEndedIfNothingIsAnswered) {
  Lead();
  const TimePoint granted = now_;
  while (election_.term()) {
    if (election_.Next(now_) == Step::kRenew) election_.OnFailed(now_);
    ASSERT_LT(now_, granted + kTtl);
    now_ = std::min(election_.WakeAt(), now_ + Milliseconds(50));
  }
  EXPECT_LE(now_, granted + std::chrono::seconds(4));
  EXPECT_EQ(election_.Next(now_), Step::kRevoke);
}

TEST_F(ElectionTest, DoesNotLeadAnyMoreAfterItWasStopped) {
  Lead();
  now_ += std::chrono::minutes(10);
  EXPECT_GE(now_, election_.valid_until());
  EXPECT_NE(election_.Next(now_), Step::kRenew);
  EXPECT_FALSE(election_.term());
}

TEST_F(ElectionTest, LeadsNoMoreWhenTheLeaseIsGone) {
  Lead();
  ASSERT_EQ(NextAfter(Milliseconds(1500)), Step::kRenew);
  election_.OnRenewed(Duration::zero(), now_);
  EXPECT_FALSE(election_.term());
  EXPECT_EQ(election_.Next(now_), Step::kLook);
}

TEST_F(ElectionTest, GivesTheLeaseBackIfAnotherWasFirst) {
  ASSERT_EQ(election_.Next(now_), Step::kLook);
  election_.OnLooked(std::nullopt, now_);
  ASSERT_EQ(election_.Next(now_), Step::kGrant);
  election_.OnGranted(5, kTtl, now_);
  ASSERT_EQ(election_.Next(now_), Step::kCampaign);
  election_.OnCampaigned(Other(), now_);
  EXPECT_FALSE(election_.term());
  EXPECT_EQ(election_.Next(now_), Step::kRevoke);
  EXPECT_EQ(election_.lease(), 5);
  election_.OnRevoked(now_);
  EXPECT_EQ(NextAfter(Milliseconds(200)), Step::kLook);
}

// The key may be ours, and who does not know it must not act; nor must it stay.
TEST_F(ElectionTest, TakesBackAKeyOfWhichItNeverHeardWhetherItIsThere) {
  ASSERT_EQ(election_.Next(now_), Step::kLook);
  election_.OnLooked(std::nullopt, now_);
  ASSERT_EQ(election_.Next(now_), Step::kGrant);
  election_.OnGranted(5, kTtl, now_);
  ASSERT_EQ(election_.Next(now_), Step::kCampaign);
  election_.OnFailed(now_);
  EXPECT_FALSE(election_.term());
  EXPECT_EQ(NextAfter(Milliseconds(200)), Step::kRevoke);
  election_.OnFailed(now_);
  EXPECT_EQ(NextAfter(std::chrono::seconds(10)), Step::kLook) << "it has ended by itself";
}

TEST_F(ElectionTest, DoesNotLeadWithAKeyThatWasMadeTooLate) {
  ASSERT_EQ(election_.Next(now_), Step::kLook);
  election_.OnLooked(std::nullopt, now_);
  ASSERT_EQ(election_.Next(now_), Step::kGrant);
  election_.OnGranted(5, kTtl, now_);
  ASSERT_EQ(election_.Next(now_), Step::kCampaign);
  now_ += std::chrono::seconds(4);
  election_.OnCampaigned(Mine(5), now_);
  EXPECT_FALSE(election_.term());
}

TEST_F(ElectionTest, ResignsAndLetsOthersGoFirst) {
  Lead();
  election_.GiveUp(now_);
  EXPECT_FALSE(election_.term());
  EXPECT_EQ(election_.Next(now_), Step::kRevoke);
  election_.OnRevoked(now_);
  EXPECT_EQ(election_.Next(now_), Step::kNone);
  EXPECT_EQ(NextAfter(Milliseconds(200)), Step::kLook);
}

TEST(LeaderRecord, IsReadAsItWasWritten) {
  const LeaderRecord record = LeaderRecord::Read(LeaderRecord::Value("ab12", "tcp://[::1]:7070"), 3, 4);
  EXPECT_EQ(record.name, "ab12");
  EXPECT_EQ(record.address, "tcp://[::1]:7070");
  EXPECT_EQ(record.create_revision, 3);
  EXPECT_EQ(LeaderRecord::Read("what is that?", 1, 2).name, "what");
  EXPECT_EQ(LeaderRecord::Read("x", 1, 2).address, "");
}

// Three schedulers, and a store whose answers are late, lost or never made; schedulers stop for a while and go on.
// What must hold at every moment: of those that may act, by their own clocks, there is one at most.
class Parliament {
 public:
  explicit Parliament(uint64_t seed) : random_(seed) {
    for (int i = 0; i < 3; ++i) members_.emplace_back(i, now_);
  }

  void Run(Duration time) {
    for (const TimePoint end = now_ + time; now_ < end; now_ += Milliseconds(10)) {
      if (lease_ends_.contains(key_lease_) && now_ >= lease_ends_[key_lease_]) RemoveKey();
      Deliver();
      for (Member& member : members_) Turn(member);
      Check();
    }
  }
  int terms() const { return static_cast<int>(revisions_.size()); }

 private:
  struct Member {
    Member(int index, TimePoint now)
        : election({.name = std::to_string(index), .address = "tcp://" + std::to_string(index)}, now) {}
    Election election;
    uint64_t asked = 0;                               // number of the request whose answer it waits for; 0: none
    TimePoint until;                                  // then it takes the answer, or that there is none
    std::function<void(Election&, TimePoint)> answer;
    TimePoint stopped_until;
  };
  // On its way to the store, which it reaches whether or not anybody still waits for it.
  struct Request {
    uint64_t number = 0;
    TimePoint at;
    Member* from = nullptr;
    Step step = Step::kNone;
    int64_t lease = 0;
    bool answer_lost = false;
  };

  void Deliver() {
    for (auto it = requests_.begin(); it != requests_.end();) {
      if (now_ < it->at) {
        ++it;
        continue;
      }
      const Request request = *it;
      it = requests_.erase(it);
      auto answer = AtStore(request);
      if (request.from->asked == request.number && !request.answer_lost) request.from->answer = std::move(answer);
    }
  }

  void Turn(Member& member) {
    if (now_ < member.stopped_until) return;
    if (random_.Chance(0.0005)) {
      member.stopped_until = now_ + Milliseconds(static_cast<int64_t>(random_.Below(12'000)));
      return;
    }
    if (member.asked != 0) {
      if (now_ < member.until) return;
      if (member.answer) {
        std::exchange(member.answer, {})(member.election, now_);
      } else {
        member.election.OnFailed(now_);
      }
      member.asked = 0;
    }
    const Step step = member.election.Next(now_);
    if (step == Step::kNone) return;
    member.asked = ++last_request_;
    member.until = now_ + Milliseconds(static_cast<int64_t>(20 + random_.Below(400)));
    const Duration way = Milliseconds(static_cast<int64_t>(random_.Below(random_.Chance(0.1) ? 8'000 : 300)));
    requests_.push_back({member.asked, now_ + way, &member, step, member.election.lease(), random_.Chance(0.1)});
  }

  std::function<void(Election&, TimePoint)> AtStore(const Request& request) {
    const int64_t lease = request.lease;
    const std::string name = request.from->election.Value().substr(0, 1);
    switch (request.step) {
      case Step::kLook:
        return [key = key_](Election& election, TimePoint now) { election.OnLooked(key, now); };
      case Step::kGrant: {
        const int64_t granted = ++last_lease_;
        lease_ends_[granted] = now_ + kTtl;
        return [granted](Election& election, TimePoint now) { election.OnGranted(granted, kTtl, now); };
      }
      case Step::kCampaign: {
        const bool lives = lease_ends_.contains(lease) && now_ < lease_ends_[lease];
        if (!key_ && lives) {
          key_ = LeaderRecord{.name = name, .address = "", .create_revision = ++revision_, .lease = lease};
          key_lease_ = lease;
        }
        return [key = key_](Election& election, TimePoint now) { election.OnCampaigned(key, now); };
      }
      case Step::kRenew: {
        const bool lives = lease_ends_.contains(lease) && now_ < lease_ends_[lease];
        if (lives) lease_ends_[lease] = now_ + kTtl;
        const Duration ttl = lives ? kTtl : Duration::zero();
        return [ttl](Election& election, TimePoint now) { election.OnRenewed(ttl, now); };
      }
      case Step::kRevoke:
        lease_ends_.erase(lease);
        if (key_ && key_lease_ == lease) RemoveKey();
        return [](Election& election, TimePoint now) { election.OnRevoked(now); };
      case Step::kNone: break;
    }
    return {};
  }

  void RemoveKey() {
    key_.reset();
    key_lease_ = 0;
  }

  void Check() {
    int acting = 0;
    for (const Member& member : members_) {
      const auto term = member.election.term();
      if (!term || now_ >= member.election.valid_until()) continue;
      ++acting;
      revisions_[*term] = member.election.Value();
      EXPECT_TRUE(key_ && key_->create_revision == *term) << "it acts without the key";
      EXPECT_EQ(revisions_[*term], member.election.Value());
    }
    EXPECT_LE(acting, 1);
  }

  Random random_;
  TimePoint now_{std::chrono::seconds(1)};
  std::deque<Member> members_;
  std::list<Request> requests_;
  uint64_t last_request_ = 0;
  std::optional<LeaderRecord> key_;
  int64_t key_lease_ = 0, last_lease_ = 0, revision_ = 0;
  std::map<int64_t, TimePoint> lease_ends_;
  std::map<int64_t, std::string> revisions_;
};

TEST(ElectionOfThree, OneActsAtMostWhateverIsLostOrLate) {
  int terms = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(seed);
    Parliament parliament(seed);
    parliament.Run(std::chrono::minutes(10));
    EXPECT_GT(parliament.terms(), 3);
    terms += parliament.terms();
    if (HasFailure()) break;
  }
  EXPECT_GT(terms, 500);
}

}  // namespace
}  // namespace sheaf
