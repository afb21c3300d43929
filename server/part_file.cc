#include "server/part_file.h"

#include <bit>
#include <cstring>
#include <utility>
#include <vector>

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'S', 'H', 'E', 'A', 'F', 'P', 'R', 'T'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kMaxPieceBytes = uint64_t{1} << 30;  // one that cannot be cut is larger than most

struct FileHeader {
  char magic[8];
  uint32_t version;
  uint32_t zero;
};

uint64_t Padding(uint64_t bytes) { return (8 - bytes % 8) % 8; }

}  // namespace

Status PartFileWriter::Append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  digester_.Add(bytes);
  bytes_ += bytes.size();
  return sink_->Append(bytes);
}

Status PartFileWriter::Begin() {
  FileHeader header{{}, kVersion, 0};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  return Append(std::as_bytes(std::span(&header, 1)));
}

Status PartFileWriter::Add(const ImagePiece& piece) {
  uint64_t bytes = 0;
  for (const Buffer& part : piece) bytes += part.size();
  SHEAF_RETURN_IF_ERROR(Append(std::as_bytes(std::span(&bytes, 1))));
  for (const Buffer& part : piece) SHEAF_RETURN_IF_ERROR(Append(part.bytes()));
  constexpr std::byte kZeros[8] = {};
  return Append(std::span(kZeros).first(Padding(bytes)));
}

Status PartFileReader::Read(std::span<std::byte> into) {
  if (into.size() > left_) return Fail(ErrorCode::kDataLoss, "the file of a partition is cut short");
  SHEAF_ASSIGN_OR_RETURN(const size_t got, source_->Read(into));
  if (got < into.size()) return Fail(ErrorCode::kDataLoss, "the file of a partition has become shorter");
  left_ -= got;
  return {};
}

Status PartFileReader::Begin() {
  FileHeader header;
  SHEAF_RETURN_IF_ERROR(Read(std::as_writable_bytes(std::span(&header, 1))));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.zero != 0) {
    return Fail(ErrorCode::kDataLoss, "the file of a partition does not begin as one");
  }
  if (header.version == kVersion) return {};
  return Fail(ErrorCode::kVersionMismatch, "the file of a partition has version ", header.version,
              ", this build knows ", kVersion);
}

Result<std::optional<Buffer>> PartFileReader::Next() {
  if (left_ == 0) return std::optional<Buffer>();
  uint64_t bytes = 0;
  SHEAF_RETURN_IF_ERROR(Read(std::as_writable_bytes(std::span(&bytes, 1))));
  if (bytes > kMaxPieceBytes || bytes + Padding(bytes) > left_) {
    return Fail(ErrorCode::kDataLoss, "the file of a partition has a piece of ", bytes, " bytes where ", left_,
                " are left");
  }
  std::vector<uint64_t> words((bytes + 7) / 8);
  SHEAF_RETURN_IF_ERROR(Read(std::as_writable_bytes(std::span(words))));
  return std::optional<Buffer>(Buffer::FromVector(std::move(words)).Slice(0, bytes));
}

}  // namespace sheaf
