#include "client/blocking_client.h"

#include <algorithm>

#include "common/base/strings.h"
#include "common/net/local_address.h"
#include "common/runtime/host_id.h"

namespace sheaf {
namespace {

constexpr Duration kTurn = Milliseconds(50);
constexpr Duration kFirstRepeat = Milliseconds(250);
constexpr Duration kLongestRepeat = std::chrono::seconds(2);
constexpr Duration kSilenceWorthSaying = std::chrono::seconds(3);
constexpr Duration kConfigEvery = std::chrono::seconds(1);      // while an operation is under way
constexpr Duration kWantedConfigEvery = Milliseconds(100);      // when a server has named a newer one, or is silent
constexpr Duration kAskAgainAfter = Milliseconds(10);           // if a still newer one is named
constexpr Duration kWorthAsking = Milliseconds(200);            // silence: another may have taken over by now

ErrorCode CodeOfScheduler(pb::Refusal::Reason reason) {
  switch (reason) {
    case pb::Refusal::NOT_FOUND: return ErrorCode::kNotFound;
    case pb::Refusal::CLOSED: return ErrorCode::kClosed;
    case pb::Refusal::OVERLOADED: return ErrorCode::kOverloaded;
    case pb::Refusal::VERSION_MISMATCH: return ErrorCode::kVersionMismatch;
    default: return ErrorCode::kInvalidArgument;
  }
}

}  // namespace

Result<std::unique_ptr<BlockingClient>> BlockingClient::Connect(ZmqContext& context,
                                                                const std::string& scheduler_address,
                                                                BlockingClientOptions options) {
  SHEAF_RETURN_IF_ERROR(SchedulerList::Check(scheduler_address));
  std::unique_ptr<BlockingClient> client(new BlockingClient(context, scheduler_address, std::move(options)));
  if (Status connected = client->transport_.Connect(kSchedulerPeer, client->scheduler_address()); !connected) {
    return Wrap(connected.error(), "the scheduler's address ", scheduler_address);
  }
  if (auto config = client->GetConfig(); !config) return Failure{config.error()};
  return client;
}

BlockingClient::BlockingClient(ZmqContext& context, std::string scheduler_address, BlockingClientOptions options)
    : options_(std::move(options)), schedulers_(std::move(scheduler_address)), host_(HostId()),
      transport_(context, PeerId(EntropySeed()),
                 [this] {
                   ZmqTransportOptions transport;
                   transport.on_problem = [this](const std::string& text) { last_problem_ = text; };
                   return transport;
                 }()),
      client_(transport_.self(), options_.client),
      session_{EntropySeed(), EntropySeed(), 0} {}

BlockingClient::~BlockingClient() = default;

Result<Message> BlockingClient::Ask(Message request, Duration deadline) {
  request.header.set_request(next_question_++);
  const uint64_t number = request.header.request();
  const TimePoint started = clock_.Now();
  TimePoint send_at = started;
  Duration repeat = kFirstRepeat;
  deadline = std::max(deadline, silence_);
  bool said = !options_.on_news;
  const auto say_if_back = [&] {
    if (said && options_.on_news) {
      options_.on_news(StrCat("the scheduler at ", scheduler_address(), " answers again, after ",
                              FormatSeconds(clock_.Now() - started)));
    }
  };
  while (true) {
    const TimePoint now = clock_.Now();
    if (!said && now - started >= kSilenceWorthSaying && deadline > kSilenceWorthSaying) {
      said = true;
      options_.on_news(StrCat("no answer from the scheduler at ", schedulers_.text(), " for ",
                              FormatSeconds(kSilenceWorthSaying), "; waiting for it for ", FormatSeconds(deadline)));
    }
    if (now - started >= deadline) {
      return Fail(ErrorCode::kUnavailable, "no answer from the scheduler at ", schedulers_.text(), " for ",
                  FormatSeconds(now - started), ": is it running? Start it with sheaf-scheduler, or give --scheduler",
                  last_problem_.empty() ? "" : "; what came: " + last_problem_);
    }
    if (now >= send_at) {
      SHEAF_RETURN_IF_ERROR(SendToScheduler(request));
      send_at = now + repeat;
      repeat = std::min(repeat * 2, kLongestRepeat);
    }
    SHEAF_RETURN_IF_ERROR(Turn(std::min(kTurn, send_at - now)));
    if (std::exchange(moved_, false)) {
      send_at = clock_.Now();
      repeat = kFirstRepeat;
    }
    if (std::exchange(leaderless_, false)) send_at = std::min(send_at, clock_.Now() + kFirstRepeat);
    for (Message& answer : std::exchange(answers_, {})) {
      if (answer.header.request() != number) continue;
      say_if_back();
      if (!answer.header.has_refusal()) return std::move(answer);
      const pb::Refusal& refusal = answer.header.refusal();
      if (refusal.reason() == pb::Refusal::OVERLOADED) {
        send_at =
            clock_.Now() + std::clamp<Duration>(Milliseconds(refusal.retry_after_ms()), kFirstRepeat, kLongestRepeat);
        continue;
      }
      return Fail(CodeOfScheduler(refusal.reason()), "the scheduler at ", scheduler_address(), " refused: ",
                  refusal.text());
    }
  }
}

Result<pb::ClusterConfig> BlockingClient::GetConfig() {
  Message request;
  request.header.mutable_get_config();
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_config()) {
    return Fail(ErrorCode::kDataLoss, "the scheduler at ", scheduler_address(),
                " answered something else than the configuration");
  }
  SHEAF_RETURN_IF_ERROR(TakeConfig(answer.header.config()));
  return client_.config();
}

