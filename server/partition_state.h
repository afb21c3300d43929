// How far each pass has come in one partition. What every request touches in all partitions (rows, LSNs, the windows of
// sessions) lies side by side in the shard, by partition.
//
// Nothing of a partition refers to another one, so that it can move to another server as a whole.
// Thread-safety: none; plain data that ShardCore's rules work on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/seq_window.h"
#include "server/pass_clock.h"
#include "server/request_check.h"
#include "server/sightings.h"
#include "server/staging.h"

namespace sheaf {

// BSP: what a lane pushed for a clock that is not complete yet.
struct KeptGradient {
  LaneId lane;
  std::vector<std::shared_ptr<RequestPart>> parts;  // the push's slices; shared with the shard's other partitions
};

// BSP: the weights of the rows that the last applied clock changed, as they were before it.
struct Undo {
  struct TableRows {
    std::vector<HashedKey> keys;   // ascending
    std::vector<float> weights;    // [keys.size(), dim]
  };
  bool valid = false;
  uint64_t clock = 0;
  std::map<uint32_t, TableRows> tables;
};

// A running pass.
struct PassState {
  PassClock clock;
  std::unordered_map<uint64_t, SeqWindow> streams;             // by range; never iterated
  uint64_t examples = 0;
  std::map<uint64_t, std::vector<KeptGradient>> kept;          // by clock
  Undo undo;
};

// Whose a stream of pushes is that belongs to no job.
struct SessionId {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const SessionId&, const SessionId&) = default;
};

// What of a partition its shard's store of snapshots has, if all that was finished is written.
struct Stored {
  bool whole = false;                                          // else: nothing of use
  std::set<uint32_t> tables;                                   // with rows in it
};

struct PartitionState {
  PartitionId id;
  Stored stored;
  uint32_t trained_seconds = 0;                                // of jobs whose rows expire
  std::map<uint32_t, Sightings> sightings;                     // by table: of keys that have no row yet
  uint64_t cut = 0;                                            // the last checkpoint that it was frozen for, here
  std::map<PassKey, PassState> passes;
  std::map<PassKey, uint64_t> ended;                           // examples of the last passes of each job
};

}  // namespace sheaf
