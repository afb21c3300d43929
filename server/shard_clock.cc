// Clocks: the gradients that BSP keeps until a clock is complete, and whom a parked pull waits for.
#include <algorithm>
#include <iterator>

#include "common/base/planted_bug.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

// One lane's (slice's) share of a table in a partition.
struct Source {
  std::span<const HashedKey> keys;
  const float* values;  // [keys.size(), dim]
};

// Appends the union of the sources' ascending lists: merges neighbours until one list is left.
void AppendUnion(std::span<const Source> sources, std::vector<HashedKey>& out) {
  std::vector<HashedKey> from;
  std::vector<size_t> ends{0};
  for (const Source& source : sources) {
    from.insert(from.end(), source.keys.begin(), source.keys.end());
    ends.push_back(from.size());
  }
  std::vector<HashedKey> into(from.size());
  while (ends.size() > 2) {
    std::vector<size_t> merged{0};
    for (size_t i = 0; i + 1 < ends.size(); i += 2) {
      const auto first = from.begin() + static_cast<ptrdiff_t>(ends[i]);
      const auto middle = from.begin() + static_cast<ptrdiff_t>(ends[i + 1]);
      const auto last = from.begin() + static_cast<ptrdiff_t>(i + 2 < ends.size() ? ends[i + 2] : ends[i + 1]);
      std::merge(first, middle, middle, last, into.begin() + static_cast<ptrdiff_t>(ends[i]));
      merged.push_back(static_cast<size_t>(last - from.begin()));
    }
    from.swap(into);
    ends = std::move(merged);
  }
  std::unique_copy(from.begin(), from.end(), std::back_inserter(out));
}

// Adds the source's rows to the sums of the (larger) key list.
void AddTo(std::span<const HashedKey> keys, float* sums, const Source& source, uint32_t dim) {
  size_t at = 0;
  for (size_t i = 0; i < source.keys.size(); ++i) {
    while (keys[at] < source.keys[i]) ++at;
    float* sum = sums + at * dim;
    const float* value = source.values + i * dim;
    for (uint32_t d = 0; d < dim; ++d) sum[d] += value[d];
  }
}

}  // namespace

void ShardCore::Impl::FinishClock(const Push& push, Outbox& out) {
  const PassKey key = *push.key.pass;
  const LaneId lane(push.progress->lane());
  bool moved = false;
  for (const uint32_t p : push.part->partitions) {
    PassClock& clock = Owned(p).passes.at(key).clock;
    const uint64_t before = clock.frontier();
    clock.Finish(lane, push.progress->clock(), push.progress->clock() + push.progress->skipped());
    moved |= clock.frontier() != before;
  }
  if (!moved) return;
  const Pass& pass = passes.at(key);
  if (pass.bsp()) ApplyCompleteClocks(key, pass);
  AnswerParked(key, out);
}

// Clocks below a partition's frontier are complete. Partitions that stand at the same clock are done together.
void ShardCore::Impl::ApplyCompleteClocks(const PassKey& key, const Pass& pass) {
  std::vector<PartitionState*> ready;
  while (true) {
    uint64_t first = PassClock::kEnded;
    ready.clear();
    for (const uint32_t p : owned) {
      const PassState& state = Owned(p).passes.at(key);
      if (state.kept.empty() || state.kept.begin()->first >= state.clock.frontier()) continue;
      const uint64_t clock = state.kept.begin()->first;
      if (clock < first) ready.clear();
      if (clock <= first) ready.push_back(&Owned(p));
      first = std::min(first, clock);
    }
    if (ready.empty()) return;
    ApplyClock(key, pass, first, ready);
  }
}

void ShardCore::Impl::ApplyClock(const PassKey& key, const Pass& pass, uint64_t clock,
                                 std::span<PartitionState* const> ready) {
  std::vector<uint32_t> touched;
  for (PartitionState* partition : ready) {
    PassState& state = partition->passes.at(key);
    auto& kept = state.kept.begin()->second;
    if (!Planted(Bug::kSumInArrivalOrder))
      std::sort(kept.begin(), kept.end(), [](const KeptGradient& a, const KeptGradient& b) { return a.lane < b.lane; });
    for (const KeptGradient& gradient : kept) {
      for (const auto& part : gradient.parts) {
        for (const RequestBlock& block : part->blocks) touched.push_back(block.table);
      }
    }
    state.undo.valid = true;
    state.undo.clock = clock;
    state.undo.tables.clear();
  }
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  for (const uint32_t id : touched) {
    if (Table* table = FindTable(id)) ApplyClockToTable(key, pass, clock, ready, *table);
  }
  for (PartitionState* partition : ready) {
    auto& kept = partition->passes.at(key).kept;
    kept.erase(kept.begin());
  }
}

