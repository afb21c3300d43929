// What every MetaStore promises.
#include "common/storage/meta_store.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "common/storage/etcd_meta_store.h"
#include "common/storage/memory_meta_store.h"
#include "common/storage/rocks_meta_store.h"
#include "tests/etcd_process.h"
#include "common/runtime/temp_folder.h"

namespace sheaf {
namespace {

// A place where a store outlives its process.
class Home {
 public:
  virtual ~Home() = default;
  virtual MetaStore& Open() = 0;  // by a process that takes the place of the one before
};

class MemoryHome final : public Home {
 public:
  MetaStore& Open() override { return store_; }

 private:
  MemoryMetaStore store_;
};

class RocksHome final : public Home {
 public:
  MetaStore& Open() override {
    store_.reset();
    auto store = RocksMetaStore::Open(folder_.path() + "/meta", RocksMetaStore::Mode::kCreate);
    SHEAF_CHECK(store.has_value(), store.error().message);
    store_ = std::move(*store);
    return *store_;
  }

 private:
  TempFolder folder_;
  std::unique_ptr<RocksMetaStore> store_;
};

class EtcdHome final : public Home {
 public:
  MetaStore& Open() override {
    store_.reset();
    auto store = EtcdMetaStore::Open(etcd_.address(), {});
    SHEAF_CHECK(store.has_value(), store.error().message);
    store_ = std::move(*store);
    return *store_;
  }

 private:
  EtcdProcess etcd_;
  std::unique_ptr<EtcdMetaStore> store_;
};

class MetaStoreContract : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "etcd") {
      if (!EtcdProcess::IsInstalled()) GTEST_SKIP() << EtcdProcess::kMissing;
      home_ = std::make_unique<EtcdHome>();
    }
    if (std::string(GetParam()) == "memory") home_ = std::make_unique<MemoryHome>();
    if (std::string(GetParam()) == "rocks") home_ = std::make_unique<RocksHome>();
    store_ = &home_->Open();
  }
  void Restart() { store_ = &home_->Open(); }
  bool Do(const MetaTxn& txn) {
    const auto done = store_->Txn(txn);
    EXPECT_TRUE(done.has_value()) << done.error().message;
    return done && *done;
  }
  std::optional<std::string> Get(const std::string& key) {
    const auto value = store_->Get(key);
    EXPECT_TRUE(value.has_value()) << value.error().message;
    return value ? *value : std::nullopt;
  }
  std::string Listed(const std::string& prefix) {
    const auto entries = store_->List(prefix);
    EXPECT_TRUE(entries.has_value()) << entries.error().message;
    std::string text;
    for (const MetaEntry& entry : *entries) text += entry.key + "=" + entry.value + ";";
    return text;
  }

  std::unique_ptr<Home> home_;
  MetaStore* store_ = nullptr;
};

TEST_P(MetaStoreContract, BeginsEmpty) {
  EXPECT_EQ(Get("a"), std::nullopt);
  EXPECT_EQ(Listed(""), "");
}

TEST_P(MetaStoreContract, KeepsWhatWasPutUntilItIsDeleted) {
  EXPECT_TRUE(Do({.puts = {{"a", "1"}, {"b", ""}}}));
  EXPECT_EQ(Get("a"), "1");
  EXPECT_EQ(Get("b"), "");
  EXPECT_TRUE(Do({.puts = {{"a", "2"}}, .deletes = {"b", "never was"}}));
  EXPECT_EQ(Get("a"), "2");
  EXPECT_EQ(Get("b"), std::nullopt);
}

TEST_P(MetaStoreContract, HasEverythingWhenTheNextProcessOpensIt) {
  for (int i = 0; i < 50; ++i) Do({.puts = {{"n/" + std::to_string(i % 7), std::to_string(i)}}});
  Do({.deletes = {"n/3"}});
  const std::string before = Listed("n/");
  Restart();
  EXPECT_EQ(Listed("n/"), before);
  EXPECT_EQ(before, "n/0=49;n/1=43;n/2=44;n/4=46;n/5=47;n/6=48;");
}

