#include "common/checkpoint/manifest.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <span>

#include "common/base/partition.h"

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'S', 'H', 'E', 'A', 'F', 'C', 'K', 'P'};
constexpr uint32_t kVersion = 1;
constexpr std::string_view kTemporary = ".making-";

struct Frame {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t bytes;
  uint64_t low;
  uint64_t high;
};

Digest DigestOfText(std::string_view text) { return DigestOf(std::as_bytes(std::span(text))); }

template <typename... Parts>
Failure Damaged(const Parts&... parts) {
  return Fail(ErrorCode::kDataLoss, "the manifest is damaged: ", parts...);
}

bool IsLetterOrDigit(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

// Files of a chain: each is of a checkpoint behind the one before, the last is of this one.
Status CheckFiles(const pb::CheckpointManifest& content, uint32_t partition) {
  const pb::ManifestPartition& listed = content.partition(static_cast<int>(partition));
  if (listed.file().empty()) return Damaged("partition ", partition, " has no file");
  std::string before;
  for (const pb::ManifestFile& file : listed.file()) {
    const std::string prefix = PartFileName(partition, 0).substr(0, 7);
    if (file.name().size() != PartFileName(partition, 0).size() || !file.name().starts_with(prefix) ||
        !std::all_of(file.name().begin() + 7, file.name().end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return Damaged("partition ", partition, " has a file that is not its own");
    }
    if (file.name() <= before) return Damaged("the file ", file.name(), " is listed twice, or out of order");
    before = file.name();
  }
  if (before != PartFileName(partition, content.id())) {
    return Damaged("the last file of partition ", partition, " is not of this checkpoint");
  }
  return {};
}

}  // namespace

Status CheckCheckpointName(std::string_view name) {
  const auto may_be_in_it = [](char c) { return IsLetterOrDigit(c) || c == '.' || c == '_' || c == '-'; };
  const bool fits = !name.empty() && name.size() <= 63 && IsLetterOrDigit(name[0]) && name != "latest" &&
                    std::ranges::all_of(name, may_be_in_it);
  if (fits) return {};
  return Fail(ErrorCode::kInvalidArgument,
              "the name of a checkpoint is 1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit first, and not "
              "\"latest\"");
}

std::string PartFileName(uint32_t partition, uint64_t id) {
  char name[40];
  std::snprintf(name, sizeof name, "p%05u.%020llu", partition, static_cast<unsigned long long>(id));
  return name;
}

std::string TemporaryFolder(uint64_t id) { return std::string(kTemporary) + std::to_string(id); }

std::string EncodeManifest(const pb::CheckpointManifest& content) {
  const std::string payload = content.SerializeAsString();
  const Digest digest = DigestOfText(payload);
  Frame frame{{}, kVersion, 0, payload.size(), digest.low, digest.high};
  std::memcpy(frame.magic, kMagic, sizeof(kMagic));
  return std::string(reinterpret_cast<const char*>(&frame), sizeof(frame)) + payload;
}

Result<Manifest> DecodeManifest(std::string_view bytes) {
  Frame frame;
  if (bytes.size() < sizeof(frame)) return Damaged("it has ", bytes.size(), " bytes");
  std::memcpy(&frame, bytes.data(), sizeof(frame));
  if (std::memcmp(frame.magic, kMagic, sizeof(kMagic)) != 0) return Damaged("it does not begin as one");
  if (frame.version != kVersion) {
    return Fail(ErrorCode::kVersionMismatch, "the manifest has version ", frame.version, ", this build knows ",
                kVersion);
  }
  const std::string_view payload = bytes.substr(sizeof(frame));
  if (frame.zero != 0 || frame.bytes != payload.size()) {
    return Damaged("it has ", payload.size(), " bytes, and says ", frame.bytes);
  }
  Manifest manifest;
  manifest.digest = DigestOfText(payload);
  if (manifest.digest != Digest{frame.high, frame.low}) return Damaged("its bytes are not those that were written");
  pb::CheckpointManifest& content = manifest.content;
  if (!content.ParseFromArray(payload.data(), static_cast<int>(payload.size()))) return Damaged("it cannot be read");
  if (!CheckCheckpointName(content.name())) return Damaged("it has no name that a checkpoint may have");
  const uint32_t count = content.partition_count();
  if (count == 0 || count > kMaxPartitions || content.partition_size() != static_cast<int>(count)) {
    return Damaged("it lists ", content.partition_size(), " of ", count, " partitions");
  }
  if (content.id() == 0 || content.job() == 0 || !content.has_submission() || !content.has_state()) {
    return Damaged("it says not which job it is of");
  }
  for (uint32_t p = 0; p < count; ++p) SHEAF_RETURN_IF_ERROR(CheckFiles(content, p));
  return manifest;
}

uint64_t BytesOf(const pb::CheckpointManifest& content) {
  uint64_t bytes = 0;
  for (const pb::ManifestPartition& partition : content.partition()) {
    for (const pb::ManifestFile& file : partition.file()) bytes += file.bytes();
  }
  return bytes;
}

}  // namespace sheaf
