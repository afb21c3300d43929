#include "tests/sim/growth_cluster.h"

#include <time.h>

#include <algorithm>
#include <map>
#include <set>

#include "common/net/envelope.h"
#include "common/net/scheduler_link.h"
#include "tests/sim/sim_job.h"

namespace sheaf::sim {
namespace {

constexpr Duration kTurn = Milliseconds(1);
constexpr Duration kTick = Milliseconds(10);  // the scheduler's, as its event loop does
constexpr uint64_t kMemberTurns = 20;         // a member's tick, each at a turn of its own
constexpr uint64_t kFirstMember = 100;        // peer id
constexpr uint32_t kBatchRows = 10, kRangeBatches = 8;

double ThreadSeconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

size_t SizeOf(const std::vector<Buffer>& frames) {
  size_t size = 0;
  for (const Buffer& frame : frames) size += frame.size();
  return size;
}

}  // namespace

struct GrowthCluster::Member {
  explicit Member(PeerId its_id, TimePoint its_start) : self(its_id), starts(its_start) {}
  virtual ~Member() = default;
  virtual void OnMessage(const Message& message, TimePoint now, Outbox& out) = 0;
  virtual void OnTick(TimePoint now, Outbox& out) = 0;
  virtual uint64_t generation() const = 0;

  const PeerId self;
  const TimePoint starts;
  bool dead = false;
};

// What a member keeps of its configuration. The rest, ten thousand times, would be all the memory there is.
struct Generation {
  // The update, if it could be applied.
  std::optional<pb::ConfigUpdate> Take(const std::string& encoded) {
    pb::ConfigUpdate update;
    SHEAF_CHECK(update.ParseFromString(encoded));
    if (update.since() != 0 && update.since() != value) return std::nullopt;
    value = update.config().generation();
    return update;
  }

  uint64_t value = 0;
};

// Reports and takes configurations as ControlClient does.
struct GrowthCluster::Server final : Member {
  Server(PeerId its_id, TimePoint its_start, uint32_t shards)
      : Member(its_id, its_start), link(Info(its_id, shards), {.deadline = std::chrono::hours(1)}) {}
  static MemberInfo Info(PeerId self, uint32_t shards) {
    MemberInfo info;
    info.role = pb::SERVER;
    info.self = self;
    info.host = "server-host-" + std::to_string(self.value);
    for (uint32_t i = 0; i < shards; ++i) {
      pb::ShardEndpoint& shard = info.shards.emplace_back();
      shard.set_peer(MixPair(self.value, i));
      shard.set_address("tcp://server-host-" + std::to_string(self.value) + ":" + std::to_string(7100 + i));
    }
    return info;
  }
  void OnMessage(const Message& message, TimePoint now, Outbox& out) override {
    report_now |= link.OnMessage(message, now) || message.header.has_report_now();
    if (message.header.has_server_orders()) OnOrders(message.header.server_orders(), now, out);
    OnTick(now, out);
  }
  void OnOrders(const pb::ServerOrders& orders, TimePoint now, Outbox& out) {
    if (orders.unknown()) link.OnUnknown(now, out);
    if (!orders.has_config_update()) return;
    const uint64_t before = config.value;
    const auto update = config.Take(orders.config_update());
    report_now |= !update || config.value > before;
    if (!update) return;
    for (const pb::Roster& roster : update->config().roster()) Open(roster);
    for (const pb::RosterUpdate& roster : update->roster()) {
      if (!roster.gone()) Open(roster.roster());
    }
  }
  void Open(const pb::Roster& roster) {
    if (!ledgers.empty() &&
        std::pair(ledgers.back().job(), ledgers.back().pass()) >= std::pair(roster.job(), roster.pass()))
      return;
    // What it will have counted when the pass is over, which is when it matters.
    pb::PassLedger& ledger = ledgers.emplace_back();
    ledger.set_job(roster.job());
    ledger.set_pass(roster.pass());
    ledger.set_min_examples(rows);
    ledger.set_max_examples(rows);
  }
  void OnTick(TimePoint now, Outbox& out) override {
    link.OnTick(now, out);
    if (!link.registered() || (!report_now && now < next_report)) return;
    report_now = false;
    next_report = now + link.report_every();
    Message message;
    message.header.set_request(link.NextRequest());
    pb::ServerReport& report = *message.header.mutable_server_report();
    report.set_incarnation(self.value);
    report.set_seen_generation(config.value);
    report.set_config_generation(config.value);
    for (const pb::PassLedger& ledger : ledgers) *report.add_ledger() = ledger;
    report.set_memory_bytes(uint64_t{1} << 34);
    report.set_rows(100'000'000);
    report.set_pushes_applied(next_report.time_since_epoch().count());
    report.set_pulls_answered(next_report.time_since_epoch().count());
    out.Send(kSchedulerPeer, std::move(message));
  }
  uint64_t generation() const override { return config.value; }

