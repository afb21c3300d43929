// Requests as messages, and checks of answers before anything of them is used. Pure functions.
#pragma once

#include <string>

#include "client/operation.h"
#include "common/base/result.h"
#include "common/net/message.h"

namespace sheaf {

// How a block's keys travel in one sending of a request.
enum class KeyForm { kInline, kInlineAndRemember, kBySignature };

// Fills one block but for its key counts: table, codec and the keys' form.
void FillBlock(const OperationTable& table, KeyPart& part, KeyForm form, pb::WireSpec::Codec codec, pb::Block& block);
// How many keys each of the request's partitions has, which are some of `partition_count`.
void CountKeys(const OperationTable& table, const KeyPart& part, const PartitionSet& partitions,
               uint32_t partition_count, pb::Block& block);

// The inlined keys of several blocks, one after the other; a single block's keys are not copied again.
Buffer JoinKeys(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                const std::vector<KeyForm>& forms);
// The encoded rows of the blocks, one after the other: a slice of the payload where it lies there without a gap, else
// one gathered copy.
Buffer GatherValues(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks);

// Puts answered rows into their places in the results; fp32 rows that came all at once stay in the frame.
// The size was checked.
void ScatterValues(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                   pb::WireSpec::Codec codec, const Buffer& frame, std::vector<PulledRows>& results);
// Bytes of the blocks' rows under a codec.
size_t ValuesSize(const std::vector<OperationTable>& tables, const std::vector<BlockPlan>& blocks,
                  pb::WireSpec::Codec codec);

// Each answers what is wrong with an answer, in words; empty if nothing is.
std::string CheckPullReply(const Message& reply, size_t partitions, size_t value_bytes);
std::string CheckPushReply(const Message& reply, size_t partitions, size_t value_bytes);
std::string CheckScanReply(const Message& reply, const pb::ScanRequest& request, uint32_t dim,
                           uint32_t partition_count);

}  // namespace sheaf
