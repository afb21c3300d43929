// All that a shard knows of one partition: its rows, what was pushed to it, and how far each pass has come in it.
//
// Nothing of it refers to another partition, so that it can move to another server as a whole.
// Thread-safety: none; plain data that ShardCore's rules work on.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/base/random.h"
#include "common/base/seq_window.h"
#include "common/runtime/clock.h"
#include "server/pass_clock.h"
#include "server/request_check.h"
#include "server/row_store.h"
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

struct SessionStream {
  SeqWindow window;
  TimePoint last;
};
struct SessionId {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const SessionId&, const SessionId&) = default;
};
struct SessionHash {
  size_t operator()(const SessionId& id) const { return MixPair(id.high, id.low); }
};

struct PartitionState {
  PartitionId id;
  Lsn lsn;                                                     // pushes taken, those kept for BSP included
  std::vector<std::unique_ptr<RowStore>> stores;               // by the table's slot in the shard; nullptr: no rows yet
  std::map<PassKey, PassState> passes;
  std::map<PassKey, uint64_t> ended;                           // examples of the last passes of each job
  std::unordered_map<SessionId, SessionStream, SessionHash> sessions;  // order of iteration never matters

  RowStore* store(size_t slot) const { return slot < stores.size() ? stores[slot].get() : nullptr; }
};

}  // namespace sheaf
