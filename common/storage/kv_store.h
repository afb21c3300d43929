// Keys and values on a disk, in the order of their keys, and batches of changes that are there as a whole or not.
//
// An interface: RocksStore keeps them in RocksDB; the simulator's loses what was not flushed. All pass
// tests/contract/kv_store.
// What survives: after Flush, all that was written before it, also the loss of power. Of what was written since, some
// of the batches, from the first on and without a gap. There is no log beneath: whoever writes has one of his own.
// Thread-safety: none, but it may be handed from thread to thread; every call may wait for the disk.
// Errors: kResourceExhausted: the disk is full; kDataLoss: something in it is damaged; kIo. After an error of Write or
// Flush all later ones fail, too: the store is to be opened anew, and has what survives.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

// Changes, in order: a later one of a key counts.
class KvBatch {
 public:
  enum class Kind : uint8_t { kPut, kDelete, kDeleteRange };

  void Put(std::string_view key, std::string_view value) { Add(Kind::kPut, key, value); }
  void Delete(std::string_view key) { Add(Kind::kDelete, key, {}); }
  // Of keys in [begin, end).
  void DeleteRange(std::string_view begin, std::string_view end) { Add(Kind::kDeleteRange, begin, end); }

  bool empty() const { return bytes_.empty(); }
  size_t bytes() const { return bytes_.size(); }
  void Reserve(size_t bytes) { bytes_.reserve(bytes); }
  void Clear() { bytes_.clear(); }

  // visit(kind, key, value), or (kDeleteRange, begin, end).
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (size_t at = 0; at < bytes_.size();) {
      Front front;
      bytes_.copy(reinterpret_cast<char*>(&front), sizeof(front), at);
      at += sizeof(front);
      const std::string_view all(bytes_);
      visit(front.kind, all.substr(at, front.first), all.substr(at + front.first, front.second));
      at += size_t{front.first} + front.second;
    }
  }

 private:
  struct Front {
    uint32_t first = 0;
    uint32_t second = 0;
    Kind kind = Kind::kPut;
  };
  void Add(Kind kind, std::string_view first, std::string_view second) {
    const Front front{static_cast<uint32_t>(first.size()), static_cast<uint32_t>(second.size()), kind};
    bytes_.append(reinterpret_cast<const char*>(&front), sizeof(front)).append(first).append(second);
  }

  std::string bytes_;
};

class KvStore {
 public:
  virtual ~KvStore() = default;

  virtual Status Write(const KvBatch& batch) = 0;
  virtual Status Flush() = 0;

  // Nothing: there is no such key.
  virtual Result<std::optional<std::string>> Get(std::string_view key) = 0;
  // Many at once: those that there are are handed over, each by its place in `keys`, until one is refused.
  using FoundTaker = std::function<Status(size_t place, std::string_view value)>;
  virtual Status MultiGet(std::span<const std::string_view> keys, const FoundTaker& take) = 0;
  // Hands over what lies in [begin, end) in order of keys, until one is refused.
  using Taker = std::function<Status(std::string_view key, std::string_view value)>;
  virtual Status Scan(std::string_view begin, std::string_view end, const Taker& take) = 0;

  virtual uint64_t bytes() const = 0;  // about, on the disk
};

}  // namespace sheaf
