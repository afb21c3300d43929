// Rows that have left memory and are asked for: what is to be read from the shard's store, and what it had.
//
// A row leaves memory only when the store has it as it is, flushed, so whatever ends the process, it is found again: in
// the image of its partition (server/recovery.h). See docs/storage.md, "Tables larger than memory".
// Plain data: the shard fills in what it asks for, whoever reads fills in what is there.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace sheaf {

// Some rows of one table, by key.
struct ColdTable {
  uint32_t table = 0;
  uint32_t width = 0;           // floats a row: weights and optimizer's state
  std::vector<HashedKey> keys;  // ascending
  std::vector<uint8_t> found;   // [keys]: the store has it
  std::vector<float> rows;      // [keys, width]; of those that were not found: anything
};

// All rows of a table in one partition, from a key on; at most so many.
struct ColdRange {
  uint32_t partition = 0;
  uint32_t table = 0;
  uint32_t width = 0;
  HashedKey from = 0;
  size_t most = 0;
  bool to_expire = false;       // who asks only looks at their times
  bool more = false;            // there are more behind
  std::vector<HashedKey> keys;  // ascending
  std::vector<float> rows;      // [keys, width]
};

struct ColdRead {
  uint64_t number = 0;         // they are carried out in the order of their numbers
  uint64_t store_version = 0;  // of the shard, when it asked
  uint32_t partition_count = 0;
  std::vector<ColdTable> tables;
  std::vector<ColdRange> ranges;
  Status status;               // how it went; kDataLoss: the store is damaged
};

// Of each table the second half of the keys, to be read beside the first.
inline ColdRead TakeHalf(ColdRead& read) {
  ColdRead half;
  half.partition_count = read.partition_count;
  for (ColdTable& table : read.tables) {
    const auto middle = table.keys.begin() + static_cast<ptrdiff_t>(table.keys.size() / 2);
    half.tables.push_back({table.table, table.width, {middle, table.keys.end()}, {}, {}});
    table.keys.erase(middle, table.keys.end());
  }
  return half;
}
// Puts together what was taken apart, when both were read.
inline void JoinHalf(ColdRead& read, const ColdRead& half) {
  for (size_t i = 0; i < half.tables.size(); ++i) {
    ColdTable& table = read.tables[i];
    const ColdTable& rest = half.tables[i];
    table.keys.insert(table.keys.end(), rest.keys.begin(), rest.keys.end());
    table.found.insert(table.found.end(), rest.found.begin(), rest.found.end());
    table.rows.insert(table.rows.end(), rest.rows.begin(), rest.rows.end());
  }
  if (read.status) read.status = half.status;
}

// A shard's store, for the few moments that cannot wait: while the log is done again, and for a partition's image.
class ColdStore {
 public:
  virtual ~ColdStore() = default;
  // Blocks.
  virtual void ReadNow(ColdRead& read) = 0;
};

}  // namespace sheaf
