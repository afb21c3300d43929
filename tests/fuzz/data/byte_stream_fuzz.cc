// Compressed streams of any bytes, decoded and split into lines: an error or an end, within bounded memory.
#include <cstdint>
#include <string>

#include "common/base/check.h"
#include "worker/data/byte_stream.h"
#include "worker/data/line_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  constexpr uint64_t kEnough = 4 << 20;  // a bomb is long, not wrong
  const auto compression = static_cast<sheaf::Compression>(data[0] % 4);
  auto source = sheaf::MakeMemoryStream({reinterpret_cast<const char*>(data) + 2, size - 2});
  const size_t max_line_bytes = size_t{1} + data[1] * 16;
  sheaf::LineReader reader(sheaf::MakeDecoder(compression, std::move(source), "fuzz"),
                           {.max_line_bytes = max_line_bytes, .comment = data[0] & 4 ? '#' : '\0'});
  for (;;) {
    const auto event = reader.Next();
    if (!event || *event == sheaf::LineReader::Event::kEnd || reader.line_offset() > kEnough) return 0;
    SHEAF_CHECK(reader.line().size() <= max_line_bytes);
    SHEAF_CHECK(reader.line().find('\n') == std::string_view::npos);
  }
}
