// Which rows there are: keys get theirs when they have been seen often enough, and rows that nobody pushes to any more
// are dropped.
//
// Both are decided as pushes are applied, or by records of the log, so copies and the process that comes after have the
// same rows. What is dropped has the start value again, as if it had never been.
#include <algorithm>
#include <utility>

#include "common/base/partition.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

constexpr size_t kLooksATick = 32768;       // at rows, at least; a second
constexpr uint32_t kRoundsInTime = 4;       // each row is looked at so often in the time that it has
constexpr size_t kMostLooksATick = 262144;  // some milliseconds
constexpr Duration kLongestTick = std::chrono::seconds(10);  // if it takes longer, the process stood still
constexpr Duration kOfLate = std::chrono::seconds(10);

}  // namespace

// ---- admission

void ShardCore::Impl::FindPushed(Table& table, std::span<const HashedKey> keys, uint32_t* slots) {
  if (table.admit_after <= 1) {
    table.rows->FindOrCreate(keys, rows.data(), slots);
    if (!ahead.empty()) LeaveOutAhead(table, keys, slots);
    return;
  }
  table.rows->Find(keys, rows.data(), slots);
  const auto count = static_cast<uint32_t>(partitions.size());
  std::vector<HashedKey> admitted;
  bool all_here = true;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (slots[i] != kNoSlot) continue;
    Sightings& sightings = Owned(PartitionOf(keys[i], count).value).sightings[table.id];
    if (sightings.Add(keys[i], count) >= table.admit_after) {
      admitted.push_back(keys[i]);
    } else {
      all_here = false;
      ++counters.unadmitted;
    }
  }
  if (!admitted.empty()) {
    std::vector<float*> made(admitted.size());
    table.rows->FindOrCreate(admitted, made.data(), nullptr);
    table.rows->Find(keys, rows.data(), slots);  // making some may have moved the others
  }
  if (all_here) return;
  unadmitted_row.resize(table.layout.stride);
  table.layout.InitRow(keys.front(), unadmitted_row.data());
  std::replace(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(keys.size()), static_cast<float*>(nullptr),
               unadmitted_row.data());
}

// The log has come to it: that is not to be remembered any longer.
bool ShardCore::Impl::IsAhead(uint32_t table, HashedKey key) {
  const auto of_table = ahead.find(table);
  if (of_table == ahead.end() || Planted(Bug::kAheadDoneAgain)) return false;
  const auto at = of_table->second.find(key);
  if (at == of_table->second.end()) return false;
  if (at->second > redo_index) return true;
  of_table->second.erase(at);
  return false;
}

void ShardCore::Impl::LeaveOutAhead(const Table& table, std::span<const HashedKey> keys, uint32_t* slots) {
  unadmitted_row.resize(table.layout.stride);
  table.layout.InitRow(keys.front(), unadmitted_row.data());
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!IsAhead(table.id, keys[i])) continue;
    rows[i] = unadmitted_row.data();
    slots[i] = kNoSlot;
  }
}

void ShardCore::Impl::MarkPushed(Table& table, std::span<const HashedKey> keys, const uint32_t* slots) {
  if (!marking()) return;
  if (table.admit_after <= 1 && ahead.empty()) return table.rows->Mark(keys, slots);
  marked_keys.clear();
  marked_slots.clear();
  for (size_t i = 0; i < keys.size(); ++i) {
    if (slots[i] == kNoSlot) continue;
    marked_keys.push_back(keys[i]);
    marked_slots.push_back(slots[i]);
  }
  table.rows->Mark(marked_keys, marked_slots.data());
}

// ---- expiry

// A pass is not enough: while a model is evaluated nobody pushes.
bool ShardCore::Impl::Trains(const Table& table) const {
  return std::ranges::any_of(tables, [&](const auto& each) {
    const Table& other = each.second;
    return other.job == table.job && other.pushed_at != TimePoint() && latest_now <= other.pushed_at + kOfLate;
  });
}

