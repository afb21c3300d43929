// The library that speaks to servers: routes by the placement map, cuts, pipelines, retries, and never waits in
// silence.
//
// A core: it sees no socket and no clock. Its owner feeds it messages and ticks, and sends what it puts into the
// Outbox.
// Thread-safety: none; it lives on its owner's event loop. Ownership: an operation's buffers belong to the client
// until its completion hands them back.
// Shapes: keys [n] hashed, ascending, distinct; values [n, dim] row-major fp32 whatever the wire codec.
// Errors of an operation (in its completion): kTimeout (a peer was silent until the deadline; names it), kOverloaded
// (it answered, but refused for now until the deadline; names it and its reason), kUnavailable (so did a server, as it
// is behind the configuration; or the server is known to be gone and has not come back), kClosed (the lane, pass or job
// ended), kInvalidArgument (a request the server can never take), kNotFound (no such table).
// Everything else (stale epoch, overload, lost messages, forgotten key lists) is retried inside, with the same
// identity.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/base/floats.h"
#include "common/base/result.h"
#include "common/net/body_pool.h"
#include "common/net/envelope.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"

namespace sheaf {

struct ClientOptions {
  Duration deadline = std::chrono::seconds(30);          // of silence of one peer
  Duration first_retry = Milliseconds(500);
  Duration longest_retry = std::chrono::seconds(2);      // so long, at most, waits what was lost with a connection
  size_t max_payload_bytes = kMaxPayloadBytes;           // of one message: 4 MiB of values, and their keys
  size_t credit_bytes = 32 << 20;                        // unanswered bytes a shard, at most; more waits
  size_t min_keys_to_remember = 64;                      // shorter key lists are always sent inline
  BodyPool* bodies = nullptr;                            // of requests; outlives the client; nullptr: new for each
};

using OperationId = uint64_t;

// One table's part of an operation.
struct TableKeys {
  TableId table;
  KeyVector keys;                                        // ascending, distinct; shared with later operations
};
struct TableGradients {
  TableId table;
  KeyVector keys;
  Floats values;                                         // [n, dim]
};

// Who a push is, the same however often it is computed and sent. See docs/protocol.md, "Pushes".
struct PushIdentity {
  uint64_t stream_high = 0;
  uint64_t stream_low = 0;
  uint64_t seq = 0;
};

struct PullOptions {
  std::optional<pb::Progress> progress{};                // training pulls; generation is filled in by the client
  pb::WireSpec::Codec codec = pb::WireSpec::FP32;
  // Also shards of which no row is wanted are asked, and answer when the clock has come for them, too (BSP).
  bool every_shard = false;
};
struct PushOptions {
  std::optional<pb::Progress> progress{};                // training pushes: then every shard and partition is told
  PushIdentity identity{};
  uint32_t example_count = 0;
  pb::WireSpec::Codec codec = pb::WireSpec::FP32;
  // INT8: what rounding loses is added to the next push of the same key. Not for pushes whose bits must not depend on
  // who computes them (BSP), as it is this client that remembers.
  bool error_feedback = true;
};

struct Completion {
  OperationId operation = 0;
  Status status;                                         // ok, or why the whole operation failed
  std::vector<Floats> values;                            // pulls: per table of the request, [n, dim]
  uint64_t front = 0;                                    // SSP: every shard knew a lane that had come to this clock
  bool duplicate = false;                                // pushes: every partition had it already
  bool poison = false;                                   // pushes: refused, as some value of it must not be applied
};

class PsClient {
 public:
  PsClient(PeerId self, ClientOptions options);
  ~PsClient();

  // Takes a newer configuration (older ones are ignored). Operations in flight are routed anew where their
  // partitions moved. Answers with the shards to be connected: the owner does so before it sends.
  void OnConfig(const pb::ClusterConfig& config);
  const pb::ClusterConfig& config() const;
  // True if a server answered from a newer configuration than ours: the owner should fetch it (it asks the scheduler).
  bool wants_config() const;
  uint64_t wanted_generation() const;  // the newest that a server answered from; 0: none did

  OperationId Pull(std::vector<TableKeys> tables, PullOptions options, TimePoint now, Outbox& out);
  OperationId Push(std::vector<TableGradients> tables, PushOptions options, TimePoint now, Outbox& out);
  // Push, and pull the new values of the same keys in one round trip.
  OperationId PushPull(std::vector<TableGradients> tables, PushOptions options, TimePoint now, Outbox& out);
  // Reads rows of one partition in key order; completion.values = {rows}, keys in scanned_keys().
  struct ScanResult {
    OperationId operation = 0;
    Status status;
    std::vector<HashedKey> keys;
    std::vector<float> values;                           // [keys.size(), dim]
    bool done = false;                                   // nothing after the last key
  };
  OperationId Scan(TableId table, PartitionId partition, std::optional<HashedKey> after, uint32_t max_rows,
                   TimePoint now, Outbox& out);
  // Gives an operation up; its completion will not come. (A push may or may not have been applied.)
  void Cancel(OperationId operation);

  // Keeps of the message only its frames, by reference: its header is the caller's to use again.
  void OnMessage(PeerId from, const Message& message, TimePoint now, Outbox& out);
  // Retries and deadlines; call at least every 50 ms.
  void OnTick(TimePoint now, Outbox& out);

  // What has ended since the last call, in order of ending.
  std::vector<Completion> TakeCompletions();
  std::vector<ScanResult> TakeScans();

  // For people: the oldest wait, e.g. "server-1 (tcp://10.0.0.2:7001): pull, 3.2 s: lane 1 at clock 41"; empty if there
  // is none of at least this length.
  std::string WaitingFor(TimePoint now, Duration at_least = {}) const;
  size_t operations_in_flight() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sheaf
