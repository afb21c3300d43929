// The files of a partition in checkpoints, as a damaged disk may give them. Input: files, each after its size in four
// bytes, the oldest first.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/check.h"
#include "server/part_chain.h"
#include "tests/fuzz/fuzz_target.h"

namespace sheaf {
namespace {

class Bytes final : public FileSource {
 public:
  explicit Bytes(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Result<size_t> Read(std::span<std::byte> into) override {
    const size_t count = std::min(into.size(), bytes_.size() - at_);
    if (count > 0) std::memcpy(into.data(), bytes_.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  const std::span<const std::byte> bytes_;
  size_t at_ = 0;
};

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;  // NOLINT: a fuzz target's entry
  std::vector<std::unique_ptr<FileSource>> files;
  while (size >= sizeof(uint32_t)) {
    uint32_t bytes = 0;
    std::memcpy(&bytes, data, sizeof(bytes));
    data += sizeof(bytes);
    size -= sizeof(bytes);
    bytes = static_cast<uint32_t>(std::min<size_t>(bytes, size));
    files.push_back(std::make_unique<Bytes>(std::as_bytes(std::span(data, bytes))));
    data += bytes;
    size -= bytes;
  }
  if (files.empty()) return 0;
  PartChain chain(std::move(files));
  std::optional<std::pair<uint32_t, HashedKey>> last;
  while (true) {
    const auto piece = chain.Next();
    if (!piece || !*piece) return 0;
    const auto record = DecodeRedo(**piece);
    SHEAF_CHECK(record.has_value(), "a piece that is none");
    if (!record->header.image().has_rows()) continue;
    for (const HashedKey key : record->keys.As<HashedKey>()) {
      const std::pair row(record->header.image().rows().table(), key);
      SHEAF_CHECK(!last || *last < row, "rows out of order");
      last = row;
    }
  }
}
