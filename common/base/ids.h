// Identifiers as types of their own, so that a partition is never passed where a lane is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <vector>

namespace sheaf {

// A number with a name. Ordered, hashable, printable, and not convertible to any other Id.
template <typename Tag, typename Number>
struct Id {
  Number value = 0;

  constexpr Id() = default;
  constexpr explicit Id(Number number) : value(number) {}
  friend constexpr auto operator<=>(const Id&, const Id&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Id& id) { return out << id.value; }
};

// One end of a connection: random 64 bits, drawn anew at each process start (so it is also an incarnation).
using PeerId = Id<struct PeerTag, uint64_t>;
// A process as the scheduler numbers it: server-0, worker-3. A restarted process gets a new one.
using NodeId = Id<struct NodeTag, uint32_t>;
using JobId = Id<struct JobTag, uint64_t>;
using TableId = Id<struct TableTag, uint32_t>;
using PartitionId = Id<struct PartitionTag, uint32_t>;
// A virtual worker of a job: it owns a clock. See docs/protocol.md, "Lanes and clocks".
using LaneId = Id<struct LaneTag, uint32_t>;
// One walk over a data split: statistics, a training epoch, or an evaluation. Numbered from 0 within a job.
using PassId = Id<struct PassTag, uint32_t>;
// A range of rows of a data split; the unit of leasing.
using RangeId = Id<struct RangeTag, uint32_t>;
// Counts the pushes applied to one partition.
using Lsn = Id<struct LsnTag, uint64_t>;
// Counts the configuration changes of one partition.
using Epoch = Id<struct EpochTag, uint64_t>;

// A feature or row key after MixKey(): uniformly spread over 64 bits. Partitions own ranges of this space.
using HashedKey = uint64_t;
// A list of keys, shared by all operations that name it.
using KeyVector = std::shared_ptr<const std::vector<HashedKey>>;

}  // namespace sheaf

template <typename Tag, typename Number>
struct std::hash<sheaf::Id<Tag, Number>> {
  size_t operator()(const sheaf::Id<Tag, Number>& id) const noexcept { return std::hash<Number>{}(id.value); }
};
