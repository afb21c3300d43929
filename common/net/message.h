// A message between processes: a small header and up to two frames of raw numbers.
#pragma once

#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "proto/envelope.pb.h"

namespace sheaf {

struct Message {
  pb::Header header;
  Buffer keys;    // uint64, little-endian: the header says how many, of which table
  Buffer values;  // encoded numbers, or the bytes of a large control message
};

// An answer without a body yet.
inline Message AnswerTo(uint64_t request) {
  Message message;
  message.header.set_request(request);
  return message;
}

// The scheduler's peer id: the one address known before anything else is.
inline constexpr PeerId kSchedulerPeer{1};

// What a core wants sent. A core appends; its shell hands the messages to the transport and clears the list.
class Outbox {
 public:
  struct Item {
    PeerId to;
    Message message;
  };
  void Send(PeerId to, Message message) { items_.push_back({to, std::move(message)}); }
  std::vector<Item>& items() { return items_; }
  bool empty() const { return items_.empty(); }
  void clear() { items_.clear(); }

 private:
  std::vector<Item> items_;
};

}  // namespace sheaf
