#include "client/wire.h"

#include <cstring>

#include "common/base/partition.h"
#include "common/base/strings.h"
#include "compute/codec/value_codec.h"

namespace sheaf {
namespace {

// One for all, or one each.
bool IsLsnCount(int count, size_t partitions) { return count == 1 || static_cast<size_t>(count) == partitions; }

std::shared_ptr<std::byte[]> Room(size_t bytes) { return std::make_shared_for_overwrite<std::byte[]>(bytes); }

}  // namespace

void FillBlock(const OperationTable& table, KeyPart& part, KeyForm form, pb::WireSpec::Codec codec, pb::Block& block) {
  block.set_table(table.table.value);
  block.set_codec(codec);
  pb::KeyList& keys = *block.mutable_keys();
  keys.set_inlined(form != KeyForm::kBySignature);
  if (form != KeyForm::kInline) {
    const Signature& signature = part.SignatureIn(table.keys);
    keys.set_signature_high(signature.high);
    keys.set_signature_low(signature.low);
    if (form == KeyForm::kInlineAndRemember) keys.set_remember(true);
  }
}

void CountKeys(const OperationTable& table, const KeyPart& part, const PartitionSet& partitions,
               uint32_t partition_count, pb::Block& block) {
  auto& counts = *block.mutable_key_count();
  counts.Reserve(static_cast<int>(partitions.ids.size()));
  const std::vector<Segment> segments = part.Segments(table.keys, partition_count);
  auto segment = segments.begin();
  const auto end = segments.end();
  for (const uint32_t p : partitions.ids) {
    uint32_t count = 0;
    for (; segment != end && segment->partition == p; ++segment) count += segment->count;
    counts.AddAlreadyReserved(count);
  }
}

Buffer JoinKeys(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                const std::vector<KeyForm>& forms) {
  size_t bytes = 0;
  size_t inlined = 0;
  size_t last = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (forms[i] == KeyForm::kBySignature) continue;
    bytes += blocks[i].part->size() * sizeof(HashedKey);
    last = i;
    ++inlined;
  }
  if (inlined == 0) return {};
  if (inlined == 1) return blocks[last].part->Keys(tables[blocks[last].table].keys);
  const auto room = Room(bytes);
  std::byte* to = room.get();
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (forms[i] == KeyForm::kBySignature) continue;
    const Buffer keys = blocks[i].part->Keys(tables[blocks[i].table].keys);
    if (keys.empty()) continue;
    std::memcpy(to, keys.data(), keys.size());
    to += keys.size();
  }
  return Buffer(room, std::span(room.get(), bytes));
}

Buffer GatherValues(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks) {
  if (blocks.size() == 1 && blocks[0].part->contiguous() && !blocks[0].part->empty()) {
    const OperationTable& table = tables[blocks[0].table];
    const KeyPart& part = *blocks[0].part;
    return table.payload.Slice(part.runs().front().begin * table.row_bytes, part.size() * table.row_bytes);
  }
  size_t bytes = 0;
  for (const BlockPlan& block : blocks) bytes += block.part->size() * tables[block.table].row_bytes;
  if (bytes == 0) return {};
  const auto room = Room(bytes);
  std::byte* to = room.get();
  for (const BlockPlan& block : blocks) {
    const OperationTable& table = tables[block.table];
    for (const auto& [begin, count] : block.part->runs()) {
      std::memcpy(to, table.payload.data() + begin * table.row_bytes, count * table.row_bytes);
      to += count * table.row_bytes;
    }
  }
  return Buffer(room, std::span(room.get(), bytes));
}

size_t ValuesSize(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                  pb::WireSpec::Codec codec) {
  size_t bytes = 0;
  for (const BlockPlan& block : blocks) bytes += EncodedSize(codec, block.part->size(), tables[block.table].dim);
  return bytes;
}

