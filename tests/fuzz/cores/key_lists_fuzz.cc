// Blocks with inlined and named key lists, signed rightly and wrongly: whatever is taken has ascending keys in their
// own partitions, and values of exactly the right size; the cache stays within its budget.
#include <algorithm>

#include "common/base/check.h"
#include "common/base/partition.h"
#include "common/base/placement.h"
#include "compute/codec/value_codec.h"
#include "server/request_check.h"
#include "tests/fuzz/cores/conversation.h"

namespace sheaf {
namespace {

constexpr uint32_t kPartitions = 8;
constexpr size_t kBudget = 1024;

void CheckBlock(const RequestBlock& block, std::span<const uint32_t> partitions, bool with_values) {
  const auto keys = block.keys();
  SHEAF_CHECK(std::adjacent_find(keys.begin(), keys.end(), std::greater_equal<>()) == keys.end(), "keys not ascending");
  SHEAF_CHECK(block.begin.size() == partitions.size() + 1 && block.begin.back() == keys.size(), "keys left over");
  for (size_t i = 0; i < partitions.size(); ++i) {
    for (const HashedKey key : block.keys(i)) {
      SHEAF_CHECK(PartitionOf(key, kPartitions).value == partitions[i], "key ", key, " in partition ", partitions[i]);
    }
  }
  if (with_values) {
    SHEAF_CHECK(block.values.size() == EncodedSize(block.codec, keys.size(), block.dim), "values of another size");
    std::vector<float> scratch;
    const float* floats = FloatsOf(block, scratch);
    (void)AllFinite({floats, keys.size() * block.dim});
  }
}

void Resolve(const pb::Event& event, KeyListCache& cache) {
  const Message message = MessageOf(event);
  const bool is_push = message.header.has_push();
  const auto& blocks = is_push ? message.header.push().block() : message.header.pull().block();
  const auto& named = is_push ? message.header.push().partition() : message.header.pull().partition();
  const std::vector<uint32_t> partitions(named.begin(), named.end());
  if (CheckPartitions(partitions, partitions.size(), kPartitions)) return;
  std::vector<uint32_t> dims;
  for (const pb::Block& block : blocks) dims.push_back(1 + block.table() % 5);
  RequestPart part;
  part.partitions = partitions;
  const bool placement = is_push ? message.header.push().has_placement() : message.header.pull().has_placement();
  std::vector<uint8_t> is_owned(kPartitions);
  for (const uint32_t p : partitions) is_owned[p] = 1;
  const std::vector<uint64_t> epochs(partitions.size());
  const BlockContext context{kPartitions, part.partitions, placement ? &is_owned : nullptr,
                             PlacementSignature(partitions, epochs), dims, cache};
  const bool refused =
      BuildBlocks(blocks, message.keys, is_push ? &message.values : nullptr, context, part.blocks).has_value();
  SHEAF_CHECK(cache.bytes() <= kBudget, cache.bytes(), " bytes of key lists");
  if (refused) return;
  part.CutByPartition(kPartitions);
  for (const RequestBlock& block : part.blocks) CheckBlock(block, partitions, is_push);
  (void)CheckReplySize(part.blocks);
  SHEAF_CHECK(HeldBytes(message, part) >= message.keys.size());
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto conversation = sheaf::ParseConversation(data, size);
  if (!conversation) return 0;
  sheaf::KeyListCache cache(sheaf::kBudget);
  for (const auto& event : conversation->event()) sheaf::Resolve(event, cache);
  return 0;
}
