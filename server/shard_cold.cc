// Tables larger than memory: which rows leave it, and how requests wait for those that are away.
//
// A row may leave when it is as the shard's store of snapshots has it, flushed, unless it has changed since it was
// copied: in a round of snapshots, or alone, when it is about to leave (server/snapshotter.h). What the shard has taken
// and not applied yet (slices, gradients kept for BSP) keeps its rows here, so to apply it needs no waiting: a request
// is looked at for cold rows once, before anything of it is taken.
#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"
#include "common/base/strings.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kMostKeysARead = 8192;
constexpr uint64_t kReadsUnderWay = 2;
constexpr uint32_t kTriesWithinLimit = 2;
constexpr size_t kGiveWayBy = 8;  // by that part of the limit
constexpr uint64_t kWhenThereIsRoom = 0;  // instead of a read's number
constexpr Duration kStays = std::chrono::seconds(2);  // a partition that was wanted as a whole
// Shares of the limit: partitions are written when rows take more than the one, and those that are on the disk lose
// rows until they take the other. Between the first and the limit is room for what comes meanwhile.
constexpr double kWriteAbove = 0.88, kEnough = 0.8;
// Of a partition's rows, whenever it is its turn; or more, if all together are that much too many. The more leave at
// once, the fewer rows that are used again and again are written each time; the fewer, the more of those that are used
// now and then stay.
constexpr double kLeave = 0.4;

size_t ShareOf(size_t limit, double share) { return static_cast<size_t>(static_cast<double>(limit) * share); }

}  // namespace

// ---- which rows leave

bool ShardCore::Impl::MayLeave(const Table& table) const {
  return evicting() && table.rows != nullptr && table.durability != Durability::kMemory;
}

size_t ShardCore::Impl::RowBytes() const {
  size_t bytes = 0;
  for (const auto& [id, table] : tables) {
    for (uint32_t p = 0; table.rows != nullptr && p < partitions.size(); ++p) {
      if (const RowStore* const store = table.rows->store(p)) bytes += store->used_bytes();
    }
  }
  return bytes;
}

bool ShardCore::Impl::HasRoom() const { return !evicting() || row_bytes <= row_limit() + over_limit; }

// What must be here is more than the limit: by some more at a time, once when all had their turn to leave, so that
// it does not run away while the disk is slow; but by what any request needs, so that each is carried out some time.
void ShardCore::Impl::GiveWay() {
  if (gave_way) return;
  gave_way = true;
  over_limit = row_bytes - std::min(row_bytes, row_limit()) + std::max(row_limit() / kGiveWayBy, most_asked_bytes);
}

void ShardCore::Impl::CountRowBytes() {
  if (!evicting()) return;
  row_bytes = RowBytes();
  if (row_bytes < ShareOf(row_limit(), kWriteAbove)) over_limit = 0;
}

bool ShardCore::Impl::IsShortOfMemory(size_t leaving) {
  CountRowBytes();
  return evicting() && row_bytes - std::min(row_bytes, leaving) > ShareOf(row_limit(), kWriteAbove);
}

bool ShardCore::Impl::HasRoomEnough(size_t leaving) const {
  return row_bytes - std::min(row_bytes, leaving) <= ShareOf(row_limit(), kEnough);
}

double ShardCore::Impl::ShareThatLeaves() const {
  const auto enough = static_cast<double>(ShareOf(row_limit(), kEnough));
  return std::max(kLeave, 1 - enough / static_cast<double>(std::max<size_t>(row_bytes, 1)));
}

