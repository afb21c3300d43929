// Fuzz targets of cores: conversations instead of bytes, and a mutator that keeps them well-formed.
//
// A core sees parsed headers, never bytes, and most of its states lie behind several messages that fit each other. So
// an input is a Conversation in Protobuf's text format, and is mutated field by field; numbers are often taken from
// elsewhere in the same conversation (epochs, clocks and generations that fit).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"
#include "server/shard_core.h"
#include "tests/fuzz/cores/conversation.pb.h"

namespace sheaf {

// The input as a conversation; nothing if it is none.
std::optional<pb::Conversation> ParseConversation(const uint8_t* data, size_t size);

// The message of an event, with its key lists signed if it says so.
Message MessageOf(const pb::Event& event);

// How far an event lies behind the one before: at most a minute, so that nothing overflows.
Duration PauseBefore(const pb::Event& event);

// A configuration of three shards (peers 100 and 101 of node 1, 200 of node 2) and 8 partitions, of which 0, 2 and 4
// lie on peer 100. Tables 1 (dim 1) and 2 (dim 1) learn, 3 (dim 2) sums, 4 (dim 3) has start values. Job 5 has passes 0
// (SSP, lanes 0 and 1), 1 (BSP, lanes 0 and 1, clocks 0 to 3) and 2 (ASP, lane 0).
pb::ClusterConfig SmallCluster();
inline constexpr PeerId kFuzzShard{100};

// Small budgets, so that small inputs reach their ends.
ShardOptions SmallShard();

// Every message that a core sends must be one that a transport takes.
void CheckSendable(const Outbox& out);

// What a core has sent, to be answered or delivered; and the real shards it is delivered to.
class Correspondence {
 public:
  Correspondence();

  void Take(Outbox& out);                          // checks them, keeps them, empties the outbox
  const Outbox::Item* FromLast(uint32_t n) const;  // nullptr if nothing was sent
  // What the real shard at the other end answers, if there is one.
  std::vector<Message> Deliver(const Outbox::Item& item, PeerId self, TimePoint now);

 private:
  std::vector<Outbox::Item> sent_;
  std::map<PeerId, std::unique_ptr<ShardCore>> shards_;
};

}  // namespace sheaf
