#include "scheduler/job.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/planted_bug.h"
#include "common/base/random.h"
#include "common/base/strings.h"
#include "compute/eval/eval_counts.h"
#include "compute/features/weighting.h"
#include "compute/model/model.h"
#include "scheduler/job_plan.h"

namespace sheaf {
namespace {

// Table ids are unique in the cluster: a job's are derived from its id.
uint32_t TableNumber(JobId job, uint32_t which) { return static_cast<uint32_t>(job.value * 4 + which); }

const pb::PassLedger* FindLedger(const pb::ServerReport& report, JobId job, uint32_t pass) {
  for (const pb::PassLedger& ledger : report.ledger()) {
    if (ledger.job() == job.value && ledger.pass() == pass) return &ledger;
  }
  return nullptr;
}

std::string WaitsFor(const Node& server) {
  return "waits for " + server.name + " (" + server.registration.host() + ") to come back: it has " +
         std::to_string(server.partitions) + " partitions on its disk";
}

const pb::EvalCounts* FindCounts(const pb::WorkerReport& report, uint64_t lease) {
  for (const pb::LeaseEval& eval : report.eval()) {
    if (eval.lease() == lease) return &eval.counts();
  }
  return nullptr;
}

}  // namespace

Job::Job(JobId id, pb::SubmitJob submission, JobOptions options, TimePoint now)
    : id_(id), spec_(std::move(*submission.mutable_spec())), submission_token_(submission.token()), options_(options),
      submitted_(now) {
  brief_.set_job(id_.value);
  *brief_.mutable_spec() = spec_;
  detail_ = "waits for its turn";
}

void Job::Advance(Membership& members, TimePoint now) {
  if (ended() || !may_begin_) return;
  if (phase_ == pb::WAITING) {
    // Of another job: where this one's rows lie is open until it is back, or given up.
    if (const auto awaited = members.Awaited(); !awaited.empty()) {
      detail_ = WaitsFor(*awaited.front());
      return;
    }
    const size_t servers = members.CountAlive(pb::SERVER), workers = members.CountAlive(pb::WORKER);
    const uint32_t need = from_checkpoint_ ? 1 : std::max(1U, spec_.train().workers());
    if (servers < options_.min_servers || workers < need) {
      detail_ = servers < options_.min_servers
                    ? "waits for servers: " + std::to_string(servers) + " of " + std::to_string(options_.min_servers)
                    : "waits for workers: " + std::to_string(workers) + " of " + std::to_string(need);
      return;
    }
    if (from_checkpoint_unsaved_) return;
    if (from_checkpoint_) return BeginRestore(now);
    bsp_lanes_ = spec_.train().workers() > 0 ? spec_.train().workers() : static_cast<uint32_t>(workers);
    began_ = now;
    phase_ = pb::PLANNING;
  }
  if (phase_ == pb::PLANNING) {
    StartPlanning(members, now);
    return;
  }
  if (restoring_) {
    detail_ = "waits for the servers to take the checkpoint " + restore_.name();
    return;
  }
  if (step_ == Step::kSettle) {
    if (!lanes_made_) MakeLanes(members);
    std::string disagreement;
    if (!members.Awaited().empty()) settle_since_ = now;  // it has a limit of its own
    if (!ServersAgree(members, disagreement)) {
      detail_ = disagreement;
      if (now - settle_since_ > options_.settle_limit) {
        Fail(ErrorCode::kInternal, "the servers do not agree after " +
             std::to_string(static_cast<int>(ToSeconds(options_.settle_limit))) + " s: " + disagreement, now);
      }
      return;
    }
    if (confirm_) {
      const PassCounts counts = CountsOf(members, confirm_pass_);
      duplicates_ += counts.duplicates;
      staleness_ = std::max(staleness_, counts.staleness);
    }
    confirm_ = false;
    if (pass_index_ == passes_.size()) {
      End(pb::FINISHED, "", now);
      return;
    }
    step_ = Step::kWork;
    ++work_version_;
    detail_.clear();
    pass_began_ = now;
  }
  if (!quarantined_.empty() && members.CountAlive(pb::WORKER) > 0 &&
      std::ranges::all_of(members.Alive(pb::WORKER), [this](const Node* each) { return IsQuarantined(each->id); })) {
    return Fail(ErrorCode::kInvalidArgument,
                StrCat("of every worker the last ", spec_.train().quarantine_after(),
                       " gradients or more were refused, as NaN, infinite or over optimizer.max_gradient_norm: "
                       "training diverges; lower optimizer.learning_rate"),
                now);
  }
  ShareLanes(members);
  const auto awaited = members.Awaited();
  detail_ = !awaited.empty()                         ? WaitsFor(*awaited.front())
            : members.CountAlive(pb::WORKER) == 0 ? "waits for a worker: none is alive"
                                                  : "";
}

void Job::StartPlanning(Membership& members, TimePoint) {
  const Node* planner = members.Find(planner_);
  if (planner != nullptr && planner->alive()) return;
  const auto& workers = members.Alive(pb::WORKER);
  plan_asked_ = false;
  ++work_version_;
  planner_ = workers.empty() ? NodeId() : workers.front()->id;
  detail_ = workers.empty() ? "waits for a worker to look at the data" : workers.front()->name + " looks at the data";
}

void Job::TakePlan(const pb::DataPlan& plan, TimePoint now) {
  if (plan.job() != id_.value) return;
  if (const auto used = UsePlan(plan); !used) {
    return Fail(used.error().code, used.error().message, now);
  }
  MakeTables();
  phase_ = pb::RUNNING;
  plan_ = plan;
  plan_unsaved_ = true;
  StartPass(now);
}

Status Job::UsePlan(const pb::DataPlan& plan) {
  SHEAF_ASSIGN_OR_RETURN(auto splits, RangesOfPlan(spec_, plan));
  for (uint32_t split = 0; split < 3; ++split) {
    split_rows_[split] = splits[split].rows;
    split_ranges_[split] = std::move(splits[split].ranges);
  }
  MakePasses();
  return {};
}

void Job::MakePasses() {
  if (StatisticsDim(spec_.data()) > 0) passes_.push_back({pb::STATISTICS, 0});
  for (uint32_t epoch = 1; epoch <= spec_.train().epochs(); ++epoch) {
    passes_.push_back({pb::TRAIN, epoch});
    if (split_rows_[kValidSplit] > 0 && spec_.train().evaluate_each_epoch()) passes_.push_back({pb::VALIDATE, epoch});
  }
  if (split_rows_[kTestSplit] > 0) passes_.push_back({pb::TEST, 0});
  brief_.set_train_rows(split_rows_[kTrainSplit]);
}

void Job::MakeTables() {
  const auto model = MakeModel(spec_.model());
  SHEAF_CHECK(model.has_value(), "a job with a bad model was admitted");
  const auto add = [&](uint32_t which, const char* name, uint32_t dim) -> pb::TableSpec& {
    pb::TableSpec& table = tables_.emplace_back();
    table.set_id(TableNumber(id_, which));
    table.set_job(id_.value);
    table.set_name(name);
    table.set_dim(dim);
    table.set_seed(MixPair(spec_.train().seed(), which));
    table.set_durability(spec_.durability());
    *table.mutable_optimizer() = spec_.optimizer();
    return table;
  };
  pb::TableSpec& weights = add(0, "weights", static_cast<uint32_t>((*model)->row_dim()));
  if (spec_.has_rows()) *weights.mutable_rows() = spec_.rows();
  if (spec_.model().kind() == pb::ModelSpec::FACTORIZATION_MACHINE) {
    weights.set_init_stddev(spec_.model().init_stddev());
    weights.set_init_zero_columns(1);
  }
  brief_.set_weight_table(weights.id());
  if ((*model)->bias_dim() > 0) {
    pb::TableSpec& bias = add(1, "bias", static_cast<uint32_t>((*model)->bias_dim()));
    bias.set_dense_elements(bias.dim());
    // A bias is not held back: regularization is for features.
    bias.mutable_optimizer()->clear_l1();
    bias.mutable_optimizer()->clear_l2();
    bias.mutable_optimizer()->clear_weight_decay();
    brief_.set_bias_table(bias.id());
  }
  if (const uint32_t dim = StatisticsDim(spec_.data()); dim > 0) {
    pb::TableSpec& statistics = add(2, "statistics", dim);
    statistics.set_update(pb::TableSpec::SUM);
    brief_.set_statistics_table(statistics.id());
  }
  MarkUrgent();
}

uint32_t Job::SplitOf(pb::PassKind kind) const {
  return kind == pb::VALIDATE ? kValidSplit : kind == pb::TEST ? kTestSplit : kTrainSplit;
}

// Makes the roster and the lease book of the pass at pass_index_; work starts when the servers have settled.
void Job::StartPass(TimePoint now) {
  step_ = Step::kSettle;
  settle_since_ = now;
  MarkUrgent();
  lanes_made_ = false;
  lanes_shared_.reset();
  for (const auto& [worker, lane] : lane_of_) lanes_changed_.insert(lane);
  roster_.Clear();
  lane_of_.clear();
  lanes_wanted_.clear();
  disagrees_ = NodeId();
  next_lane_ = 0;
  max_clock_ = 0;
  eval_counts_.Clear();
  brief_.set_phase_pass(pass_index_);
  if (pass_index_ == passes_.size()) {
    book_.reset();
    return;
  }
  const uint32_t split = SplitOf(pass().kind);
  const bool is_static = IsBsp() && pass().kind == pb::TRAIN;
  book_ = std::make_unique<LeaseBook>(
      is_static ? LeaseBook::Policy::kStatic : LeaseBook::Policy::kDynamic, split_ranges_[split], RangeOrder(split),
      is_static ? bsp_lanes_ : 0, is_static ? std::vector<NodeId>{} : split_holders_[split]);
  if (!Updates(pass().kind)) return;
  roster_.set_job(id_.value);
  roster_.set_pass(pass_index_);
  roster_.set_mode(pass().kind == pb::TRAIN ? spec_.consistency().mode() : pb::ConsistencySpec::ASP);
  roster_.set_staleness(spec_.consistency().staleness());
  double scale = 1;
  for (uint32_t epoch = 1; epoch < pass().epoch; ++epoch) scale *= spec_.optimizer().learning_rate_decay();
  roster_.set_learning_rate_scale(scale);
  if (is_static) {
    for (uint32_t lane = 0; lane < bsp_lanes_; ++lane) {
      pb::Lane* entry = roster_.add_lane();
      entry->set_lane(lane);
      entry->set_start_clock(0);
      entry->set_end_clock(book_->LaneEnd(LaneId(lane)));
    }
  }
}

std::vector<uint32_t> Job::RangeOrder(uint32_t split) const {
  bool first_walk = true;
  for (uint32_t earlier = 0; earlier < pass_index_; ++earlier) first_walk &= SplitOf(passes_[earlier].kind) != split;
  if (!Updates(pass().kind)) first_walk = true;  // nothing is learnt from: file order reads best
  return PassOrder(spec_, split_ranges_[split], pass_index_, first_walk);
}

void Job::EndPass(TimePoint now) {
  const Pass done = pass();
  split_holders_[SplitOf(done.kind)] = book_->LastHolders();
  work_done_ += split_rows_[SplitOf(done.kind)];
  bad_rows_ += done.kind == pb::TRAIN && done.epoch > 1 ? 0 : book_->bad_rows();
  refused_batches_ += book_->refused_batches();
  confirm_ = Updates(done.kind);
  confirm_pass_ = pass_index_;
  confirm_examples_ = book_->examples();
  if (done.kind == pb::TRAIN) {
    train_examples_ += book_->examples();
    train_time_ += now - pass_began_;
    epoch_loss_.push_back(book_->examples() == 0 ? 0 : book_->loss_sum() / static_cast<double>(book_->examples()));
  } else if (!Updates(done.kind)) {
    pb::EvalResult& result = results_.emplace_back();
    result.set_kind(done.kind);
    result.set_epoch(done.epoch);
    ComputeMetrics(eval_counts_, spec_.model(), result);
    TrimResults();
  }
  ++pass_index_;
  StartPass(now);
}

// Results travel with every status, and a message is bounded: a confusion matrix only with the last result of its kind,
// and not of very many classes; results of the last epochs only.
void Job::TrimResults() {
  constexpr size_t kKeptResults = 1000;
  constexpr int kMostConfusion = 256 * 256;
  const pb::EvalResult& latest = results_.back();
  for (size_t i = 0; i + 1 < results_.size(); ++i) {
    if (results_[i].kind() == latest.kind()) results_[i].clear_confusion();
  }
  if (latest.confusion_size() > kMostConfusion) results_.back().clear_confusion();
  if (results_.size() > kKeptResults) results_.erase(results_.begin());
}

std::string Job::DisagreementOf(const Node& server) const {
  const pb::ServerReport& report = server.server_report;
  if (config_dirty_ || report.seen_generation() < published_generation_) {
    return "waits for " + server.name + " to take configuration " + std::to_string(published_generation_);
  }
  if (!confirm_ || server.partitions == 0) return "";
  const pb::PassLedger* ledger = FindLedger(report, id_, confirm_pass_);
  if (ledger == nullptr) return server.name + " has not reported pass " + std::to_string(confirm_pass_);
  if (ledger->min_examples() == confirm_examples_ && ledger->max_examples() == confirm_examples_) return "";
  return server.name + " counted " + std::to_string(ledger->min_examples()) + ".." +
         std::to_string(ledger->max_examples()) + " examples in pass " + std::to_string(confirm_pass_) +
         ", the leases come to " + std::to_string(confirm_examples_);
}

// Asked at every event: while one server keeps us waiting, the others are not looked at.
bool Job::ServersAgree(const Membership& members, std::string& disagreement) {
  if (const auto awaited = members.Awaited(); !awaited.empty()) {
    disagreement = WaitsFor(*awaited.front());
    return false;
  }
  const Node* const last = members.Find(disagrees_);
  if (last != nullptr && last->alive()) disagreement = DisagreementOf(*last);
  if (!disagreement.empty()) return false;
  disagrees_ = NodeId();
  for (const Node* server : members.Alive(pb::SERVER)) {
    disagreement = DisagreementOf(*server);
    if (disagreement.empty()) continue;
    disagrees_ = server->id;
    return false;
  }
  return true;
}

Job::PassCounts Job::CountsOf(const Membership& members, uint32_t pass) const {
  PassCounts counts;
  for (const Node* server : members.Alive(pb::SERVER)) {
    const pb::PassLedger* ledger = FindLedger(server->server_report, id_, pass);
    if (ledger == nullptr) continue;
    counts.duplicates += ledger->duplicates();
    counts.staleness = std::max(counts.staleness, ledger->staleness());
  }
  return counts;
}

void Job::OnConfigPublished(uint64_t generation) {
  if (!config_dirty_) return;
  config_dirty_ = config_urgent_ = false;
  published_generation_ = generation;
}

int Job::LaneIndex(LaneId lane) const {
  const auto at = std::lower_bound(roster_.lane().begin(), roster_.lane().end(), lane.value,
                                   [](const pb::Lane& each, uint32_t wanted) { return each.lane() < wanted; });
  return static_cast<int>(at - roster_.lane().begin());
}

const pb::Lane& Job::JoinLane(NodeId worker) {
  const auto known = lane_of_.find(worker);
  if (known != lane_of_.end()) return roster_.lane(LaneIndex(known->second));
  const LaneId lane(next_lane_++);
  lane_of_[worker] = lane;
  lanes_changed_.insert(lane);
  pb::Lane* entry = roster_.add_lane();
  entry->set_lane(lane.value);
  // Ahead of the others, so that nobody waits for a newcomer to catch up.
  const bool first = roster_.lane_size() == 1;
  entry->set_start_clock(first ? max_clock_ : max_clock_ + roster_.staleness());
  MarkUrgent();
  return *entry;
}

// All at once: each change of a roster goes to every server.
void Job::MakeWantedLanes() {
  for (const NodeId worker : std::exchange(lanes_wanted_, {})) JoinLane(worker);
  ++work_version_;
}

// Lanes for all workers that are in, so that the pass's first configuration has them: lanes that joined one by one
// would have each configuration sent to every server. But not when there is hardly work for all, as a lane without work
// holds the others back until it has left.
void Job::MakeLanes(const Membership& members) {
  lanes_made_ = true;
  if (pass_index_ >= passes_.size() || !Updates(pass().kind) || (IsBsp() && pass().kind == pb::TRAIN)) return;
  const std::vector<Node*>& workers = members.Alive(pb::WORKER);
  if (book_->size() < 2 * workers.size()) return;
  for (const Node* worker : workers) {
    if (MayWork(*worker)) JoinLane(worker->id);
  }
}

// BSP: gives lanes that nobody holds to workers, when workers have come or gone.
void Job::ShareLanes(const Membership& members) {
  if (!may_grant_ || !IsBsp() || pass().kind != pb::TRAIN || lanes_shared_ == members.version()) return;
  lanes_shared_ = members.version();
  std::vector<NodeId> workers;
  for (const Node* worker : members.Alive(pb::WORKER)) {
    if (MayWork(*worker)) workers.push_back(worker->id);
  }
  if (book_->AssignLanes(workers)) ++work_version_;
}

void Job::LeaveLane(NodeId worker) {
  const auto known = lane_of_.find(worker);
  if (known == lane_of_.end()) return;
  roster_.mutable_lane()->DeleteSubrange(LaneIndex(known->second), 1);
  lanes_changed_.insert(known->second);
  lane_of_.erase(known);
  config_dirty_ = true;
}

void Job::OnWorkerReport(Node& worker, const pb::WorkerReport& report, TimePoint now) {
  if (ended()) return;
  if (report.has_failure() && report.failure().job() == id_.value) {
    return Fail(ErrorCodeFromWire(report.failure().code()), worker.name + ": " + report.failure().text(), now);
  }
  if (phase_ == pb::PLANNING) {
    if (worker.id != planner_) return;
    if (report.has_plan()) return TakePlan(report.plan(), now);
    if (!report.waiting_for().empty()) detail_ = worker.name + " looks at the data (" + report.waiting_for() + ")";
    return;
  }
  if (!working()) return;
  for (const pb::LaneState& lane : report.lane()) {
    if (lane.job() != id_.value || lane.pass() != pass_index_) continue;
    max_clock_ = std::max(max_clock_, lane.clock());
  }
  for (const pb::LeaseState& lease : report.lease()) {
    if (lease.job() != id_.value || lease.pass() != pass_index_) continue;
    const bool evaluated = !Updates(pass().kind);
    const pb::EvalCounts* counts = evaluated && lease.finished() ? FindCounts(report, lease.lease()) : nullptr;
    if (evaluated && lease.finished() && counts == nullptr) continue;  // not whole without its counts
    const bool finished_now = book_->Update(worker.id, lease);
    if ((finished_now || Planted(Bug::kEvalCountedAgain)) && counts != nullptr) MergeCounts(*counts, eval_counts_);
  }
  // What it has done was just taken in.
  if (Quarantine(worker, report) || report.leaving()) LetGo(worker.id);
  if (lane_of_.contains(worker.id) && book_->Held(worker.id).empty() && book_->NothingFor(worker.id)) {
    LeaveLane(worker.id);  // a lane without work would hold the others back for ever
  }
  if (book_->all_done()) EndPass(now);
}

bool Job::Quarantine(const Node& worker, const pb::WorkerReport& report) {
  const uint32_t limit = spec_.train().quarantine_after();
  if (spec_.train().on_bad_gradient() == pb::TrainSpec::FAIL || limit == 0 || report.refused_job() != id_.value ||
      report.refused_in_row() < limit || !quarantined_.insert(worker.id).second) {
    return false;
  }
  events_.push_back(StrCat(worker.name, " (", worker.registration.host(), ") gets no more work of job ", id_.value,
                           ": its last ", report.refused_in_row(),
                           " gradients were refused; if it is the only one, look at its machine"));
  return true;
}

void Job::LetGo(NodeId worker) {
  book_->Release(worker);
  LeaveLane(worker);
  lanes_wanted_.erase(worker);
  lanes_shared_.reset();
  ++work_version_;
}

void Job::OnWorkerGone(NodeId worker, bool died) {
  if (ended()) return;
  quarantined_.erase(worker);
  workers_lost_ += died && phase_ != pb::WAITING;
  if (planner_ == worker) planner_ = NodeId();
  for (auto& holders : split_holders_) std::replace(holders.begin(), holders.end(), worker, NodeId());
  if (phase_ != pb::RUNNING || book_ == nullptr) return;
  book_->Release(worker);
  lanes_wanted_.erase(worker);
  ++work_version_;
  if (!Planted(Bug::kDeadKeepsLane)) LeaveLane(worker);
}

void Job::TakeUp(const Node& worker, const pb::WorkerReport& report) {
  if (!working()) return;
  if (OwnLanes() && !lane_of_.contains(worker.id)) return;
  for (const pb::LeaseState& lease : report.lease()) {
    if (lease.job() == id_.value && lease.pass() == pass_index_) book_->TakeUp(worker.id, lease);
  }
  for (const pb::UntouchedLeases& leases : report.untouched()) {
    if (leases.job() != id_.value || leases.pass() != pass_index_) continue;
    for (int i = 0; i < leases.lease_size() && i < leases.range_size(); ++i) {
      pb::LeaseState lease;
      lease.set_lease(leases.lease(i));
      lease.set_range(leases.range(i));
      book_->TakeUp(worker.id, lease);
    }
  }
}

void Job::AllowGrants(bool allowed) {
  if (may_grant_ == allowed) return;
  may_grant_ = allowed;
  lanes_shared_.reset();
  ++work_version_;
}

bool Job::HasWorkFor(const Node& worker) const {
  if (ended()) return false;
  if (phase_ == pb::PLANNING) return worker.id == planner_ && !plan_asked_;
  return may_grant_ && working() && !IsQuarantined(worker.id) && book_->Held(worker.id).empty() &&
         !book_->NothingFor(worker.id);
}

// Dynamic ranges go to whoever asks first: more workers than there are ranges need not come.
size_t Job::most_idle_wanted() const {
  const bool any_may = book_ == nullptr || (IsBsp() && pass().kind == pb::TRAIN);
  return any_may ? std::numeric_limits<size_t>::max() : book_->free_count() + book_->spare_count();
}

uint32_t Job::LeasesFor(const Node& worker) const {
  const bool is_static = !OwnLanes() && pass().kind == pb::TRAIN;
  const uint32_t range_batches = std::max(spec_.train().range_batches(), 1U);
  const uint32_t short_ones = 1 + (options_.batches_ahead + range_batches - 1) / range_batches;
  const uint32_t least = is_static ? options_.leases_ahead : std::max(options_.leases_ahead, short_ones);
  const double rows = ToSeconds(options_.work_ahead) * static_cast<double>(worker.worker_report.examples_per_second());
  const double ranges = rows / (static_cast<double>(range_batches) * std::max(spec_.train().batch_size(), 1U));
  const auto workers = static_cast<uint32_t>(std::max<size_t>(1, book_->holders()));
  const uint32_t most = std::min(options_.most_leases_ahead, options_.leases_ahead_of_all / workers);
  const auto by_time = static_cast<uint32_t>(std::min<double>(ranges, most));
  if (is_static) return std::max<uint32_t>(least, by_time / std::max<uint32_t>(1, book_->CountLanes(worker.id)));
  const size_t share = book_->CountHeld(worker.id) + book_->free_count() / 2 / workers;
  return std::max(least, std::min(by_time, static_cast<uint32_t>(share)));
}

void Job::FillOrders(Node& worker, pb::WorkerOrders& orders, bool may_join, uint64_t& next_lease) {
  if (ended()) return;
  if (phase_ == pb::PLANNING && worker.id == planner_) {
    plan_asked_ = true;
    orders.mutable_plan()->set_job(id_.value);
    *orders.mutable_plan()->mutable_spec() = spec_;
    return;
  }
  if (!working()) return;
  const pb::WorkerReport& report = worker.worker_report;
  const bool is_static = IsBsp() && pass().kind == pb::TRAIN;
  const bool own_lane = OwnLanes();
  if (own_lane && !(may_join && may_grant_) && MayWork(worker) && !lane_of_.contains(worker.id) &&
      !book_->NothingFor(worker.id)) {
    lanes_wanted_.insert(worker.id);
    return;
  }
  const bool may_have_more = may_grant_ && MayWork(worker);
  if (may_have_more || Planted(Bug::kLeaverKept)) book_->Grant(worker.id, LeasesFor(worker), next_lease);
  const std::vector<RangeId> held = book_->Held(worker.id);
  if (held.empty()) return;
  const pb::Lane no_lane;
  const pb::Lane& own = own_lane ? JoinLane(worker.id) : no_lane;
  std::vector<uint64_t> has, untouched;  // ascending
  for (const pb::LeaseState& lease : report.lease()) has.push_back(lease.lease());
  for (const pb::UntouchedLeases& leases : report.untouched()) {
    untouched.insert(untouched.end(), leases.lease().begin(), leases.lease().end());
  }
  std::ranges::sort(has);
  std::ranges::sort(untouched);
  for (RangeId id : held) {
    const LeaseBook::Range& range = book_->range(id);
    if (std::ranges::binary_search(untouched, range.lease)) {
      orders.add_keep(range.lease);
      continue;
    }
    pb::LeaseGrant& grant = *orders.add_lease();
    if (std::ranges::binary_search(has, range.lease)) {
      grant.set_lease(range.lease);
      continue;
    }
    grant.set_job(id_.value);
    grant.set_pass(pass_index_);
    grant.set_range(id.value);
    grant.set_lease(range.lease);
    grant.set_lane(is_static ? range.lane.value : own.lane());
    grant.set_lane_start(is_static ? 0 : own.start_clock());
    grant.set_first_clock(range.first_clock);
    grant.set_first_batch(range.first_batch);
    *grant.mutable_rows() = range.plan.rows;
    grant.set_kind(pass().kind);
    grant.set_order(range.order);
  }
  // Whoever has a lease of the job when it reports has this already: workers forget a job with its last lease.
  const auto is_of_job = [this](const auto& lease) { return lease.job() == id_.value; };
  const bool known = std::any_of(report.lease().begin(), report.lease().end(), is_of_job) ||
                     std::any_of(report.untouched().begin(), report.untouched().end(), is_of_job);
  if (!known) *orders.add_job() = brief_;
}

void Job::AddToConfig(pb::ClusterConfig& config) const {
  for (const pb::TableSpec& table : tables_) *config.add_table() = table;
  if (phase_ == pb::RUNNING && roster_.has_job()) *config.add_roster() = roster_;
}

void Job::Fail(ErrorCode code, std::string text, TimePoint now) {
  if (ended()) return;
  error_code_ = code;
  End(pb::FAILED, std::move(text), now);
  DropTables();
}

void Job::Cancel(std::string reason, TimePoint now) {
  if (ended()) return;
  error_code_ = ErrorCode::kCancelled;
  End(pb::CANCELLED, reason.empty() ? "cancelled" : std::move(reason), now);
  DropTables();
}

// What is only needed while it runs goes: a job of a million ranges must not weigh on the scheduler once it is over.
void Job::End(pb::JobPhase phase, std::string detail, TimePoint now) {
  phase_ = phase;
  detail_ = std::move(detail);
  ended_at_ = now;
  for (auto& ranges : split_ranges_) std::vector<PlannedRange>().swap(ranges);
  for (auto& holders : split_holders_) std::vector<NodeId>().swap(holders);
  for (const auto& [worker, lane] : lane_of_) lanes_changed_.insert(lane);
  lane_of_.clear();
  lanes_wanted_.clear();
  quarantined_.clear();
  eval_counts_.Clear();
  roster_.Clear();
  book_.reset();
  plan_.Clear();
  from_checkpoint_.reset();
  restoring_ = false;
  config_dirty_ = true;
}

void Job::DropTables() {
  tables_.clear();
  config_dirty_ = true;
}

}  // namespace sheaf
