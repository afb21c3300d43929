// What a request costs a shard in memory: a shard on its thread, behind its socket, and a client on the test's thread.
#include <gtest/gtest.h>
#include <poll.h>

#include <numeric>

#include "common/base/placement.h"
#include "common/net/zmq_transport.h"
#include "server/key_list_cache.h"
#include "server/shard_thread.h"
#include "tests/contract/shard_memory/counting.h"

namespace sheaf {
namespace {

constexpr uint32_t kTable = 1;
constexpr uint32_t kDim = 16;
constexpr uint32_t kPartitions = 16;
constexpr uint64_t kJob = 5;
constexpr int kWarmUpRequests = 8;  // at once
constexpr int kWarmUpRounds = 8;
constexpr int kRequests = 64;  // counted
// ZeroMQ copies at most so much of a request's and an answer's frames: it fills a buffer of 8 KiB with what follows a
// small frame, where it sends and where it receives.
constexpr uint64_t kCopiedByZeroMq = 4 * (8 << 10);

// The parameter: whether requests list their partitions, as those of few keys do, or name them all at once.
class ShardMemory : public ::testing::TestWithParam<bool> {
 protected:
  ShardMemory() {
    counting::LeaveOutThisThread();
    const auto address = shard_.Bind("tcp://127.0.0.1:0");
    SHEAF_CHECK(address.has_value(), "no port left");
    pb::ServerInfo& server = *config_->add_server();
    server.set_node(1);
    server.add_shard()->set_peer(shard_.peer().value);
    config_->set_generation(1);
    config_->set_partition_count(kPartitions);
    for (uint32_t p = 0; p < kPartitions; ++p) {
      pb::PartitionConfig& partition = *config_->add_partition();
      partition.set_epoch(1);
      partition.set_primary(1);
    }
    pb::TableSpec& table = *config_->add_table();
    table.set_id(kTable);
    table.set_job(kJob);
    table.set_dim(kDim);
    table.mutable_optimizer()->set_kind(pb::OptimizerSpec::ADAGRAD);
    table.mutable_optimizer()->set_learning_rate(0.1);
    SHEAF_CHECK(client_.Connect(shard_.peer(), *address).has_value(), "cannot connect");
  }

  void Start() {
    shard_.Start();
    ASSERT_TRUE(shard_.Offer(config_));
  }
  void AddRoster(pb::ConsistencySpec::Mode mode) {
    pb::Roster& roster = *config_->add_roster();
    roster.set_job(kJob);
    roster.set_mode(mode);
    roster.set_staleness(2);
    roster.add_lane()->set_start_clock(0);
  }

  void UsePayload(size_t bytes) {
    const size_t rows = bytes / (kDim * sizeof(float));
    std::vector<HashedKey> keys;  // as hashed keys are: all over the range, as many in each partition
    for (size_t i = 0; i < rows; ++i) keys.push_back(i * (~HashedKey{0} / rows + 1));
    keys_ = Buffer::FromVector(std::move(keys));
    values_ = Buffer::FromVector(std::vector<float>(rows * kDim, 0.5f));
    keys_known_ = false;
  }

  template <typename Body>
  void Fill(Body& body, bool training) {
    pb::Block& block = *body.add_block();
    block.set_table(kTable);
    const auto key_count = static_cast<uint32_t>(keys_.size() / sizeof(HashedKey));
    std::vector<uint32_t> partitions(kPartitions);
    std::iota(partitions.begin(), partitions.end(), 0U);
    const std::vector<uint64_t> epochs(kPartitions, 1);
    if (GetParam()) {
      body.mutable_partition()->Add(partitions.begin(), partitions.end());
      body.mutable_epoch()->Add(epochs.begin(), epochs.end());
      for (uint32_t p = 0; p < kPartitions; ++p) block.add_key_count(key_count / kPartitions);
    } else {
      body.mutable_placement()->set_signature(PlacementSignature(partitions, epochs));
      body.mutable_placement()->set_generation(1);
      block.add_key_count(key_count);
    }
    const KeySignature signature = SignatureOf(keys_.bytes());
    block.mutable_keys()->set_signature_high(signature.high);
    block.mutable_keys()->set_signature_low(signature.low);
    block.mutable_keys()->set_inlined(!keys_known_);
    block.mutable_keys()->set_remember(!keys_known_);
    if (!training) return;
    body.mutable_progress()->set_job(kJob);
    body.mutable_progress()->set_clock(next_seq_);
    body.mutable_progress()->set_generation(1);
  }
  Message MakePull(bool training = false) {
    Message message;
    Fill(*message.header.mutable_pull(), training);
    if (!keys_known_) message.keys = keys_;
    return message;
  }
  Message MakePush(bool training = false) {
    Message message;
    pb::PushRequest& push = *message.header.mutable_push();
    Fill(push, training);
    push.set_stream_high(training ? kJob << 32 : 1);
    push.set_seq(next_seq_++);
    if (!keys_known_) message.keys = keys_;
    message.values = values_;
    return message;
  }
  Message MakePushPull() {
    Message message = MakePush();
    message.header.mutable_push()->set_pull_after(true);
    return message;
  }
  Message MakeTrainingStep() { return ++steps_ % 2 == 1 ? MakePull(true) : MakePush(true); }