// Time is that in which a job with such rows trains: nothing is dropped while it stands still, or is done.
bool ShardCore::Impl::CountTime(TimePoint now) {
  if (options.is_copy || redoing) return false;
  const bool trains = std::ranges::any_of(
      tables, [&](const auto& each) { return each.second.expire_after_s > 0 && Trains(each.second); });
  const bool stands_still = !trains || !refuse_all.empty() || !refuse_pushes.empty();
  if (stands_still || now > time_counted + kLongestTick) time_counted = now;
  const auto passed = std::chrono::duration_cast<std::chrono::seconds>(now - time_counted);
  if (passed.count() <= 0) return false;
  time_counted += passed;
  pb::RedoHeader header;
  header.mutable_time()->set_seconds(static_cast<uint32_t>(passed.count()));
  for (RedoWriter* const writer : WritersOf(DurabilityOfTables())) writer->take(EncodeRedo(header, {}, {}));
  AddTime(header.time().seconds());
  return true;
}

void ShardCore::Impl::AddTime(uint32_t seconds) {
  for (const uint32_t p : owned) {
    if (partitions[p] != nullptr && !asleep.contains(p)) partitions[p]->trained_seconds += seconds;
  }
}

void ShardCore::Impl::TimePushed(Table& table, std::span<const HashedKey> keys) {
  table.pushed_at = latest_now;
  if (!table.layout.timed) return;
  const auto count = static_cast<uint32_t>(partitions.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    table.layout.SetTime(rows[i], Owned(PartitionOf(keys[i], count).value).trained_seconds);
  }
}

bool ShardCore::Impl::IsOld(uint32_t partition, const Table& table, const float* row) const {
  return uint64_t{table.layout.TimeOf(row)} + table.expire_after_s < Owned(partition).trained_seconds;
}

bool ShardCore::Impl::MayExpire(uint32_t partition, const Table& table) const {
  const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
  return !options.is_copy && !redoing && refuse_all.empty() && refuse_pushes.empty() && is_owned[partition] != 0 &&
         table.expire_after_s > 0 && store != nullptr && store->hot() > 0 && !store->cutting() && Trains(table) &&
         Owned(partition).trained_seconds > table.expire_after_s;
}

// The next ones behind those of the last time.
void ShardCore::Impl::ExpireSome() {
  if (partitions.empty()) return;
  AskForAway();
  size_t looks = kLooksATick;
  for (const auto& [id, table] : tables) {
    if (table.expire_after_s == 0 || table.rows == nullptr) continue;
    for (const uint32_t p : owned) {
      const RowStore* const store = table.rows->store(p);
      if (store != nullptr) looks += store->hot() * kRoundsInTime / table.expire_after_s;
    }
  }
  looks = std::min(looks, kMostLooksATick);
  for (size_t steps = 0; looks > 0 && steps <= partitions.size(); ++steps) {
    if (expire_partition >= partitions.size()) expire_partition = 0;
    const uint32_t p = expire_partition;
    for (auto at = tables.lower_bound(expire_table); at != tables.end() && looks > 0; ++at) {
      Table& table = at->second;
      if (!MayExpire(p, table)) {
        expire_from = 0;
        continue;
      }
      const HashedKey from = at->first == expire_table ? expire_from : 0;
      std::vector<HashedKey> keys;
      const size_t most = std::min(looks, table.rows->store(p)->hot());
      const uint32_t before = Owned(p).trained_seconds - table.expire_after_s;
      const auto next = table.rows->store(p)->FindOlder(before, from, most, keys);
      looks -= most;
      if (!keys.empty()) Expire(p, table, std::move(keys));
      expire_table = next ? at->first : at->first + 1;
      expire_from = next.value_or(0);
      if (next) return;
    }
    ++expire_partition;
    expire_table = 0;
    expire_from = 0;
  }
}

void ShardCore::Impl::AskForAway() {
  if (!evicting() || away_asked_for) return;
  for (size_t steps = 0; steps <= partitions.size(); ++steps, ++away_partition, away_table = 0, away_from = 0) {
    if (away_partition >= partitions.size()) away_partition = 0;
    if (is_owned[away_partition] == 0 || partitions[away_partition] == nullptr) continue;
    for (auto at = tables.lower_bound(away_table); at != tables.end(); ++at, away_from = 0) {
      away_table = at->first;
      const Table& table = at->second;
      const RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(away_partition);
      if (table.expire_after_s == 0 || !Trains(table) || store == nullptr || store->cold() == 0) continue;
      ColdRange range;
      range.partition = away_partition;
      range.table = table.id;
      range.width = table.layout.stride;
      const auto count = static_cast<uint32_t>(partitions.size());
      range.from = std::max(away_from, PartitionFirstKey(PartitionId(away_partition), count));
      range.most = ImageRowsIn(kImagePieceBytes, range.width);
      range.to_expire = true;
      ranges_wanted.push_back(std::move(range));
      away_asked_for = true;
      return;
    }
  }
}

