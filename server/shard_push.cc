// Pushes: who they are, whether they are in already, and how their rows are updated.
#include <algorithm>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "compute/codec/gradient_check.h"
#include "compute/codec/value_codec.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kMaxSessions = 65536;  // that a shard remembers
constexpr size_t kMaxSessionBytes = size_t{128} << 20;  // of their windows, with gaps in all of them

bool Contains(std::span<const uint32_t> ascending, uint32_t value) {
  return std::binary_search(ascending.begin(), ascending.end(), value);
}

}  // namespace

void ShardCore::Impl::OnPush(PeerId from, const Message& message, TimePoint now, Outbox& out) {
  Push push;
  push.from = from;
  push.again = ForgetWait(from, message.header.request());
  push.part = spare_push_part != nullptr ? std::move(spare_push_part) : std::make_shared<RequestPart>();
  push.parts = std::move(spare_parts);
  push.missing = std::move(spare_missing);
  if (MaybeRefusal refusal = TakePush(push, message, now, out)) {
    SendRefusal(from, message.header.request(), std::move(*refusal), out);
  }
  push.parts.clear();
  spare_parts = std::move(push.parts);
  push.missing.clear();
  spare_missing = std::move(push.missing);
  if (push.part.use_count() > 1) return;  // staged, or kept for its clock
  push.part->Clear();
  spare_push_part = std::move(push.part);
}

MaybeRefusal ShardCore::Impl::TakePush(Push& push, const Message& message, TimePoint now, Outbox& out) {
  const pb::PushRequest& request = message.header.push();
  push.request = message.header.request();
  push.pull_after = request.pull_after();
  push.example_count = request.example_count();
  RequestPart& part = *push.part;
  if (MaybeRefusal refusal = TakePartitionsOf(request, part)) return refusal;

  push.origin = {.sender = push.from,
                 .attempt = request.attempt(),
                 .slice = request.slice(),
                 .slice_count = request.has_slice_count() ? request.slice_count() : 1};
  const auto [sender, attempt, slice, slice_count, urgent] = push.origin;
  if (slice_count == 0 || slice_count > kMaxSlices || slice >= slice_count) {
    return Refuse(pb::Refusal::INVALID, "slice ", slice, " of ", slice_count, ": a push has 1 to ", kMaxSlices,
                  " slices");
  }
  if (push.pull_after && slice_count > 1) {
    return Refuse(pb::Refusal::INVALID, "pull_after needs a push of one slice: push, then pull");
  }

  push.key = {.pass = std::nullopt,
              .stream_high = request.stream_high(),
              .stream_low = request.stream_low(),
              .seq = request.seq()};
  if (Planted(Bug::kDedupIgnoresRange)) push.key.stream_low = 0;
  const pb::Progress* progress = request.has_progress() ? &request.progress() : nullptr;
  if (MaybeRefusal refusal = FindTables(request.block(), progress, dims)) return refusal;
  Pass* pass = nullptr;
  if (progress != nullptr) {
    if (MaybeRefusal refusal = CheckTrainingPush(request, pass)) return refusal;
    push.progress = *progress;
    push.key.pass = PassKey{progress->job(), progress->pass()};
  }
  if (MaybeRefusal refusal = CheckWindows(push, pass, now, push.missing)) return refusal;
  const bool duplicate = push.missing.empty();

  if (!duplicate || push.pull_after) {  // the blocks of a duplicate are of no interest
    const BlockContext context = ContextOf(part, request.has_placement());
    if (MaybeRefusal refusal = BuildBlocks(request.block(), message.keys, &message.values, context, part.blocks))
      return refusal;
    if (push.pull_after) {
      if (MaybeRefusal refusal = CheckReplySize(part.blocks)) return refusal;
    }
  }
  if (duplicate && !push.pull_after) part.blocks.clear();  // of an earlier request
  if (!duplicate) {
    if (MaybeRefusal refusal = CheckValues(push.from, part)) return refusal;
  }
  uint64_t when = 0;
  if (evicting() && !RowsAreHere(part, duplicate ? MakesRows::kNo : MakesRows::kYes, when)) {
    return Wait({.when = when, .from = push.from, .request = push.request, .pull = {}, .message = message,
                 .scan = {}, .generation = 0, .tries = 0, .reservation = {}},
                message.values.size() + HeldBytes(message, part) + sizeof(ColdWait), push.again);
  }
  if (duplicate) {
    ++counters.pushes_deduplicated;
    if (pass != nullptr) ++pass->counts.duplicates;
    if (pass != nullptr && recording()) LogClock(push);
    AnswerPush(push, true, out);
    if (pass != nullptr && !Planted(Bug::kDuplicateStopsClock)) FinishClock(push, out);
    return {};
  }

  part.bytes = message.values.size() + HeldBytes(message, part) + sizeof(RequestPart);
  if (slice_count > 1) {
    push.origin.urgent = pass != nullptr && Awaited(push);
    if (pass != nullptr && pass->bsp()) {
      if (MaybeRefusal never = RefuseIfNeverRoom(push)) return never;
    }
    if (MaybeRefusal refusal = Stage(push, now, out)) return refusal;
    if (push.parts.empty()) return {};
    for (const auto& other : push.parts) {
      if (other != push.part)
        push.missing.insert(push.missing.end(), other->partitions.begin(), other->partitions.end());
    }
    std::sort(push.missing.begin(), push.missing.end());
    push.missing.erase(std::unique(push.missing.begin(), push.missing.end()), push.missing.end());
    std::erase_if(push.missing, [&](uint32_t p) {
      const SeqWindow* window = FindWindow(p, push.key);
      return window != nullptr && window->Contains(push.key.seq);
    });
  } else {
    staging.Drop(push.key);  // whoever cut it before, it is here whole
    if (pass != nullptr && pass->bsp()) {
      if (MaybeRefusal refusal = ReserveForClock(push)) return refusal;
    }
    push.parts = {push.part};
  }
  if (recording()) LogPush(push);
  Accept(push, pass, now);
  ++counters.pushes_applied;
  AnswerPush(push, false, out);
  if (pass != nullptr) FinishClock(push, out);
  return {};
}

