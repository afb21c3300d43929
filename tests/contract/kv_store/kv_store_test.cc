// What every KvStore promises.
#include "common/storage/kv_store.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/storage/rocks_store.h"
#include "tests/sim/sim_store.h"
#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

using Map = std::map<std::string, std::string, std::less<>>;

std::unique_ptr<KvStore> OpenRocks(const std::string& folder, size_t write_buffer_bytes = size_t{1} << 20) {
  auto store = OpenRocksStore(folder, {.write_buffer_bytes = write_buffer_bytes, .memory = nullptr});
  SHEAF_CHECK(store.has_value(), store.error().message);
  return std::move(*store);
}

Map ReadAll(KvStore& store, std::string_view begin = "", std::string_view end = "\xff") {
  Map all;
  std::string before;
  const Status read = store.Scan(begin, end, [&](std::string_view key, std::string_view value) {
    EXPECT_TRUE(all.empty() || before < key) << "in order";
    before = key;
    all.emplace(key, value);
    return Status();
  });
  EXPECT_TRUE(read.has_value()) << read.error().message;
  return all;
}

class KvStoreContract : public testing::TestWithParam<const char*> {
 protected:
  KvStoreContract() { Restart(); }
  void Restart() {
    store_.reset();
    store_ = std::string_view(GetParam()) == "rocks" ? OpenRocks(folder_.path() + "/rows") : disk_.Open();
  }
  void Put(std::string_view key, std::string_view value) {
    KvBatch batch;
    batch.Put(key, value);
    ASSERT_TRUE(store_->Write(batch));
  }
  std::string Get(std::string_view key) {
    auto got = store_->Get(key);
    EXPECT_TRUE(got.has_value());
    return got->value_or("(none)");
  }

  TempFolder folder_;
  sim::SimStore disk_{1};
  std::unique_ptr<KvStore> store_;
};

TEST_P(KvStoreContract, HasWhatWasWritten) {
  Put("b", "2");
  Put("a", std::string("\0\xff", 2));
  Put("b", "3");
  Put("", "empty key");
  EXPECT_EQ(Get("a"), std::string("\0\xff", 2));
  EXPECT_EQ(Get("b"), "3");
  EXPECT_EQ(Get(""), "empty key");
  EXPECT_EQ(Get("c"), "(none)");
  std::map<size_t, std::string> values;
  const auto take = [&](size_t place, std::string_view value) {
    EXPECT_TRUE(values.emplace(place, value).second);
    return Status();
  };
  const std::vector<std::string_view> keys{"b", "nothing", "a"};
  ASSERT_TRUE(store_->MultiGet(keys, take));
  EXPECT_EQ(values, (std::map<size_t, std::string>{{0, "3"}, {2, std::string("\0\xff", 2)}}));
  const auto refuse = [](size_t, std::string_view) -> Status { return Fail(ErrorCode::kCancelled, "no more"); };
  EXPECT_EQ(store_->MultiGet(keys, refuse).error().code, ErrorCode::kCancelled);
}

TEST_P(KvStoreContract, TakesTheChangesOfABatchInOrder) {
  Put("a1", "old");
  Put("a2", "old");
  Put("b", "old");
  KvBatch batch;
  batch.Put("a3", "goes");
  batch.DeleteRange("a", "b");
  batch.Put("a2", "new");
  batch.Put("c", "goes");
  batch.Delete("c");
  batch.Delete("never there");
  ASSERT_TRUE(store_->Write(batch));
  EXPECT_EQ(ReadAll(*store_), (Map{{"a2", "new"}, {"b", "old"}}));
}

TEST_P(KvStoreContract, TakesRangesAndLongKeysThatBeginAlikeInManyBatches) {
  for (int round = 0; round < 50; ++round) {
    KvBatch batch;
    batch.DeleteRange("a long beginning, and", "a long beginning, and~");
    for (int i = 0; i < 100; ++i) batch.Put("a long beginning, and " + std::to_string(i), std::to_string(round));
    ASSERT_TRUE(store_->Write(batch));
  }
  EXPECT_EQ(ReadAll(*store_).size(), 100U);
  EXPECT_EQ(Get("a long beginning, and 7"), "49");
}

TEST_P(KvStoreContract, ScansARangeAndStopsWhereItIsToldTo) {
  for (const char* key : {"a", "b", "c", "d"}) Put(key, "x");
  EXPECT_EQ(ReadAll(*store_, "b", "d"), (Map{{"b", "x"}, {"c", "x"}}));
  int seen = 0;
  const Status stopped = store_->Scan("a", "z", [&](std::string_view, std::string_view) {
    return ++seen == 2 ? Status(Fail(ErrorCode::kCancelled, "enough")) : Status();
  });
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  EXPECT_EQ(seen, 2);
}

