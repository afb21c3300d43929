// Any header with any frames, to a shard: it answers or refuses each request, keeps within its budgets, and forgets all
// that it kept when its tables and passes are gone. A ServerOrders header goes the way of a server's control loop.
#include <set>

#include "common/base/check.h"
#include "server/control_client.h"
#include "server/shard_core.h"
#include "tests/fuzz/cores/conversation.h"

namespace sheaf {
namespace {

class FuzzedShard {
 public:
  FuzzedShard() : core_(kFuzzShard, SmallShard()), control_({.role = pb::SERVER, .self = PeerId(1)}, {}) {
    Outbox out;
    SHEAF_CHECK(core_.OnConfig(SmallCluster(), now_, out).has_value());
  }

  void Hear(const pb::Event& event) {
    now_ += PauseBefore(event);
    Outbox out;
    core_.OnTick(now_, out);
    if (event.header().has_server_orders()) {
      control_.OnMessage(MessageOf(event), now_, out);
      if (const auto config = control_.TakeConfig()) {
        (void)core_.OnConfig(*config, now_, out);  // what cannot be used of it is said, the rest is in force
        changed_ = true;
      }
    } else if (event.has_header()) {
      const PeerId from(event.from());
      asked_.insert({from, event.header().request()});
      core_.OnMessage(from, MessageOf(event), now_, out);
    }
    CheckSendable(out);
    for (const Outbox::Item& item : out.items()) {
      if (item.to == kSchedulerPeer) continue;  // the control loop's reports
      SHEAF_CHECK(asked_.contains({item.to, item.message.header.request()}), "an answer that nobody asked for");
    }
    const ShardStats stats = core_.stats();
    SHEAF_CHECK(stats.request_bytes <= 2 * SmallShard().request_budget_bytes + kOneMessage, stats.request_bytes,
                " bytes kept");
    SHEAF_CHECK(stats.waiting.size() <= 8);
  }

  // Nothing is left when all is over. A configuration of the greatest generation leaves no room for one after it.
  void End() {
    if (core_.generation() == ~uint64_t{0}) return;
    pb::ClusterConfig empty;
    empty.set_generation(core_.generation() + 1);
    Outbox out;
    SHEAF_CHECK(core_.OnConfig(empty, now_, out).has_value());
    core_.OnTick(now_ + std::chrono::hours(2), out);
    const ShardStats stats = core_.stats();
    SHEAF_CHECK(stats.request_bytes == 0 && stats.parked_pulls == 0 && stats.staged_pushes == 0, stats.request_bytes,
                " bytes, ", stats.parked_pulls, " pulls and ", stats.staged_pushes, " pushes are left");
    SHEAF_CHECK(stats.rows == 0, stats.rows, " rows are left");
  }

 private:
  static constexpr size_t kOneMessage = 64 << 10;  // the push that is here longest always has room

  ShardCore core_;
  ControlClient control_;
  TimePoint now_{};
  bool changed_ = false;
  std::set<std::pair<PeerId, uint64_t>> asked_;
};

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto conversation = sheaf::ParseConversation(data, size);
  if (!conversation) return 0;
  sheaf::FuzzedShard shard;
  for (const auto& event : conversation->event()) shard.Hear(event);
  shard.End();
  return 0;
}
