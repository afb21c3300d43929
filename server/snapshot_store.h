// What lies in a shard's store of snapshots, and how it is written and read. Numbers in keys are big-endian.
//
//   "round"                              pb::SnapshotRound: the last complete round
//   "config"                             pb::ConfigRecord: in force when the last image was made, or the round complete
//   "image" partition(4)                 u64: the index of the log as of which its image is
//   "state" partition(4) piece(4)        a piece of the state of its image (server/partition_image.h)
//   "w" partition(4) table(4) key(8)     a row: weights and optimizer's state, floats; then, if it was written when it
//                                        was about to leave memory, the index of the log as of which it is: u64
//   "ahead" partition(4)                 there are such rows that are later than the image: of these tables(4), of so
//                                        many floats(4)
//
// All that changes of one partition in a round is one batch. So an image is of one moment, also if the process ends in
// a round: then some partitions have images of it, others of the one before (server/recovery.h).
// Thread-safety: functions on a store that is lent. Errors: the store's; kDataLoss: what is in it cannot be.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "common/storage/kv_store.h"
#include "server/cold_rows.h"
#include "server/partition_snapshot.h"

namespace sheaf {

Status WriteSnapshot(KvStore& store, const PartitionSnapshot& snapshot);
// Rows that are ahead of their partition's image, which is in the store. The log must have all they say, on the disk.
Status WriteLeaving(KvStore& store, const LeavingRows& leaving);
// Completes a round: only these partitions' images stay. `config`: in force now; nothing in it if it was written with
// an image. Not flushed.
Status WriteRound(KvStore& store, const pb::SnapshotRound& round, const std::vector<uint32_t>& partitions,
                  const pb::ConfigRecord& config);
// Nothing is left.
Status ClearSnapshots(KvStore& store);

struct StoredRound {
  std::optional<pb::SnapshotRound> round;
  std::map<uint32_t, uint64_t> images;  // by partition: records before this index are in
};
Result<StoredRound> ReadRound(KvStore& store);
// Reads rows of images, whatever the last round says of them.
Status ReadRows(KvStore& store, ColdRead& read);
Result<std::optional<pb::ConfigRecord>> ReadLatestConfig(KvStore& store);
// Hands over the pieces of a partition's image, with its rows as they are: `ahead` is told which are later than it.
using AheadTaker = std::function<Status(uint32_t table, HashedKey key, uint64_t index)>;
Status ReadImage(KvStore& store, uint32_t partition, const std::function<Status(const Buffer& piece)>& take,
                 const AheadTaker& ahead);

}  // namespace sheaf