void ScatterValues(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                   pb::WireSpec::Codec codec, const Buffer& frame, std::vector<PulledRows>& results) {
  std::span<const std::byte> bytes = frame.bytes();
  for (const BlockPlan& block : blocks) {
    const uint32_t dim = tables[block.table].dim;
    const size_t row_bytes = EncodedSize(codec, 1, dim);
    const size_t all_rows = tables[block.table].keys->size();
    const KeyPart& part = *block.part;
    PulledRows& result = results[block.table];
    const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % alignof(float) == 0;
    if (result.assembled == nullptr && part.size() == all_rows && codec == pb::WireSpec::FP32 && aligned) {
      result.whole = Floats(frame.owner(), {reinterpret_cast<const float*>(bytes.data()), all_rows * dim});
      bytes = bytes.subspan(all_rows * row_bytes);
      continue;
    }
    // Not zeroed: nobody sees it before every part is in.
    if (result.assembled == nullptr) result.assembled = std::make_shared_for_overwrite<float[]>(all_rows * dim);
    const std::span<float> all(result.assembled.get(), all_rows * dim);
    for (const auto& [begin, count] : part.runs()) {
      const size_t run = count * row_bytes;
      DecodeValues(codec, bytes.first(run), dim, all.subspan(size_t{begin} * dim, size_t{count} * dim));
      bytes = bytes.subspan(run);
    }
  }
}

std::string CheckPullReply(const Message& reply, size_t partitions, size_t value_bytes) {
  if (!reply.header.has_pull_reply()) return "a pull was answered with something else";
  if (!IsLsnCount(reply.header.pull_reply().lsn_size(), partitions)) {
    return StrCat("a pull of ", partitions, " partitions was answered with ", reply.header.pull_reply().lsn_size(),
                  " LSNs");
  }
  if (reply.values.size() != value_bytes) {
    return StrCat("a pull of ", value_bytes, " bytes of values was answered with ", reply.values.size());
  }
  return "";
}

std::string CheckPushReply(const Message& reply, size_t partitions, size_t value_bytes) {
  if (!reply.header.has_push_reply()) return "a push was answered with something else";
  const pb::PushReply& push = reply.header.push_reply();
  if (push.staged()) return "";   // of a staged slice nothing else is used
  if (!IsLsnCount(push.lsn_size(), partitions)) {
    return StrCat("a push to ", partitions, " partitions was answered with ", push.lsn_size(), " LSNs");
  }
  if (value_bytes > 0 && reply.values.size() != value_bytes) {
    return StrCat("a push-pull of ", value_bytes, " bytes of values was answered with ", reply.values.size());
  }
  return "";
}

std::string CheckScanReply(const Message& reply, const pb::ScanRequest& request, uint32_t dim,
                           uint32_t partition_count) {
  if (!reply.header.has_scan_reply()) return "a scan was answered with something else";
  const size_t rows = reply.header.scan_reply().row_count();
  if (rows > request.max_rows()) return StrCat("a scan for ", request.max_rows(), " rows was answered with ", rows);
  if (reply.keys.size() != rows * sizeof(HashedKey) || reply.values.size() != rows * dim * sizeof(float)) {
    return StrCat("a scan was answered with ", rows, " rows of ", dim, " floats in ", reply.keys.size(),
                  " bytes of keys and ", reply.values.size(), " of values");
  }
  if (rows == 0) {
    return reply.header.scan_reply().done() ? "" : "a scan was answered with no rows, yet is not done";
  }
  std::vector<HashedKey> keys(rows);   // the frame may lie anywhere in memory
  std::memcpy(keys.data(), reply.keys.data(), reply.keys.size());
  for (size_t i = 0; i < rows; ++i) {
    const bool ascending = i == 0 ? !request.resume() || keys[0] > request.after_key() : keys[i] > keys[i - 1];
    if (!ascending) return "a scan was answered with keys out of order";
    if (PartitionOf(keys[i], partition_count).value != request.partition()) {
      return StrCat("a scan of partition ", request.partition(), " was answered with a key of another");
    }
  }
  return "";
}

}  // namespace sheaf
