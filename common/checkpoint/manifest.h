// The MANIFEST of a checkpoint: that it is there and whole is what makes a folder a checkpoint.
//
// Frame (little-endian): "SHEAFCKP", u32 version, u32 zero, u64 payload bytes, XXH3-128 of the payload (u64 low, u64
// high), payload (pb::CheckpointManifest). docs/checkpoints.md tells what lies where.
// Thread-safety: pure functions. What is read is checked as a whole: names lead nowhere else, no file twice, every
// partition there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/digest.h"
#include "common/base/result.h"
#include "proto/checkpoint.pb.h"

namespace sheaf {

inline constexpr const char* kManifestFile = "MANIFEST";
inline constexpr size_t kMaxManifestBytes = size_t{1} << 28;

// ^[a-z0-9][a-z0-9._-]{0,62}$, and not "latest", which names the newest. kInvalidArgument says what it must be.
Status CheckCheckpointName(std::string_view name);
// Of a partition, as written by the checkpoint with that number: p00012.00000000000000000007
std::string PartFileName(uint32_t partition, uint64_t id);
// Where the files of a checkpoint lie until it is one.
std::string TemporaryFolder(uint64_t id);

struct Manifest {
  pb::CheckpointManifest content;
  Digest digest;  // of the payload
};

std::string EncodeManifest(const pb::CheckpointManifest& content);
// kDataLoss: it is damaged, or says what cannot be; kVersionMismatch.
Result<Manifest> DecodeManifest(std::string_view bytes);
uint64_t BytesOf(const pb::CheckpointManifest& content);  // of all its files

}  // namespace sheaf
