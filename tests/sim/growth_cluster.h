// A cluster of thousands around the real scheduler core, for measuring what the scheduler costs and how fast it is
// heard.
//
// Members are what the scheduler sees of them: the real SchedulerLink, and reports as ControlClient and WorkerCore make
// them, with leases that are worked off by the simulated clock. Nothing is pulled or pushed. Every message is encoded
// and decoded; what the scheduler spends on its side of that counts as its own. Not thread-safe. Ownership: owns all
// members.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/net/message.h"
#include "scheduler/scheduler_core.h"

namespace sheaf::sim {

struct GrowthOptions {
  uint32_t servers = 1000;
  uint32_t workers = 10'000;
  uint32_t shards = 2;  // of a server
  uint32_t partitions = 4096;
  uint32_t ranges_each = 60;  // of a worker, in each epoch
  Duration batch_time = Milliseconds(50);
  bool scheduler_takes_time = true;  // what it spends passes in simulated time, too, on one core
};

// What the scheduler did over some time.
struct GrowthCost {
  double cpu_seconds = 0;
  uint64_t messages_in = 0, messages_out = 0;
  uint64_t bytes_in = 0, bytes_out = 0;
  uint64_t largest_message = 0;
};

class GrowthCluster {
 public:
  explicit GrowthCluster(GrowthOptions options);
  ~GrowthCluster();

  // Members come at even distances over `within`.
  void AddServers(uint32_t count, Duration within);
  void AddWorkers(uint32_t count, Duration within);
  // The last ones that came say nothing more.
  void KillServers(uint32_t count);
  void KillWorkers(uint32_t count);
  void Submit(uint32_t epochs);

  void RunFor(Duration duration);
  // Until `done` or for `limit`; how long it took.
  Duration RunUntil(const std::function<bool()>& done, Duration limit);

  const SchedulerCore& scheduler() const { return *core_; }
  TimePoint now() const { return now_; }
  pb::JobStatus Job() const;
  // All members that live have the scheduler's latest configuration.
  bool AllHave(uint64_t generation) const;
  size_t leases_held() const;
  // Since the last call.
  GrowthCost TakeCost() { return std::exchange(cost_, {}); }
  // The greatest CPU time of the scheduler in a simulated second since the last call.
  double TakeWorstSecond();

 private:
  struct Member;
  struct Server;
  struct Worker;
  struct Arrival {
    TimePoint at;
    uint64_t order;
    PeerId from, to;
    std::vector<Buffer> frames;
    bool operator>(const Arrival& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };

  // One millisecond: the scheduler's messages, then the members', then whose tick it is.
  void Turn();
  void RunScheduler();
  void Send(PeerId from, PeerId to, std::vector<Buffer> frames, TimePoint at);
  void SendAll(PeerId from, Outbox& out);
  Member* Find(PeerId peer);

  const GrowthOptions options_;
  Random random_{1};
  TimePoint now_{};
  std::unique_ptr<SchedulerCore> core_;
  Outbox out_;
  std::vector<std::unique_ptr<Member>> members_;  // by peer
  std::vector<Arrival> arrivals_;                 // a heap, the next one in front
  std::vector<Arrival> for_scheduler_;            // of this turn
  uint64_t next_order_ = 0;
  uint64_t turns_ = 0;
  GrowthCost cost_;
  double second_ = 0, worst_second_ = 0;
  TimePoint scheduler_busy_until_{}, next_tick_{};
};

}  // namespace sheaf::sim
