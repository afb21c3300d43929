// From a request as it came from the wire to one that the shard can carry out without looking twice.
//
// Everything a peer claims is checked here before memory is taken for it: counts against frames, keys against
// partitions, sizes against the tables' rows. Frames are referred to, not copied.
// Thread-safety: none (the key list cache). Errors: a pb::Refusal, with what is wrong, where, and what to do.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/net/message.h"
#include "proto/data.pb.h"
#include "server/budget.h"
#include "server/key_list_cache.h"

namespace sheaf {

inline constexpr uint32_t kMaxSlices = 1024;
inline constexpr uint32_t kMaxDim = 65536;

// Nothing: all is well.
using MaybeRefusal = std::optional<pb::Refusal>;

template <typename... Parts>
pb::Refusal Refuse(pb::Refusal::Reason reason, const Parts&... parts) {
  pb::Refusal refusal;
  refusal.set_reason(reason);
  refusal.set_text(CheckText(parts...));
  return refusal;
}

// One table's part of a request, checked.
struct RequestBlock {
  uint32_t table = 0;
  uint32_t dim = 0;
  pb::WireSpec::Codec codec = pb::WireSpec::FP32;
  Buffer key_bytes;                 // uint64, strictly ascending, each in its partition
  Buffer values;                    // pushes: encoded, of exactly the right size
  std::optional<KeySignature> list;   // of a list that was named, or is to be remembered
  std::shared_ptr<KnownSlots> slots;  // of a remembered list's rows; or nullptr
  // [partitions + 1]: the keys of the i-th partition are [begin[i], begin[i + 1]). Empty: nobody has cut them yet.
  std::vector<uint32_t> begin;

  std::span<const HashedKey> keys() const { return key_bytes.As<HashedKey>(); }
  std::span<const HashedKey> keys(size_t partition_index) const {
    return keys().subspan(begin[partition_index], begin[partition_index + 1] - begin[partition_index]);
  }
  size_t key_count() const { return key_bytes.size() / sizeof(HashedKey); }
};

// What a request says of data: a pull, a push, or a slice of one.
struct RequestPart {
  std::vector<uint32_t> partitions;  // ascending
  std::vector<uint64_t> epochs;      // [partitions]: by which the client routed
  std::vector<RequestBlock> blocks;
  size_t bytes = 0;                  // of its frames, and a guess of the rest: what keeping it costs
  Reservation reservation;           // while it is kept

  // Gives frames and room back, and keeps the memory of its lists for the next request.
  void Clear();
  // Sees to it that every block's keys are cut by partition.
  void CutByPartition(uint32_t partition_count);
  // Of a partition's place in the request; nothing if it is not named.
  std::optional<size_t> IndexOf(uint32_t partition) const;
};

// Lists of equal length, not empty, strictly ascending, below `partition_count`.
MaybeRefusal CheckPartitions(std::span<const uint32_t> partitions, size_t epoch_count, uint32_t partition_count);

struct BlockContext {
  uint32_t partition_count;
  std::span<const uint32_t> partitions;   // of the request
  // The request named all partitions of the shard, these by partition: then keys come uncut.
  const std::vector<uint8_t>* is_owned;   // or nullptr
  uint64_t placement;                     // their signature
  std::span<const uint32_t> dims;         // of the blocks' tables
  KeyListCache& key_lists;
};
// Checks and resolves the blocks of a pull (`values` is nullptr: INT8 is refused, and replies too large) or push.
MaybeRefusal BuildBlocks(const google::protobuf::RepeatedPtrField<pb::Block>& blocks, const Buffer& keys,
                         const Buffer* values, const BlockContext& context, std::vector<RequestBlock>& out);

// What keeping a request's keys, partitions and blocks costs: also lists that it only named, as they are kept alive.
// The same whether a list is sent or named, and partitions listed or named at once, so that what found room once finds
// it again; slots are the cache's expense.
size_t HeldBytes(const Message& message, const RequestPart& part);

// The codec in which a PushPull's new values travel: the push's own, but exact for INT8, which is for gradients.
pb::WireSpec::Codec ReplyCodec(pb::WireSpec::Codec push_codec);
// Refuses a reply that would not fit into a message.
MaybeRefusal CheckReplySize(std::span<const RequestBlock> blocks);

// The block's values as floats: of the frame itself where they are fp32, else decoded into `scratch`.
const float* FloatsOf(const RequestBlock& block, std::vector<float>& scratch);

}  // namespace sheaf
