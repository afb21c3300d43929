#include "worker/threaded_loader.h"

#include <algorithm>
#include <numeric>

#include "common/base/random.h"
#include "compute/features/weighting.h"
#include "worker/worker_core.h"

namespace sheaf {
namespace {

BatchCache::Key CacheKey(const pb::LeaseGrant& grant) {
  return {grant.job(), grant.rows().split(), grant.range()};
}

// Always as many batches as were planned, even if bad rows were skipped: clocks are counted by them.
LoadedBatches MakeBatches(const pb::LeaseGrant& grant, const pb::JobSpec& spec, const RowBlock& rows) {
  std::vector<uint32_t> order;
  if (grant.rows().split() == 0 && spec.train().shuffle() == pb::TrainSpec::ROWS) {
    order.resize(rows.size());
    std::iota(order.begin(), order.end(), 0U);
    Random random(MixPair(spec.train().seed(), 0x726f7773ULL << 32 | grant.range()));
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  }
  LoadedBatches batches;
  const size_t batch_size = spec.train().batch_size();
  for (size_t first = 0; first < grant.rows().row_count(); first += batch_size) {
    const size_t begin = std::min(first, rows.size());
    const size_t count = std::min(batch_size, rows.size() - begin);
    batches.push_back(std::make_shared<const Batch>(MakeBatch(rows, begin, count, order)));
  }
  return batches;
}

}  // namespace

ThreadedLoader::ThreadedLoader(std::string data_dir, size_t cache_bytes, TraceLog* trace)
    : data_dir_(std::move(data_dir)), trace_(trace), cache_(cache_bytes), thread_("sheaf-reader", [this] { Run(); }) {}

ThreadedLoader::~ThreadedLoader() {
  stop_.request_stop();
  plan_stop_.request_stop();
  requests_.Close();
  thread_.Join();
}

void ThreadedLoader::Put(Request request) {
  const Status put = requests_.TryPut(std::move(request));
  SHEAF_CHECK(put.has_value(), "a worker asked for more ranges than it can hold");
}

void ThreadedLoader::Load(const pb::LeaseGrant& grant, const pb::JobBrief& brief) { Put(LoadRequest{grant, brief}); }
void ThreadedLoader::Weight(uint64_t lease, Floats statistics) {
  Put(WeightRequest{lease, std::move(statistics)});
}
void ThreadedLoader::Forget(uint64_t lease) { Put(ForgetRequest{lease}); }
void ThreadedLoader::Plan(const pb::PlanOrder& order) {
  plan_stop_.request_stop();
  plan_stop_ = std::stop_source();
  Put(PlanRequest{order, plan_stop_.get_token()});
}

void ThreadedLoader::Run() {
  while (true) {
    std::optional<Request> request = requests_.Take(std::chrono::seconds(1));
    if (requests_.closed()) return;
    if (!request) continue;
    std::visit([this](auto& each) { Serve(std::move(each)); }, *request);
  }
}

void ThreadedLoader::EndSpan(pb::SpanKind kind, TimePoint begin, uint64_t range, uint64_t count) {
  constexpr uint32_t kReaderTrack = 1;
  if (trace_ != nullptr) trace_->End(kind, kReaderTrack, begin, range, count);
}

void ThreadedLoader::Answered(Answer answer) {
  const Status put = results_.TryPut(std::move(answer));
  SHEAF_CHECK(put.has_value(), "the worker's loop takes no results");
}

Result<std::shared_ptr<const RowBlock>> ThreadedLoader::Read(const LoadRequest& request) {
  if (source_ == nullptr || source_job_ != request.grant.job()) {
    SHEAF_ASSIGN_OR_RETURN(source_, MakeDataSource(request.brief.spec(), data_dir_, stop_.get_token()));
    source_job_ = request.grant.job();
  }
  const TimePoint begin = BeginSpan();
  SHEAF_ASSIGN_OR_RETURN(RowBlock rows, source_->ReadRange(request.grant.rows()));
  EndSpan(pb::READ, begin, request.grant.range(), rows.size());
  return std::shared_ptr<const RowBlock>(std::make_shared<RowBlock>(std::move(rows)));
}

void ThreadedLoader::Serve(LoadRequest request) {
  const uint64_t lease = request.grant.lease();
  std::shared_ptr<const RowBlock> rows;
  if (const BatchCache::Entry* known = cache_.Find(CacheKey(request.grant)); known != nullptr) {
    if (!known->batches.empty()) return Answered(Ready{lease, known->batches, known->bad_rows});
    rows = known->rows;
  }
  if (rows == nullptr) {
    auto read = Read(request);
    if (!read) return Answered(LoadFailed{lease, read.error()});
    rows = std::move(*read);
  }
  const pb::DataSpec& data = request.brief.spec().data();
  if (StatisticsDim(data) == 0) {
    if (data.format() != pb::DataSpec::TEXT) return Finish(request, *rows);
    RowBlock weighted = *rows;  // no statistics, but perhaps a norm
    WeightRows(data, {}, {}, weighted);
    return Finish(request, weighted);
  }
  if (request.grant.kind() == pb::STATISTICS) {
    if (request.brief.spec().train().cache_rows()) cache_.Put(CacheKey(request.grant), {rows, {}, rows->bad_rows});
    return Answered(Ready{lease, MakeBatches(request.grant, request.brief.spec(), *rows), rows->bad_rows});
  }
  std::vector<HashedKey> keys = StatisticsKeys(*rows);
  waiting_[lease] = Waiting{std::move(request), std::move(rows), keys};
  Answered(NeedsStatistics{lease, std::move(keys)});
}

void ThreadedLoader::Serve(WeightRequest request) {
  const auto it = waiting_.find(request.lease);
  if (it == waiting_.end()) return;  // forgotten
  Waiting waiting = std::move(it->second);
  waiting_.erase(it);
  RowBlock rows = *waiting.rows;
  WeightRows(waiting.request.brief.spec().data(), waiting.keys, request.statistics, rows);
  Finish(waiting.request, rows);
}

void ThreadedLoader::Finish(const LoadRequest& request, const RowBlock& rows) {
  const TimePoint begin = BeginSpan();
  LoadedBatches batches = MakeBatches(request.grant, request.brief.spec(), rows);
  EndSpan(pb::BATCHES, begin, request.grant.range(), batches.size());
  if (request.brief.spec().train().cache_rows()) {
    cache_.Put(CacheKey(request.grant), {nullptr, batches, rows.bad_rows});
  }
  Answered(Ready{request.grant.lease(), std::move(batches), rows.bad_rows});
}

void ThreadedLoader::Serve(const PlanRequest& request) {
  const pb::PlanOrder& order = request.order;
  const auto seen = [&](const std::string& path, uint64_t rows) {
    // For people only: never in the way of what the loop has to take.
    if (results_.size() < kResultsHeld / 2) Answered(PlanSeen{order.job(), path, rows});
  };
  auto plan = PlanData(order.spec(), data_dir_, seen, request.stop);
  pb::DataPlan answer;
  if (plan) {
    answer = std::move(*plan);
  } else {
    answer.set_error(plan.error().message);
    answer.set_error_code(static_cast<uint32_t>(plan.error().code));
  }
  answer.set_job(order.job());
  Answered(std::move(answer));
}

void ThreadedLoader::Deliver(WorkerCore& core, TimePoint now, Outbox& out) {
  while (std::optional<Answer> answer = results_.TryTake()) {
    if (auto* ready = std::get_if<Ready>(&*answer)) {
      core.OnRangeReady(ready->lease, std::move(ready->batches), ready->bad_rows, now, out);
    } else if (auto* needs = std::get_if<NeedsStatistics>(&*answer)) {
      core.OnRangeNeedsStatistics(needs->lease, std::move(needs->keys), now, out);
    } else if (auto* failed = std::get_if<LoadFailed>(&*answer)) {
      core.OnLoadFailed(failed->lease, std::move(failed->error), now, out);
    } else if (auto* seen = std::get_if<PlanSeen>(&*answer)) {
      core.OnPlanProgress(seen->job, seen->path, seen->rows);
    } else {
      core.OnPlan(std::get<pb::DataPlan>(*answer), now, out);
    }
  }
}

}  // namespace sheaf
