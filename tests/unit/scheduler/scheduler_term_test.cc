#include "scheduler/scheduler_term.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "common/base/build_info.h"
#include "common/storage/memory_meta_store.h"
#include "scheduler/saved_state.h"

namespace sheaf {
namespace {

class Recorder final : public Transport {
 public:
  Status Connect(PeerId, const std::string&) override { return {}; }
  void Disconnect(PeerId) override {}
  Status Send(PeerId, Message message) override {
    sent.push_back(std::move(message));
    return {};
  }
  std::vector<Message> sent;
};

class SchedulerTermTest : public ::testing::Test {
 protected:
  std::unique_ptr<SchedulerTerm> Begin() {
    auto saved = TakeOver(store_, 8, 77);
    SHEAF_CHECK(saved.has_value(), saved.error().message);
    SchedulerOptions options;
    options.partition_count = 8;
    return std::make_unique<SchedulerTerm>(std::move(options), store_, std::move(*saved), nullptr, transport_, clock_,
                                           [this] { return leads_; });
  }
  // What changes what the scheduler knows.
  void Register(SchedulerTerm& term, uint64_t worker) {
    Message message;
    message.header.set_request(worker);
    message.header.mutable_register_node()->set_role(pb::WORKER);
    message.header.mutable_register_node()->set_incarnation(worker);
    message.header.mutable_register_node()->set_wire_version(kWireVersion);
    term.OnMessage(PeerId(worker), message, clock_.Now());
  }
  // What does not.
  void AskForStatus(SchedulerTerm& term) {
    Message message;
    message.header.set_request(1);
    message.header.mutable_get_status();
    term.OnMessage(PeerId(99), message, clock_.Now());
  }

  MemoryMetaStore store_;
  Recorder transport_;
  ManualClock clock_;
  bool leads_ = true;
};

TEST_F(SchedulerTermTest, AnswersWhenWhatItSaysIsInTheStore) {
  const auto term = Begin();
  Register(*term, 7);
  EXPECT_TRUE(transport_.sent.empty());
  EXPECT_TRUE(term->Flush(clock_.Now()).has_value());
  ASSERT_FALSE(transport_.sent.empty());
  EXPECT_TRUE(transport_.sent.back().header.has_registered());
  EXPECT_EQ(transport_.sent.back().header.registered().scheduler_epoch(), 1u);
}

// Its lease may have ended while the transaction was on its way, or there was none.
TEST_F(SchedulerTermTest, SaysNothingWhenAnotherMayLead) {
  const auto term = Begin();
  ASSERT_TRUE(term->Flush(clock_.Now()).has_value());
  leads_ = false;
  AskForStatus(*term);
  const Status flushed = term->Flush(clock_.Now());
  ASSERT_FALSE(flushed.has_value());
  EXPECT_EQ(flushed.error().code, ErrorCode::kAlreadyExists);
  leads_ = true;
  EXPECT_FALSE(term->Flush(clock_.Now()).has_value()) << "its term is over for good";
  EXPECT_TRUE(transport_.sent.empty());
}

TEST_F(SchedulerTermTest, EndsWhenAnotherHasTakenOverItsStore) {
  const auto term = Begin();
  ASSERT_TRUE(term->Flush(clock_.Now()).has_value());
  const auto next = Begin();
  Register(*term, 7);
  const Status flushed = term->Flush(clock_.Now());
  ASSERT_FALSE(flushed.has_value());
  EXPECT_EQ(flushed.error().code, ErrorCode::kAlreadyExists);
  EXPECT_TRUE(transport_.sent.empty());
  Register(*next, 8);
  EXPECT_TRUE(next->Flush(clock_.Now()).has_value());
  ASSERT_FALSE(transport_.sent.empty());
  EXPECT_EQ(transport_.sent.back().header.registered().scheduler_epoch(), 2u);
}

TEST_F(SchedulerTermTest, AnswersNothingWhileItsStoreCannotBeReachedAndThenWhatItHeardBefore) {
  const auto term = Begin();
  ASSERT_TRUE(term->Flush(clock_.Now()).has_value());
  for (const auto trouble : {MemoryMetaStore::Trouble::kNotDone, MemoryMetaStore::Trouble::kDone}) {
    transport_.sent.clear();
    store_.SetTrouble(trouble, ErrorCode::kUnavailable);
    Register(*term, 7 + static_cast<uint64_t>(trouble));
    for (int i = 0; i < 20; ++i) {
      EXPECT_TRUE(term->Flush(clock_.Now()).has_value());
      AskForStatus(*term);  // not heard: it is asked again
      clock_.Advance(Milliseconds(50));
    }
    EXPECT_TRUE(transport_.sent.empty());
    store_.SetTrouble(MemoryMetaStore::Trouble::kNone);
    clock_.Advance(Milliseconds(100));
    EXPECT_TRUE(term->Flush(clock_.Now()).has_value());
    ASSERT_EQ(transport_.sent.size(), 1u);
    EXPECT_TRUE(transport_.sent.back().header.has_registered());
  }
}

}  // namespace
}  // namespace sheaf
