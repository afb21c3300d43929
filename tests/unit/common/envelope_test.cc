#include "common/net/envelope.h"

#include <gtest/gtest.h>

namespace sheaf {
namespace {

Message PushOf(std::vector<uint64_t> keys, std::vector<float> values) {
  Message message;
  message.header.set_request(9);
  message.header.mutable_push()->set_seq(4);
  message.keys = Buffer::FromVector(std::move(keys));
  message.values = Buffer::FromVector(std::move(values));
  return message;
}

Buffer HeaderOfVersion(uint32_t version, pb::Header header) {
  header.set_wire_version(version);
  const std::string text = header.SerializeAsString();
  return Buffer::CopyOf(std::as_bytes(std::span(text)));
}

ErrorCode CodeOf(const Result<Message>& result) {
  EXPECT_FALSE(result);
  return result ? ErrorCode::kInternal : result.error().code;
}

TEST(Envelope, RoundTripKeepsEverythingAndSharesTheFrames) {
  const Message sent = PushOf({1, 2, 3}, {0.5f, 1.5f});
  const auto frames = EncodeMessage(sent);
  ASSERT_TRUE(frames);
  ASSERT_EQ(frames->size(), 3u);
  EXPECT_EQ((*frames)[2].data(), sent.values.data());
  const Result<Message> got = DecodeMessage(*frames);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->header.wire_version(), kWireVersion);
  EXPECT_EQ(got->header.push().seq(), 4u);
  EXPECT_EQ(got->keys.data(), sent.keys.data());
  EXPECT_EQ(got->values.text(), sent.values.text());
}

TEST(Envelope, LeavesEmptyFramesAtTheEndOut) {
  EXPECT_EQ(EncodeMessage(PushOf({}, {}))->size(), 1u);
  EXPECT_EQ(EncodeMessage(PushOf({1}, {}))->size(), 2u);
  EXPECT_EQ(EncodeMessage(PushOf({}, {1.0f}))->size(), 3u);
  EXPECT_EQ(FrameCount(PushOf({}, {})), 1u);
  EXPECT_EQ(FrameCount(PushOf({1}, {})), 2u);
  EXPECT_EQ(FrameCount(PushOf({}, {1.0f})), 3u);
}

TEST(Envelope, RefusesToEncodeOverALimit) {
  Message large_header = PushOf({1}, {});
  large_header.header.mutable_refusal()->set_text(std::string(kMaxHeaderBytes, 'x'));
  EXPECT_EQ(EncodeMessage(large_header).error().code, ErrorCode::kInvalidArgument);
  Message larger_header;
  larger_header.header.mutable_refusal()->set_text(std::string(kMaxPayloadBytes, 'x'));
  EXPECT_EQ(EncodeMessage(larger_header).error().code, ErrorCode::kInvalidArgument);

  Message largest = PushOf({1}, std::vector<float>((kMaxPayloadBytes - 8) / 4));
  EXPECT_TRUE(EncodeMessage(largest));
  Message too_large = PushOf({1, 2}, std::vector<float>((kMaxPayloadBytes - 8) / 4));
  EXPECT_EQ(EncodeMessage(too_large).error().code, ErrorCode::kInvalidArgument);
}

TEST(Envelope, CarriesALargeHeaderInTheValuesFrame) {
  Message sent;
  sent.header.set_request(9);
  sent.header.mutable_refusal()->set_text(std::string(kMaxHeaderBytes, 'x'));
  const auto frames = EncodeMessage(sent);
  ASSERT_TRUE(frames) << frames.error().message;
  ASSERT_EQ(frames->size(), 3u);
  EXPECT_LT((*frames)[0].size(), 64u);
  const auto got = DecodeMessage(*frames);
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->header.request(), 9u);
  EXPECT_EQ(got->header.refusal().text(), sent.header.refusal().text());
  EXPECT_TRUE(got->values.empty());
}

TEST(Envelope, RefusesALargeHeaderThatIsNone) {
  Message marker;
  marker.header.set_request(9);
  marker.header.mutable_large();
  const auto within = [&](const Message& inner, const Buffer& keys) {
    const Buffer header = (*EncodeMessage(inner))[0];
    const auto frames = EncodeMessage(marker);
    return CodeOf(DecodeMessage(std::vector<Buffer>{(*frames)[0], keys, header}));
  };
  Message other_request;
  other_request.header.set_request(8);
  EXPECT_EQ(within(other_request, {}), ErrorCode::kDataLoss);
  EXPECT_EQ(within(marker, {}), ErrorCode::kDataLoss);                            // a large header in a large header
  Message right;
  right.header.set_request(9);
  EXPECT_EQ(within(right, Buffer::FromVector(std::vector<uint64_t>{1})), ErrorCode::kDataLoss);
  const auto alone = EncodeMessage(marker);
  EXPECT_EQ(CodeOf(DecodeMessage(*alone)), ErrorCode::kDataLoss);
}

TEST(Envelope, RefusesToDecodeOverALimit) {
  const auto frames = EncodeMessage(PushOf({1}, {1.0f}));
  const Buffer large = Buffer::FromVector(std::vector<uint64_t>(kMaxPayloadBytes / 8));
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{(*frames)[0], large, (*frames)[2]})), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{large})), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{})), ErrorCode::kDataLoss);
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>(4, (*frames)[0]))), ErrorCode::kDataLoss);
}