  SchedulerLink link;
  Generation config;
  std::vector<pb::PassLedger> ledgers;
  uint64_t rows = 0;  // of the job
  bool report_now = false;
  TimePoint next_report;
};

// Reports as WorkerCore does: all its leases and lanes, one report under way at a time, at once when a lease is
// finished.
struct GrowthCluster::Worker final : Member {
  struct Lease {
    pb::LeaseGrant grant;
    uint32_t batches = 0, done = 0;
  };

  Worker(PeerId its_id, TimePoint its_start, const GrowthOptions& its_options)
      : Member(its_id, its_start), options(its_options), link(Info(), {.deadline = std::chrono::hours(1)}) {}
  MemberInfo Info() const {
    MemberInfo info;
    info.role = pb::WORKER;
    info.self = self;
    info.host = "worker-host-" + std::to_string(self.value);
    return info;
  }
  void Report(TimePoint now, Outbox& out) {
    report_now = false;
    awaiting = true;
    reported_at = now;
    next_report = now + link.report_every();
    Message message;
    sequence = link.NextRequest();
    message.header.set_request(sequence);
    pb::WorkerReport& report = *message.header.mutable_worker_report();
    report.set_incarnation(self.value);
    report.set_sequence(sequence);
    report.set_seen_generation(config.value);
    if (plan) *report.mutable_plan() = *plan;
    for (const auto& [number, lease] : leases) {
      pb::LeaseState& state = *report.add_lease();
      state.set_job(lease.grant.job());
      state.set_pass(lease.grant.pass());
      state.set_range(lease.grant.range());
      state.set_lease(number);
      state.set_finished(lease.done == lease.batches);
      state.set_batches_done(lease.done);
      const uint32_t done = (lease.done - lease.grant.first_batch()) * kBatchRows;
      state.set_examples(std::min(done, lease.grant.rows().row_count()));
      state.set_loss_sum(done);
    }
    if (!leases.empty()) {
      const pb::LeaseGrant& grant = leases.begin()->second.grant;
      pb::LaneState& lane = *report.add_lane();
      lane.set_job(grant.job());
      lane.set_pass(grant.pass());
      lane.set_lane(grant.lane());
      lane.set_clock(grant.lane_start() + clock);
    }
    report.set_waiting_for(leases.empty() ? "the scheduler to give it work" : "");
    report.set_leaving(false);
    report.set_examples_per_second(200);
    out.Send(kSchedulerPeer, std::move(message));
  }
  void OnMessage(const Message& message, TimePoint now, Outbox& out) override {
    report_now |= link.OnMessage(message, now) || message.header.has_report_now();
    if (message.header.has_worker_orders() && message.header.worker_orders().sequence() == sequence) {
      awaiting = false;
      OnOrders(message.header.worker_orders(), now, out);
    }
    if (link.registered() && report_now && (!awaiting || now - reported_at >= link.report_every())) Report(now, out);
  }
  void OnOrders(const pb::WorkerOrders& orders, TimePoint now, Outbox& out) {
    if (orders.unknown()) {
      leases.clear();
      return link.OnUnknown(now, out);
    }
    if (orders.has_config_update()) config.Take(orders.config_update());
    if (orders.plan_received()) plan.reset();
    if (orders.has_plan() && !plan) {
      plan = MakeSimPlan(orders.plan().spec(), orders.plan().job());
      report_now = true;
    }
    std::set<uint64_t> wanted;
    for (const pb::LeaseGrant& grant : orders.lease()) {
      wanted.insert(grant.lease());
      Lease& lease = leases[grant.lease()];
      if (lease.batches > 0) continue;
      lease.grant = grant;
      lease.batches = (grant.rows().row_count() + kBatchRows - 1) / kBatchRows;
      lease.done = grant.first_batch();
    }
    std::erase_if(leases, [&](const auto& lease) { return !wanted.contains(lease.first); });
  }
  void OnTick(TimePoint now, Outbox& out) override {
    link.OnTick(now, out);
    while (worked_until <= now) {
      worked_until = std::max(worked_until, now - options.batch_time) + options.batch_time;
      for (auto& [number, lease] : leases) {
        if (lease.done == lease.batches) continue;
        ++clock;
        report_now |= ++lease.done == lease.batches;
        break;
      }
    }
    if (!link.registered()) return;
    if (now >= next_report || (report_now && (!awaiting || now - reported_at >= link.report_every()))) Report(now, out);
  }
  uint64_t generation() const override { return config.value; }

