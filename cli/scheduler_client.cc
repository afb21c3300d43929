#include "cli/scheduler_client.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/random.h"
#include "common/base/strings.h"

namespace sheaf::cli {
namespace {

constexpr Duration kFirstRetry = Milliseconds(500);
constexpr Duration kLongestRetry = Milliseconds(4000);

ErrorCode CodeOf(pb::Refusal::Reason reason) {
  switch (reason) {
    case pb::Refusal::NOT_FOUND: return ErrorCode::kNotFound;
    case pb::Refusal::OVERLOADED: return ErrorCode::kOverloaded;
    case pb::Refusal::VERSION_MISMATCH: return ErrorCode::kVersionMismatch;
    case pb::Refusal::CLOSED: return ErrorCode::kClosed;
    case pb::Refusal::INVALID: return ErrorCode::kInvalidArgument;
    default: return ErrorCode::kUnavailable;
  }
}

}  // namespace

Result<std::unique_ptr<SchedulerClient>> SchedulerClient::Connect(ZmqContext& context, const std::string& address,
                                                                  Duration timeout) {
  std::unique_ptr<SchedulerClient> client(new SchedulerClient(context, address, timeout));
  if (const Status connected = client->transport_.Connect(kSchedulerPeer, address); !connected) {
    return Wrap(connected.error(), "the scheduler's address ", address);
  }
  return client;
}

SchedulerClient::SchedulerClient(ZmqContext& context, std::string address, Duration timeout)
    : address_(std::move(address)), timeout_(timeout), transport_(context, PeerId(EntropySeed())) {}

Status SchedulerClient::Wait(Duration at_most) {
  std::vector<pollfd> fds;
  for (const int fd : watch_.fds) fds.push_back({fd, POLLIN, 0});
  transport_.Poll(at_most, fds);
  return watch_.check ? watch_.check() : Status();
}

Status SchedulerClient::Sleep(Duration duration) {
  const TimePoint end = clock_.Now() + duration;
  for (TimePoint now = clock_.Now(); now < end; now = clock_.Now()) {
    while (transport_.Receive()) {  // late answers to requests that were answered already
    }
    SHEAF_RETURN_IF_ERROR(Wait(std::min<Duration>(end - now, Milliseconds(200))));
  }
  return {};
}

Result<pb::Header> SchedulerClient::Call(pb::Header request) {
  request.set_request(++last_request_);
  const TimePoint end = clock_.Now() + timeout_;
  TimePoint next_send = clock_.Now();
  Duration pause = kFirstRetry;
  for (;;) {
    while (std::optional<ZmqTransport::Received> received = transport_.Receive()) {
      pb::Header& header = received->message.header;
      if (header.request() != last_request_) continue;
      if (!header.has_refusal()) return std::move(header);
      if (CodeOf(header.refusal().reason()) == ErrorCode::kOverloaded) continue;  // asked again after the pause
      return Fail(CodeOf(header.refusal().reason()), header.refusal().text());
    }
    const TimePoint now = clock_.Now();
    if (now >= end) {
      return Fail(ErrorCode::kUnavailable, "the scheduler at ", address_, " did not answer within ", FormatSeconds(timeout_),
                  ": is it running? (--scheduler, SHEAF_SCHEDULER)");
    }
    if (now >= next_send) {
      // A refused send (no connection yet) is a lost message: it is sent again.
      const Status sent = transport_.Send(kSchedulerPeer, Message{.header = request, .keys = {}, .values = {}});
      if (!sent && sent.error().code == ErrorCode::kInvalidArgument) return Failure{sent.error()};
      next_send = now + pause;
      pause = std::min(pause * 2, kLongestRetry);
    }
    SHEAF_RETURN_IF_ERROR(Wait(std::min<Duration>({end - now, next_send - now, Milliseconds(200)})));
  }
}

Result<uint64_t> SchedulerClient::Submit(const pb::JobSpec& spec) {
  pb::Header request;
  *request.mutable_submit()->mutable_spec() = spec;
  request.mutable_submit()->set_token(EntropySeed());
  SHEAF_ASSIGN_OR_RETURN(const pb::Header answer, Call(std::move(request)));
  if (!answer.has_accepted()) return Fail(ErrorCode::kDataLoss, "the scheduler at ", address_, " gave a wrong answer to a job");
  return answer.accepted().job();
}

Result<pb::ClusterStatus> SchedulerClient::GetStatus(uint64_t job) {
  pb::Header request;
  request.mutable_get_status()->set_job(job);
  SHEAF_ASSIGN_OR_RETURN(const pb::Header answer, Call(std::move(request)));
  if (!answer.has_status()) return Fail(ErrorCode::kDataLoss, "the scheduler at ", address_, " gave a wrong answer to a status request");
  return answer.status();
}

Status SchedulerClient::Cancel(uint64_t job, const std::string& reason) {
  pb::Header request;
  request.mutable_cancel()->set_job(job);
  request.mutable_cancel()->set_reason(reason);
  auto answer = Call(std::move(request));
  if (!answer) return Failure{answer.error()};
  return {};
}

Result<pb::ClusterConfig> SchedulerClient::GetConfig() {
  pb::Header request;
  request.mutable_get_config();
  SHEAF_ASSIGN_OR_RETURN(const pb::Header answer, Call(std::move(request)));
  if (!answer.has_config()) return Fail(ErrorCode::kDataLoss, "the scheduler at ", address_, " gave a wrong answer to a configuration request");
  return answer.config();
}

}  // namespace sheaf::cli
