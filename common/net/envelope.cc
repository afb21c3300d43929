#include "common/net/envelope.h"

#include <google/protobuf/io/coded_stream.h>

#include <string>

#include "common/base/strings.h"

namespace sheaf {
namespace {

constexpr uint32_t kWireVersionTag = 1 << 3;  // field 1, varint
constexpr uint32_t kRequestTag = 2 << 3;      // field 2, varint
constexpr uint32_t kMessageWireType = 2;

struct HeaderStart {
  uint32_t wire_version = 0;
  pb::Header::BodyCase body = pb::Header::BODY_NOT_SET;  // its first, if that is seen at once and of the data path
};

// How a header begins, read before anything else is trusted: the wire version is written first, being field 1.
std::optional<HeaderStart> PeekHeader(std::span<const std::byte> header) {
  google::protobuf::io::CodedInputStream input(reinterpret_cast<const uint8_t*>(header.data()),
                                               static_cast<int>(header.size()));
  HeaderStart start;
  if (input.ReadTag() != kWireVersionTag || !input.ReadVarint32(&start.wire_version)) return std::nullopt;
  uint32_t tag = input.ReadTag();
  if (uint64_t request = 0; tag == kRequestTag && input.ReadVarint64(&request)) tag = input.ReadTag();
  for (const auto kind : {pb::Header::kPull, pb::Header::kPullReply, pb::Header::kPush, pb::Header::kPushReply}) {
    if (tag == (static_cast<uint32_t>(kind) << 3 | kMessageWireType)) start.body = kind;
  }
  return start;
}

Status CheckPayload(const Buffer& keys, const Buffer& values, ErrorCode code) {
  if (keys.size() > kMaxPayloadBytes || values.size() > kMaxPayloadBytes - keys.size()) {
    return Fail(code, "payload of ", FormatBytes(keys.size()), " keys and ", FormatBytes(values.size()),
                " values, the limit is ", FormatBytes(kMaxPayloadBytes), " together");
  }
  if (keys.size() % sizeof(uint64_t) != 0) {
    return Fail(code, "keys frame of ", keys.size(), " bytes is not a list of 8-byte keys");
  }
  return {};
}

Status MoveHeaderOut(Message& message, size_t size) {
  if (size > kMaxPayloadBytes) {
    return Fail(ErrorCode::kInvalidArgument, "header of ", FormatBytes(size), ", the limit is ",
                FormatBytes(kMaxPayloadBytes));
  }
  std::vector<std::byte> bytes(size);
  WriteHeader(message.header, bytes);
  pb::Header marker;
  marker.set_wire_version(message.header.wire_version());
  marker.set_request(message.header.request());
  marker.mutable_large();
  message.header = std::move(marker);
  message.values = Buffer::FromVector(std::move(bytes));
  return {};
}

// `header` is empty, but for an empty body of the kind that its bytes have: it is read into that one.
// A header may name its version twice; the last one is what others would read.
bool ParseHeader(std::span<const std::byte> bytes, pb::Header& header) {
  const google::protobuf::StringPiece text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return header.ParseFrom<pb::Header::kMerge>(text) && header.wire_version() == kWireVersion;
}

}  // namespace

size_t FrameCount(const Message& message) {
  if (!message.values.empty()) return 3;
  return message.keys.empty() ? 1 : 2;
}

Result<size_t> SealHeader(Message& message) {
  if (!message.header.has_wire_version()) message.header.set_wire_version(kWireVersion);
  size_t size = message.header.ByteSizeLong();
  if (size > kMaxHeaderBytes) {
    if (FrameCount(message) > 1) {
      return Fail(ErrorCode::kInvalidArgument, "header of ", FormatBytes(size), ", beside a payload the limit is ",
                  FormatBytes(kMaxHeaderBytes));
    }
    SHEAF_RETURN_IF_ERROR(MoveHeaderOut(message, size));
    size = message.header.ByteSizeLong();
  }
  SHEAF_RETURN_IF_ERROR(CheckPayload(message.keys, message.values, ErrorCode::kInvalidArgument));
  return size;
}

void WriteHeader(const pb::Header& header, std::span<std::byte> frame) {
  auto* const begin = reinterpret_cast<uint8_t*>(frame.data());
  const uint8_t* const end = header.SerializeWithCachedSizesToArray(begin);
  SHEAF_CHECK(end == begin + frame.size(), "header changed after it was sealed");
}

Result<std::vector<Buffer>> EncodeMessage(Message message) {
  SHEAF_ASSIGN_OR_RETURN(const size_t size, SealHeader(message));
  std::vector<std::byte> header(size);
  WriteHeader(message.header, header);
  std::vector<Buffer> frames = {Buffer::FromVector(std::move(header)), std::move(message.keys),
                                std::move(message.values)};
  while (frames.size() > 1 && frames.back().empty()) frames.pop_back();
  return frames;
}

Result<Message> DecodeMessage(std::span<const std::byte> header, Buffer keys, Buffer values, BodyPool& bodies) {
  if (header.size() > kMaxHeaderBytes) {
    return Fail(ErrorCode::kDataLoss, "header frame of ", FormatBytes(header.size()), ", the limit is ",
                FormatBytes(kMaxHeaderBytes));
  }
  const std::optional<HeaderStart> start = PeekHeader(header);
  if (!start)
    return Fail(ErrorCode::kDataLoss, "header frame of ", header.size(), " bytes does not begin with a wire version");
  if (start->wire_version != kWireVersion) {
    return Fail(ErrorCode::kVersionMismatch, "the message is of wire version ", start->wire_version, ", this process (",
                BuildText(), ") speaks version ", kWireVersion, ": run the same build everywhere");
  }
  SHEAF_RETURN_IF_ERROR(CheckPayload(keys, values, ErrorCode::kDataLoss));
  Message message{.header = {}, .keys = std::move(keys), .values = std::move(values)};
  bodies.Reuse(start->body, message.header);
  // What this can allocate is bounded by the frame's size, and its depth by protobuf's recursion limit of 100.
  if (!ParseHeader(header, message.header)) {
    return Fail(ErrorCode::kDataLoss, "header frame of ", header.size(), " bytes is not a header");
  }
  if (message.header.has_large()) {
    pb::Header large;
    if (!message.keys.empty() || !ParseHeader(message.values.bytes(), large) || large.has_large() ||
        large.request() != message.header.request()) {
      return Fail(ErrorCode::kDataLoss, "values frame of ", message.values.size(), " bytes is not a large header");
    }
    return Message{.header = std::move(large), .keys = {}, .values = {}};
  }
  return message;
}

Result<Message> DecodeMessage(std::span<const Buffer> frames, BodyPool& bodies) {
  if (frames.empty() || frames.size() > kMaxFrames) {
    return Fail(ErrorCode::kDataLoss, "message of ", frames.size(), " frames, expected 1 to ", kMaxFrames);
  }
  return DecodeMessage(frames[0].bytes(), frames.size() > 1 ? frames[1] : Buffer(),
                       frames.size() > 2 ? frames[2] : Buffer(), bodies);
}

Result<Message> DecodeMessage(std::span<const Buffer> frames) {
  BodyPool no_bodies;
  return DecodeMessage(frames, no_bodies);
}

std::optional<Message> MakeVersionRefusal(std::span<const std::byte> header) {
  if (header.size() > kMaxHeaderBytes) return std::nullopt;
  const std::optional<HeaderStart> start = PeekHeader(header);
  if (!start) return std::nullopt;
  pb::Header refused;  // as far as this build can read it
  const bool readable = refused.ParsePartialFromArray(header.data(), static_cast<int>(header.size()));
  if (refused.has_refusal()) return std::nullopt;

  Message answer;
  answer.header.set_wire_version(start->wire_version);
  if (readable) answer.header.set_request(refused.request());
  pb::Refusal& refusal = *answer.header.mutable_refusal();
  refusal.set_reason(pb::Refusal::VERSION_MISMATCH);
  refusal.set_text(StrCat("your messages are of wire version ", start->wire_version, ", this process (", BuildText(),
                          ") speaks version ", kWireVersion, ": run the same build everywhere"));
  return answer;
}

}  // namespace sheaf