// Keys whose rows are needed by what was taken and is not applied: they must not have to be waited for. And by pulls
// that wait for others.
std::vector<HashedKey> ShardCore::Impl::KeysThatStay(uint32_t partition, uint32_t table) const {
  std::vector<HashedKey> keys;
  const auto count = static_cast<uint32_t>(partitions.size());
  const HashedKey first = PartitionFirstKey(PartitionId(partition), count);
  const HashedKey last = PartitionLastKey(PartitionId(partition), count);
  const auto add = [&](const RequestPart& part) {
    for (const RequestBlock& block : part.blocks) {
      if (block.table != table) continue;
      const auto all = block.keys();
      keys.insert(keys.end(), std::ranges::lower_bound(all, first), std::ranges::upper_bound(all, last));
    }
  };
  if (!Planted(Bug::kKeptRowsLeave)) {
    for (const auto& [key, pass] : partitions[partition]->passes) {
      for (const auto& [clock, gradients] : pass.kept) {
        for (const KeptGradient& gradient : gradients) {
          for (const auto& part : gradient.parts) add(*part);
        }
      }
    }
  }
  staging.ForEachPart(add);
  for (const auto& [order, wait] : cold_waits) {
    if (wait.pull) add(wait.pull->part);  // else it would be the next to wait for rows that were here
  }
  for (const auto& part : redo_parts) add(*part);
  std::ranges::sort(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

bool ShardCore::Impl::MayLeave(uint32_t partition, const Table& table) const {
  const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
  if (partitions[partition] == nullptr || store == nullptr || store->hot() == 0 || store->cutting()) return false;
  if (!MayLeave(table) || !partitions[partition]->stored.whole || !store->stored()) return false;
  const auto stays = stay.find(partition);
  return stays == stay.end() || (stays->second.until < latest_now && stays->second.reads <= last_done_read);
}

// BSP: what the rows were before the last clock is remembered beside them, and cannot be had again from a row that is
// written after it and a log that is read from before it.
void ShardCore::Impl::AddUndoKeys(uint32_t partition, uint32_t table, std::vector<HashedKey>& keys) const {
  for (const auto& [key, pass] : partitions[partition]->passes) {
    const auto undo = pass.undo.tables.find(table);
    if (!pass.undo.valid || undo == pass.undo.tables.end() || Planted(Bug::kUndoneRowsAhead)) continue;
    keys.insert(keys.end(), undo->second.keys.begin(), undo->second.keys.end());
  }
  std::ranges::sort(keys);
}

// Not of tables whose keys are admitted late: how often a key was seen before it got its row cannot be had again from a
// row that is there already. Those leave after rounds of snapshots.
ShardCore::Copied ShardCore::Impl::CopyLeaving(LeavingRows& leaving, size_t max_rows, uint64_t index) {
  const uint32_t p = leaving.partition;
  if (p >= partitions.size() || partitions[p] == nullptr) return Copied::kGone;
  for (auto at = tables.lower_bound(leaving.table); at != tables.end(); ++at) {
    Table& table = at->second;
    if (!MayLeave(p, table) || table.admit_after > 1) continue;
    RowStore& store = *table.rows->store(p);
    if (!leaving.leavers || leaving.table != table.id) {
      const auto most = static_cast<size_t>(std::ceil(static_cast<double>(store.hot()) * ShareThatLeaves()));
      leaving.leavers = store.LeastUsed(RowStore::Of::kAll, most);
      leaving.table = table.id;
      leaving.key = 0;
    }
    std::vector<HashedKey> stay = KeysThatStay(p, table.id);
    AddUndoKeys(p, table.id, stay);
    LeavingRows::Piece piece{index, {table.id, {}, {}}};
    const size_t chosen = leaving.leavers->chosen;
    const auto next =
        store.CopyLeavers(*leaving.leavers, leaving.key, max_rows, stay, piece.rows.keys, piece.rows.rows);
    leaving.leaving_bytes += (leaving.leavers->chosen - chosen) * RowStore::BytesOf(table.layout);
    if (!piece.rows.keys.empty()) {
      leaving.bytes += piece.rows.keys.size() * (sizeof(HashedKey) + table.layout.stride * sizeof(float));
      leaving.pieces.push_back(std::move(piece));
      partitions[p]->stored.tables.insert(table.id);
    }
    if (next) {
      leaving.key = *next;
      return Copied::kMore;
    }
    leaving.leavers.reset();
    ++leaving.table;
  }
  return Copied::kAll;
}

// Of each table the same share: so what is used least of each leaves, and who uses more brings more back.
size_t ShardCore::Impl::Evict(uint32_t partition) {
  const size_t enough = ShareOf(row_limit(), kEnough);
  if (!evicting() || partition >= partitions.size() || row_bytes <= enough) return 0;
  size_t looked_at = 0;
  const double leave = ShareThatLeaves();
  for (auto& [id, table] : tables) {
    if (!MayLeave(partition, table)) continue;
    const RowStore& store = *table.rows->store(partition);
    const size_t before = store.used_bytes();
    looked_at += store.hot();
    const auto most = static_cast<size_t>(std::ceil(static_cast<double>(store.hot()) * leave));
    const auto evicted = table.rows->Evict(partition, most, KeysThatStay(partition, id));
    if (evicted.changed) partitions[partition]->cut = 0;
    counters.evicted_rows += evicted.rows;
    row_bytes -= std::min(row_bytes, before - std::min(before, store.used_bytes()));
  }
  ++slots_version;
  return looked_at;
}

// If what may not leave is more than the limit, that gives way.
void ShardCore::Impl::EndEviction(size_t leaving) {
  gave_way = false;
  CountRowBytes();
  if (evicting() && row_bytes - std::min(row_bytes, leaving) > row_limit()) GiveWay();
}

// ---- requests that wait

// Of a request that is about to be carried out: all of its rows are here, or nowhere. Else when they will be; what is
// not asked for yet, is.
bool ShardCore::Impl::RowsAreHere(const RequestPart& part, MakesRows makes, uint64_t& when) {
  bool here = true;
  size_t asked_bytes = 0;
  // A push follows a pull of the same rows, and what is carried out now was looked at before: that is one use. So rows
  // that are used once leave first.
  const bool counts = makes == MakesRows::kNo && !resuming;
  when = kWhenThereIsRoom;
  rows.resize(kMaxLookupKeys);
  slots_scratch.resize(kMaxLookupKeys);
  for (const RequestBlock& block : part.blocks) {
    Table& table = *FindTable(block.table);
    if (!MayLeave(table)) continue;
    const auto keys = block.keys();
    asked_bytes += keys.size() * RowStore::BytesOf(table.layout);
    uint32_t* const slots = SlotsOf(block);
    if (slots != nullptr && block.slots->complete) {
      if (counts) table.rows->Use(keys, slots);
      continue;
    }
    const bool room = makes == MakesRows::kNo || HasRoom();
    ForEachLookup(keys.size(), [&](size_t first, size_t count) {
      const auto some = keys.subspan(first, count);
      table.rows->Find(some, rows.data(), slots_scratch.data());
      if (counts) table.rows->Use(some, slots_scratch.data());
      if (room && !table.rows->cold()) return;
      for (size_t i = 0; i < count; ++i) {
        if (slots_scratch[i] != kNoSlot) continue;
        if (IsCold(table, some[i])) {
          here = false;
          when = std::max(when, AskFor(table, some[i]));
        } else if (!room) {
          here = false;
        }
      }
    });
  }
  if (!here) most_asked_bytes = std::max(most_asked_bytes, asked_bytes);
  return here;
}

bool ShardCore::Impl::IsCold(const Table& table, HashedKey key) const {
  if (Planted(Bug::kColdTakenForAbsent)) return false;
  const RowStore* const store = table.rows->store(PartitionOf(key, static_cast<uint32_t>(partitions.size())).value);
  return store != nullptr && store->MayBeCold(key);
}

// Each key is asked for once: so until it is here it is cold, and the store has it as it is.
uint64_t ShardCore::Impl::AskFor(Table& table, HashedKey key) {
  const auto [at, fresh] = table.coming.try_emplace(key, 0);
  if (!fresh) return at->second;
  if (wanted.empty() || wanted.back().keys >= kMostKeysARead) wanted.push_back({++last_read, 0, {}});
  Wanted& read = wanted.back();
  ++read.keys;
  read.tables[table.id].push_back(key);
  return at->second = read.number;
}

std::optional<ColdRead> ShardCore::Impl::TakeColdRead() {
  CountRowBytes();
  ColdRead read;
  read.store_version = store_version;
  read.partition_count = static_cast<uint32_t>(partitions.size());
  if (!ranges_wanted.empty() && !range_under_way) {
    read.ranges.push_back(std::move(ranges_wanted.front()));
    ranges_wanted.pop_front();
    range_under_way = true;
    return read;
  }
  if (wanted.empty() || last_begun_read - last_done_read >= kReadsUnderWay || !HasRoom()) return std::nullopt;
  Wanted next = std::move(wanted.front());
  wanted.pop_front();
  read.number = last_begun_read = next.number;
  for (auto& [id, keys] : next.tables) {
    const Table* const table = FindTable(id);
    if (table == nullptr) continue;
    std::ranges::sort(keys);
    read.tables.push_back({id, table->layout.stride, std::move(keys), {}, {}});
  }
  return read;
}

void ShardCore::Impl::OnColdRead(ColdRead read, TimePoint now, Outbox& out) {
  latest_now = std::max(latest_now, now);
  NoteFailure(read.status);
  if (!failure.empty()) return;
  if (read.ranges.empty()) last_done_read = std::max(last_done_read, read.number);
  // If a partition was another's meanwhile, what was read of it is of no use: it is asked for again.
  const bool of_use = read.store_version == store_version;
  for (const ColdTable& from : read.tables) {
    Table* const table = FindTable(from.table);
    if (table == nullptr) continue;
    for (const HashedKey key : from.keys) table->coming.erase(key);
    if (!of_use) continue;
    counters.cold_reads += table->rows->TakeBack(from.keys, from.found, from.rows.data());
    if (table->layout.timed) ExpireOf(*table, from.keys);
  }
  for (ColdRange& range : read.ranges) {
    range_under_way = false;
    if (range.to_expire) {
      TakeTimes(range, of_use);
    } else {
      TakeRange(range, of_use);
    }
  }
  CountRowBytes();
  Resume(now, out);
}

void ShardCore::Impl::TakeRange(ColdRange& range, bool of_use) {
  Table* const table = FindTable(range.table);
  RowStore* const store = !of_use || table == nullptr ? nullptr : table->rows->store(range.partition);
  if (store == nullptr) {
    thawing.erase({range.partition, range.table});
    stay[range.partition] = {latest_now, last_read};
    return;
  }
  const std::vector<uint8_t> found(range.keys.size(), 1);
  counters.cold_reads += table->rows->TakeBack(range.keys, found, range.rows.data());
  if (range.more) {
    range.from = range.keys.back() + 1;
    range.keys.clear();
    range.rows.clear();
    ranges_wanted.push_back(std::move(range));
    return;
  }
  thawing.erase({range.partition, range.table});
  // Also until all reads are done that were asked for before: what they say of these rows must not count any more.
  stay[range.partition] = {latest_now + kStays, last_read};
  if (store->cold() > 0) {
    failure = CheckText("of table ", range.table, " in partition ", range.partition, " ", store->cold(),
                        " rows that had left memory are not in the store of snapshots");
  }
}

// All rows of the partition are here. If not, they come, and stay for a while.
bool ShardCore::Impl::Thaw(uint32_t partition) {
  if (!evicting() || partition >= partitions.size()) return true;
  bool here = true;
  for (auto& [id, table] : tables) {
    const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store == nullptr || store->cold() == 0) continue;
    here = false;
    stay[partition].until = TimePoint::max();  // until it is over
    if (!thawing.insert({partition, id}).second) continue;
    ColdRange range;
    range.partition = partition;
    range.table = id;
    range.width = table.layout.stride;
    range.from = PartitionFirstKey(PartitionId(partition), static_cast<uint32_t>(partitions.size()));
    range.most = ImageRowsIn(kImagePieceBytes, range.width);
    ranges_wanted.push_back(std::move(range));
  }
  if (const auto stays = stay.find(partition); here && stays != stay.end()) stays->second.until = latest_now + kStays;
  return here;
}

// Without room it is not kept: its rows come all the same, and its repeat will find them. Nor if it takes so long that
// its sender asks again: who hears nothing would take us for dead.
MaybeRefusal ShardCore::Impl::Wait(ColdWait wait, size_t bytes, bool again) {
  if (again && HasRoom()) return Refuse(pb::Refusal::OVERLOADED, "rows are still being read from the disk");
  if (again) {
    return Refuse(pb::Refusal::OVERLOADED, "rows take ", FormatBytes(row_bytes), " of memory, the limit is ",
                  FormatBytes(row_limit()), ": others have to be written to the disk first");
  }
  Budget* const room = budget.Fits(bytes) ? &budget : awaited_budget.Fits(bytes) ? &awaited_budget : nullptr;
  if (room == nullptr) {
    return Refuse(pb::Refusal::OVERLOADED, "rows are read from the disk, and there is no room to wait for them");
  }
  wait.reservation = Reservation(*room, bytes);
  // Rows that it needs may leave while it waits for others. Not for ever: then the limit has to give way.
  wait.generation = generation;
  wait.tries = resuming ? resumed_tries + 1 : 0;
  if (wait.tries >= kTriesWithinLimit) GiveWay();
  const uint64_t order = next_cold_wait++;
  cold_wait_by_request[{wait.from, wait.request}] = order;
  cold_waits.emplace(order, std::move(wait));
  return {};
}

bool ShardCore::Impl::ForgetWait(PeerId from, uint64_t request) {
  if (cold_wait_by_request.empty()) return false;
  const auto at = cold_wait_by_request.find({from, request});
  if (at == cold_wait_by_request.end()) return false;
  cold_waits.erase(at->second);
  cold_wait_by_request.erase(at);
  return true;
}

// Those whose rows have come, in the order in which they came themselves.
void ShardCore::Impl::Resume(TimePoint now, Outbox& out) {
  if (cold_waits.empty()) return;
  const bool room = HasRoom();
  std::vector<ColdWait> ready;
  for (auto at = cold_waits.begin(); at != cold_waits.end();) {
    const ColdWait& wait = at->second;
    const bool waits = wait.scan                       ? thawing.contains(*wait.scan)
                       : wait.when == kWhenThereIsRoom ? !room
                                                       : wait.when > last_done_read;
    if (waits) {
      ++at;
      continue;
    }
    cold_wait_by_request.erase({at->second.from, at->second.request});
    ready.push_back(std::move(at->second));
    at = cold_waits.erase(at);
  }
  resuming = true;
  for (ColdWait& wait : ready) {
    wait.reservation = {};
    resumed_tries = wait.tries;
    if (!refuse_all.empty()) {
      SendRefusal(wait.from, wait.request, Refuse(pb::Refusal::OVERLOADED, refuse_all), out);
    } else if (wait.pull) {
      ResumePull(std::move(*wait.pull), out);
    } else if (wait.scan) {
      OnScan(wait.from, wait.message, out);
    } else if (wait.generation == generation) {
      OnPush(wait.from, wait.message, now, out);
    }  // else it is as if it had been lost: its sender may have routed it anew meanwhile, and sends it again
  }
  resuming = false;
}

bool ShardCore::Impl::MayResume() const {
  return !cold_waits.empty() && HasRoom() &&
         std::ranges::any_of(cold_waits, [](const auto& each) {
           return !each.second.scan && each.second.when == kWhenThereIsRoom;
         });
}

void ShardCore::Impl::ResumePull(Pull pull, Outbox& out) {
  if (MaybeRefusal refusal = CheckAgain(pull)) {
    return SendRefusal(pull.from, pull.request, std::move(*refusal), out);
  }
  if (pull.progress && !MayAnswer(pull)) return Park(std::move(pull), std::nullopt, out);
  CarryOut(std::move(pull), /*again=*/false, out);
}

// ---- what cannot wait

void ShardCore::Impl::NoteFailure(const Status& status) {
  if (status || !failure.empty()) return;
  failure = "rows that had left memory cannot be read: " + status.error().message;
}

Status ShardCore::Impl::ReadNow(ColdRead& read) {
  read.partition_count = static_cast<uint32_t>(partitions.size());
  options.cold->ReadNow(read);
  NoteFailure(read.status);
  return read.status;
}

// While the log is done again. Nobody is asked for anything meanwhile.
Status ShardCore::Impl::TakeBackNow(const std::vector<std::shared_ptr<RequestPart>>& parts) {
  ColdRead read;
  for (const auto& part : parts) {
    for (const RequestBlock& block : part->blocks) {
      if (const Table* const table = FindTable(block.table)) AddCold(*table, block.keys(), read);
    }
  }
  return TakeBackNow(std::move(read));
}

Status ShardCore::Impl::TakeBackNow(uint32_t table, std::span<const HashedKey> keys) {
  ColdRead read;
  AddCold(*FindTable(table), keys, read);
  return TakeBackNow(std::move(read));
}

void ShardCore::Impl::AddCold(const Table& table, std::span<const HashedKey> keys, ColdRead& read) const {
  if (!MayLeave(table) || !table.rows->cold()) return;
  ColdTable from{table.id, table.layout.stride, {}, {}, {}};
  const auto count = static_cast<uint32_t>(partitions.size());
  for (const HashedKey key : keys) {
    const RowStore* const store = table.rows->store(PartitionOf(key, count).value);
    if (store != nullptr && store->Find(key) == nullptr && IsCold(table, key)) from.keys.push_back(key);
  }
  if (!from.keys.empty()) read.tables.push_back(std::move(from));
}

Status ShardCore::Impl::TakeBackNow(ColdRead read) {
  if (read.tables.empty()) return {};
  SHEAF_RETURN_IF_ERROR(ReadNow(read));
  for (const ColdTable& from : read.tables) {
    counters.cold_reads += FindTable(from.table)->rows->TakeBack(from.keys, from.found, from.rows.data());
  }
  return {};
}

// Rows that are here and rows that are away, in the order of their keys, about `max_rows`; then where to go on.
std::optional<HashedKey> ShardCore::Impl::CopyAll(Table& table, uint32_t partition, HashedKey from, size_t max_rows,
                                                  std::vector<HashedKey>& keys, std::vector<float>& into) {
  RowStore& store = *table.rows->store(partition);
  if (store.cold() == 0) return store.Copy(RowStore::Which::kAll, from, max_rows, keys, into);
  const size_t width = table.layout.stride;
  ColdRead read;
  ColdRange& away = read.ranges.emplace_back();
  away.partition = partition;
  away.table = table.id;
  away.width = table.layout.stride;
  away.from = from;
  away.most = max_rows;
  if (!ReadNow(read)) return std::nullopt;
  std::vector<HashedKey> here_keys;
  std::vector<float> here_rows;
  std::optional<HashedKey> next = store.Copy(RowStore::Which::kAll, from, max_rows, here_keys, here_rows);
  if (away.more && (!next || away.keys.back() < *next)) next = away.keys.back() + 1;  // not the greatest: more follow
  const auto before_next = [&](HashedKey key) { return !next || key < *next; };
  const auto copy = [&](HashedKey key, const float* row) {
    keys.push_back(key);
    into.insert(into.end(), row, row + width);
  };
  size_t h = 0, a = 0;
  while (true) {
    const bool some_here = h < here_keys.size() && before_next(here_keys[h]);
    const bool some_away = a < away.keys.size() && before_next(away.keys[a]);
    if (!some_here && !some_away) return next;
    if (some_here && (!some_away || here_keys[h] <= away.keys[a])) {
      if (some_away && here_keys[h] == away.keys[a]) ++a;  // what is here is newer
      copy(here_keys[h], here_rows.data() + h * width);
      ++h;
    } else {
      if (!store.IsErased(away.keys[a])) copy(away.keys[a], away.rows.data() + a * width);
      ++a;
    }
  }
}

}  // namespace sheaf
