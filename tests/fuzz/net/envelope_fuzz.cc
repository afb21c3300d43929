// Frames from a peer. Input: two bytes of header length, the header, one byte of keys length (in keys), then keys and
// values.
#include <google/protobuf/stubs/logging.h>

#include "common/base/check.h"
#include "common/net/envelope.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

std::string InputOf(const Message& message) {
  const auto frames = EncodeMessage(message);
  const size_t header_size = (*frames)[0].size();
  std::string input = {static_cast<char>(header_size & 0xff), static_cast<char>(header_size >> 8)};
  input += (*frames)[0].text();
  input += static_cast<char>(message.keys.size() / 8);
  input += message.keys.text();
  input += message.values.text();
  return input;
}

void DecodeAndEncodeAgain(const std::vector<Buffer>& frames) {
  const Result<Message> message = DecodeMessage(frames);
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

std::vector<std::string> FuzzSeeds() {
  Message report;
  report.header.set_request(7);
  auto& server_report = *report.header.mutable_server_report();
  server_report.set_incarnation(1234567);
  server_report.add_waiting("lane 0 waits for lane 1 at clock 41");
  server_report.add_ledger()->set_max_examples(100);

  Message push;
  push.header.set_request(8);
  auto& request = *push.header.mutable_push();
  request.mutable_progress()->set_lane(2);
  request.set_stream_high(1ULL << 32);
  for (uint32_t partition = 0; partition < 4; ++partition) {
    request.add_partition(partition);
    request.add_epoch(1);
  }
  auto& block = *request.add_block();
  block.mutable_keys()->set_inlined(true);
  block.add_key_count(3);
  push.keys = Buffer::FromVector(std::vector<uint64_t>{1, 2, 3});
  push.values = Buffer::FromVector(std::vector<float>{0.5f, -1.0f, 2.0f});

  Message config;
  auto& cluster = *config.header.mutable_config();
  cluster.set_generation(3);
  cluster.add_server()->add_shard()->set_address("tcp://127.0.0.1:7001");
  cluster.add_roster()->add_lane()->set_end_clock(~0ULL);

  Message inner;
  inner.header.set_request(9);
  inner.header.mutable_config()->set_generation(4);
  Message large;
  large.header.set_request(9);
  large.header.mutable_large();
  large.values = (*EncodeMessage(inner))[0];
  return {InputOf(report), InputOf(push), InputOf(config), InputOf(large)};
}

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
