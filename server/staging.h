// Slices of pushes that have not all arrived. See docs/protocol.md, "Pushes".
//
// Thread-safety: none. Ownership: holds the slices' frames, with their reservations of the shard's budget.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/clock.h"
#include "server/request_check.h"

namespace sheaf {

struct PassKey {
  uint64_t job = 0;
  uint32_t pass = 0;
  friend auto operator<=>(const PassKey&, const PassKey&) = default;
};

// Who a push is.
struct PushKey {
  std::optional<PassKey> pass;   // nothing: a session push
  uint64_t stream_high = 0;
  uint64_t stream_low = 0;
  uint64_t seq = 0;
  friend auto operator<=>(const PushKey&, const PushKey&) = default;
};

struct SliceOrigin {
  PeerId sender;
  uint64_t attempt = 0;
  uint32_t slice = 0;
  uint32_t slice_count = 1;
  bool urgent = false;           // all lanes wait for it
};

class Staging {
 public:
  // `awaited` is for slices that all lanes wait for, and for those of the push that is here longest.
  Staging(Budget& budget, Budget& awaited) : budget_(budget), awaited_(awaited) {}

  enum class Outcome {
    kStaged,     // kept, others are missing (or it was here already)
    kComplete,   // it was the last: `parts` has all, in order, and the staging area forgets them
    kOutdated,   // of an earlier attempt of the same sender, overtaken by a later one
    kFull,       // the budget does not take it now
    kTooLarge,   // the push alone would not fit into the budget
  };
  // Slices of another sender or attempt replace what was staged.
  Outcome Add(const PushKey& push, const SliceOrigin& origin, std::shared_ptr<RequestPart> part, TimePoint now,
              std::vector<std::shared_ptr<RequestPart>>& parts);

  void Drop(const PushKey& push) { pushes_.erase(push); }
  // Drops those of which `gone` is true.
  void DropIf(const std::function<bool(const PushKey&, const RequestPart&)>& gone);
  // Drops pushes of which no slice came since `before`.
  void DropIdle(TimePoint before);

  // visit(part), of each slice that is here.
  template <typename Visit>
  void ForEachPart(Visit visit) const {
    for (const auto& [push, staged] : pushes_) {
      for (const auto& part : staged.parts) {
        if (part != nullptr) visit(*part);
      }
    }
  }
  size_t size() const { return pushes_.size(); }
  size_t BytesOf(const PushKey& push) const;           // of its slices that are here

 private:
  struct Staged {
    SliceOrigin origin;                                // its slice is meaningless
    std::vector<std::shared_ptr<RequestPart>> parts;   // [slice_count]; nullptr: missing
    uint32_t present = 0;
    size_t bytes = 0;
    uint64_t born = 0;                                 // order of arrival
    TimePoint last;
  };
  bool IsOldest(const Staged& staged) const;

  Budget& budget_;
  Budget& awaited_;
  std::map<PushKey, Staged> pushes_;
  uint64_t births_ = 0;
};

}  // namespace sheaf
