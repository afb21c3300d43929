// How many unanswered bytes a shard may have of ours; what is over waits here, in order. A shard that many ask says how
// many that is, so that what lies unread in its sockets does not grow with their number.
//
// Pushes and reads have a credit each: a read may be parked at the server until other pushes are in, so a push must
// never stand behind one. A parked read gives its credit back, so reads do not stand behind parked reads either.
// Thread-safety: none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

namespace sheaf {

class CreditLine {
 public:
  explicit CreditLine(size_t limit) : limit_(limit) {}

  // What is used already may be over it.
  void SetLimit(size_t limit) { limit_ = limit; }

  // May it leave now? A request over the whole limit leaves alone.
  bool Takes(size_t bytes) const { return used_ == 0 || used_ + bytes <= limit_; }
  void Use(size_t bytes) { used_ += bytes; }
  void GiveBack(size_t bytes) { used_ -= std::min(bytes, used_); }
  size_t used() const { return used_; }

  std::deque<uint64_t>& queue() { return queue_; }   // request numbers; those that have ended meanwhile are skipped

 private:
  size_t limit_;
  size_t used_ = 0;
  std::deque<uint64_t> queue_;
};

}  // namespace sheaf