MaybeRefusal ShardCore::Impl::CheckTrainingPush(const pb::PushRequest& request, Pass*& pass) {
  const pb::Progress& progress = request.progress();
  if (MaybeRefusal refusal = FindPass(progress, pass)) return refusal;
  if (request.stream_high() != ((progress.job() << 32) | progress.pass()) || request.stream_low() > ~uint32_t{0}) {
    return Refuse(pb::Refusal::INVALID, "a training push's stream is (job << 32 | pass, range), not (",
                  request.stream_high(), ", ", request.stream_low(), ")");
  }
  // Partitions that have it already may be left out: after a move, a client sends only what was not acknowledged.
  const PushKey key{PassKey{progress.job(), progress.pass()}, request.stream_high(), request.stream_low(),
                    request.seq()};
  const size_t to_check = request.has_placement() ? 0 : owned.size();
  for (size_t i = 0, named = 0; i < to_check; ++i) {
    if (named < static_cast<size_t>(request.partition_size()) &&
        request.partition(static_cast<int>(named)) == owned[i]) {
      ++named;
      continue;
    }
    const SeqWindow* window = FindWindow(owned[i], key);
    if (window == nullptr || !window->Contains(request.seq())) {
      // It may have come to the shard since the client heard of it, or be on its way to another of which we have not.
      // Or the client knows what we know, but that has partitions between two homes, and it goes by what was before.
      const auto reason =
          progress.generation() < generation ? pb::Refusal::STALE_EPOCH : pb::Refusal::UNKNOWN_EPOCH;
      return Refuse(reason,
                    "a training push names every partition of the shard that does not have it: partition ", owned[i],
                    " is left out");
    }
  }
  const pb::Lane& lane = *pass->FindLane(progress.lane());
  const uint64_t end = lane.has_end_clock() ? lane.end_clock() : PassClock::kEnded;
  if (progress.clock() < lane.start_clock() || progress.clock() >= end) {
    return Refuse(pb::Refusal::INVALID, "lane ", progress.lane(), " of job ", progress.job(), " has clocks ",
                  lane.start_clock(), " to ", end, " (exclusive), not ", progress.clock());
  }
  if (progress.skipped() > 0 &&
      (pass->roster.mode() != pb::ConsistencySpec::SSP || progress.skipped() >= SeqWindow::kWindow ||
       progress.skipped() >= end - progress.clock())) {
    return Refuse(pb::Refusal::INVALID, "lane ", progress.lane(), " of job ", progress.job(), " cannot leave out ",
                  progress.skipped(), " clocks after ", progress.clock());
  }
  if (pass->bsp() && request.pull_after()) {
    return Refuse(pb::Refusal::INVALID,
                  "in BSP a push is applied when its clock is complete: it cannot be answered with new values");
  }
  return {};
}

