// What only a MetaStore in etcd promises: fences, answers that do not come, large transactions that were cut off.
#include "common/storage/etcd_meta_store.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/etcd_process.h"

namespace sheaf {
namespace {

class EtcdMetaStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!EtcdProcess::IsInstalled()) GTEST_SKIP() << EtcdProcess::kMissing;
    etcd_ = std::make_unique<EtcdProcess>();
    client_ = std::make_unique<EtcdClient>(std::vector{etcd_->endpoint()});
  }
  std::unique_ptr<EtcdMetaStore> Open(EtcdMetaStore::Options options = {}) {
    auto store = EtcdMetaStore::Open(etcd_->address(), std::move(options));
    EXPECT_TRUE(store.has_value()) << store.error().message;
    return std::move(*store);
  }
  // Makes the key "test/leader"; answers when it was made.
  int64_t Lead(const std::string& name) {
    const std::string key = "test/leader";
    const auto answer = client_->Txn({.then = {EtcdOp::Put(key, name), EtcdOp::Read({.key = key})}});
    return answer->ranges.back().entries.front().create_revision;
  }
  std::string Raw(const std::string& key) {
    const auto read = client_->Range({.key = key});
    return read->entries.empty() ? "none" : read->entries.front().value;
  }

  std::unique_ptr<EtcdProcess> etcd_;
  std::unique_ptr<EtcdClient> client_;
};

TEST_F(EtcdMetaStoreTest, WritesNothingMoreWhenAnotherLeads) {
  const auto old = Open({.fence = EtcdFence{"test/leader", Lead("old")}});
  EXPECT_TRUE(*old->Txn({.puts = {{"a", "1"}}}));
  ASSERT_TRUE(client_->Txn({.then = {EtcdOp::Delete({.key = "test/leader"})}}).has_value());
  EXPECT_FALSE(*old->Txn({.puts = {{"a", "2"}}}));
  const int64_t revision = Lead("new");
  EXPECT_FALSE(*old->Txn({.puts = {{"a", "3"}}}));
  const auto now = Open({.fence = EtcdFence{"test/leader", revision}});
  EXPECT_TRUE(*now->Txn({.puts = {{"a", "4"}}}));
  const auto late = old->Txn({.puts = {{"a", "5"}}});
  EXPECT_TRUE(!late || !*late);
  MetaTxn large{.puts = {{"a", std::string(2 << 20, 'x')}}};
  const auto late_large = old->Txn(large);
  EXPECT_TRUE(!late_large || !*late_large);
  EXPECT_EQ(*now->Get("a"), "4");
}

TEST_F(EtcdMetaStoreTest, TellsATransactionThatIsDoneThoughItsAnswerNeverCame) {
  const auto store = Open({.deadline = Milliseconds(200), .client = {.attempt = Milliseconds(100)}});
  const MetaTxn txn{.compares = {{"leader", std::nullopt}}, .puts = {{"leader", "me"}}};
  etcd_->Stop();  // the system takes the request; etcd does it when it goes on
  const auto unknown = store->Txn(txn);
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnavailable);
  etcd_->GoOn();
  Result<bool> done = store->Txn(txn);
  for (int i = 0; i < 100 && !done; ++i) done = store->Txn(txn);
  ASSERT_TRUE(done.has_value()) << done.error().message;
  EXPECT_TRUE(*done) << "its own compare stands against it, which held when it was done";
  EXPECT_EQ(*store->Get("leader"), "me");
}

