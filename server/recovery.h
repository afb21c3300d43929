// How a shard becomes what an earlier process was: from its store of snapshots, and the log from the last complete
// round on.
//
// Each partition has an image as of an index of its own, later than the round's begin, or later still, of a round that
// was not completed. Until the log has come to that index the partition sleeps: what records say, its image has. Then
// the image is loaded, and later records are done on top of it.
// Rows that left memory between two rounds are later than the image that they are in: what records before theirs say of
// them is not done again. The log is never behind those (server/snapshotter.h).
// The store may be ahead of the log if the power was lost: images are flushed to the disk, records of durability LOG
// are not. Then images stand as they are, and a whole round is to be made before anything new is logged, as indexes
// would mean two things.
// Blocks. Errors: kDataLoss: what is needed is damaged or missing, with what and where; or as `progress` says.
#pragma once

#include <cstdint>
#include <functional>

#include "common/storage/kv_store.h"
#include "common/storage/redo_log.h"
#include "server/shard_core.h"

namespace sheaf {

struct Recovered {
  uint64_t log_bytes = 0;
  uint64_t records = 0;
  uint64_t image_bytes = 0;
  uint64_t partitions = 0;     // whose images were loaded
  uint64_t rows_ahead = 0;     // rows that are later than the image that they are in
  bool store_is_ahead = false;  // of the log: SaveAll before anything else
  bool store_is_void = false;   // what is in it is older than all that the log has, and of no use
};
// Is told the bytes that were just done, of log and images; an error from it ends all.
using RecoveryProgress = std::function<Status(size_t bytes)>;

// `store`: nullptr if all is in the log.
Result<Recovered> RecoverShard(ShardCore& core, RedoLog& log, KvStore* store, TimePoint now,
                               const RecoveryProgress& progress);
// The log needs nothing before it: its first record says so, or it has none at all.
Result<bool> LogIsComplete(RedoLog& log);
// Makes a round of snapshots at once, and cuts the log.
Status SaveAll(ShardCore& core, RedoLog& log, KvStore& store, TimePoint now);

}  // namespace sheaf