Result<pb::ClusterStatus> BlockingClient::GetStatus(JobId job) {
  Message request;
  request.header.mutable_get_status()->set_job(job.value);
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_status()) {
    return Fail(ErrorCode::kDataLoss, "the scheduler at ", scheduler_address(),
                " answered something else than its status");
  }
  silence_ = Milliseconds(answer.header.status().silence_ms());
  return answer.header.status();
}

Result<JobId> BlockingClient::SubmitJob(const pb::JobSpec& spec) {
  Message request;
  *request.header.mutable_submit()->mutable_spec() = spec;
  request.header.mutable_submit()->set_token(EntropySeed());   // a repeat makes no second job
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_accepted()) {
    return Fail(ErrorCode::kDataLoss, "the scheduler at ", scheduler_address(),
                " answered something else than a job's number");
  }
  return JobId(answer.header.accepted().job());
}

Status BlockingClient::CancelJob(JobId job, const std::string& reason) {
  Message request;
  request.header.mutable_cancel()->set_job(job.value);
  request.header.mutable_cancel()->set_reason(reason);
  if (auto answer = Ask(std::move(request), options_.scheduler_deadline); !answer) return Failure{answer.error()};
  return {};
}

Failure BlockingClient::NoSuchAnswer(const char* than) const {
  return Fail(ErrorCode::kDataLoss, "the scheduler at ", scheduler_address(), " answered something else than ", than);
}

Result<pb::CheckpointStatus> BlockingClient::CreateCheckpoint(const std::string& name, bool whole) {
  Message request;
  pb::CreateCheckpoint& create = *request.header.mutable_create_checkpoint();
  create.set_name(name);
  create.set_whole(whole);
  create.set_token(EntropySeed());  // a repeat makes no second one
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_checkpoint_status()) return NoSuchAnswer("what becomes of a checkpoint");
  return answer.header.checkpoint_status();
}

Result<pb::CheckpointStatus> BlockingClient::GetCheckpoint(uint64_t id) {
  Message request;
  request.header.mutable_get_checkpoint()->set_id(id);
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_checkpoint_status()) return NoSuchAnswer("what becomes of a checkpoint");
  return answer.header.checkpoint_status();
}

Result<JobId> BlockingClient::RestoreJob(const std::string& checkpoint) {
  Message request;
  request.header.mutable_restore_job()->set_name(checkpoint);
  request.header.mutable_restore_job()->set_token(EntropySeed());
  SHEAF_ASSIGN_OR_RETURN(const Message answer, Ask(std::move(request), options_.scheduler_deadline));
  if (!answer.header.has_accepted()) return NoSuchAnswer("a job's number");
  return JobId(answer.header.accepted().job());
}

Result<Floats> BlockingClient::Pull(TableId table, KeyVector keys, pb::WireSpec::Codec codec) {
  PullOptions options;
  options.codec = codec;
  std::vector<TableKeys> tables;
  tables.push_back({table, std::move(keys)});
  SHEAF_ASSIGN_OR_RETURN(auto values, Pull(std::move(tables), std::move(options)));
  return std::move(values.front());
}

Result<std::vector<Floats>> BlockingClient::Pull(std::vector<TableKeys> tables, PullOptions options) {
  const OperationId id = client_.Pull(std::move(tables), std::move(options), clock_.Now(), out_);
  SHEAF_ASSIGN_OR_RETURN(Completion done, WaitFor(id));
  return std::move(done.values);
}

Status BlockingClient::Push(std::vector<TableGradients> tables, PushOptions options) {
  if (options.identity.stream_high == 0 && options.identity.stream_low == 0) {
    options.identity = session_;
    ++session_.seq;
  }
  const OperationId id = client_.Push(std::move(tables), std::move(options), clock_.Now(), out_);
  if (auto done = WaitFor(id); !done) return Failure{done.error()};
  return {};
}

Status BlockingClient::ScanAll(TableId table, uint32_t max_rows, const RowSink& sink) {
  for (uint32_t p = 0; p < client_.config().partition_count(); ++p) {
    SHEAF_RETURN_IF_ERROR(Scan(table, PartitionId(p), max_rows, sink));
  }
  return {};
}