TEST_P(MetaStoreContract, ListsAPrefixInTheOrderOfItsKeys) {
  Do({.puts = {{"job/10", "x"}, {"job/2", "y"}, {"job", "z"}, {"jobs", "w"}, {"job/", "v"}, {"joa/1", "u"}}});
  EXPECT_EQ(Listed("job/"), "job/=v;job/10=x;job/2=y;");
  EXPECT_EQ(Listed("nothing"), "");
}

TEST_P(MetaStoreContract, OrdersKeysByUnsignedBytes) {
  Do({.puts = {{"k\x7f", "2"}, {"k\xff", "4"}, {"k\x80", "3"}, {std::string("k\0", 2), "1"}}});
  const auto listed = store_->List("k");
  std::string values;
  for (const MetaEntry& entry : *listed) values += entry.value;
  EXPECT_EQ(values, "1234");
}

TEST_P(MetaStoreContract, DoesAllOfATransactionOrNothing) {
  Do({.puts = {{"a", "1"}}});
  EXPECT_FALSE(Do({.compares = {{"a", "1"}, {"b", "1"}}, .puts = {{"c", "1"}}, .deletes = {"a"}}));
  EXPECT_EQ(Listed(""), "a=1;");
  EXPECT_TRUE(Do({.compares = {{"a", "1"}, {"b", std::nullopt}}, .puts = {{"c", "1"}}, .deletes = {"a"}}));
  EXPECT_EQ(Listed(""), "c=1;");
}

TEST_P(MetaStoreContract, ComparesWithWhatIsNotThere) {
  EXPECT_TRUE(Do({.compares = {{"leader", std::nullopt}}, .puts = {{"leader", "me"}}}));
  EXPECT_FALSE(Do({.compares = {{"leader", std::nullopt}}, .puts = {{"leader", "you"}}}));
  EXPECT_EQ(Get("leader"), "me");
}

TEST_P(MetaStoreContract, TellsAnEmptyValueFromNone) {
  Do({.puts = {{"a", ""}}});
  EXPECT_FALSE(Do({.compares = {{"a", std::nullopt}}, .puts = {{"b", "1"}}}));
  EXPECT_TRUE(Do({.compares = {{"a", ""}}, .puts = {{"b", "1"}}}));
}

TEST_P(MetaStoreContract, TakesLargeValuesAndManyKeysAtOnce) {
  MetaTxn txn;
  for (int i = 0; i < 4096; ++i) txn.puts.push_back({"p/" + std::to_string(i), std::string(100, 'x')});
  txn.puts.push_back({"plan", std::string(3 << 20, 'y')});
  EXPECT_TRUE(Do(txn));
  Restart();
  EXPECT_EQ(store_->List("p/")->size(), 4096u);
  EXPECT_EQ(Get("plan")->size(), size_t{3} << 20);
}

TEST_P(MetaStoreContract, TheSameTransactionTwiceIsTheSameAsOnce) {
  const MetaTxn txn{.compares = {{"epoch", std::nullopt}}, .puts = {{"a", "1"}}, .deletes = {"b"}};
  EXPECT_TRUE(Do(txn));
  EXPECT_TRUE(Do(txn));
  EXPECT_EQ(Listed(""), "a=1;");
}

TEST_P(MetaStoreContract, ReplacesLargeValuesBySmallOnesAndBack) {
  for (const size_t size : {size_t{2} << 20, size_t{600} << 10, size_t{3}, size_t{1} << 20}) {
    EXPECT_TRUE(Do({.puts = {{"v", std::string(size, 'x')}, {"v/00000000", "beside"}}}));
    Restart();
    EXPECT_EQ(Get("v"), std::string(size, 'x'));
  }
  EXPECT_TRUE(Do({.deletes = {"v"}}));
  EXPECT_EQ(Listed(""), "v/00000000=beside;");
}