// What was read may be older than what the store has by now: so rows come back the usual way.
void ShardCore::Impl::TakeTimes(const ColdRange& range, bool of_use) {
  away_asked_for = false;
  Table* const table = FindTable(range.table);
  RowStore* const store = !of_use || table == nullptr ? nullptr : table->rows->store(range.partition);
  if (store == nullptr) return;
  for (size_t i = 0; i < range.keys.size(); ++i) {
    const float* const row = range.rows.data() + i * range.width;
    const HashedKey key = range.keys[i];
    if (IsOld(range.partition, *table, row) && store->Find(key) == nullptr && IsCold(*table, key)) AskFor(*table, key);
  }
  away_from = range.more ? range.keys.back() + 1 : 0;
  away_table = range.more ? range.table : range.table + 1;
}

void ShardCore::Impl::ExpireOf(Table& table, std::span<const HashedKey> keys) {
  const auto count = static_cast<uint32_t>(partitions.size());
  for (size_t i = 0; i < keys.size();) {
    const uint32_t p = PartitionOf(keys[i], count).value;
    const HashedKey last = PartitionLastKey(PartitionId(p), count);
    std::vector<HashedKey> old;
    for (; i < keys.size() && keys[i] <= last; ++i) {
      const float* const row = MayExpire(p, table) ? table.rows->store(p)->Find(keys[i]) : nullptr;
      if (row != nullptr && IsOld(p, table, row)) old.push_back(keys[i]);
    }
    if (!old.empty()) Expire(p, table, std::move(old));
  }
}

void ShardCore::Impl::Expire(uint32_t partition, Table& table, std::vector<HashedKey> keys) {
  pb::RedoHeader header;
  header.mutable_expire()->set_partition(partition);
  header.mutable_expire()->set_table(table.id);
  const Buffer told = Buffer::FromVector(std::vector<HashedKey>(keys));
  for (RedoWriter* const writer : WritersOf(table.durability)) {
    if (!ToldTo(*writer, {partition}).empty()) writer->take(EncodeRedo(header, {told}, {}));
  }
  Drop(partition, table, keys);
}

void ShardCore::Impl::Drop(uint32_t partition, Table& table, std::span<const HashedKey> keys) {
  const bool stored = options.log != nullptr && table.durability != Durability::kMemory;
  const size_t gone = table.rows->Erase(partition, keys, stored);
  if (gone == 0) return;
  counters.expired_rows += gone;
  partitions[partition]->cut = 0;  // a checkpoint of what has changed would not say that they are gone
  ++slots_version;
}

Status ShardCore::Impl::RedoExpire(const pb::ExpireRecord& record, const Buffer& bytes) {
  const uint32_t p = record.partition();
  Table* const table = FindTable(record.table());
  if (p >= partitions.size() || table == nullptr || table->rows == nullptr) {
    return Fail(ErrorCode::kDataLoss, "the log drops rows of table ", record.table(), " in partition ", p,
                ", which were not there then");
  }
  if (partitions[p] == nullptr || asleep.contains(p)) return {};
  const auto keys = bytes.As<HashedKey>();
  const bool in_order = std::ranges::adjacent_find(keys, std::greater_equal<>()) == keys.end();
  const auto count = static_cast<uint32_t>(partitions.size());
  if (!in_order || std::ranges::any_of(keys, [&](HashedKey key) { return PartitionOf(key, count).value != p; })) {
    return Fail(ErrorCode::kDataLoss, "the log drops rows of partition ", p, " whose keys are none of it");
  }
  std::vector<HashedKey> dropped(keys.begin(), keys.end());
  std::erase_if(dropped, [&](HashedKey key) { return IsAhead(table->id, key); });  // it was made anew since
  if (evicting()) SHEAF_RETURN_IF_ERROR(TakeBackNow(table->id, dropped));
  Drop(p, *table, dropped);
  return {};
}

}  // namespace sheaf
