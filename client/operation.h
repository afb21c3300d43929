// What the client remembers of an operation and of the requests it is made of.
//
//   Operation --plan--> requests:  kQueued --credit--> kSent --answer--> gone
//                                               kSent --refused for now--> kPaused --time--> kSent
//                                               kSent --stale epoch--> kWaitsForConfig --it comes--> routed anew
//
// A pull's requests are independent of each other. A push has a group of slices for every shard; the group is
// acknowledged as one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/key_list.h"
#include "client/ps_client.h"
#include "client/retry.h"

namespace sheaf {

enum class OperationKind { kPull, kPush, kPushPull, kScan };
enum class RequestKind { kPull, kPush, kScan };
enum class RequestState { kQueued, kSent, kPaused, kWaitsForConfig };

struct OperationTable {
  TableId table;
  KeyVector keys;
  uint32_t dim = 0;               // known once the operation is planned
  Floats gradients;               // pushes, until they are encoded
  Buffer payload;                 // pushes: the encoded rows in key order
  size_t row_bytes = 0;           // of the payload
};

// A table's rows in one request. `table` is an index into Operation::tables.
struct BlockPlan {
  uint32_t table = 0;
  std::shared_ptr<KeyPart> part;
};
struct RequestPlan {
  std::vector<BlockPlan> blocks;
  size_t bytes = 0;               // keys and values as fp32, whichever way they go
};

// The slices of a push that one shard gets.
struct PushGroup {
  PeerId peer;
  std::shared_ptr<const PartitionSet> partitions;
  std::vector<BlockPlan> blocks;
  uint64_t attempt = 0;
  uint32_t slice_count = 0;
  uint32_t slices_open = 0;
};

// A table's rows as answers bring them: the one frame that has all of them, or put together from several.
struct PulledRows {
  Floats whole;
  std::shared_ptr<float[]> assembled;   // [n, dim] once a part is in
};

struct Operation {
  OperationId id = 0;
  OperationKind kind = OperationKind::kPull;
  std::vector<OperationTable> tables;
  PullOptions pull;
  PushOptions push;
  pb::ScanRequest scan;
  uint32_t scan_dim = 0;

  TimePoint started{};
  bool planned = false;           // false: waits for a configuration that has a place for every partition
  bool encoded = false;           // pushes: the payloads are made, with the error feedback applied once
  std::optional<uint64_t> front;  // the least of the answers so far
  bool poison = false;            // pushes: refused as such
  bool all_duplicate = true;      // of the groups acknowledged so far
  std::vector<bool> acknowledged; // pushes: by partition
  std::map<uint32_t, PushGroup> groups;   // those not acknowledged
  uint32_t next_group = 0;
  std::vector<uint64_t> requests; // open ones
  std::vector<PulledRows> results;   // pulls: by table

  void NoteFront(uint64_t answered) { front = std::min(front.value_or(answered), answered); }
};

struct Request {
  uint64_t number = 0;
  Operation* operation = nullptr;
  RequestKind kind = RequestKind::kPull;
  RequestState state = RequestState::kQueued;
  PeerId peer;
  std::shared_ptr<const PartitionSet> partitions;
  RequestPlan plan;
  uint32_t group = 0;             // pushes
  uint32_t slice = 0;
  bool pull_after = false;
  bool inline_keys = false;       // the shard has said that it does not know the lists
  bool remembers = false;         // as last sent: some list was inlined to be remembered
  size_t credit = 0;              // bytes held now
  RetryTimer timer;
  TimePoint queued_at{};
  uint64_t wanted_generation = 0; // kWaitsForConfig
  std::optional<TimePoint> refused_since;   // refused for now, again and again
  std::string waiting_for;        // as the server last said
  Buffer values;                  // pushes: the gathered frame, kept for repeats
};

// Cuts what one shard gets into messages of at most `max_bytes` and `max_blocks` blocks; a row is never cut.
// `row_bytes` is by table. Pulls and pushes of the same tables are cut alike, so they share signatures.
std::vector<RequestPlan> CutRequests(std::vector<BlockPlan> blocks, const std::vector<size_t>& row_bytes,
                                     size_t max_bytes, size_t max_blocks);
// Blocks that fit the header's 128 KiB beside `partition_count` partitions. At least 1.
size_t MaxBlocks(size_t partition_count);

}  // namespace sheaf