  Message Receive() {
    while (true) {
      if (auto received = client_.Receive()) return std::move(received->message);
      client_.Poll(std::chrono::seconds(1), {});
    }
  }
  // So many requests, all on their way before the first answer is looked at.
  template <typename Make>
  void Ask(Make make, int count) {
    for (int i = 0; i < count; ++i) {
      Message message = make();
      message.header.set_request(++requests_);
      keys_known_ = true;
      ASSERT_TRUE(client_.Send(shard_.peer(), std::move(message)));
    }
    for (int i = 0; i < count; ++i) {
      const Message answer = Receive();
      ASSERT_FALSE(answer.header.has_refusal()) << answer.header.refusal().ShortDebugString();
    }
  }
  bool Ticked() {
    pollfd ready{shard_.stats_fd(), POLLIN, 0};
    const bool ticked = poll(&ready, 1, 0) > 0;
    (void)shard_.TakeStats();
    return ticked;
  }
  // Of some requests in whose time the shard did nothing else: ten times a second it publishes statistics, in memory of
  // their own. One at a time: what more of them at once than ever before take is not what a request takes.
  template <typename Make>
  counting::Counts CountRequests(Make make) {
    for (int i = 0; i < kWarmUpRounds; ++i) Ask(make, kWarmUpRequests);
    counting::Counts sum;
    for (int counted = 0; counted < kRequests && !HasFatalFailure();) {
      (void)Ticked();
      const counting::Counts before = counting::SoFar();
      Ask(make, 1);
      const counting::Counts after = counting::SoFar();
      Ask([this] { return MakePull(); }, 1);  // by its answer, a tick at the end of the other's turn is over
      if (Ticked()) continue;
      sum.allocations += after.allocations - before.allocations;
      sum.copied_bytes += after.copied_bytes - before.copied_bytes;
      ++counted;
    }
    return sum;
  }
  // The first requests of a shard wait for its configuration.
  void AwaitConfig() {
    while (true) {
      Message message = MakePull();
      ASSERT_TRUE(client_.Send(shard_.peer(), std::move(message)));
      if (!Receive().header.has_refusal()) return;
    }
  }

  template <typename Make>
  void ExpectNothingTaken(Make make) {
    Start();
    for (const size_t bytes : {size_t{256} << 10, size_t{1} << 20}) {
      UsePayload(bytes);
      AwaitConfig();
      const counting::Counts counts = CountRequests(make);
      EXPECT_EQ(counts.allocations, 0U) << bytes << " bytes, " << kRequests << " requests";
      EXPECT_LE(counts.copied_bytes, kRequests * kCopiedByZeroMq) << bytes << " bytes";
    }
  }

  std::shared_ptr<pb::ClusterConfig> config_ = std::make_shared<pb::ClusterConfig>();
  SystemClock clock_;
  ZmqContext server_context_;
  ZmqContext client_context_;
  ShardThread shard_{server_context_, clock_, 0, {}, ShardThread::Durable{}, nullptr};
  ZmqTransport client_{client_context_, PeerId(7)};
  Buffer keys_, values_;
  bool keys_known_ = false;
  uint64_t next_seq_ = 0;
  uint64_t requests_ = 0;
  uint64_t steps_ = 0;
};

TEST_P(ShardMemory, PushTakesNoMemoryAndIsNotCopied) {
  ExpectNothingTaken([this] { return MakePush(); });
}

TEST_P(ShardMemory, PullTakesNoMemoryAndIsWrittenOnceIntoTheFrameSent) {
  ExpectNothingTaken([this] { return MakePull(); });
}

TEST_P(ShardMemory, PushPullTakesNoMemory) {
  ExpectNothingTaken([this] { return MakePushPull(); });
}

TEST_P(ShardMemory, InlinedKeysTakeNoMemory) {
  ExpectNothingTaken([this] {
    keys_known_ = false;
    return MakePush();
  });
}

TEST_P(ShardMemory, TrainingUnderSspTakesNoMemory) {
  AddRoster(pb::ConsistencySpec::SSP);
  ExpectNothingTaken([this] { return MakeTrainingStep(); });
}

TEST_P(ShardMemory, TrainingUnderAspTakesNoMemory) {
  AddRoster(pb::ConsistencySpec::ASP);
  ExpectNothingTaken([this] { return MakeTrainingStep(); });
}

INSTANTIATE_TEST_SUITE_P(Partitions, ShardMemory, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Listed" : "NamedAtOnce"; });

}  // namespace
}  // namespace sheaf
