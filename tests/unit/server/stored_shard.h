// A shard with a log and a store of snapshots, both simulated, that can be started again; and how rounds go by.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/recovery.h"
#include "server/snapshot_store.h"
#include "server/snapshotter.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_store.h"
#include "tests/unit/server/shard_fixture.h"

namespace sheaf {

class StoredShard : public ShardFixture, protected ColdStore {
 protected:
  // What was appended and not committed is lost; the new process has another PeerId.
  Status Restart() {
    snapshotter_.reset();
    core.reset();
    store_.reset();
    log_ = disk_.OpenLog();
    store_ = rows_.Open();
    ShardOptions options = options_;
    options.log = log_.get();
    if (limit_ > 0) options.cold = this;
    options.row_limit_bytes = limit_;
    self_ = PeerId(self_.value + 1);
    core = std::make_unique<ShardCore>(self_, options);
    config.mutable_server(0)->mutable_shard(0)->set_peer(self_.value);
    auto recovered = RecoverShard(*core, *log_, store_.get(), now, [](size_t) { return Status(); });
    if (!recovered) return Failure{recovered.error()};
    recovered_ = *recovered;
    snapshotter_ = std::make_unique<Snapshotter>(*core, *log_, snapshots_);
    return {};
  }
  void RestartAndInstall() {
    const Status read = Restart();
    ASSERT_TRUE(read.has_value()) << read.error().message;
    InstallAndCommit();
  }
  void InstallAndCommit() {
    Install();
    Commit();
  }
  // What the owner does before it sends.
  void Commit() {
    const Durability level = core->TakeCommitLevel();
    if (level != Durability::kMemory) {
      ASSERT_TRUE(log_->Commit(level));
    }
  }
  Message AskAndCommit(Message message) {
    Message answer = Ask(std::move(message));
    Commit();
    return answer;
  }
  // A whole round, and what leaves memory in it.
  void Round() {
    const uint64_t before = snapshotter_->stats().rounds;
    if (snapshotter_->idle()) snapshotter_->RequestRound();
    for (int step = 0; step < 10'000; ++step) {
      snapshotter_->Step(now);
      Commit();
      while (auto work = snapshotter_->TakeWork()) Done(CarryOut(*store_, *work));
      if (snapshotter_->stats().rounds > before && !snapshotter_->eager()) return;
    }
    ADD_FAILURE() << "a round without an end";
  }
  // Rows leave until there is room, without a round.
  void LetLeave() {
    for (int step = 0; step < 10'000; ++step) {
      snapshotter_->Step(now);
      Commit();
      bool worked = false;
      while (auto work = snapshotter_->TakeWork()) {
        Done(CarryOut(*store_, *work));
        worked = true;
      }
      if (!worked && !snapshotter_->eager() && snapshotter_->idle()) return;
    }
    ADD_FAILURE() << "rows leave without an end";
  }
  void Done(const Status& status) { snapshotter_->OnDone(status, now); }
  void ReadNow(ColdRead& read) override { read.status = ReadRows(*store_, read); }

  std::vector<std::string> Everything() {
    std::vector<std::string> all;
    for (uint32_t p = 0; p < 4; ++p) {
      for (const ImagePiece& piece : core->Export(p, 1)) all.emplace_back(JoinRecord(piece).text());
    }
    return all;
  }
  // What the shard has is what another process would find.
  void ExpectTheSameAgain() {
    const auto before = Everything();
    RestartAndInstall();
    EXPECT_EQ(Everything(), before);
  }
  // Of all tables, or one.
  size_t StoredRows(std::optional<uint32_t> table = std::nullopt) {
    size_t rows = 0;
    EXPECT_TRUE(store_->Scan("w", "x", [&](std::string_view key, std::string_view) {
      rows += !table || static_cast<uint8_t>(key[8]) == *table;  // w, partition, table
      return Status();
    }));
    return rows;
  }

  sim::SimDisk disk_{1};
  sim::SimStore rows_{1};
  std::unique_ptr<RedoLog> log_;
  std::unique_ptr<KvStore> store_;
  std::unique_ptr<Snapshotter> snapshotter_;
  ShardOptions options_;             // of the next start, and so the next two
  SnapshotterOptions snapshots_{.rows_a_step = 2};
  size_t limit_ = 0;                 // of rows in memory; 0: none
  Recovered recovered_;
  PeerId self_ = kShardPeer;
};

}  // namespace sheaf
