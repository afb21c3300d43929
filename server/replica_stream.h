// The records that keep one copy of a shard's partitions up to date, on their way: what was written, sent and taken.
//
// A stream of bytes, so that records of any size travel in messages of a bounded one, and several small ones in one.
// The copy says how many bytes of it are done; what is not for a while is sent again from there.
// A state machine without I/O, owned by ReplicaSet (the primary's side). Thread-safety: none.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/net/message.h"
#include "common/runtime/clock.h"

namespace sheaf {

class ReplicaStream {
 public:
  // `name` is greater than that of the stream before to the same copy.
  ReplicaStream(uint64_t name, PeerId to) : name_(name), to_(to) {}

  // Takes the next record, in pieces.
  void Write(const std::vector<Buffer>& pieces);
  // Sends what was written since, and again what was on its way for too long.
  void Flush(TimePoint now, Outbox& out);
  void OnReply(const pb::ReplicateReply& reply, TimePoint now);

  // Something was sent before, and nothing has been taken since.
  bool WaitsSince(TimePoint then) const { return !sent_.empty() && taken_at_ <= then; }

  uint64_t name() const { return name_; }
  PeerId to() const { return to_; }
  uint64_t written() const { return written_; }  // bytes
  uint64_t taken() const { return taken_; }

 private:
  struct Sent {
    uint64_t offset = 0;
    Buffer bytes;
  };
  void Send(const Sent& piece, Outbox& out) const;

  const uint64_t name_;
  const PeerId to_;
  std::vector<std::byte> fresh_;    // written and not sent
  std::deque<Sent> sent_;           // and not taken
  uint64_t written_ = 0;
  uint64_t taken_ = 0;
  TimePoint waiting_since_;         // since something was taken, or all was sent again
  TimePoint taken_at_;              // or, if nothing was on its way, sent
};

// The other side: bytes of a stream to records.
class ReplicaReader {
 public:
  // Puts the records that are whole now into `records`; they refer to the message's memory where they can. Bytes that
  // are in already are skipped; what comes too early is left out, and will come again.
  Status Read(const pb::Replicate& header, const Buffer& bytes, std::vector<Buffer>& records);
  uint64_t read() const { return read_; }  // bytes

 private:
  uint64_t read_ = 0;
  std::vector<std::byte> begun_;    // of a record that is not whole
};

}  // namespace sheaf
