#include "server/request_check.h"

#include <algorithm>

#include "common/base/partition.h"
#include "common/net/envelope.h"
#include "compute/codec/value_codec.h"

namespace sheaf {
namespace {

bool StrictlyAscending(std::span<const HashedKey> keys) {
  bool bad = false;  // without an early exit: this loop is vectorised
  for (size_t i = 1; i < keys.size(); ++i) bad |= keys[i - 1] >= keys[i];
  return !bad;
}

// The block's key list: of the keys frame from `offset` on, which it moves, or remembered.
MaybeRefusal ResolveKeys(const pb::Block& block, const Buffer& frame, uint64_t key_count, KeyListCache& cache,
                         size_t& offset, RequestBlock& out) {
  Buffer& keys = out.key_bytes;
  out.slots.reset();
  out.list.reset();
  if (key_count == 0) {
    keys = Buffer();
    return {};
  }
  const pb::KeyList& list = block.keys();
  const KeySignature signature{list.signature_high(), list.signature_low()};
  const uint64_t bytes = key_count * sizeof(HashedKey);
  if (!list.inlined() || list.remember()) out.list = signature;
  if (!list.inlined()) {
    const Buffer* known = cache.Get(signature);
    if (known == nullptr) {
      return Refuse(pb::Refusal::UNKNOWN_KEY_LIST, "table ", block.table(),
                    ": the key list is not remembered here; send it inlined");
    }
    if (known->size() != bytes) {
      return Refuse(pb::Refusal::INVALID, "table ", block.table(), ": key_count says ", key_count,
                    " keys, the named list has ", known->size() / sizeof(HashedKey));
    }
    keys = *known;
    out.slots = cache.SlotsOf(signature, block.table());
    return {};
  }
  if (bytes > frame.size() - offset) {
    return Refuse(pb::Refusal::INVALID, "table ", block.table(), ": key_count says ", key_count,
                  " keys, the keys frame has ", (frame.size() - offset) / sizeof(HashedKey), " left");
  }
  keys = frame.Slice(offset, bytes);
  offset += bytes;
  if (!StrictlyAscending(keys.As<HashedKey>())) {
    return Refuse(pb::Refusal::INVALID, "table ", block.table(),
                  ": keys are not strictly ascending; sort them and drop repeats");
  }
  if (list.remember()) {
    if (SignatureOf(keys.bytes()) != signature) {
      return Refuse(pb::Refusal::INVALID, "table ", block.table(), ": the signature is not the XXH3-128 of the keys");
    }
    cache.Put(signature, keys.bytes());
  }
  return {};
}

bool AllOwned(const RequestBlock& block, const BlockContext& context) {
  if (context.partitions.size() == context.partition_count) return true;
  if (block.slots != nullptr && block.slots->placement == context.placement) return true;
  bool all = true;  // without an early exit: a bad list is rare
  for (const HashedKey key : block.keys())
    all &= (*context.is_owned)[PartitionOf(key, context.partition_count).value] != 0;
  if (block.slots != nullptr && all) block.slots->placement = context.placement;
  return all;
}

// With ascending keys, the first and the last of each section answer for all between.
MaybeRefusal CheckRanges(const RequestBlock& block, const BlockContext& context) {
  const auto keys = block.keys();
  for (size_t i = 0; i < context.partitions.size(); ++i) {
    if (block.begin[i] == block.begin[i + 1]) continue;
    const PartitionId partition(context.partitions[i]);
    for (const HashedKey key : {keys[block.begin[i]], keys[block.begin[i + 1] - 1]}) {
      if (PartitionOf(key, context.partition_count) != partition) {
        return Refuse(pb::Refusal::INVALID, "table ", block.table, ": key ", key, " is sent for partition ", partition,
                      " but belongs to ", PartitionOf(key, context.partition_count));
      }
    }
  }
  return {};
}

}  // namespace

void RequestPart::CutByPartition(uint32_t partition_count) {
  for (RequestBlock& block : blocks) {
    if (!block.begin.empty()) continue;
    const auto keys = block.keys();
    block.begin.reserve(partitions.size() + 1);
    block.begin.push_back(0);
    for (const uint32_t p : partitions) {
      const HashedKey last = PartitionLastKey(PartitionId(p), partition_count);
      const auto from = keys.begin() + block.begin.back();
      block.begin.push_back(static_cast<uint32_t>(std::upper_bound(from, keys.end(), last) - keys.begin()));
    }
  }
}

void RequestPart::Clear() {
  partitions.clear();
  epochs.clear();
  for (RequestBlock& block : blocks) {
    block.key_bytes = {};
    block.values = {};
    block.list.reset();
    block.slots.reset();
    block.begin.clear();
  }
  bytes = 0;
  reservation = {};
}

std::optional<size_t> RequestPart::IndexOf(uint32_t partition) const {
  const auto at = std::lower_bound(partitions.begin(), partitions.end(), partition);
  if (at == partitions.end() || *at != partition) return std::nullopt;
  return static_cast<size_t>(at - partitions.begin());
}

MaybeRefusal CheckPartitions(std::span<const uint32_t> partitions, size_t epoch_count, uint32_t partition_count) {
  if (partitions.empty()) return Refuse(pb::Refusal::INVALID, "the request names no partition");
  if (epoch_count != partitions.size()) {
    return Refuse(pb::Refusal::INVALID, "the request has ", partitions.size(), " partitions but ", epoch_count,
                  " epochs");
  }
  for (size_t i = 1; i < partitions.size(); ++i) {
    if (partitions[i - 1] >= partitions[i])
      return Refuse(pb::Refusal::INVALID, "partitions are not strictly ascending");
  }
  if (partitions.back() >= partition_count) {
    return Refuse(pb::Refusal::INVALID, "there is no partition ", partitions.back(), ": the cluster has ",
                  partition_count);
  }
  return {};
}

MaybeRefusal BuildBlocks(const google::protobuf::RepeatedPtrField<pb::Block>& blocks, const Buffer& keys,
                         const Buffer* values, const BlockContext& context, std::vector<RequestBlock>& out) {
  if (keys.size() % sizeof(HashedKey) != 0) {
    return Refuse(pb::Refusal::INVALID, "the keys frame has ", keys.size(), " bytes: not a multiple of 8");
  }
  const size_t partitions = context.partitions.size();
  size_t keys_offset = 0;
  size_t values_offset = 0;
  out.resize(static_cast<size_t>(blocks.size()));
  for (size_t b = 0; b < out.size(); ++b) {
    const pb::Block& from = blocks[static_cast<int>(b)];
    RequestBlock& block = out[b];
    block.table = from.table();
    block.dim = context.dims[b];
    block.codec = from.codec();
    const bool uncut = context.is_owned != nullptr;
    if (const size_t counts = uncut ? 1 : partitions; static_cast<size_t>(from.key_count_size()) != counts) {
      return Refuse(pb::Refusal::INVALID, "table ", block.table, ": ", from.key_count_size(), " key counts for ",
                    counts, uncut ? " list" : " partitions");
    }
    uint64_t total = 0;
    for (const uint32_t count : from.key_count()) total += count;
    if (MaybeRefusal refusal = ResolveKeys(from, keys, total, context.key_lists, keys_offset, block))
      return refusal;
    block.begin.clear();
    if (uncut) {
      if (!AllOwned(block, context)) {
        return Refuse(pb::Refusal::INVALID, "table ", block.table, ": the list has keys of other shards' partitions");
      }
    } else {
      block.begin.assign(partitions + 1, 0);
      for (size_t i = 0; i < partitions; ++i) {
        block.begin[i + 1] = block.begin[i] + from.key_count(static_cast<int>(i));
      }
      if (MaybeRefusal refusal = CheckRanges(block, context)) return refusal;
    }
    if (values == nullptr) {
      if (block.codec == pb::WireSpec::INT8) {
        return Refuse(pb::Refusal::INVALID, "table ", block.table, ": INT8 is for pushes; pull FP32, BF16 or FP16");
      }
      continue;
    }
    const size_t bytes = EncodedSize(block.codec, total, block.dim);
    if (bytes > values->size() - values_offset) {
      return Refuse(pb::Refusal::INVALID, "table ", block.table, ": ", total, " rows of ", block.dim, " numbers need ",
                    bytes, " bytes, the values frame has ", values->size() - values_offset, " left");
    }
    block.values = values->Slice(values_offset, bytes);
    values_offset += bytes;
  }
  if (keys_offset != keys.size()) {
    return Refuse(pb::Refusal::INVALID, "the keys frame has ", keys.size() - keys_offset,
                  " bytes that no block accounts for");
  }
  if (values != nullptr && values_offset != values->size()) {
    return Refuse(pb::Refusal::INVALID, "the values frame has ", values->size() - values_offset,
                  " bytes that no block accounts for");
  }
  return {};
}

size_t HeldBytes(const Message& message, const RequestPart& part) {
  const size_t partitions = part.partitions.size();
  size_t bytes = message.keys.size() + partitions * (sizeof(uint32_t) + sizeof(uint64_t));
  const std::less_equal<const std::byte*> before;
  const std::byte* const begin = message.keys.data();
  for (const RequestBlock& block : part.blocks) {
    const std::byte* const keys = block.key_bytes.data();
    const bool in_frame = before(begin, keys) && before(keys, begin + message.keys.size());
    bytes += sizeof(RequestBlock) + (partitions + 1) * sizeof(uint32_t) + (in_frame ? 0 : block.key_bytes.size());
  }
  return bytes;
}

pb::WireSpec::Codec ReplyCodec(pb::WireSpec::Codec push_codec) {
  return push_codec == pb::WireSpec::INT8 ? pb::WireSpec::FP32 : push_codec;
}

MaybeRefusal CheckReplySize(std::span<const RequestBlock> blocks) {
  size_t bytes = 0;
  for (const RequestBlock& block : blocks) bytes += EncodedSize(ReplyCodec(block.codec), block.key_count(), block.dim);
  if (bytes <= kMaxPayloadBytes) return {};
  return Refuse(pb::Refusal::INVALID, "the answer would have ", bytes, " bytes, a message takes ", kMaxPayloadBytes,
                "; ask for fewer keys at a time");
}

const float* FloatsOf(const RequestBlock& block, std::vector<float>& scratch) {
  const std::byte* bytes = block.values.data();
  if (block.codec == pb::WireSpec::FP32 && reinterpret_cast<uintptr_t>(bytes) % alignof(float) == 0) {
    return reinterpret_cast<const float*>(bytes);
  }
  scratch.resize(block.key_count() * block.dim);
  DecodeValues(block.codec, block.values.bytes(), block.dim, scratch);
  return scratch.data();
}

}  // namespace sheaf
