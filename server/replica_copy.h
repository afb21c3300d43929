// A copy of some partitions of another shard, kept up to date by the stream of what that shard does; from it this shard
// takes over when the scheduler says so. See docs/protocol.md, "Replicas".
//
// A state machine without I/O, owned by Shard. Thread-safety: none.
// Rows, windows, clocks and gradients come out the same as at the primary, bit by bit: the same rules are fed with the
// same records in the same order (ShardCore::Redo).
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "server/moved_partition.h"
#include "server/replica_stream.h"
#include "server/shard_core.h"

namespace sheaf {

class ReplicaCopy {
 public:
  ReplicaCopy(PeerId primary, uint64_t stream, ShardOptions options);

  // What comes is taken, and the primary may be told so, but nothing is done with it before Continue. An error: it
  // cannot be kept up to date any more, and is of no use.
  Status OnReplicate(const Message& message);
  // Does what was taken. `adopt` gives what this primary was handed over by the one before, of which there is a copy
  // here; until it does, what comes after it waits, and is not taken. An error: as above.
  Status Continue(TimePoint now, const Adopter& adopt);
  // There is something to do.
  bool waits() const { return !waiting_.empty(); }
  size_t pending() const { return waiting_.size(); }
  uint32_t WaitsFor() const;  // for this partition; if it waits
  void OnTick(TimePoint now);
  // This shard's server has taken a configuration. Keeps what the copy is still to be a copy of.
  void OnConfig(const pb::ClusterConfig& config, uint32_t own_node);
  // It has nothing, and its primary is gone. One that is there may give us something by a configuration that we do not
  // know yet, or wait for us to have what it has handed over: its stream goes on.
  bool IsOver(const pb::ClusterConfig& config) const;

  // It has nothing and was told nothing for longer than a hand-over takes. Should the primary still speak, it begins
  // anew.
  bool IsForgotten(TimePoint now) const;

  // A later stream of the same primary: what that has brought this one needs no longer.
  void LeaveTo(const ReplicaCopy& later);
  bool empty() const { return given_at_.empty(); }

  // When it was given the partition, as a generation of configurations; nothing if it was not.
  std::optional<uint64_t> GivenAt(uint32_t partition) const;
  // The primary has handed the partition over, and this is all that it did to it: the epoch of who has it now.
  std::optional<uint64_t> HandedOverAt(uint32_t partition) const;
  // Takes the partition from it: the shard serves it itself from now on, by configuration `generation`. Until the
  // primary has taken that too, nothing more of its stream is confirmed: it would take that for a word on this
  // partition. (Unless it has handed it over, and knows.)
  std::optional<MovedPartition> Release(uint32_t partition, uint64_t generation);

  // What the primary is to be told, if that has changed.
  std::optional<pb::ReplicateReply> TakeReply();

  PeerId primary() const { return primary_; }
  uint64_t stream() const { return stream_; }
  ShardStats stats() const { return core_.stats(); }
  std::vector<ImagePiece> Export(uint32_t partition) { return core_.Export(partition, /*index=*/0); }

 private:
  struct HandedOver {
    uint64_t epoch = 0;
    MovedPartition partition;  // as it was then: what the primary does since is no business of it
  };
  // The configuration wants us to have a copy of the partition. Nullptr: it does not.
  static const pb::Replica* Wanted(const pb::ClusterConfig& config, uint32_t own_node, uint32_t partition);
  static bool IsHandedTo(const pb::ClusterConfig& config, uint32_t own_node, uint32_t partition);
  void NoteGiven();
  void NoteHandedOver(uint32_t partition);

  const PeerId primary_;
  const uint64_t stream_;
  ReplicaReader reader_;
  ShardCore core_;
  std::map<uint32_t, uint64_t> given_at_;  // by partition
  std::vector<uint32_t> up_to_date_;       // those that the primary goes on to tell us of, ascending
  std::map<uint32_t, HandedOver> handed_over_;
  TimePoint told_at_;                      // something
  std::deque<Buffer> waiting_;             // records that are not done yet
  bool may_wait_ = false;                  // one of them may have to wait for another stream
  uint64_t taken_ = 0;                     // bytes of the stream: done, or sure to be as soon as there is time
  uint64_t silent_until_ = 0;              // the primary has this generation
  bool asked_ = false;
};

}  // namespace sheaf
