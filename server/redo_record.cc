#include "server/redo_record.h"

#include <cstring>
#include <numeric>

namespace sheaf {
namespace {

struct Prefix {
  uint32_t header_bytes = 0;
  uint32_t key_bytes = 0;
};

}  // namespace

std::vector<Buffer> EncodeRedo(const pb::RedoHeader& header, std::vector<Buffer> keys, std::vector<Buffer> values) {
  const auto size_of = [](size_t sum, const Buffer& piece) { return sum + piece.size(); };
  const size_t header_bytes = header.ByteSizeLong();
  const Prefix prefix{static_cast<uint32_t>(header_bytes),
                      static_cast<uint32_t>(std::accumulate(keys.begin(), keys.end(), size_t{0}, size_of))};
  std::vector<std::byte> front(sizeof(prefix) + RoundUpToWords(header_bytes));
  std::memcpy(front.data(), &prefix, sizeof(prefix));
  header.SerializeToArray(front.data() + sizeof(prefix), static_cast<int>(header_bytes));
  std::vector<Buffer> pieces{Buffer::FromVector(std::move(front))};
  pieces.insert(pieces.end(), std::make_move_iterator(keys.begin()), std::make_move_iterator(keys.end()));
  pieces.insert(pieces.end(), std::make_move_iterator(values.begin()), std::make_move_iterator(values.end()));
  return pieces;
}

Buffer JoinRecord(const std::vector<Buffer>& pieces) {
  const size_t size = std::accumulate(pieces.begin(), pieces.end(), size_t{0},
                                      [](size_t sum, const Buffer& piece) { return sum + piece.size(); });
  std::vector<uint64_t> words(RoundUpToWords(size) / sizeof(uint64_t));
  auto* to = reinterpret_cast<std::byte*>(words.data());
  for (const Buffer& piece : pieces) {
    if (!piece.empty()) std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  }
  return Buffer::FromVector(std::move(words)).Slice(0, size);
}

Result<RedoRecord> DecodeRedo(const Buffer& record) {
  Prefix prefix;
  if (record.size() < sizeof(prefix)) return Fail(ErrorCode::kDataLoss, "a record of ", record.size(), " bytes");
  std::memcpy(&prefix, record.data(), sizeof(prefix));
  const uint64_t front = sizeof(prefix) + RoundUpToWords(prefix.header_bytes);
  if (front + prefix.key_bytes > record.size() || prefix.key_bytes % sizeof(uint64_t) != 0) {
    return Fail(ErrorCode::kDataLoss, "a record of ", record.size(), " bytes says that ", prefix.header_bytes,
                " are its header and ", prefix.key_bytes, " its keys");
  }
  RedoRecord decoded;
  if (!decoded.header.ParseFromArray(record.data() + sizeof(prefix), static_cast<int>(prefix.header_bytes))) {
    return Fail(ErrorCode::kDataLoss, "a record whose header cannot be read");
  }
  decoded.keys = record.Slice(front, prefix.key_bytes);
  decoded.values = record.Slice(front + prefix.key_bytes, record.size() - front - prefix.key_bytes);
  return decoded;
}

}  // namespace sheaf