MaybeRefusal ShardCore::Impl::CheckWindows(const Push& push, const Pass* pass, TimePoint now,
                                            std::vector<uint32_t>& missing) {
  const uint64_t seq = push.key.seq;
  missing.reserve(push.part->partitions.size());
  if (pass == nullptr) {
    const Session* const session = FindSession(push.key);
    if (session == nullptr && sessions.size() >= MaxSessions()) {
      std::erase_if(sessions, [&](const auto& entry) { return entry.second.last < now - kQuietSession; });
    }
    if (session == nullptr && sessions.size() >= MaxSessions()) {
      return Refuse(pb::Refusal::OVERLOADED, "this shard remembers ", sessions.size(), " session streams already");
    }
    for (const uint32_t p : push.part->partitions) {
      if (session == nullptr || !session->windows[p].Contains(seq)) missing.push_back(p);
    }
    return {};
  }
  for (const uint32_t p : push.part->partitions) {
    const PartitionState& partition = Owned(p);
    const SeqWindow* const window = FindWindow(p, push.key);
    const bool taken = window != nullptr && window->Contains(seq);
    if (!taken) missing.push_back(p);
    if (!taken && (window != nullptr ? window->WouldExceed(seq) : seq >= SeqWindow::kWindow)) {
      return Refuse(pb::Refusal::WINDOW_EXCEEDED, "push ", seq, " of range ", push.key.stream_low, " is more than ",
                    SeqWindow::kWindow, " past what partition ", p, " has of it");
    }
    const PassClock& clock = partition.passes.at(*push.key.pass).clock;
    const LaneId lane(push.progress->lane());
    if (clock.WouldExceed(lane, push.progress->clock() + push.progress->skipped())) {
      return Refuse(pb::Refusal::WINDOW_EXCEEDED, "clock ", push.progress->clock(), " of lane ", lane, " is more than ",
                    SeqWindow::kWindow, " past what partition ", p, " has of it");
    }
    // In BSP lane and clock say which batch it is: both must be in, or neither.
    if (pass->bsp() && clock.Finished(lane, push.progress->clock()) != taken) {
      return Refuse(pb::Refusal::INVALID, "lane ", lane, " of job ", push.key.pass->job, " at clock ",
                    push.progress->clock(), " is another batch than ", seq, " of range ", push.key.stream_low);
    }
  }
  return {};
}

// The norm of what comes in one message is no greater than that of the whole gradient, so nothing is refused here that
// its worker would let pass; what is over the limit as a whole only, the worker refuses (worker/bad_gradients.h).
MaybeRefusal ShardCore::Impl::CheckValues(PeerId from, const RequestPart& part) {
  if (decoded.size() < part.blocks.size()) decoded.resize(part.blocks.size());
  double max_norm = 0;
  for (const RequestBlock& block : part.blocks) {
    const Table* const table = FindTable(block.table);
    if (table != nullptr && !table->sum) max_norm = table->max_gradient_norm;
  }
  GradientCheck check(max_norm);
  uint32_t bad_table = 0;
  for (size_t b = 0; b < part.blocks.size(); ++b) {
    const RequestBlock& block = part.blocks[b];
    const Table* const table = FindTable(block.table);
    check.Add({FloatsOf(block, decoded[b]), block.key_count() * block.dim},
              table != nullptr && table->sum ? GradientCheck::Norm::kLeaveOut : GradientCheck::Norm::kCount);
    bad_table = block.table;
    if (!check.finite()) break;
  }
  const std::optional<std::string> wrong = check.Wrong();
  if (!wrong) return {};
  ++counters.poisoned;
  if (counters.poison.contains(from) || counters.poison.size() < kMostPoisoners) ++counters.poison[from];
  counters.poison_text = StrCat("table ", bad_table, ": ", *wrong);
  return Refuse(pb::Refusal::INVALID_GRADIENT, counters.poison_text);
}

