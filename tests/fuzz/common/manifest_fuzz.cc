// The manifest of a checkpoint as anybody may have written it. Input: its file, or what is in the frame of one.
#include <string>

#include "common/base/check.h"
#include "common/checkpoint/manifest.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

void Check(const std::string& bytes) {
  const auto decoded = DecodeManifest(bytes);
  if (!decoded) return;
  const pb::CheckpointManifest& content = decoded->content;
  SHEAF_CHECK(CheckCheckpointName(content.name()).has_value(), "it leads somewhere else: ", content.name());
  for (const pb::ManifestPartition& partition : content.partition()) {
    for (const pb::ManifestFile& file : partition.file()) {
      SHEAF_CHECK(file.name().size() == PartFileName(0, 0).size() && file.name().find('/') == std::string::npos,
                  "a file leads somewhere else: ", file.name());
    }
  }
  const auto again = DecodeManifest(EncodeManifest(content));
  SHEAF_CHECK(again.has_value(), "what was encoded is refused: ", again.error().message);
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;  // NOLINT: a fuzz target's entry
  const std::string input(reinterpret_cast<const char*>(data), size);
  Check(input);
  pb::CheckpointManifest content;
  if (content.ParseFromString(input)) Check(EncodeManifest(content));
  return 0;
}
