// The records of a shard's redo log as bytes: a header, and the keys and values that it speaks of.
//
// Record: u32 header bytes, u32 key bytes; header (pb::RedoHeader), zeros up to a multiple of eight; keys; values.
// Thread-safety: pure functions. What is read is checked: sizes against the record, nothing else.
#pragma once

#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "proto/storage.pb.h"

namespace sheaf {

// The pieces of a record, for RedoLog::Append. Nothing of `keys` and `values` is copied. The sizes of keys are
// multiples of eight.
std::vector<Buffer> EncodeRedo(const pb::RedoHeader& header, std::vector<Buffer> keys, std::vector<Buffer> values);

// Bytes with the zeros behind them.
inline size_t RoundUpToWords(size_t bytes) {
  return (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t) * sizeof(uint64_t);
}

// The pieces as one record, at a multiple of eight bytes.
Buffer JoinRecord(const std::vector<Buffer>& pieces);

struct RedoRecord {
  pb::RedoHeader header;
  Buffer keys;
  Buffer values;
};
// kDataLoss: it is not one. The frames refer to the record.
Result<RedoRecord> DecodeRedo(const Buffer& record);

}  // namespace sheaf
