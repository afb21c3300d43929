// A disk that outlives the processes that write to it. What was committed survives a process's end, what was synced the
// loss of power; of the rest, the loss of power takes some.
//
// Thread-safety: none.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "common/base/random.h"
#include "common/storage/redo_log.h"

namespace sheaf::sim {

class SimDisk {
 public:
  explicit SimDisk(uint64_t seed);

  // For one process at a time. What it has appended and not committed goes with it.
  std::unique_ptr<RedoLog> OpenLog();
  void LosePower();
  // The loss of power could take something now.
  bool HasUnsynced() const { return state_->next() > state_->synced; }
  // Commits of something new fail until it has room again.
  void SetFull(bool full);

 private:
  class Log;
  struct State {
    Random random;
    std::deque<Buffer> records;
    uint64_t first = 1;
    uint64_t synced = 1;  // the first record that is not
    bool full = false;

    uint64_t next() const { return first + records.size(); }
  };
  std::shared_ptr<State> state_;
};

}  // namespace sheaf::sim