void ShardCore::Impl::ApplyClockToTable(const PassKey& key, const Pass& pass, uint64_t clock,
                                        std::span<PartitionState* const> ready, Table& table) {
  const uint32_t dim = table.layout.dim;
  std::map<const RequestPart*, std::vector<float>> decoded_parts;  // looked up, never iterated
  std::vector<HashedKey> keys;
  std::vector<float> sums;
  std::vector<size_t> begin{0};
  std::vector<Source> sources;
  for (PartitionState* partition : ready) {
    const PassState& state = partition->passes.at(key);
    sources.clear();
    for (const KeptGradient& gradient : state.kept.begin()->second) {
      for (const auto& part : gradient.parts) {
        const auto index = part->IndexOf(partition->id.value);
        for (const RequestBlock& block : part->blocks) {
          if (block.table != table.id || !index || block.keys(*index).empty()) continue;
          const auto [scratch, fresh] = decoded_parts.try_emplace(part.get());
          const float* floats =
              fresh || scratch->second.empty() ? FloatsOf(block, scratch->second) : scratch->second.data();
          sources.push_back({block.keys(*index), floats + size_t{block.begin[*index]} * dim});
        }
      }
    }
    AppendUnion(sources, keys);
    const size_t first = begin.back();
    sums.resize(keys.size() * dim);
    for (const Source& source : sources) AddTo(std::span(keys).subspan(first), sums.data() + first * dim, source, dim);
    // A mean over the lanes of the clock; counts are added up, not averaged.
    const float scale =
        table.sum ? 1.0f : 1.0f / static_cast<float>(state.clock.LanesAt(Planted(Bug::kMeanOverAllLanes) ? 0 : clock));
    if (scale != 1.0f)
      std::for_each(sums.begin() + static_cast<ptrdiff_t>(first * dim), sums.end(),
                    [scale](float& sum) { sum *= scale; });
    begin.push_back(keys.size());
  }

  std::vector<float> before(keys.size() * dim);
  rows.resize(kMaxLookupKeys);
  slots_scratch.resize(kMaxLookupKeys);
  ForEachLookup(keys.size(), [&](size_t first, size_t count) {
    const auto some = std::span(keys).subspan(first, count);
    FindPushed(table, some, slots_scratch.data());
    MarkPushed(table, some, slots_scratch.data());
    for (size_t i = 0; i < count; ++i) {
      float* const into = before.data() + (first + i) * dim;
      if (slots_scratch[i] == kNoSlot) {
        table.layout.InitWeights(some[i], into);
      } else {
        std::copy_n(rows[i], dim, into);
      }
    }
    table.optimizer->Apply({rows.data(), count}, sums.data() + first * dim, dim, pass.rate_scale);
    TimePushed(table, some);
  });
  for (size_t i = 0; i < ready.size(); ++i) {
    if (begin[i] == begin[i + 1]) continue;
    Undo::TableRows& undo = ready[i]->passes.at(key).undo.tables[table.id];
    undo.keys.assign(keys.begin() + static_cast<ptrdiff_t>(begin[i]),
                     keys.begin() + static_cast<ptrdiff_t>(begin[i + 1]));
    undo.weights.assign(before.begin() + static_cast<ptrdiff_t>(begin[i] * dim),
                        before.begin() + static_cast<ptrdiff_t>(begin[i + 1] * dim));
  }
}

std::optional<uint64_t> ShardCore::Impl::FrontOf(const pb::Progress& progress, std::span<const uint32_t> named) const {
  const PassKey key{progress.job(), progress.pass()};
  const pb::Roster& roster = passes.at(key).roster;
  if (roster.mode() != pb::ConsistencySpec::SSP) return std::nullopt;
  uint64_t front = Owned(named.front()).passes.at(key).clock.front();
  if (Planted(Bug::kFrontUnbounded)) return front;
  for (const uint32_t p : named) {
    const uint64_t frontier = Owned(p).passes.at(key).clock.frontier();
    if (frontier < front) front = std::min(front, frontier + roster.staleness() + 1);
  }
  return front;
}

std::string ShardCore::Impl::WaitingFor(const PassKey& pass, std::span<const uint32_t> named, uint64_t clock) const {
  const PassClock* slowest = nullptr;
  for (const uint32_t p : named) {
    const PassClock& of_partition = Owned(p).passes.at(pass).clock;
    if (slowest == nullptr || of_partition.frontier() < slowest->frontier()) slowest = &of_partition;
  }
  if (slowest == nullptr || !slowest->Slowest()) return CheckText("clock ", clock, " of job ", pass.job);
  return CheckText("lane ", *slowest->Slowest(), " at clock ", slowest->frontier(), " of job ", pass.job);
}

}  // namespace sheaf