  const GrowthOptions& options;
  SchedulerLink link;
  Generation config;
  std::map<uint64_t, Lease> leases;
  std::optional<pb::DataPlan> plan;
  uint64_t sequence = 0, clock = 0;
  bool report_now = false, awaiting = false;
  TimePoint reported_at, next_report, worked_until;
};

GrowthCluster::GrowthCluster(GrowthOptions options) : options_(options) {
  SchedulerOptions scheduler;
  scheduler.partition_count = options_.partitions;
  scheduler.job.min_servers = options_.servers;
  core_ = std::make_unique<SchedulerCore>(scheduler, now_);
}

GrowthCluster::~GrowthCluster() = default;

void GrowthCluster::AddServers(uint32_t count, Duration within) {
  for (uint32_t i = 0; i < count; ++i) {
    auto server =
        std::make_unique<Server>(PeerId(kFirstMember + members_.size()), now_ + within * i / count, options_.shards);
    server->rows = uint64_t{options_.ranges_each} * options_.workers * kBatchRows * kRangeBatches;
    members_.push_back(std::move(server));
  }
}

void GrowthCluster::AddWorkers(uint32_t count, Duration within) {
  for (uint32_t i = 0; i < count; ++i) {
    members_.push_back(
        std::make_unique<Worker>(PeerId(kFirstMember + members_.size()), now_ + within * i / count, options_));
  }
}

void GrowthCluster::KillServers(uint32_t count) {
  for (auto it = members_.rbegin(); it != members_.rend() && count > 0; ++it) {
    if (dynamic_cast<Server*>(it->get()) == nullptr || (*it)->dead) continue;
    (*it)->dead = true;
    --count;
  }
}

void GrowthCluster::KillWorkers(uint32_t count) {
  for (auto it = members_.rbegin(); it != members_.rend() && count > 0; ++it) {
    if (dynamic_cast<Worker*>(it->get()) == nullptr || (*it)->dead) continue;
    (*it)->dead = true;
    --count;
  }
}

void GrowthCluster::Submit(uint32_t epochs) {
  SimJobSize size{.rows = options_.ranges_each * options_.workers * kBatchRows * kRangeBatches,
                  .batch_size = kBatchRows,
                  .range_batches = kRangeBatches,
                  .epochs = epochs};
  Message message;
  message.header.mutable_submit()->set_token(1);
  *message.header.mutable_submit()->mutable_spec() = MakeSimJob(size, pb::ConsistencySpec::SSP, 8, options_.workers);
  core_->OnMessage(PeerId(5), message, now_, out_);
  for (const auto& item : out_.items()) {
    if (item.to == PeerId(5)) SHEAF_CHECK(item.message.header.has_accepted(), item.message.header.refusal().text());
  }
}

GrowthCluster::Member* GrowthCluster::Find(PeerId peer) {
  const uint64_t at = peer.value - kFirstMember;
  return peer.value >= kFirstMember && at < members_.size() && !members_[at]->dead ? members_[at].get() : nullptr;
}

void GrowthCluster::Send(PeerId from, PeerId to, std::vector<Buffer> frames, TimePoint at) {
  const Duration delay = std::chrono::microseconds(100 + random_.Below(900));
  arrivals_.push_back({at + delay, next_order_++, from, to, std::move(frames)});
  std::push_heap(arrivals_.begin(), arrivals_.end(), std::greater<>());
}

void GrowthCluster::SendAll(PeerId from, Outbox& out) {
  for (auto& item : out.items()) {
    auto frames = EncodeMessage(std::move(item.message));
    SHEAF_CHECK(frames.has_value(), frames.error().message);
    Send(from, item.to, std::move(*frames), now_);
  }
  out.clear();
}

void GrowthCluster::RunScheduler() {
  if (scheduler_busy_until_ > now_) return;
  std::vector<std::pair<PeerId, std::vector<Buffer>>> sent;
  const double begin = ThreadSeconds();
  for (const Arrival& arrival : for_scheduler_) {
    const Result<Message> message = DecodeMessage(arrival.frames);
    SHEAF_CHECK(message.has_value(), message.error().message);
    core_->OnMessage(arrival.from, *message, now_, out_);
  }
  if (now_ >= next_tick_) {
    core_->OnTick(now_, out_);
    next_tick_ = now_ + kTick;
  }
  for (auto& item : out_.items()) {
    auto frames = EncodeMessage(std::move(item.message));
    SHEAF_CHECK(frames.has_value(), frames.error().message);
    sent.emplace_back(item.to, std::move(*frames));
  }
  out_.clear();
  const double spent = ThreadSeconds() - begin;
  cost_.cpu_seconds += spent;
  if (options_.scheduler_takes_time) scheduler_busy_until_ = now_ + Duration(static_cast<int64_t>(spent * 1e9));
  second_ += spent;
  (void)core_->TakeEvents();
  cost_.messages_in += for_scheduler_.size();
  for (const Arrival& arrival : for_scheduler_) cost_.bytes_in += SizeOf(arrival.frames);
  for_scheduler_.clear();
  cost_.messages_out += sent.size();
  for (auto& [to, frames] : sent) {
    const size_t size = SizeOf(frames);
    cost_.bytes_out += size;
    cost_.largest_message = std::max<uint64_t>(cost_.largest_message, size);
    Send(kSchedulerPeer, to, std::move(frames), std::max(now_, scheduler_busy_until_));
  }
}

void GrowthCluster::Turn() {
  now_ += kTurn;
  ++turns_;
  if (turns_ % 1000 == 0) {
    worst_second_ = std::max(worst_second_, second_);
    second_ = 0;
  }
  Outbox out;
  while (!arrivals_.empty() && arrivals_.front().at <= now_) {
    std::pop_heap(arrivals_.begin(), arrivals_.end(), std::greater<>());
    Arrival arrival = std::move(arrivals_.back());
    arrivals_.pop_back();
    if (arrival.to == kSchedulerPeer) {
      for_scheduler_.push_back(std::move(arrival));
    } else if (Member* const member = Find(arrival.to)) {
      const Result<Message> message = DecodeMessage(arrival.frames);
      SHEAF_CHECK(message.has_value(), message.error().message);
      member->OnMessage(*message, now_, out);
      SendAll(member->self, out);
    }
  }
  for (size_t i = turns_ % kMemberTurns; i < members_.size(); i += kMemberTurns) {
    if (members_[i]->dead || members_[i]->starts > now_) continue;
    members_[i]->OnTick(now_, out);
    SendAll(members_[i]->self, out);
  }
  RunScheduler();
}

void GrowthCluster::RunFor(Duration duration) {
  for (const TimePoint end = now_ + duration; now_ < end;) Turn();
}

Duration GrowthCluster::RunUntil(const std::function<bool()>& done, Duration limit) {
  const TimePoint begin = now_;
  while (!done() && now_ - begin < limit) Turn();
  return now_ - begin;
}

pb::JobStatus GrowthCluster::Job() const {
  const auto* job = core_->FindJob(JobId(1));
  return job == nullptr ? pb::JobStatus() : job->Describe(core_->members(), now_, false);
}

bool GrowthCluster::AllHave(uint64_t generation) const {
  return std::all_of(members_.begin(), members_.end(), [&](const auto& member) {
    return member->dead || member->starts > now_ || member->generation() >= generation;
  });
}

size_t GrowthCluster::leases_held() const {
  size_t held = 0;
  for (const auto& member : members_) {
    if (const auto* worker = dynamic_cast<const Worker*>(member.get())) held += worker->leases.size();
  }
  return held;
}

double GrowthCluster::TakeWorstSecond() { return std::exchange(worst_second_, 0); }

}  // namespace sheaf::sim
