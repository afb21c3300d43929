// Answers: what came back, and what ends by it. Nothing of an answer is used before it was checked.
#include <algorithm>

#include "client/client_impl.h"
#include "client/wire.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"

namespace sheaf {
namespace {

ErrorCode CodeOf(pb::Refusal::Reason reason) {
  switch (reason) {
    case pb::Refusal::CLOSED: return ErrorCode::kClosed;
    case pb::Refusal::NOT_FOUND: return ErrorCode::kNotFound;
    case pb::Refusal::VERSION_MISMATCH: return ErrorCode::kVersionMismatch;
    default: return ErrorCode::kInvalidArgument;
  }
}

// What the operation fails with if it is refused so until its deadline.
ErrorCode CodeAtDeadline(pb::Refusal::Reason reason) {
  switch (reason) {
    case pb::Refusal::UNKNOWN_EPOCH:
    case pb::Refusal::UNKNOWN_TABLE:
    case pb::Refusal::BEHIND: return ErrorCode::kUnavailable;  // the server has to catch up
    default: return ErrorCode::kOverloaded;
  }
}

// After the staging area lost slices: long enough for the reason to pass, short beside a retry.
constexpr Duration kRestagePause = Milliseconds(50);

}  // namespace

void PsClient::Impl::Answer(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  RouteAnew(now, out);
  const bool refused = message.header.has_refusal();
  const auto peer = peers.find(from);
  if (peer == peers.end()) return;
  peer->second.heard = now;
  const uint64_t told = message.header.has_credit() ? message.header.credit() : options.credit_bytes;
  for (CreditLine* line : {&peer->second.pushes, &peer->second.reads}) {
    line->SetLimit(std::min<uint64_t>(told, options.credit_bytes));
  }
  if (refused) wanted_generation = std::max(wanted_generation, message.header.refusal().generation());
  // Late and repeated answers find no request; an answer from elsewhere is none.
  const auto at = requests.find(message.header.request());
  if (at == requests.end()) return;
  Request& request = at->second;
  if (request.peer != from || !request.timer.sent()) return;
  if (refused) {
    AnswerRefusal(request, message.header.refusal(), now, out);
  } else if (request.kind == RequestKind::kPull) {
    AnswerPull(request, message);
  } else if (request.kind == RequestKind::kPush) {
    AnswerPush(request, message, now);
  } else {
    AnswerScan(request, message);
  }
  Pump(now, out);
}

void PsClient::Impl::AnswerRefusal(Request& request, const pb::Refusal& refusal, TimePoint now, Outbox& out) {
  if (!refusal.has_reason()) return End(*request.operation, Malformed(request, "a refusal without a known reason"));
  const auto pause = [&] {
    if (!request.refused_since) request.refused_since = now;
    if (const Duration refused = now - *request.refused_since; refused >= options.deadline) {
      return End(*request.operation,
                 Fail(CodeAtDeadline(refusal.reason()), peers.at(request.peer).Text(), " has refused a ",
                      RequestText(request), " for ", FormatSeconds(refused), " (",
                      pb::Refusal::Reason_Name(refusal.reason()), "): ", refusal.text()));
    }
    request.state = RequestState::kPaused;
    request.timer.OnPause(now, Milliseconds(refusal.retry_after_ms()), request.number);
    request.waiting_for = refusal.text().empty() ? pb::Refusal::Reason_Name(refusal.reason()) : refusal.text();
  };
  // Repeats are answered each: what was refused once, and waits for a configuration since, is not refused again.
  if (request.state == RequestState::kWaitsForConfig) return;
  switch (refusal.reason()) {
    case pb::Refusal::NOT_YET:
      // Parked: the server keeps it within a budget of its own, and others may wait for what we send next.
      request.refused_since.reset();
      NoteRemembered(request);   // it has read the lists
      request.state = RequestState::kSent;
      request.timer.OnAlive(now);
      request.waiting_for = refusal.waiting_for();
      if (Planted(Bug::kParkedKeepsCredit)) return;
      return ReleaseCredit(request);
    case pb::Refusal::STALE_EPOCH: {
      const bool server_is_ahead = !refusal.has_generation() || refusal.generation() > config.generation();
      if (!server_is_ahead) return pause();   // an answer to what was sent before the configuration came
      request.refused_since.reset();
      request.wanted_generation = std::max(refusal.generation(), config.generation() + 1);
      wanted_generation = std::max(wanted_generation, request.wanted_generation);
      request.state = RequestState::kWaitsForConfig;
      request.timer.OnAlive(now);
      request.waiting_for = StrCat("generation ", request.wanted_generation, " of the configuration");
      return ReleaseCredit(request);
    }
    case pb::Refusal::UNKNOWN_KEY_LIST: {
      RememberedLists& remembered = peers.at(request.peer).remembered;
      for (const BlockPlan& block : request.plan.blocks) {
        if (block.part->size() < options.min_keys_to_remember) continue;
        remembered.Forget(block.part->SignatureIn(request.operation->tables[block.table].keys));
      }
      if (request.inline_keys) return pause();   // it was told them already
      request.inline_keys = true;
      request.timer.OnAlive(now);
      return SendRequest(request, now, out);
    }
    case pb::Refusal::UNKNOWN_EPOCH:
    case pb::Refusal::UNKNOWN_TABLE:
    case pb::Refusal::BEHIND:
    case pb::Refusal::OVERLOADED:
    case pb::Refusal::WINDOW_EXCEEDED: return pause();
    case pb::Refusal::INVALID:
    case pb::Refusal::INVALID_GRADIENT:
    case pb::Refusal::CLOSED:
    case pb::Refusal::NOT_FOUND:
    case pb::Refusal::NOT_LEADER:  // of schedulers only
    case pb::Refusal::VERSION_MISMATCH: break;
  }
  request.operation->poison = refusal.reason() == pb::Refusal::INVALID_GRADIENT;
  End(*request.operation,
      Fail(CodeOf(refusal.reason()), peers.at(request.peer).Text(), " refused a ", RequestText(request), " (",
           pb::Refusal::Reason_Name(refusal.reason()), "): ", refusal.text()));
}

void PsClient::Impl::AnswerPull(Request& request, const Message& message) {
  Operation& operation = *request.operation;
  const auto codec = CodecAnswered(request);
  const std::string wrong = CheckPullReply(message, request.partitions->ids.size(),
                                           ValuesSize(operation.tables, request.plan.blocks, codec));
  if (!wrong.empty()) return End(operation, Malformed(request, wrong));
  NoteLsns(request, message.header.pull_reply().lsn());
  operation.NoteFront(message.header.pull_reply().front());
  ScatterValues(operation.tables, request.plan.blocks, codec, message.values, operation.results);
  NoteRemembered(request);
  Erase(request);
  FinishIfDone(operation);
}

void PsClient::Impl::AnswerPush(Request& request, const Message& message, TimePoint now) {
  Operation& operation = *request.operation;
  const auto codec = CodecAnswered(request);
  const bool wants_values = request.pull_after;
  const std::string wrong = CheckPushReply(message, request.partitions->ids.size(),
                                           wants_values ? ValuesSize(operation.tables, request.plan.blocks, codec) : 0);
  if (!wrong.empty()) return End(operation, Malformed(request, wrong));
  NoteRemembered(request);
  const uint32_t number = request.group;
  PushGroup& group = operation.groups.at(number);
  const pb::PushReply& reply = message.header.push_reply();
  if (reply.staged()) {
    Erase(request);
    if (--group.slices_open > 0) return;
    // Each slice was kept, and none was the last: the shard has dropped some in between. All again, as another attempt.
    const PushGroup lost = std::move(group);
    operation.groups.erase(number);
    Status status = PlanGroup(operation, lost.peer, lost.partitions, lost.blocks, now, kRestagePause);
    if (!status) End(operation, std::move(status));
    return;
  }
  NoteLsns(request, reply.lsn());
  operation.NoteFront(reply.front());
  if (wants_values) {
    ScatterValues(operation.tables, request.plan.blocks, codec, message.values, operation.results);
  }
  AcknowledgeGroup(operation, number, reply.duplicate(), wants_values, now);
  FinishIfDone(operation);
}

void PsClient::Impl::AcknowledgeGroup(Operation& operation, uint32_t group_number, bool duplicate, bool have_values,
                                      TimePoint now) {
  const auto at = operation.groups.find(group_number);
  PushGroup group = std::move(at->second);
  operation.groups.erase(at);
  const std::vector<uint64_t> open = operation.requests;
  for (const uint64_t number : open) {
    Request& request = requests.at(number);
    if (request.kind == RequestKind::kPush && request.group == group_number) Erase(request);
  }
  for (const uint32_t p : group.partitions->ids) operation.acknowledged[p] = true;
  operation.all_duplicate = operation.all_duplicate && duplicate;
  if (operation.kind == OperationKind::kPushPull && !have_values && !group.blocks.empty()) {
    PlanReads(operation, router.shard_of(group.partitions->ids.front()), std::move(group.blocks), now);
  }
}

void PsClient::Impl::AnswerScan(Request& request, const Message& message) {
  Operation& operation = *request.operation;
  const std::string wrong = CheckScanReply(message, operation.scan, operation.scan_dim, router.partition_count());
  if (!wrong.empty()) return End(operation, Malformed(request, wrong));
  ScanResult result;
  result.operation = operation.id;
  result.done = message.header.scan_reply().done();
  result.keys.resize(message.keys.size() / sizeof(HashedKey));
  result.values.resize(message.values.size() / sizeof(float));
  if (!result.keys.empty()) {   // by bytes: the frames may lie anywhere in memory
    std::memcpy(result.keys.data(), message.keys.data(), message.keys.size());
    std::memcpy(result.values.data(), message.values.data(), message.values.size());
  }
  Drop(operation);
  scans.push_back(std::move(result));
}

Failure PsClient::Impl::Malformed(const Request& request, const std::string& what) const {
  return Fail(ErrorCode::kDataLoss, peers.at(request.peer).Text(), " sent a malformed answer: ", what,
              ". Its build may differ from this one: compare `sheaf --version` on both");
}

void PsClient::Impl::NoteLsns(const Request& request, const google::protobuf::RepeatedField<uint64_t>& lsns) {
  const PartitionSet& partitions = *request.partitions;
  for (size_t i = 0; i < partitions.ids.size(); ++i) {
    const uint32_t p = partitions.ids[i];
    if (router.epoch_of(p) != partitions.epochs[i]) continue;
    const uint64_t lsn = lsns[lsns.size() == 1 ? 0 : static_cast<int>(i)];
    if (lsn >= seen[p].lsn) seen[p] = {lsn, request.peer};
  }
}

void PsClient::Impl::NoteRemembered(Request& request) {
  RememberedLists& remembered = peers.at(request.peer).remembered;
  for (const BlockPlan& block : request.plan.blocks) {
    if (block.part->size() < options.min_keys_to_remember) continue;
    remembered.Add(block.part->SignatureIn(request.operation->tables[block.table].keys));
  }
}

void PsClient::Impl::Erase(Request& request) {
  ReleaseCredit(request);
  std::erase(request.operation->requests, request.number);
  requests.erase(request.number);
}

void PsClient::Impl::FinishIfDone(Operation& operation) {
  const bool done = operation.requests.empty() && operation.groups.empty();
  const bool early =
      Planted(Bug::kAckedByOneShard) && std::ranges::find(operation.acknowledged, true) != operation.acknowledged.end();
  if (operation.planned && (done || early)) End(operation, {});
}

void PsClient::Impl::End(Operation& operation, Status status) {
  if (operation.kind == OperationKind::kScan) {
    ScanResult result;
    result.operation = operation.id;
    result.status = std::move(status);
    scans.push_back(std::move(result));
  } else {
    Completion completion;
    completion.operation = operation.id;
    const bool is_push = operation.kind != OperationKind::kPull;
    completion.front = operation.front.value_or(0);
    completion.poison = operation.poison;
    completion.duplicate = is_push && status && operation.next_group > 0 && operation.all_duplicate;
    if (status && operation.kind != OperationKind::kPush) {
      for (size_t t = 0; t < operation.results.size(); ++t) {
        PulledRows& rows = operation.results[t];
        if (rows.assembled != nullptr) {
          const OperationTable& table = operation.tables[t];
          const std::span<const float> all(rows.assembled.get(), table.keys->size() * table.dim);
          rows.whole = Floats(std::move(rows.assembled), all);
        }
        completion.values.push_back(std::move(rows.whole));
      }
    }
    completion.status = std::move(status);
    completions.push_back(std::move(completion));
  }
  Drop(operation);
}

void PsClient::Impl::Drop(Operation& operation) {
  const std::vector<uint64_t> open = operation.requests;
  for (const uint64_t number : open) {
    if (Planted(Bug::kCreditLeak)) requests.at(number).credit = 0;
    Erase(requests.at(number));
  }
  operations.erase(operation.id);
}

}  // namespace sheaf
