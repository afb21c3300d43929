// The image of a partition as it may come from a damaged store. Input: pieces, each after its size in four bytes.
#include <cstring>
#include <vector>

#include "common/base/check.h"
#include "server/partition_image.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

constexpr uint32_t kPartitions = 4;

std::vector<Buffer> Pieces(const uint8_t* data, size_t size) {
  std::vector<Buffer> pieces;
  while (size >= sizeof(uint32_t)) {
    uint32_t bytes = 0;
    std::memcpy(&bytes, data, sizeof(bytes));
    data += sizeof(bytes);
    size -= sizeof(bytes);
    bytes = static_cast<uint32_t>(std::min<size_t>(bytes, size));
    const Buffer unaligned = Buffer::CopyOf(std::as_bytes(std::span(data, bytes)));
    pieces.push_back(JoinRecord({unaligned}));
    data += bytes;
    size -= bytes;
  }
  return pieces;
}

std::vector<Buffer> Encode(const PartitionImage& image) {
  ImageSource source;
  source.partition = image.partition;
  source.partition_count = kPartitions;
  source.index = image.index;
  source.lsn = image.lsn;
  source.state = image.state.get();
  source.tables = image.tables;
  for (const PartitionImage::Session& session : image.sessions) {
    source.sessions.push_back({session.high, session.low, &session.window});
  }
  std::vector<Buffer> pieces;
  for (const ImagePiece& piece : EncodeImageState(source)) pieces.push_back(JoinRecord(piece));
  return pieces;
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;  // NOLINT: a fuzz target's entry
  ImageReader reader(kPartitions, [](const ImageTable& table, std::span<const HashedKey> keys,
                                     std::span<const float> rows) {
    SHEAF_CHECK(rows.size() == keys.size() * table.width, "rows of another size");
    return Status();
  });
  for (const Buffer& piece : Pieces(data, size)) {
    if (!reader.Take(piece)) return 0;
  }
  if (!reader.begun()) return 0;
  if (!reader.complete()) return 0;
  // What was understood is told again in the same words.
  reader.image().tables.clear();
  const std::vector<Buffer> once = Encode(reader.image());
  ImageReader again(kPartitions, [](const ImageTable&, std::span<const HashedKey>, std::span<const float>) {
    return Status();
  });
  for (const Buffer& piece : once) {
    const Status taken = again.Take(piece);
    SHEAF_CHECK(taken.has_value(), "what was encoded is refused: ", taken.error().message);
  }
  SHEAF_CHECK(again.complete(), "it is not whole");
  const std::vector<Buffer> twice = Encode(again.image());
  SHEAF_CHECK(once.size() == twice.size(), "it has other pieces");
  for (size_t i = 0; i < once.size(); ++i) SHEAF_CHECK(once[i].text() == twice[i].text(), "piece ", i, " differs");
  return 0;
}
