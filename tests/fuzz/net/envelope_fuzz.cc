// Frames from a peer. Input: two bytes of header length, the header, one byte of keys length (in keys), then keys and
// values.
#include <google/protobuf/stubs/logging.h>

#include "common/base/check.h"
#include "common/net/envelope.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

// Bodies that were used before must make no difference.
void DecodeIntoUsedBodies(const std::vector<Buffer>& frames, const Result<Message>& expected) {
  BodyPool bodies;
  for (int kind = 0; kind < 4; ++kind) {
    pb::Header used;
    if (kind == 0) used.mutable_pull()->add_block()->mutable_keys()->set_inlined(true);
    if (kind == 1) used.mutable_pull_reply()->set_front(1);
    if (kind == 2) used.mutable_push()->add_block()->add_key_count(1);
    if (kind == 3) used.mutable_push_reply()->add_lsn(1);
    bodies.Recycle(used);
  }
  const Result<Message> message = DecodeMessage(frames, bodies);
  SHEAF_CHECK(message.has_value() == expected.has_value(), "used bodies decide whether it is decoded");
  if (!message) return;
  SHEAF_CHECK(message->header.body_case() == expected->header.body_case(), "another body");
  SHEAF_CHECK(message->header.SerializeAsString() == expected->header.SerializeAsString(), "another header");
}

void DecodeAndEncodeAgain(const std::vector<Buffer>& frames) {
  const Result<Message> message = DecodeMessage(frames);
  DecodeIntoUsedBodies(frames, message);
  if (!message) {
    (void)MakeVersionRefusal(frames[0].bytes());
    return;
  }
  const auto again = EncodeMessage(*message);
  // A header may grow past its limit when its unpacked fields are written packed; nothing else may fail.
  if (!again) return;
  const Result<Message> decoded = DecodeMessage(*again);
  SHEAF_CHECK(decoded.has_value(), "what was encoded is not decoded: ", decoded.error().message);
  SHEAF_CHECK(decoded->header.SerializeAsString() == message->header.SerializeAsString(), "the header changed");
  SHEAF_CHECK(decoded->keys.text() == message->keys.text(), "the keys changed");
  SHEAF_CHECK(decoded->values.text() == message->values.text(), "the values changed");
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using sheaf::Buffer;
  // Debug builds of protobuf print a line for every string that is not UTF-8.
  [[maybe_unused]] static auto* const quiet = google::protobuf::SetLogHandler(nullptr);
  const auto take = [&](size_t wanted) {
    const size_t length = std::min(wanted, size);
    Buffer piece = Buffer::CopyOf(std::as_bytes(std::span(data, length)));
    data += length;
    size -= length;
    return piece;
  };
  const Buffer length = take(2);
  const size_t header_size =
      length.size() < 2 ? 0 : static_cast<size_t>(length.data()[0]) | static_cast<size_t>(length.data()[1]) << 8;
  std::vector<Buffer> frames = {take(header_size)};
  const Buffer key_count = take(1);
  if (!key_count.empty()) frames.push_back(take(static_cast<size_t>(key_count.data()[0]) * 8));
  if (size > 0) frames.push_back(take(size));
  sheaf::DecodeAndEncodeAgain(frames);
  return 0;
}
