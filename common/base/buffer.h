// Buffer: immutable bytes with a shared owner; copying one copies a pointer, never the bytes.
//
// A received frame, a vector that a caller gave up, or a slice of either. The transport sends from it
// without copying and lets go of it when the bytes are on the wire. Thread-safe as shared_ptr is:
// the bytes must not change once they are in a Buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace sheaf {

class Buffer {
 public:
  Buffer() = default;
  // Views `bytes` for as long as `owner` lives.
  Buffer(std::shared_ptr<const void> owner, std::span<const std::byte> bytes)
      : owner_(std::move(owner)), bytes_(bytes) {}

  // Takes over a vector of plain values.
  template <typename T>
  static Buffer FromVector(std::vector<T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    auto owner = std::make_shared<const std::vector<T>>(std::move(values));
    return Buffer(owner, std::as_bytes(std::span(*owner)));
  }
  static Buffer CopyOf(std::span<const std::byte> bytes) {
    return FromVector(std::vector<std::byte>(bytes.begin(), bytes.end()));
  }

  const std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

  // The bytes as values of T. The size must be a multiple of sizeof(T): check it first if it came from a peer.
  // Frames are at least 8-byte aligned (every transport guarantees it), slices keep what their offset leaves.
  template <typename T>
  std::span<const T> As() const {
    static_assert(std::is_trivially_copyable_v<T>);
    SHEAF_CHECK(size() % sizeof(T) == 0, "buffer of ", size(), " bytes read as values of ", sizeof(T));
    SHEAF_CHECK(reinterpret_cast<uintptr_t>(data()) % alignof(T) == 0, "misaligned buffer");
    return {reinterpret_cast<const T*>(data()), size() / sizeof(T)};
  }

  const std::shared_ptr<const void>& owner() const { return owner_; }

  Buffer Slice(size_t offset, size_t length) const {
    SHEAF_CHECK(offset <= size() && length <= size() - offset, "slice ", offset, "+", length, " of ", size());
    return Buffer(owner_, bytes_.subspan(offset, length));
  }

 private:
  std::shared_ptr<const void> owner_;
  std::span<const std::byte> bytes_;
};

}  // namespace sheaf
