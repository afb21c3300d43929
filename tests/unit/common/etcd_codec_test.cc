#include "common/storage/etcd_codec.h"

#include <gmock/gmock.h>

#include "common/storage/etcd_address.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

TEST(Base64, IsThatOfRfc4648) {
  const std::pair<const char*, const char*> known[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : known) {
    EXPECT_EQ(EncodeBase64(bytes), text);
    EXPECT_EQ(*DecodeBase64(text), bytes);
  }
  const std::string all("\0\xff\x80k", 4);
  EXPECT_EQ(*DecodeBase64(EncodeBase64(all)), all);
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text : {"Z", "Zg", "Zg=", "Z===", "====", "Zm9v!A==", "Zg==Zg==", "Zm 9"}) {
    EXPECT_FALSE(DecodeBase64(text).has_value()) << text;
  }
}

TEST(EtcdCodec, WritesNumbersAsTextAndAPutWithItsLease) {
  const EtcdTxn txn{.compares = {EtcdCompare::CreatedAt("leader", 9007199254740993), EtcdCompare::Value("a", "1")},
                    .then = {EtcdOp::Put("a", "", 7), EtcdOp::Delete(EtcdPrefix("b"))},
                    .otherwise = {EtcdOp::Read({.key = "leader"})}};
  EXPECT_EQ(EncodeEtcdTxn(txn),
            R"({"compare":[{"create_revision":"9007199254740993","key":"bGVhZGVy","result":"EQUAL","target":"CREATE"},)"
            R"({"key":"YQ==","result":"EQUAL","target":"VALUE","value":"MQ=="}],)"
            R"("failure":[{"request_range":{"key":"bGVhZGVy"}}],)"
            R"("success":[{"request_put":{"key":"YQ==","lease":"7","value":""}},)"
            R"({"request_delete_range":{"key":"Yg==","range_end":"Yw=="}}]})");
  EXPECT_EQ(EncodeEtcdGrant(5), R"({"TTL":"5"})");
}

TEST(EtcdCodec, ReadsWhatEtcdAnswers) {
  const auto won = DecodeEtcdTxn(R"({"header":{"cluster_id":"324952591200643719","revision":"2","raft_term":"2"},)"
                                 R"("succeeded":true,"responses":[{"response_put":{"header":{"revision":"2"}}}]})");
  ASSERT_TRUE(won.has_value());
  EXPECT_TRUE(won->succeeded);
  EXPECT_EQ(won->revision, 2);
  EXPECT_EQ(won->ranges.size(), 1u);
  const auto lost = DecodeEtcdTxn(
      R"({"header":{"revision":"2"},"responses":[{"response_range":{"header":{"revision":"2"},"kvs":[)"
      R"({"key":"bGVhZGVy","create_revision":"2","mod_revision":"2","version":"1","value":"bWU=",)"
      R"("lease":"2324035725604869385"}],"count":"1"}}]})");
  ASSERT_TRUE(lost.has_value());
  EXPECT_FALSE(lost->succeeded) << "what is false is left out";
  const EtcdEntry& leader = lost->ranges.at(0).entries.at(0);
  EXPECT_EQ(leader.key, "leader");
  EXPECT_EQ(leader.value, "me");
  EXPECT_EQ(leader.create_revision, 2);
  EXPECT_EQ(leader.lease, 2324035725604869385);
  EXPECT_EQ(DecodeEtcdKeepAlive(R"({"result":{"header":{},"ID":"7","TTL":"5"}})")->ttl_s, 5);
  EXPECT_EQ(DecodeEtcdKeepAlive(R"({"result":{"header":{},"ID":"7"}})")->ttl_s, 0) << "it has ended";
  EXPECT_TRUE(DecodeEtcdRange(R"({"header":{"revision":"3"}})")->entries.empty());
  EXPECT_TRUE(DecodeEtcdRange(R"({"more":true})")->more);
}

TEST(EtcdCodec, RefusesWhatIsNoAnswerOfEtcd) {
  for (const char* text : {"", "null", "[]", "{", "<html>", R"({"kvs":{}})", R"({"kvs":[1]})",
                           R"({"kvs":[{"key":"???"}]})", R"({"kvs":[{"create_revision":"12x"}]})",
                           R"({"kvs":[{"lease":"99999999999999999999"}]})", R"({"more":"yes"})", R"({"header":[]})"}) {
    EXPECT_EQ(DecodeEtcdRange(text).error().code, ErrorCode::kDataLoss) << text;
  }
  EXPECT_FALSE(DecodeEtcdTxn(R"({"succeeded":1})").has_value());
  EXPECT_FALSE(DecodeEtcdTxn(R"({"responses":[[]]})").has_value());
  EXPECT_FALSE(DecodeEtcdGrant(R"({"ID":"7"})").has_value());
  EXPECT_FALSE(DecodeEtcdKeepAlive(R"({"error":{}})").has_value());
}

TEST(EtcdCodec, TellsWhatIsSurelyNotDoneFromWhatMayBe) {
  const auto code = [](int64_t status, const char* text) { return DecodeEtcdError(status, text).code; };
  EXPECT_EQ(code(400, R"({"error":"x","message":"etcdserver: request is too large","code":3})"),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(404, R"({"message":"etcdserver: requested lease not found","code":5})"), ErrorCode::kNotFound);
  EXPECT_EQ(code(429, R"({"message":"etcdserver: mvcc: database space exceeded","code":8})"),
            ErrorCode::kResourceExhausted);
  EXPECT_EQ(code(503, R"({"message":"etcdserver: request timed out","code":14})"), ErrorCode::kTimeout);
  EXPECT_EQ(code(502, "<html>bad gateway\n"), ErrorCode::kTimeout);
  EXPECT_EQ(code(401, "{}"), ErrorCode::kPermissionDenied);
  EXPECT_THAT(DecodeEtcdError(502, "<html>bad\ngateway").message, HasSubstr("502: <html>bad gateway"));
}

TEST(EtcdPrefix, EndsBehindTheLastKeyThatBeginsSo) {
  EXPECT_EQ(EtcdPrefix("a/").end, "a0");
  EXPECT_EQ(EtcdPrefix("a\xff\xff").end, "b");
  EXPECT_EQ(EtcdPrefix("").end, std::string(1, '\0')) << "all keys";
}

TEST(EtcdAddress, HasMembersAndAPrefix) {
  const auto address = ParseEtcdAddress("etcd://a:2379,10.0.0.1:1,[::1]:2379/sheaf/prod/");
  ASSERT_TRUE(address.has_value()) << address.error().message;
  EXPECT_THAT(address->endpoints, ::testing::ElementsAre("a:2379", "10.0.0.1:1", "[::1]:2379"));
  EXPECT_EQ(address->prefix, "sheaf/prod");
  EXPECT_EQ(ParseEtcdAddress("etcd://a:1")->prefix, "sheaf");
}

TEST(EtcdAddress, SaysWhatIsWrong) {
  for (const char* text : {"", "a:1", "http://a:1", "etcd://", "etcd:///x", "etcd://a", "etcd://a:0", "etcd://a:70000",
                           "etcd://a:1,,b:2", "etcd://a b:1", "etcd://u@a:1", "etcd://::1:5"}) {
    const auto address = ParseEtcdAddress(text);
    ASSERT_FALSE(address.has_value()) << text;
    EXPECT_EQ(address.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(address.error().message, HasSubstr("etcd://HOST:PORT"));
  }
}

}  // namespace
}  // namespace sheaf
