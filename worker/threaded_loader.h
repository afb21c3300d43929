// Reads ranges on a thread of its own, so that parsing goes on while the loop computes and waits.
//
// Ownership: owns its thread, the data source and the cache. Thread-safety: RangeLoader's calls and Deliver() are for
// the loop's thread. Requests are served in order, except that a new plan ends an older one; the mailboxes hold what a
// worker's few leases need, so they never fill.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <variant>

#include "common/net/message.h"
#include "common/runtime/mailbox.h"
#include "common/runtime/thread.h"
#include "common/trace/trace_log.h"
#include "worker/batch_cache.h"
#include "worker/data/data_source.h"
#include "worker/range_loader.h"

namespace sheaf {

class WorkerCore;

class ThreadedLoader final : public RangeLoader {
 public:
  // `trace` outlives the loader; nullptr: nothing is traced.
  ThreadedLoader(std::string data_dir, size_t cache_bytes, TraceLog* trace = nullptr);
  ~ThreadedLoader() override;

  void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) override;
  void Weight(uint64_t lease, Floats statistics) override;
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
    Floats statistics;
  };
  struct ForgetRequest {
    uint64_t lease;
  };
  struct PlanRequest {
    pb::PlanOrder order;
    std::stop_token stop;
  };
  using Request = std::variant<LoadRequest, WeightRequest, ForgetRequest, PlanRequest>;
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
  struct PlanSeen {
    uint64_t job;
    std::string path;
    uint64_t rows;
  };
  using Answer = std::variant<Ready, NeedsStatistics, LoadFailed, PlanSeen, pb::DataPlan>;
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
  void Serve(const PlanRequest& request);
  void Finish(const LoadRequest& request, const RowBlock& rows);
  Result<std::shared_ptr<const RowBlock>> Read(const LoadRequest& request);
  void Answered(Answer answer);

  TimePoint BeginSpan() const { return trace_ == nullptr ? TimePoint() : trace_->Begin(); }
  void EndSpan(pb::SpanKind kind, TimePoint begin, uint64_t range, uint64_t count);

  const std::string data_dir_;
  TraceLog* const trace_;
  std::stop_source stop_;                        // of all reading
  std::stop_source plan_stop_;                   // of the latest plan
  static constexpr size_t kResultsHeld = 1 << 16;   // leases of thousands of lanes, should one worker be left with them
  Mailbox<Request> requests_{kResultsHeld};
  Mailbox<Answer> results_{kResultsHeld};

  // The thread's own.
  BatchCache cache_;
  std::map<uint64_t, Waiting> waiting_;
  std::unique_ptr<DataSource> source_;
  uint64_t source_job_ = 0;

  Thread thread_;                                // last: it starts when all else is made
};

}  // namespace sheaf