MaybeRefusal ShardCore::Impl::Stage(Push& push, TimePoint now, Outbox& out) {
  switch (staging.Add(push.key, push.origin, push.part, now, push.parts)) {
    case Staging::Outcome::kComplete:
      return {};
    case Staging::Outcome::kOutdated:
      return {};  // its sender waits for the later attempt's answers
    case Staging::Outcome::kFull:
      return Refuse(pb::Refusal::OVERLOADED, "no room to stage slices now");
    case Staging::Outcome::kTooLarge:
      return Refuse(pb::Refusal::INVALID, "the push is larger than this shard's budget of ", budget.limit(),
                    " bytes; use smaller batches or raise --memory_mb of the server");
    case Staging::Outcome::kStaged:
      break;
  }
  Message message = MakeAnswer(push.request, pb::Header::kPushReply);
  pb::PushReply& reply = *message.header.mutable_push_reply();
  AddLsns(push.part->partitions, *reply.mutable_lsn());
  reply.set_staged(true);
  out.Send(push.from, std::move(message));
  return {};
}

bool ShardCore::Impl::Awaited(const Push& push) const {
  uint64_t frontier = PassClock::kEnded;
  for (const uint32_t p : push.missing)
    frontier = std::min(frontier, Owned(p).passes.at(*push.key.pass).clock.frontier());
  return push.progress->clock() <= frontier && !Planted(Bug::kAwaitedPushRefused);
}

MaybeRefusal ShardCore::Impl::ReserveForClock(Push& push) {
  const size_t bytes = push.part->bytes;
  if (MaybeRefusal never = RefuseIfNeverRoom(push)) return never;
  Budget* const room = Awaited(push) && awaited_budget.Fits(bytes) ? &awaited_budget
                       : budget.Fits(bytes)                        ? &budget
                                                                   : nullptr;
  if (room == nullptr) {
    return Refuse(pb::Refusal::OVERLOADED, "no room to keep gradients of clock ", push.progress->clock(), " now");
  }
  push.part->reservation = Reservation(*room, bytes);
  return {};
}

// All lanes' gradients of a clock are kept until it is complete. If those alone are too many, waiting makes no room:
// said at once, whether or not there is room by chance, so that a job that fits once fits always.
MaybeRefusal ShardCore::Impl::RefuseIfNeverRoom(const Push& push) const {
  if (!push.key.pass || !push.progress || push.missing.empty()) return {};
  const PassState& pass = Owned(push.missing.front()).passes.at(*push.key.pass);
  size_t bytes = push.part->bytes + staging.BytesOf(push.key);
  if (const auto kept = pass.kept.find(push.progress->clock()); kept != pass.kept.end()) {
    for (const KeptGradient& gradient : kept->second) {
      for (const auto& part : gradient.parts) bytes += part->bytes;
    }
  }
  if (bytes <= awaited_budget.limit()) return {};
  return Refuse(pb::Refusal::INVALID, "the gradients of all lanes for one clock are more than this shard may keep (",
                FormatBytes(awaited_budget.limit()),
                "): raise --memory_mb of the servers, add servers, or lower train.workers or ", "train.batch_size");
}

void ShardCore::Impl::Accept(const Push& push, const Pass* pass, TimePoint now) {
  MarkTaken(push, now);
  for (const auto& part : push.parts) NoteLoad(*part);
  if (Planted(Bug::kAckWithoutApply)) return;
  if (pass != nullptr && pass->bsp()) {
    for (const auto& part : push.parts) part->CutByPartition(static_cast<uint32_t>(partitions.size()));
    for (const uint32_t p : push.missing) {
      Owned(p)
          .passes.at(*push.key.pass)
          .kept[push.progress->clock()]
          .push_back({LaneId(push.progress->lane()), push.parts});
    }
    return;
  }
  const float rate_scale = pass == nullptr ? 1.0f : pass->rate_scale;
  for (const auto& part : push.parts) ApplyPart(*part, push.missing, rate_scale);
}

const SeqWindow* ShardCore::Impl::FindWindow(uint32_t partition, const PushKey& key) const {
  if (Planted(Bug::kNoDedup)) return nullptr;
  if (key.pass) {
    const auto& streams = Owned(partition).passes.at(*key.pass).streams;
    const auto found = streams.find(key.stream_low);
    return found == streams.end() ? nullptr : &found->second;
  }
  const Session* const session = FindSession(key);
  return session == nullptr ? nullptr : &session->windows[partition];
}

const ShardCore::Impl::Session* ShardCore::Impl::FindSession(const PushKey& key) const {
  if (Planted(Bug::kNoDedup)) return nullptr;
  const auto found = sessions.find({key.stream_high, key.stream_low});
  return found == sessions.end() ? nullptr : &found->second;
}

