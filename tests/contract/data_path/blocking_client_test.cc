// The blocking client over real sockets, with real shards and a scheduler that knows only the configuration.
#include "client/blocking_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <map>
#include <thread>

#include "common/net/local_address.h"
#include "common/runtime/host_id.h"
#include "server/shard_core.h"

namespace sheaf {
namespace {

constexpr uint32_t kSums = 1;

// A cluster on a thread of its own: one scheduler, one server of two shards. The first listens over TCP alone, although
// it says that it has a unix socket, the second at a unix socket alone.
class SmallCluster {
 public:
  explicit SmallCluster(ZmqContext& context) {
    std::promise<std::string> bound;
    auto address = bound.get_future();
    thread_ = std::thread([this, &context, &bound] { Serve(context, bound); });
    address_ = address.get();
  }
  ~SmallCluster() {
    stop_ = true;
    thread_.join();
  }
  const std::string& address() const { return address_; }

 private:
  struct Shard {
    std::unique_ptr<ShardCore> core;
    std::unique_ptr<ZmqTransport> transport;
  };

  void Serve(ZmqContext& context, std::promise<std::string>& bound) {
    ZmqTransport scheduler(context, kSchedulerPeer);
    std::vector<Shard> shards(2);
    pb::ClusterConfig config = MakeConfig(context, shards);
    bound.set_value(scheduler.Bind("tcp://127.0.0.1:0").value());
    int questions = 0;
    while (!stop_) {
      scheduler.Poll(Milliseconds(1), {});
      while (auto received = scheduler.Receive()) {
        if (++questions % 2 == 1) continue;   // every other question is lost
        Message answer;
        answer.header.set_request(received->message.header.request());
        if (received->message.header.has_get_config()) {
          *answer.header.mutable_config() = config;
        } else if (received->message.header.has_get_status()) {
          answer.header.mutable_status()->set_cluster("small");
        } else {
          answer.header.mutable_refusal()->set_reason(pb::Refusal::NOT_FOUND);
          answer.header.mutable_refusal()->set_text("no job 3");
        }
        EXPECT_TRUE(scheduler.Send(received->from, std::move(answer)));
      }
      for (Shard& shard : shards) {
        shard.transport->Poll(Milliseconds(1), {});
        Outbox out;
        while (auto received = shard.transport->Receive()) {
          shard.core->OnMessage(received->from, std::move(received->message), clock_.Now(), out);
        }
        for (Outbox::Item& item : out.items()) EXPECT_TRUE(shard.transport->Send(item.to, std::move(item.message)));
      }
    }
  }

  pb::ClusterConfig MakeConfig(ZmqContext& context, std::vector<Shard>& shards) {
    pb::ClusterConfig config;
    config.set_generation(1);
    config.set_partition_count(8);
    pb::ServerInfo& server = *config.add_server();
    server.set_node(1);
    server.set_name("server-0");
    for (size_t i = 0; i < shards.size(); ++i) {
      shards[i].transport = std::make_unique<ZmqTransport>(context, PeerId(100 + i));
      pb::ShardEndpoint& endpoint = *server.add_shard();
      endpoint.set_peer(100 + i);
      if (i == 0) {
        endpoint.set_address(shards[i].transport->Bind("tcp://127.0.0.1:0").value());
      } else {
        EXPECT_TRUE(shards[i].transport->Bind(LocalAddress(PeerId(endpoint.peer()))));
        endpoint.set_address("tcp://127.0.0.1:1");  // nobody there
      }
      endpoint.set_host(HostId());
    }
    for (int p = 0; p < 8; ++p) {
      config.add_partition()->set_epoch(1);
      config.mutable_partition(p)->set_primary(1);
    }
    pb::TableSpec& table = *config.add_table();
    table.set_id(kSums);
    table.set_dim(2);
    table.set_update(pb::TableSpec::SUM);
    Outbox out;
    for (size_t i = 0; i < shards.size(); ++i) {
      shards[i].core = std::make_unique<ShardCore>(PeerId(100 + i), ShardOptions{});
      EXPECT_TRUE(shards[i].core->OnConfig(config, clock_.Now(), out));
    }
    return config;
  }

  SystemClock clock_;
  std::atomic<bool> stop_ = false;
  std::string address_;
  std::thread thread_;
};

KeyVector FirstKeys(size_t count) {
  std::vector<HashedKey> keys;
  for (size_t i = 0; i < count; ++i) keys.push_back(MixKey(i));
  std::ranges::sort(keys);
  return std::make_shared<const std::vector<HashedKey>>(std::move(keys));
}

TEST(BlockingClient, PushesPullsAndScansAgainstALiveCluster) {
  ZmqContext context;
  SmallCluster cluster(context);
  auto connected = BlockingClient::Connect(context, cluster.address());
  ASSERT_TRUE(connected) << connected.error().message;
  BlockingClient& client = **connected;
  EXPECT_EQ(client.config().generation(), 1u);

  const auto keys = FirstKeys(500);
  std::vector<float> values(1000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  for (int i = 0; i < 2; ++i) {
    const Status pushed = client.Push({{TableId(kSums), keys, values}});
    ASSERT_TRUE(pushed) << pushed.error().message;
  }
  const auto pulled = client.Pull(TableId(kSums), keys);
  ASSERT_TRUE(pulled) << pulled.error().message;
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ((*pulled)[i], 2 * values[i]);

  std::map<HashedKey, float> scanned;
  const Status all = client.ScanAll(TableId(kSums), 50,
                                    [&](PartitionId, std::span<const HashedKey> some, std::span<const float> rows) {
                                      for (size_t i = 0; i < some.size(); ++i) scanned[some[i]] = rows[2 * i];
                                      return Status();
                                    });
  ASSERT_TRUE(all) << all.error().message;
  ASSERT_EQ(scanned.size(), 500u);
  for (size_t i = 0; i < 500; ++i) EXPECT_EQ(scanned[(*keys)[i]], 4 * static_cast<float>(i));

  EXPECT_EQ(client.GetStatus(JobId(0)).value().cluster(), "small");
  EXPECT_EQ(client.CancelJob(JobId(3), "test").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(client.Pull(TableId(99), keys).error().code, ErrorCode::kNotFound);
}

TEST(BlockingClient, SaysWhatToDoWhenNoSchedulerAnswers) {
  ZmqContext context;
  BlockingClientOptions options;
  options.scheduler_deadline = Milliseconds(300);
  const auto connected = BlockingClient::Connect(context, "tcp://127.0.0.1:9", options);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(connected.error().message.find("no answer from the scheduler at tcp://127.0.0.1:9"), std::string::npos);
  EXPECT_NE(connected.error().message.find("--scheduler"), std::string::npos);
}

TEST(BlockingClient, StopsWaitingWhenItsCheckSaysSo) {
  ZmqContext context;
  BlockingClientOptions options;
  options.check = [] { return Status(Fail(ErrorCode::kCancelled, "interrupted")); };
  const auto connected = BlockingClient::Connect(context, "tcp://127.0.0.1:9", options);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace sheaf