TEST_P(KvStoreContract, KeepsWhatWasFlushed) {
  Map expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string key = "key " + std::to_string(i);
    Put(key, std::string(static_cast<size_t>(i % 50), 'x'));
    expected[key] = std::string(static_cast<size_t>(i % 50), 'x');
  }
  ASSERT_TRUE(store_->Flush());
  Restart();
  EXPECT_EQ(ReadAll(*store_), expected);
  EXPECT_GT(store_->bytes(), 0U);
  KvBatch batch;
  batch.DeleteRange("key 1", "key 9");
  ASSERT_TRUE(store_->Write(batch));
  ASSERT_TRUE(store_->Flush());
  Restart();
  expected.erase(expected.lower_bound("key 1"), expected.lower_bound("key 9"));
  EXPECT_EQ(ReadAll(*store_), expected);
}

TEST_P(KvStoreContract, HasAPrefixOfTheBatchesThatWereNotFlushed) {
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 50; ++i) {
      KvBatch batch;
      batch.Put("first", std::to_string(i));
      batch.Put("second", std::to_string(i));
      batch.Put("number " + std::to_string(i), std::string(60'000, 'x'));
      ASSERT_TRUE(store_->Write(batch));
    }
    Restart();
    const Map all = ReadAll(*store_);
    if (all.empty()) continue;
    EXPECT_EQ(all.at("first"), all.at("second"));
    EXPECT_EQ(all.size(), 3U + static_cast<size_t>(std::stoi(all.at("first"))));
    KvBatch batch;
    batch.DeleteRange("", "\xff");
    ASSERT_TRUE(store_->Write(batch));
    ASSERT_TRUE(store_->Flush());
  }
}

INSTANTIATE_TEST_SUITE_P(All, KvStoreContract, testing::Values("rocks", "memory"),
                         [](const auto& info) { return info.param; });

// ---- what only the one in files can show

// The child of the next.
TEST(RocksStore, DISABLED_WritesUntilItIsKilled) {
  const char* const folder = std::getenv("SHEAF_KV_CHILD_FOLDER");
  const char* const end = std::getenv("SHEAF_KV_CHILD_FD");
  if (folder == nullptr || end == nullptr) GTEST_SKIP();
  auto store = OpenRocks(folder + std::string("/rows"), 64 << 10);
  for (uint32_t i = 0;; ++i) {
    KvBatch batch;
    char key[16];
    std::snprintf(key, sizeof(key), "%08u", i);
    batch.Put(key, std::string(1000, 'x'));
    batch.Put("last", key);
    SHEAF_CHECK(store->Write(batch).has_value());
    if (i % 97 != 0) continue;
    SHEAF_CHECK(store->Flush().has_value());
    if (write(static_cast<int>(*ParseUint(end)), &i, sizeof(i)) != sizeof(i)) return;
  }
}

// A process writes until it is killed. Whatever it had time for, nothing is missing in between, and what it said to be
// flushed is there.
TEST(RocksStore, HasAPrefixOfWhatAKilledProcessWrote) {
  Random random(7);
  for (int round = 0; round < 8; ++round) {
    const TempFolder folder;
    int said[2];
    ASSERT_EQ(pipe(said), 0);
    const std::string end = std::to_string(said[1]);
    const pid_t child = fork();
    if (child == 0) {  // as a process of its own: RocksDB's threads are not forked
      setenv("SHEAF_KV_CHILD_FOLDER", folder.path().c_str(), 1);
      setenv("SHEAF_KV_CHILD_FD", end.c_str(), 1);
      execl("/proc/self/exe", "kv_store_child", "--gtest_also_run_disabled_tests",
            "--gtest_filter=RocksStore.DISABLED_WritesUntilItIsKilled", nullptr);
      _exit(1);
    }
    close(said[1]);
    uint32_t flushed = 0;
    for (uint64_t flushes = 1 + random.Below(6); flushes > 0; --flushes) {
      ASSERT_EQ(read(said[0], &flushed, sizeof(flushed)), static_cast<ssize_t>(sizeof(flushed)));
    }
    kill(child, SIGKILL);
    while (read(said[0], &flushed, sizeof(flushed)) == static_cast<ssize_t>(sizeof(flushed))) continue;
    close(said[0]);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    auto store = OpenRocks(folder.path() + "/rows");
    const Map all = ReadAll(*store);
    const uint32_t last = static_cast<uint32_t>(std::stoul(all.at("last")));
    EXPECT_GE(last, flushed);
    EXPECT_EQ(all.size(), last + 2U) << "batches before the last are missing";
  }
}