TEST_F(EtcdMetaStoreTest, WhatComesLateDoesNothingAfterALaterTransaction) {
  const auto store = Open({.deadline = Milliseconds(200), .client = {.attempt = Milliseconds(100)}});
  ASSERT_TRUE(*store->Txn({.puts = {{"a", "0"}}}));
  for (int i = 1; i <= 20; ++i) {
    const std::string late = "late-" + std::to_string(i), last = std::to_string(i);
    etcd_->Stop();
    ASSERT_FALSE(store->Txn({.puts = {{"a", late}}}).has_value());
    etcd_->GoOn();
    Result<bool> done = store->Txn({.puts = {{"a", last}}});
    for (int tries = 0; tries < 100 && !done; ++tries) done = store->Txn({.puts = {{"a", last}}});
    ASSERT_TRUE(done && *done);
    EXPECT_EQ(*store->Get("a"), last);
  }
  const auto again = Open();
  EXPECT_EQ(*again->Get("a"), "20");
}

TEST_F(EtcdMetaStoreTest, BringsALargeTransactionToItsEndThatAnotherProcessBegan) {
  ASSERT_TRUE(*Open()->Txn({.puts = {{"gone", "1"}, {"stays", "2"}}}));
  const std::string packed = "2:" "1:a" "1:x" "1:b" "0:" "4:gone";
  ASSERT_TRUE(client_->Txn({.then = {EtcdOp::Put("test/large/N-1/00000000", packed.substr(0, 7)),
                                     EtcdOp::Put("test/large/N-1/00000001", packed.substr(7)),
                                     EtcdOp::Put("test/large/left-by-another/00000000", "1:"),
                                     EtcdOp::Put("test/large", "N-1 2"), EtcdOp::Put("test/txn", "N-1")}})
                  .has_value());
  const auto store = Open();
  const auto listed = store->List("");
  ASSERT_TRUE(listed.has_value()) << listed.error().message;
  std::string text;
  for (const MetaEntry& entry : *listed) text += entry.key + "=" + entry.value + ";";
  EXPECT_EQ(text, "a=x;b=;stays=2;");
  EXPECT_EQ(Raw("test/large"), "none");
  EXPECT_TRUE(client_->Range(EtcdPrefix("test/large/"))->entries.empty());
  EXPECT_TRUE(*store->Txn({.puts = {{"c", "1"}}}));
}

TEST_F(EtcdMetaStoreTest, SaysWhichRecordIsDamaged) {
  ASSERT_TRUE(client_->Txn({.then = {EtcdOp::Put("test/k/a", "+2"), EtcdOp::Put("test/k/b", "?")}}).has_value());
  const auto store = Open();
  for (const char* key : {"a", "b"}) {
    const auto value = store->Get(key);
    ASSERT_FALSE(value.has_value());
    EXPECT_EQ(value.error().code, ErrorCode::kDataLoss);
    EXPECT_NE(value.error().message.find(std::string("/") + key), std::string::npos) << value.error().message;
  }
}

TEST_F(EtcdMetaStoreTest, GoesToTheMemberThatAnswers) {
  const EtcdAddress address{{"127.0.0.1:1", etcd_->endpoint(), "127.0.0.1:2"}, "test"};
  const auto store = EtcdMetaStore::Open(address, {});
  ASSERT_TRUE(store.has_value()) << store.error().message;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(*(*store)->Txn({.puts = {{"a", std::to_string(i)}}}));
  EXPECT_EQ(*(*store)->Get("a"), "4");
}

TEST_F(EtcdMetaStoreTest, SaysThatNobodyAnswers) {
  const auto store = EtcdMetaStore::Open({{"127.0.0.1:1"}, "test"}, {});
  ASSERT_FALSE(store.has_value());
  EXPECT_EQ(store.error().code, ErrorCode::kUnavailable);
}

// The tree's own limits are far above; etcd's are not asked for.
TEST_F(EtcdMetaStoreTest, RefusesWhatEtcdCannotTake) {
  const auto store = Open();
  EXPECT_EQ(store->Txn({.puts = {{std::string(5000, 'k'), "1"}}}).error().code, ErrorCode::kInvalidArgument);
  MetaTxn compares{.puts = {{"a", "1"}}};
  for (int i = 0; i < 100; ++i) compares.compares.push_back({std::to_string(i), std::nullopt});
  EXPECT_EQ(store->Txn(compares).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace sheaf