TEST_P(MetaStoreContract, DoesNothingOfALargeTransactionWhoseCompareDoesNotHold) {
  MetaTxn txn{.compares = {{"epoch", "2"}}, .puts = {{"plan", std::string(3 << 20, 'y')}}};
  for (int i = 0; i < 300; ++i) txn.puts.push_back({"p/" + std::to_string(i), "x"});
  EXPECT_FALSE(Do(txn));
  EXPECT_EQ(Listed(""), "");
  Restart();
  EXPECT_EQ(Listed(""), "");
  Do({.puts = {{"epoch", "2"}}});
  EXPECT_TRUE(Do(txn));
  EXPECT_EQ(store_->List("p/")->size(), 300u);
}

INSTANTIATE_TEST_SUITE_P(All, MetaStoreContract, testing::Values("memory", "rocks", "etcd"),
                         [](const auto& info) { return std::string(info.param); });

TEST(MemoryMetaStore, FailsAsItWasTold) {
  MemoryMetaStore store;
  store.SetTrouble(MemoryMetaStore::Trouble::kNotDone);
  EXPECT_EQ(store.Txn({.puts = {{"a", "1"}}}).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(*store.Get("a"), std::nullopt);
  store.SetTrouble(MemoryMetaStore::Trouble::kDone, ErrorCode::kIo);
  EXPECT_EQ(store.Txn({.puts = {{"a", "1"}}}).error().code, ErrorCode::kIo);
  EXPECT_EQ(*store.Get("a"), "1");
}

// The newest write-ahead log of a store.
std::filesystem::path WalOf(const std::string& folder) {
  std::filesystem::path newest;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".log" && entry.path() > newest) newest = entry.path();
  }
  return newest;
}

TEST(RocksMetaStore, GoesOnAfterATornEnd) {
  const TempFolder folder;
  {
    const auto store = RocksMetaStore::Open(folder.path(), RocksMetaStore::Mode::kCreate);
    for (int i = 0; i < 10; ++i) ASSERT_TRUE((*store)->Txn({.puts = {{"k" + std::to_string(i), "v"}}}).has_value());
    // As a process leaves it that is killed: copied while it is open.
    std::filesystem::copy(folder.path(), folder.path() + "-torn");
  }
  const std::filesystem::path wal = WalOf(folder.path() + "-torn");
  std::filesystem::resize_file(wal, std::filesystem::file_size(wal) - 3);
  {
    const auto store = RocksMetaStore::Open(folder.path() + "-torn", RocksMetaStore::Mode::kMustExist);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    EXPECT_EQ((*store)->List("k")->size(), 9u);
  }
  std::filesystem::remove_all(folder.path() + "-torn");
}

TEST(RocksMetaStore, RefusesDamageInTheMiddleAndNamesTheFolder) {
  const TempFolder folder;
  const std::string copy = folder.path() + "-damaged";
  {
    const auto store = RocksMetaStore::Open(folder.path(), RocksMetaStore::Mode::kCreate);
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE((*store)->Txn({.puts = {{"k" + std::to_string(i), std::string(1000, 'v')}}}).has_value());
    }
    std::filesystem::copy(folder.path(), copy);
  }
  {
    std::fstream wal(WalOf(copy), std::ios::in | std::ios::out | std::ios::binary);
    wal.seekp(3000);
    wal.put('!');
  }
  const auto store = RocksMetaStore::Open(copy, RocksMetaStore::Mode::kMustExist);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kDataLoss);
  EXPECT_NE(store.error().message.find(copy), std::string::npos) << store.error().message;
  std::filesystem::remove_all(copy);
}

TEST(RocksMetaStore, IsNotMadeAnewWhenItMustBeThere) {
  const TempFolder folder;
  ASSERT_TRUE(RocksMetaStore::Open(folder.path(), RocksMetaStore::Mode::kCreate).has_value());
  std::filesystem::remove(folder.path() + "/CURRENT");
  const auto store = RocksMetaStore::Open(folder.path(), RocksMetaStore::Mode::kMustExist);
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace sheaf