size_t ShardCore::Impl::MaxSessions() const {
  const size_t each = partitions.size() * sizeof(SeqWindow) + owned.size() * SeqWindow::kFarBytes;
  return std::min(kMaxSessions, kMaxSessionBytes / each);
}

void ShardCore::Impl::MarkTaken(const Push& push, TimePoint now) {
  const uint64_t seq = push.key.seq;
  for (const uint32_t p : push.missing) ++lsns[p].value;
  if (push.key.pass) {
    for (const uint32_t p : push.missing) {
      PassState& pass = Owned(p).passes.at(*push.key.pass);
      pass.streams[push.key.stream_low].Mark(seq);
      pass.examples += push.example_count;
    }
    return;
  }
  Session& session = sessions[{push.key.stream_high, push.key.stream_low}];
  session.windows.resize(partitions.size());
  session.last = redoing ? now - kQuietSession : now;  // those of an earlier process go first
  // A session's push need not name all partitions, so a partition sees gaps: its window slides.
  const uint64_t floor = seq >= SeqWindow::kWindow ? seq - SeqWindow::kWindow + 1 : 0;
  for (const uint32_t p : push.missing) {
    SeqWindow& window = session.windows[p];
    window.RaiseFloor(floor);
    window.Mark(seq);
  }
}

void ShardCore::Impl::ApplyPart(RequestPart& part, std::span<const uint32_t> missing, float rate_scale) {
  if (decoded.size() < part.blocks.size()) decoded.resize(part.blocks.size());
  const bool all_missing = std::ranges::equal(missing, part.partitions);
  if (!all_missing) part.CutByPartition(static_cast<uint32_t>(partitions.size()));
  for (size_t b = 0; b < part.blocks.size(); ++b) {
    const RequestBlock& block = part.blocks[b];
    Table* const table = FindTable(block.table);
    if (table == nullptr || block.key_count() == 0) continue;
    const float* const floats = FloatsOf(block, decoded[b]);
    if (all_missing) {
      ApplyRows(block, floats, *table, 0, block.key_count(), rate_scale);
      NoteSlots(block);
      continue;
    }
    // Runs of partitions that need it: of a push that some have already.
    for (size_t i = 0; i < part.partitions.size();) {
      const size_t run = i;
      while (i < part.partitions.size() && Contains(missing, part.partitions[i])) ++i;
      ApplyRows(block, floats, *table, block.begin[run], block.begin[i] - block.begin[run], rate_scale);
      while (i < part.partitions.size() && !Contains(missing, part.partitions[i])) ++i;
    }
    NoteSlots(block);
  }
}

void ShardCore::Impl::ApplyRows(const RequestBlock& block, const float* floats, Table& table, size_t first,
                                size_t count, float rate_scale) {
  uint32_t* const slots = SlotsOf(block);
  const bool known = slots != nullptr && block.slots->complete;
  rows.resize(kMaxLookupKeys);
  slots_scratch.resize(kMaxLookupKeys);
  ForEachLookup(count, [&](size_t begin, size_t piece) {
    const size_t at = first + begin;
    const auto keys = block.keys().subspan(at, piece);
    uint32_t* const found = slots != nullptr                          ? slots + at
                            : marking() || table.admit_after > 1 ? slots_scratch.data()
                                                                 : nullptr;
    if (known) {
      table.rows->Address(keys, found, table.layout.stride, rows.data());
    } else {
      FindPushed(table, keys, found);
    }
    MarkPushed(table, keys, found);
    table.optimizer->Apply({rows.data(), piece}, floats + at * block.dim, block.dim, rate_scale);
    TimePushed(table, keys);
  });
}

void ShardCore::Impl::AnswerPush(const Push& push, bool duplicate, Outbox& out) {
  Message message = MakeAnswer(push.request, pb::Header::kPushReply);
  pb::PushReply& reply = *message.header.mutable_push_reply();
  // For a duplicate the LSN may be a later one than of the first time: who waits for it sees the push all the same.
  AddLsns(push.part->partitions, *reply.mutable_lsn());
  if (duplicate) reply.set_duplicate(true);
  if (push.key.pass && push.progress) {
    if (const auto front = FrontOf(*push.progress, push.part->partitions)) reply.set_front(*front);
  }
  if (push.pull_after) message.values = ReadRows(*push.part, nullptr);
  out.Send(push.from, std::move(message));
}

}  // namespace sheaf
