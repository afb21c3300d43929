// When a server of whose partitions another has copies counts as dead.
#include <gtest/gtest.h>

#include "common/base/build_info.h"
#include "scheduler/scheduler_core.h"

namespace sheaf {
namespace {

const PeerId kServer(101), kOther(102);

class TakeOver : public testing::Test {
 protected:
  TakeOver() : core_(Options(), TimePoint{}) {
    for (const PeerId server : {kServer, kOther}) {
      pb::Header header;
      pb::Register& registration = *header.mutable_register_node();
      registration.set_role(pb::SERVER);
      registration.set_wire_version(kWireVersion);
      registration.add_shard()->set_peer(server.value + 1000);
      Tell(server, header);
    }
    for (int times = 0; times < 3; ++times) Report({kServer, kOther});
  }
  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.partition_count = 8;
    options.replicas = 2;
    return options;
  }
  void Tell(PeerId from, const pb::Header& header) {
    Outbox out;
    core_.OnMessage(from, Message{header, {}, {}}, now_, out);
  }
  // They have taken the latest configuration, and their copies are in sync. 100 ms pass.
  void Report(const std::vector<PeerId>& servers) {
    for (const PeerId server : servers) {
      pb::Header header;
      pb::ServerReport& report = *header.mutable_server_report();
      report.set_seen_generation(core_.config().generation());
      report.set_config_generation(core_.config().generation());
      for (int p = 0; p < core_.config().partition_size(); ++p) {
        for (const pb::Replica& replica : core_.config().partition(p).replica()) {
          pb::SyncedReplica& synced = *report.add_synced();
          synced.set_partition(static_cast<uint32_t>(p));
          synced.set_node(replica.node());
          synced.set_since(replica.since());
        }
      }
      Tell(server, header);
    }
    now_ += Milliseconds(100);
    Outbox out;
    core_.OnTick(now_, out);
  }
  int AliveAfter(Duration time) {
    for (Duration done{}; done < time; done += Milliseconds(100)) Report({kOther});
    return core_.config().server_size();
  }

  TimePoint now_{};
  SchedulerCore core_;
};

TEST_F(TakeOver, WaitsASecondForOneThatIsOnlySilent) {
  EXPECT_EQ(AliveAfter(Milliseconds(800)), 2);
  EXPECT_EQ(AliveAfter(Milliseconds(400)), 1);
}

TEST_F(TakeOver, WaitsHalfASecondForOneWhoseConnectionHasEnded) {
  core_.OnDisconnected(kServer, now_);
  EXPECT_EQ(AliveAfter(Milliseconds(300)), 2) << "it may connect anew";
  EXPECT_EQ(AliveAfter(Milliseconds(400)), 1);
  for (const auto& partition : core_.config().partition()) EXPECT_EQ(partition.primary(), 2u);
}

TEST_F(TakeOver, DoesNotTakeOneForDeadThatHasConnectedAnew) {
  core_.OnDisconnected(kServer, now_);
  Report({kOther});
  Report({kServer, kOther});
  EXPECT_EQ(AliveAfter(Milliseconds(800)), 2);
}

TEST_F(TakeOver, TakesNobodyForDeadWhenItHasHeardNobody) {
  for (int i = 0; i < 250; ++i) Report({});
  Report({kOther});  // the network is there again: one of them is heard first
  EXPECT_EQ(core_.config().server_size(), 2);
  Report({kServer, kOther});
  EXPECT_EQ(AliveAfter(Milliseconds(800)), 2);
  EXPECT_EQ(AliveAfter(Milliseconds(400)), 1) << "from then on as ever";
}

TEST_F(TakeOver, DoesNotWaitForAllForEver) {
  for (int i = 0; i < 500; ++i) Report({});
  EXPECT_EQ(core_.config().server_size(), 0);
}

TEST_F(TakeOver, TakesNobodyForDeadWhoseConnectionEndedWhileNobodyWasHeard) {
  for (int i = 0; i < 100; ++i) Report({});
  for (const PeerId server : {kServer, kOther}) core_.OnDisconnected(server, now_);
  for (int i = 0; i < 50; ++i) Report({});
  Report({kOther});
  Report({kServer, kOther});
  EXPECT_EQ(core_.config().server_size(), 2);
}

// ---- servers that are to go

class ServersThatGo : public testing::Test {
 protected:
  ServersThatGo() : core_(Options(), TimePoint{}) {
    for (uint64_t store = 1; store <= 2; ++store) Register(PeerId(100 + store), store, 1);
  }
  static SchedulerOptions Options() {
    SchedulerOptions options;
    options.partition_count = 8;
    options.replicas = 1;
    return options;
  }
  pb::Header Ask(PeerId from, pb::Header header) {
    header.set_request(++request_);
    Outbox out;
    core_.OnMessage(from, Message{header, {}, {}}, now_, out);
    now_ += Milliseconds(100);
    for (const auto& item : out.items()) {
      if (item.to == from && item.message.header.request() == request_) return item.message.header;
    }
    return {};
  }
  void Register(PeerId peer, uint64_t store, uint64_t start) {
    pb::Header header;
    pb::Register& registration = *header.mutable_register_node();
    registration.set_role(pb::SERVER);
    registration.set_wire_version(kWireVersion);
    registration.set_store(store);
    registration.set_store_start(start);
    registration.add_shard()->set_peer(peer.value + 1000);
    Ask(peer, header);
  }
  pb::Header Change(const std::string& name, pb::ChangeNode::Change change) {
    pb::Header header;
    header.mutable_change_node()->set_name(name);
    header.mutable_change_node()->set_change(change);
    return Ask(PeerId(7), header);
  }
  pb::Header Report(PeerId server, bool leaving = false) {
    pb::Header header;
    header.mutable_server_report()->set_seen_generation(core_.config().generation());
    header.mutable_server_report()->set_config_generation(core_.config().generation());
    header.mutable_server_report()->set_leaving(leaving);
    return Ask(server, header);
  }

  TimePoint now_{};
  uint64_t request_ = 0;
  SchedulerCore core_;
};

TEST_F(ServersThatGo, AreToldToStopWhenTheyHaveNothing) {
  EXPECT_TRUE(Change("server-0", pb::ChangeNode::STOP).status().node(0).draining());
  Report(PeerId(101));
  EXPECT_TRUE(Report(PeerId(101)).server_orders().stop());
  EXPECT_FALSE(Report(PeerId(102)).server_orders().stop());
}

TEST_F(ServersThatGo, AreWantedAgainWhenSomebodyStartsThemAgain) {
  Change("server-0", pb::ChangeNode::STOP);
  Report(PeerId(101), /*leaving=*/true);
  Register(PeerId(103), 1, 2);
  Report(PeerId(103));
  EXPECT_FALSE(Report(PeerId(103)).server_orders().stop());
}

TEST_F(ServersThatGo, AreRefusedIfNobodyElseCouldHaveWhatTheyHave) {
  Change("server-0", pb::ChangeNode::DRAIN);
  EXPECT_EQ(Change("server-1", pb::ChangeNode::DRAIN).refusal().reason(), pb::Refusal::INVALID);
  EXPECT_EQ(Change("server-7", pb::ChangeNode::DRAIN).refusal().reason(), pb::Refusal::NOT_FOUND);
  EXPECT_FALSE(Change("server-0", pb::ChangeNode::KEEP).status().node(0).draining());
}

}  // namespace
}  // namespace sheaf