Status BlockingClient::Scan(TableId table, PartitionId partition, uint32_t max_rows, const RowSink& sink) {
  std::optional<HashedKey> after;
  while (true) {
    const OperationId id = client_.Scan(table, partition, after, max_rows, clock_.Now(), out_);
    std::vector<PsClient::ScanResult> scans;
    for (SendOut(); scans.empty(); scans = client_.TakeScans()) {
      if (Status status = Turn(kTurn); !status) {
        client_.Cancel(id);
        return status;
      }
    }
    const PsClient::ScanResult& rows = scans.front();
    SHEAF_RETURN_IF_ERROR(rows.status);
    if (!rows.keys.empty()) {
      SHEAF_RETURN_IF_ERROR(sink(partition, rows.keys, rows.values));
      after = rows.keys.back();
    }
    if (rows.done) return {};
  }
}

Result<Completion> BlockingClient::WaitFor(OperationId operation) {
  SendOut();
  while (true) {
    for (Completion& done : client_.TakeCompletions()) {
      if (done.operation != operation) continue;
      if (!done.status) return Failure{done.status.error()};
      return std::move(done);
    }
    if (Status status = Turn(kTurn); !status) {
      client_.Cancel(operation);
      return Failure{status.error()};
    }
  }
}

Status BlockingClient::Turn(Duration at_most) {
  transport_.Poll(at_most, {});
  const TimePoint now = clock_.Now();
  while (auto received = transport_.Receive()) {
    if (received->from != kSchedulerPeer) {
      client_.OnMessage(received->from, received->message, now, out_);
      continue;
    }
    const pb::Refusal& refusal = received->message.header.refusal();
    if (refusal.reason() == pb::Refusal::NOT_LEADER) {
      schedulers_.OnNotLeader(refusal.leader(), refusal.leader_term(), now);
      leaderless_ = true;
      continue;
    }
    schedulers_.OnHeard();
    if (received->message.header.has_config()) {
      SHEAF_RETURN_IF_ERROR(TakeConfig(received->message.header.config()));
      answers_.push_back(std::move(received->message));
    } else {
      answers_.push_back(std::move(received->message));
    }
  }
  if (schedulers_.OnTick(now)) {
    moved_ = true;
    // One of several that cannot be connected to is as one that is silent.
    if (const Status connected = transport_.Connect(kSchedulerPeer, scheduler_address()); !connected) {
      last_problem_ = connected.error().message;
    }
  }
  SHEAF_RETURN_IF_ERROR(RefreshConfig(now));
  client_.OnTick(now, out_);
  SendOut();
  return options_.check ? options_.check() : Status();
}

// While an operation is under way, servers may come and go: the answer is taken whenever it comes.
Status BlockingClient::RefreshConfig(TimePoint now) {
  if (client_.operations_in_flight() == 0) return {};
  answers_.clear();   // nobody asks the scheduler and waits for an operation at once
  if (client_.wants_config() && client_.wanted_generation() > std::exchange(asked_for_, client_.wanted_generation())) {
    next_config_ = asked_at_ + kAskAgainAfter;  // soon: we stand still until we know where it is now
  }
  if (client_.wants_config() || !client_.WaitingFor(now, kWorthAsking).empty()) {
    next_config_ = std::min(next_config_, now + kWantedConfigEvery);
  }
  if (now < next_config_) return {};
  next_config_ = now + kConfigEvery;
  asked_at_ = now;
  Message request;
  request.header.set_request(next_question_++);
  request.header.mutable_get_config();
  return SendToScheduler(request);
}

// What the transport does not take now is sent again like what was lost; only what it never takes is an error.
Status BlockingClient::SendToScheduler(const Message& request) {
  schedulers_.OnAsked();
  const Status sent = transport_.Send(kSchedulerPeer, request);
  return sent || sent.error().code != ErrorCode::kInvalidArgument ? Status() : sent;
}

Status BlockingClient::TakeConfig(const pb::ClusterConfig& config) {
  if (config.generation() < client_.config().generation()) return {};
  std::set<PeerId> listed;
  for (const pb::ServerInfo& server : config.server()) {
    for (const pb::ShardEndpoint& shard : server.shard()) {
      const PeerId peer(shard.peer());
      listed.insert(peer);
      if (connected_.contains(peer)) continue;
      if (Status status = transport_.Connect(peer, AddressToReach(shard, host_)); !status) {
        return Wrap(status.error(), server.name(), ", at ", shard.address());
      }
    }
  }
  for (const PeerId peer : connected_) {
    if (!listed.contains(peer)) transport_.Disconnect(peer);
  }
  connected_ = std::move(listed);
  client_.OnConfig(config);
  return {};
}

void BlockingClient::SendOut() {
  // A message that the transport does not take is lost, and sent again by the client like any other.
  for (Outbox::Item& item : out_.items()) (void)transport_.Send(item.to, std::move(item.message));
  out_.clear();
}

}  // namespace sheaf
