// Sending: credit, the form of a message, repeats, and the end of patience.
#include <algorithm>

#include "client/client_impl.h"
#include "client/wire.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"

namespace sheaf {

void PsClient::Impl::MarkToPump(PeerId peer) {
  if (std::ranges::find(to_pump, peer) == to_pump.end()) to_pump.push_back(peer);
}

void PsClient::Impl::Pump(TimePoint now, Outbox& out) {
  for (const PeerId id : to_pump) {
    const auto at = peers.find(id);
    if (at == peers.end()) continue;
    for (CreditLine* line : {&at->second.pushes, &at->second.reads}) {
      while (!line->queue().empty()) {
        const auto next = requests.find(line->queue().front());
        if (next != requests.end() && next->second.state == RequestState::kQueued) {
          if (!line->Takes(next->second.plan.bytes)) break;
          next->second.credit = next->second.plan.bytes;
          line->Use(next->second.credit);
          SendRequest(next->second, now, out);
        }
        line->queue().pop_front();
      }
    }
  }
  to_pump.clear();
}

void PsClient::Impl::SendRequest(Request& request, TimePoint now, Outbox& out) {
  request.state = RequestState::kSent;
  request.timer.OnSend(now);
  out.Send(request.peer, BuildMessage(request));
}

void PsClient::Impl::ReleaseCredit(Request& request) {
  if (request.credit == 0) return;
  peers.at(request.peer).LineOf(request.kind).GiveBack(request.credit);
  request.credit = 0;
  MarkToPump(request.peer);
}

pb::WireSpec::Codec PsClient::Impl::CodecSent(const Request& request) const {
  return request.kind == RequestKind::kPush ? request.operation->push.codec : CodecAnswered(request);
}

pb::WireSpec::Codec PsClient::Impl::CodecAnswered(const Request& request) const {
  const Operation& operation = *request.operation;
  const auto codec = operation.kind == OperationKind::kPull ? operation.pull.codec : operation.push.codec;
  return codec == pb::WireSpec::INT8 ? pb::WireSpec::FP32 : codec;   // values are never answered as INT8
}

void PsClient::Impl::FillBlocks(Request& request, bool whole, google::protobuf::RepeatedPtrField<pb::Block>& blocks,
                                Message& message) {
  const auto& tables = request.operation->tables;
  const RememberedLists& remembered = peers.at(request.peer).remembered;
  std::vector<KeyForm> forms;
  forms.reserve(request.plan.blocks.size());
  for (const BlockPlan& block : request.plan.blocks) {
    KeyForm form = KeyForm::kInline;
    if (block.part->size() >= options.min_keys_to_remember) {
      const bool known = !request.inline_keys && remembered.Has(block.part->SignatureIn(tables[block.table].keys));
      form = known ? KeyForm::kBySignature : KeyForm::kInlineAndRemember;
    }
    forms.push_back(form);
    pb::Block& added = *blocks.Add();
    FillBlock(tables[block.table], *block.part, form, CodecSent(request), added);
    if (whole) {
      added.add_key_count(block.part->size());
    } else {
      CountKeys(tables[block.table], *block.part, *request.partitions, router.partition_count(), added);
    }
  }
  message.keys = JoinKeys(tables, request.plan.blocks, forms);
}

Message PsClient::Impl::BuildMessage(Request& request) {
  const Operation& operation = *request.operation;
  const PartitionSet& partitions = *request.partitions;
  // Not if the shard has got others since this was planned.
  const bool whole = router.IsWhole(partitions);
  Message message;
  message.header.set_request(request.number);
  const auto fill_common = [&](auto& body, const std::optional<pb::Progress>& progress) {
    if (progress) {
      *body.mutable_progress() = *progress;
      body.mutable_progress()->set_generation(config.generation());
    }
    if (whole) {
      body.mutable_placement()->set_signature(partitions.placement);
      body.mutable_placement()->set_generation(router.generation());
    } else {
      body.mutable_partition()->Add(partitions.ids.begin(), partitions.ids.end());
      body.mutable_epoch()->Add(partitions.epochs.begin(), partitions.epochs.end());
    }
    FillBlocks(request, whole, *body.mutable_block(), message);
  };
  const auto reuse = [&](pb::Header::BodyCase kind) {
    if (options.bodies != nullptr) options.bodies->Reuse(kind, message.header);
  };
  switch (request.kind) {
    case RequestKind::kPull: {
      reuse(pb::Header::kPull);
      pb::PullRequest& pull = *message.header.mutable_pull();
      fill_common(pull, operation.pull.progress);
      // A shard is never behind what it said itself. (Only replicas can be, of which there are none yet.)
      const auto elsewhere = [&](uint32_t p) { return seen[p].lsn > 0 && seen[p].by != request.peer; };
      if (std::ranges::any_of(partitions.ids, elsewhere)) {
        pull.mutable_min_lsn()->Reserve(static_cast<int>(partitions.ids.size()));
        for (const uint32_t p : partitions.ids) pull.mutable_min_lsn()->AddAlreadyReserved(seen[p].lsn);
      }
      break;
    }
    case RequestKind::kPush: {
      reuse(pb::Header::kPush);
      pb::PushRequest& push = *message.header.mutable_push();
      fill_common(push, operation.push.progress);
      const PushGroup& group = operation.groups.at(request.group);
      push.set_stream_high(operation.push.identity.stream_high);
      push.set_stream_low(operation.push.identity.stream_low);
      push.set_seq(operation.push.identity.seq);
      push.set_slice(request.slice);
      push.set_slice_count(group.slice_count);
      push.set_attempt(group.attempt);
      push.set_example_count(operation.push.example_count);
      if (request.pull_after) push.set_pull_after(true);
      if (request.values.empty()) request.values = GatherValues(operation.tables, request.plan.blocks);
      message.values = request.values;
      break;
    }
    case RequestKind::kScan:
      *message.header.mutable_scan() = operation.scan;
      message.header.mutable_scan()->set_epoch(partitions.epochs.front());
      break;
  }
  return message;
}

Duration PsClient::Impl::Silence(const Request& request, TimePoint now) const {
  if (request.state != RequestState::kQueued) return now - request.timer.heard();
  return now - std::max(request.queued_at, peers.at(request.peer).heard);
}

void PsClient::Impl::Tick(TimePoint now, Outbox& out) {
  RouteAnew(now, out);
  parts.DropExpired();
  // A process that was stopped, or whose machine slept, has not listened: of such a gap only half a deadline counts.
  const Duration gap = last_tick ? now - *last_tick - options.deadline / 2 : Duration::zero();
  last_tick = now;
  if (gap > Duration::zero()) {
    const auto forgive = [&](TimePoint& since) { since = std::min(now, since + gap); };
    for (auto& [id, operation] : operations) forgive(operation->started);
    for (auto& [number, request] : requests) {
      request.timer.Forgive(gap, now);
      forgive(request.queued_at);
      if (request.refused_since) forgive(*request.refused_since);
    }
  }
  for (auto at = operations.begin(); at != operations.end();) {
    const OperationId id = at->first;
    if (Operation& operation = *at->second; !operation.planned && now - operation.started >= options.deadline) {
      End(operation, Fail(ErrorCode::kTimeout, "nothing was sent in ", FormatSeconds(now - operation.started), ": ",
                          router.obstacle()));
    }
    at = operations.upper_bound(id);
  }
  for (auto at = requests.begin(); at != requests.end();) {
    const uint64_t number = at->first;
    Request& request = at->second;
    if (Silence(request, now) >= options.deadline) {
      EndOverdue(request, now);   // and with it the other requests of its operation
    } else if ((request.state == RequestState::kSent || request.state == RequestState::kPaused) &&
               now >= request.timer.resend_at()) {
      if (Planted(Bug::kRetryUnderNewName)) request.operation->push.identity.seq += 100;
      SendRequest(request, now, out);
    }
    at = requests.upper_bound(number);
  }
  for (const auto& [id, peer] : peers) MarkToPump(id);
  Pump(now, out);
}

void PsClient::Impl::EndOverdue(Request& request, TimePoint now) {
  const std::string waited = FormatSeconds(Silence(request, now));
  const std::string peer = peers.at(request.peer).Text();
  const std::string what = RequestText(request);
  if (request.state == RequestState::kWaitsForConfig) {
    return End(*request.operation,
               Fail(ErrorCode::kTimeout, peer, " has a newer configuration (generation ", request.wanted_generation,
                    ") than this client (", config.generation(), "), and for ", waited,
                    " the scheduler has not sent it: is it running? The request was a ", what));
  }
  if (!obstacle.empty()) {
    return End(*request.operation,
               Fail(ErrorCode::kUnavailable, "no answer from ", peer, " for ", waited, " to a ", what, ": ", obstacle));
  }
  End(*request.operation, Fail(ErrorCode::kTimeout, "no answer from ", peer, " for ", waited, " to a ", what,
                               ": is the server running, and can it be reached from here?"));
}

std::string PsClient::Impl::RequestText(const Request& request) const {
  const Operation& operation = *request.operation;
  if (request.kind == RequestKind::kScan) {
    return StrCat("scan of table ", operation.scan.table(), ", partition ", operation.scan.partition());
  }
  std::string text = request.kind == RequestKind::kPush ? "push" : "pull";
  for (const BlockPlan& block : request.plan.blocks) {
    text += StrCat(&block == request.plan.blocks.data() ? " of " : " and ", block.part->size(), " rows of table ",
                   operation.tables[block.table].table);
  }
  return text;
}

std::string PsClient::Impl::WaitingFor(TimePoint now, Duration at_least) const {
  const auto request = requests.begin();
  const auto unplanned = std::ranges::find_if(operations, [](const auto& entry) { return !entry.second->planned; });
  if (unplanned != operations.end() &&
      (request == requests.end() || unplanned->first < request->second.operation->id)) {
    if (now - unplanned->second->started < at_least) return "";
    return StrCat("the scheduler's configuration, ", FormatSeconds(now - unplanned->second->started), ": ",
                  router.obstacle());
  }
  if (request == requests.end()) return "";
  const Request& oldest = request->second;
  if (now - oldest.queued_at < at_least) return "";
  const char* kind = oldest.kind == RequestKind::kPush ? "push" : oldest.kind == RequestKind::kPull ? "pull" : "scan";
  std::string text = StrCat(peers.at(oldest.peer).Text(), ": ", kind, ", ", FormatSeconds(now - oldest.queued_at));
  const std::string why = oldest.state == RequestState::kQueued ? "waits for its turn" : oldest.waiting_for;
  return why.empty() ? text : text + ": " + why;
}

}  // namespace sheaf
