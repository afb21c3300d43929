// Reads ranges on a thread of its own, so that parsing goes on while the loop computes and waits.
//
// Ownership: owns its thread, the data source and the cache. Thread-safety: RangeLoader's calls and Deliver() are for
// the loop's thread. Requests are served in order; the mailboxes hold what a worker's few leases need, so they never fill.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>

#include "common/net/message.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "worker/batch_cache.h"
#include "worker/data/data_source.h"
#include "worker/range_loader.h"

namespace sheaf {

class WorkerCore;

class ThreadedLoader final : public RangeLoader {
 public:
  ThreadedLoader(std::string data_dir, size_t cache_bytes);
  ~ThreadedLoader() override;

  void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) override;
  void Weight(uint64_t lease, std::vector<float> statistics) override;
  void Forget(uint64_t lease) override;
  void Plan(const pb::PlanOrder& order) override;

  // Readable when Deliver() has something.
  int fd() const { return results_.fd(); }
  // Hands what is finished to the core.
  void Deliver(WorkerCore& core, TimePoint now, Outbox& out);

 private:
  struct LoadRequest {
    pb::LeaseGrant grant;
    pb::JobBrief brief;
  };
  struct WeightRequest {
    uint64_t lease;
    std::vector<float> statistics;
  };
  struct ForgetRequest {
    uint64_t lease;
  };
  using Request = std::variant<LoadRequest, WeightRequest, ForgetRequest, pb::PlanOrder>;
  struct Ready {
    uint64_t lease;
    LoadedBatches batches;
    uint64_t bad_rows;
  };
  struct NeedsStatistics {
    uint64_t lease;
    std::vector<HashedKey> keys;
  };
  struct LoadFailed {
    uint64_t lease;
    Error error;
  };
  using Answer = std::variant<Ready, NeedsStatistics, LoadFailed, pb::DataPlan>;
  // A range whose rows wait for their statistics.
  struct Waiting {
    LoadRequest request;
    std::shared_ptr<const RowBlock> rows;
    std::vector<HashedKey> keys;
  };

  void Put(Request request);
  void Run();                                    // the thread
  void Serve(LoadRequest request);
  void Serve(WeightRequest request);
  void Serve(ForgetRequest request) { waiting_.erase(request.lease); }
  void Serve(const pb::PlanOrder& order);
  void Finish(const LoadRequest& request, const RowBlock& rows);
  Result<std::shared_ptr<const RowBlock>> Read(const LoadRequest& request);
  void Answered(Answer answer);

  const std::string data_dir_;
  Mailbox<Request> requests_{1024};
  Mailbox<Answer> results_{1024};

  // The thread's own.
  BatchCache cache_;
  std::map<uint64_t, Waiting> waiting_;
  std::unique_ptr<DataSource> source_;
  uint64_t source_job_ = 0;

  Thread thread_;                                // last: it starts when all else is made
};

}  // namespace sheaf
