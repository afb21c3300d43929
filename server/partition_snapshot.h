// A snapshot of a partition, on its way from the shard to its store: what has changed since the one before, as of one
// index of the log. See server/snapshotter.h.
//
// Plain data. The shard fills it in steps between which it goes on working: rows that change after they were copied are
// copied once more at the end, so that the whole is as of one moment.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "proto/storage.pb.h"
#include "server/partition_image.h"
#include "server/row_store.h"

namespace sheaf {

// Changed rows of one table.
struct ChangedRows {
  uint32_t table = 0;
  std::vector<HashedKey> keys;  // ascending
  std::vector<float> rows;      // [keys, width]
};

// Rows of one table that nothing is to stay of.
struct ErasedRows {
  uint32_t table = 0;
  std::vector<HashedKey> keys;
};

struct PartitionSnapshot {
  uint32_t partition = 0;
  uint64_t index = 0;                 // records before it are in
  bool whole = false;                 // nothing that the store has of the partition is to stay, but for
  std::vector<uint32_t> cold_tables;  // these, ascending: rows of them are there only
  std::vector<uint32_t> gone_tables;  // else: of these nothing is to stay
  std::vector<ChangedRows> rows;      // in order: the last word on a row counts
  std::vector<ErasedRows> erased;     // and then these are gone
  std::vector<ImagePiece> state;
  pb::ConfigRecord config;            // in force, if another one than with the snapshot before; else empty
  size_t bytes = 0;                   // of rows, about

  // Where the copying has come to.
  bool begun = false;
  uint64_t store_version = 0;         // of the shard: with another one, all begins anew
  uint32_t table = 0;
  HashedKey key = 0;
};

// Rows that are to leave memory, on their way to the store: each as of an index of its own, later than that of its
// partition's image. (As of pages that say of which record of the log they are: ARIES, Mohan et al., 1992.)
struct LeavingRows {
  struct Piece {
    uint64_t index = 0;               // records before it are in these
    ChangedRows rows;
  };
  uint32_t partition = 0;
  std::vector<Piece> pieces;
  size_t bytes = 0;                   // of rows that the store has otherwise, about
  size_t leaving_bytes = 0;           // that there will be less in memory, about

  // Where the copying has come to.
  uint32_t table = 0;
  HashedKey key = 0;
  std::optional<RowStore::Leavers> leavers;  // of that table, once it is begun

  size_t rows() const {
    size_t count = 0;
    for (const Piece& piece : pieces) count += piece.rows.keys.size();
    return count;
  }
};

// What a round of snapshots begins with.
struct RoundBegin {
  uint64_t index = 0;                 // of its record in the log
  pb::ConfigRecord config;            // in force
  std::vector<uint32_t> partitions;   // that are here
};

}  // namespace sheaf
