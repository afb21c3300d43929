// What a client of a chaos run pushes, and how much of it was acknowledged.
//
// Each client has rows of its own, which nobody else pushes to. Push n of a client is a function of (seed, client, n):
// small integers as gradients, for an optimizer that subtracts them (SGD, rate 1), so that sums of float32 are exact
// and a row's value says whether a push is missing or there twice. The file keeps the pushes' stream and the count of
// those acknowledged: a client that is killed goes on with the push that was not, under the same identity.
// Thread-safety: none. Errors: kIo with the file's name.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "client/ps_client.h"
#include "common/base/result.h"

namespace sheaf::chaos {

inline constexpr uint32_t kRowsEach = 2048;
inline constexpr uint32_t kMostRowsOfPush = 128;

struct ChaosPush {
  std::vector<uint32_t> rows;       // ascending, distinct; of the client's own
  std::vector<float> gradients;     // [rows.size()]
};

class Ledger {
 public:
  // Makes the file if there is none. `client`: from 0, one file each.
  static Result<Ledger> Open(const std::string& path, uint64_t seed, uint32_t client);

  uint64_t acknowledged() const { return acknowledged_; }
  PushIdentity NextIdentity() const { return {stream_high_, stream_low_, acknowledged_}; }
  ChaosPush NextPush() const { return PushOf(acknowledged_); }
  // The next push was acknowledged: it is in the file when this comes back.
  Status Acknowledge();

  // What the rows must be after the pushes so far: [kRowsEach], exact.
  const std::vector<float>& expected() const { return expected_; }
  HashedKey KeyOf(uint32_t row) const;
  // All rows by their hashed keys.
  struct KeyedRow {
    HashedKey key;
    uint32_t row;
    friend auto operator<=>(const KeyedRow&, const KeyedRow&) = default;
  };
  std::vector<KeyedRow> AllRows() const;

 private:
  Ledger(std::string path, uint64_t seed, uint32_t client)
      : path_(std::move(path)), seed_(seed), client_(client), expected_(kRowsEach) {}
  ChaosPush PushOf(uint64_t number) const;
  void Add(const ChaosPush& push);
  Status Save() const;

  std::string path_;
  uint64_t seed_;
  uint32_t client_;
  uint64_t stream_high_ = 0;
  uint64_t stream_low_ = 0;
  uint64_t acknowledged_ = 0;
  std::vector<float> expected_;
};

}  // namespace sheaf::chaos