TEST(Envelope, RefusesKeysThatAreNoListOfNumbers) {
  const auto frames = EncodeMessage(PushOf({1}, {}));
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{(*frames)[0], (*frames)[1].Slice(0, 7)})), ErrorCode::kDataLoss);
}

TEST(Envelope, RefusesEveryCutHeader) {
  const auto frames = EncodeMessage(PushOf({}, {}));
  const Buffer& header = (*frames)[0];
  // A cut between two fields leaves a valid, shorter header; it must still not crash. Cut at 0 and 1 nothing is left.
  for (size_t size = 0; size < header.size(); ++size) {
    const auto decoded = DecodeMessage(std::vector<Buffer>{header.Slice(0, size)});
    EXPECT_TRUE(size >= 2 || !decoded);
  }
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{header.Slice(0, header.size() - 1)})), ErrorCode::kDataLoss);
}

TEST(Envelope, NamesBothVersionsOfAMismatch) {
  const auto decoded = DecodeMessage(std::vector<Buffer>{HeaderOfVersion(77, {})});
  ASSERT_EQ(CodeOf(decoded), ErrorCode::kVersionMismatch);
  EXPECT_NE(decoded.error().message.find("version 77"), std::string::npos);
  EXPECT_NE(decoded.error().message.find("version " + std::to_string(kWireVersion)), std::string::npos);
}

TEST(Envelope, RefusesAHeaderWithoutAVersion) {
  pb::Header header;
  header.set_request(1);
  const std::string text = header.SerializeAsString();
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{Buffer::CopyOf(std::as_bytes(std::span(text)))})),
            ErrorCode::kDataLoss);
}

TEST(Envelope, RefusesAHeaderThatNamesTwoVersions) {
  const std::string text = {0x08, static_cast<char>(kWireVersion), 0x08, 77};
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{Buffer::CopyOf(std::as_bytes(std::span(text)))})),
            ErrorCode::kDataLoss);
}

TEST(Envelope, RefusesAnotherVersionInItsOwnVersion) {
  pb::Header request;
  request.set_request(42);
  request.mutable_register_node();
  const auto refusal = MakeVersionRefusal(HeaderOfVersion(77, request).bytes());
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->header.wire_version(), 77u);
  EXPECT_EQ(refusal->header.request(), 42u);
  EXPECT_EQ(refusal->header.refusal().reason(), pb::Refusal::VERSION_MISMATCH);
  Message sealed = *refusal;
  ASSERT_TRUE(SealHeader(sealed));
  EXPECT_EQ(sealed.header.wire_version(), 77u);
}

TEST(Envelope, AnswersNoRefusalWithARefusal) {
  pb::Header refusal;
  refusal.mutable_refusal();
  EXPECT_FALSE(MakeVersionRefusal(HeaderOfVersion(77, refusal).bytes()));
  EXPECT_FALSE(MakeVersionRefusal({}));
}

// Bodies that were used before, one of each kind.
void Fill(BodyPool& bodies) {
  pb::Header used[4];
  used[0].mutable_pull()->add_min_lsn(1);
  used[0].mutable_pull()->add_block()->mutable_keys()->set_inlined(true);
  used[1].mutable_pull_reply()->set_front(2);
  used[2].mutable_push()->mutable_progress()->set_clock(3);
  used[2].mutable_push()->add_block()->add_key_count(4);
  used[3].mutable_push_reply()->add_lsn(5);
  for (pb::Header& header : used) bodies.Recycle(header);
}

TEST(Envelope, ReadsIntoAUsedBodyWhatItReadsIntoANewOne) {
  const std::string start = {0x08, static_cast<char>(kWireVersion)};
  const std::string request = {0x10, 9};
  const std::string push = {0x62, 2, 0x20, 7};  // seq 7
  const std::string empty_pull = {0x52, 0};
  const std::string push_that_is_a_number = {0x60, 1};
  const std::string cut_push = {0x62, 4, 0x20, 7};
  const std::string refusal = {static_cast<char>(0x82), 1, 0};
  const std::string headers[] = {start,
                                 start + request,
                                 start + push,
                                 start + request + push,
                                 start + request + empty_pull,
                                 start + request + push + push,
                                 start + request + push + empty_pull,
                                 start + request + empty_pull + push,
                                 start + push + request,
                                 start + request + push_that_is_a_number,
                                 start + request + push_that_is_a_number + empty_pull,
                                 start + request + cut_push,
                                 start + request + refusal,
                                 start + request + push + refusal,
                                 start + request + push + start};
  for (const std::string& header : headers) {
    SCOPED_TRACE(::testing::PrintToString(header));
    const auto bytes = std::as_bytes(std::span(header));
    BodyPool none, used;
    Fill(used);
    const auto expected = DecodeMessage(bytes, {}, {}, none);
    const auto got = DecodeMessage(bytes, {}, {}, used);
    ASSERT_EQ(got.has_value(), expected.has_value());
    if (!got) continue;
    EXPECT_EQ(got->header.body_case(), expected->header.body_case());
    EXPECT_EQ(got->header.SerializeAsString(), expected->header.SerializeAsString());
  }
}

TEST(Envelope, SurvivesDeeplyNestedUnknownGroups) {
  std::string text = {0x08, static_cast<char>(kWireVersion)};
  for (int i = 0; i < 20'000; ++i) text += '\x7b';  // start group of field 15, unknown
  EXPECT_EQ(CodeOf(DecodeMessage(std::vector<Buffer>{Buffer::CopyOf(std::as_bytes(std::span(text)))})),
            ErrorCode::kDataLoss);
}

}  // namespace
}  // namespace sheaf
