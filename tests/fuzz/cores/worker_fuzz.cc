// Any orders and answers to a worker that computes real models, between the answers of real shards: it lives, and what
// it asks its loader for can be loaded.
#include <deque>

#include "common/base/check.h"
#include "common/job/job_validate.h"
#include "compute/features/weighting.h"
#include "tests/fuzz/cores/conversation.h"
#include "worker/worker_core.h"

namespace sheaf {
namespace {

constexpr PeerId kSelf{9};

// Keeps what it is asked for until an event has it answered.
class ScriptedLoader final : public RangeLoader {
 public:
  struct Asked {
    pb::LeaseGrant grant;
    pb::JobBrief brief;
  };

  void Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) override {
    SHEAF_CHECK(ValidateJob(brief.spec()).has_value(), "a range of a job that cannot be run");
    asked.push_back({grant, brief});
  }
  void Weight(uint64_t lease, Floats statistics) override {
    for (const Asked& each : asked) {
      if (each.grant.lease() != lease) continue;
      SHEAF_CHECK(statistics.size() == kStatisticsKeys * StatisticsDim(each.brief.spec().data()), statistics.size(),
                  " statistics of ", kStatisticsKeys, " keys");
    }
  }
  void Forget(uint64_t lease) override {
    std::erase_if(asked, [lease](const Asked& each) { return each.grant.lease() == lease; });
  }
  void Plan(const pb::PlanOrder& order) override { plan = order; }

  static constexpr size_t kStatisticsKeys = 3;
  std::deque<Asked> asked;
  std::optional<pb::PlanOrder> plan;
};

LoadedBatches BatchesOf(const ScriptedLoader::Asked& asked) {
  RowBlock rows;
  rows.row_begin.push_back(0);
  for (uint32_t row = 0; row < 4; ++row) {
    rows.labels.push_back(static_cast<float>(row % 2));
    for (const HashedKey key : {uint64_t{1}, uint64_t{1} << 61, uint64_t{row + 1} << 62}) {
      if (key == 0) continue;
      rows.keys.push_back(key);
    }
    rows.row_begin.push_back(static_cast<uint32_t>(rows.keys.size()));
  }
  const uint64_t batches =
      std::min<uint64_t>(8, (uint64_t{asked.grant.rows().row_count()} + asked.brief.spec().train().batch_size() - 1) /
                                std::max(1U, asked.brief.spec().train().batch_size()));
  LoadedBatches loaded;
  for (uint64_t i = 0; i < batches; ++i)
    loaded.push_back(std::make_shared<const Batch>(MakeBatch(rows, 0, rows.size(), {})));
  return loaded;
}

class Worker {
 public:
  Worker() : core_(Options(), loader_, MakeTrainStep) { core_.OnTick(now_, out_); }

  void Hear(const pb::Event& event) {
    now_ += PauseBefore(event);
    core_.OnTick(now_, out_);
    if (event.has_act()) {
      Act(event);
    } else if (event.has_deliver()) {
      if (const Outbox::Item* sent = sent_.FromLast(event.deliver())) {
        const PeerId shard = sent->to;
        for (Message& answer : sent_.Deliver(*sent, kSelf, now_)) core_.OnMessage(shard, std::move(answer), now_, out_);
      }
    } else if (event.has_header()) {
      Message message = MessageOf(event);
      PeerId from = event.from() == 0 ? kSchedulerPeer : PeerId(event.from());
      if (event.has_answers()) {
        if (const Outbox::Item* sent = sent_.FromLast(event.answers())) {
          from = sent->to;
          message.header.set_request(sent->message.header.request());
          if (message.header.has_worker_orders()) {
            message.header.mutable_worker_orders()->set_sequence(sent->message.header.request());
          }
        }
      }
      core_.OnMessage(from, std::move(message), now_, out_);
    }
    for (int i = 0; i < 4; ++i) {
      core_.StartBatches(now_, out_);
      if (!core_.ComputeOne()) break;
    }
    sent_.Take(out_);
    core_.TakeDisconnections();
    core_.TakeConnections();
    core_.TakeEvents();
    (void)core_.has_ready_batch();
  }

 private:
  static WorkerOptions Options() {
    WorkerOptions options;
    options.self = {.role = pb::WORKER, .self = kSelf};
    return options;
  }

  void Act(const pb::Event& event) {
    if (event.act() == pb::Event::LEAVE) return core_.Leave(now_, out_);
    if (event.act() == pb::Event::PLANNED) {
      pb::DataPlan plan = event.header().worker_report().plan();
      if (loader_.plan) plan.set_job(loader_.plan->job());
      return core_.OnPlan(plan, now_, out_);
    }
    if (loader_.asked.empty()) return;
    const ScriptedLoader::Asked asked = loader_.asked.front();
    const uint64_t lease = asked.grant.lease();
    switch (event.act()) {
      case pb::Event::LOADED:
        loader_.asked.pop_front();
        return core_.OnRangeReady(lease, BatchesOf(asked), event.from(), now_, out_);
      case pb::Event::NEEDS_STATISTICS:
        if (StatisticsDim(asked.brief.spec().data()) == 0) return;
        return core_.OnRangeNeedsStatistics(lease, {1, uint64_t{1} << 62, uint64_t{1} << 63}, now_, out_);
      case pb::Event::LOAD_FAILED:
        return core_.OnLoadFailed(lease, {ErrorCode::kIo, "cannot be read"}, now_, out_);
      default:
        return;
    }
  }

  ScriptedLoader loader_;
  WorkerCore core_;
  TimePoint now_{};
  Outbox out_;
  Correspondence sent_;
};

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto conversation = sheaf::ParseConversation(data, size);
  if (!conversation) return 0;
  sheaf::Worker worker;
  for (const auto& event : conversation->event()) worker.Hear(event);
  return 0;
}