// Whatever byte of its files is damaged: it says so, or the byte was of no account.
TEST(RocksStore, SaysThatItIsDamaged) {
  const TempFolder folder;
  const std::string path = folder.path() + "/rows";
  Map written;
  {
    auto store = OpenRocks(path);
    for (int i = 0; i < 200; ++i) {
      KvBatch batch;
      batch.Put("key " + std::to_string(i), std::string(100, static_cast<char>('a' + i % 26)));
      written["key " + std::to_string(i)] = std::string(100, static_cast<char>('a' + i % 26));
      ASSERT_TRUE(store->Write(batch));
    }
    ASSERT_TRUE(store->Flush());
  }
  int refused = 0, harmless = 0;
  Random random(3);
  for (const auto& file : std::filesystem::directory_iterator(path)) {
    const std::string name = file.path().filename();
    if (name.starts_with("LOG") || name == "LOCK" || name == "IDENTITY" || name.starts_with("OPTIONS")) continue;
    std::ifstream in(file.path(), std::ios::binary);
    const std::string sound{std::istreambuf_iterator<char>(in), {}};
    for (int flip = 0; flip < 40 && !sound.empty(); ++flip) {
      const TempFolder copy;
      std::filesystem::copy(path, copy.path() + "/rows", std::filesystem::copy_options::recursive);
      std::string damaged = sound;
      damaged[random.Below(damaged.size())] ^= static_cast<char>(1 << random.Below(8));
      std::ofstream(copy.path() + "/rows/" + name, std::ios::binary) << damaged;
      auto store = OpenRocksStore(copy.path() + "/rows", {});
      Map read;
      const Status scanned = !store ? Status(Failure{store.error()})
                                    : (*store)->Scan("", "\xff", [&](std::string_view key, std::string_view value) {
                                        read.emplace(key, value);
                                        return Status();
                                      });
      if (scanned) {
        // The end of a manifest that is not whole counts as not written. What it named is not there: the store is as it
        // was before, which its owner's log must tell.
        EXPECT_TRUE(read == written || (read.empty() && name.starts_with("MANIFEST"))) << name;
        ++harmless;
      } else {
        EXPECT_NE(scanned.error().message.find(copy.path()), std::string::npos);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 50);
  std::cout << "  " << refused << " refused, " << harmless << " of no account\n";
}

// A limit on the size of files is to RocksDB what a full disk is. What it writes here fits; its own log would not.
TEST(RocksStore, LivesOnWhenWhatItTellsOfItselfFindsNoRoom) {
  const TempFolder folder;
  const std::unique_ptr<KvStore> store = OpenRocks(folder.path() + "/rows");
  rlimit unlimited{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
  const auto before = std::signal(SIGXFSZ, SIG_IGN);  // as in our servers: an error, not the end
  rlimit small = unlimited;
  small.rlim_cur = 32 << 10;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status;
  for (int i = 0; i < 100 && status; ++i) {
    KvBatch batch;
    batch.Put("a", std::to_string(i));
    status = store->Write(batch);
    if (status) status = store->Flush();
  }
  setrlimit(RLIMIT_FSIZE, &unlimited);
  std::signal(SIGXFSZ, before);
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_EQ(ReadAll(*store), (Map{{"a", "99"}}));
}

TEST(RocksStore, IsBrokenAfterAnErrorAndSoundWhenItIsOpenedAnew) {
  sim::SimStore disk(1);
  for (uint64_t n = 1; n <= 4; ++n) {
    sim::FailingStore store(disk.Open(), n, ErrorCode::kResourceExhausted);
    KvBatch batch;
    batch.Put("a", std::to_string(n));
    bool failed = false;
    for (int i = 0; i < 2; ++i) {
      const bool wrote = static_cast<bool>(store.Write(batch)) && static_cast<bool>(store.Flush());
      EXPECT_FALSE(failed && wrote);
      failed |= !wrote;
    }
    EXPECT_TRUE(failed);
  }
  auto store = disk.Open();
  EXPECT_EQ(ReadAll(*store), (Map{{"a", "4"}}));
}

}  // namespace
}  // namespace sheaf
