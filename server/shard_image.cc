// Images of partitions: how all of one is told, and taken over.
#include <algorithm>
#include <set>
#include <utility>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"
#include "server/shard_impl.h"

namespace sheaf {
namespace {

// Room is made for so many times the rows that have come, if so many are to come.
constexpr uint64_t kTrustedAhead = 64;
constexpr size_t kRowsCopiedAtOnce = 4096;

}  // namespace

std::vector<ImagePiece> ShardCore::Impl::Export(uint32_t partition, uint64_t index) {
  if (partition >= partitions.size() || partitions[partition] == nullptr) return {};
  const auto count = static_cast<uint32_t>(partitions.size());
  std::vector<ImageTable> with_rows;
  std::vector<ImagePiece> row_pieces;
  for (auto& [id, table] : tables) {
    RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store == nullptr || store->size() == 0) continue;
    with_rows.push_back({id, table.layout.stride, store->size()});
    const size_t most = ImageRowsIn(kImagePieceBytes, table.layout.stride);
    for (std::optional<HashedKey> from = PartitionFirstKey(PartitionId(partition), count); from;) {
      std::vector<HashedKey> keys;
      std::vector<float> floats;
      from = CopyAll(table, partition, *from, most, keys, floats);
      if (keys.empty()) break;
      Buffer key_bytes = Buffer::FromVector(std::move(keys));
      row_pieces.push_back(EncodeImageRows(partition, index, id, table.layout.stride, std::move(key_bytes),
                                           Buffer::FromVector(std::move(floats))));
    }
  }
  std::vector<ImagePiece> pieces = ExportState(partition, index, std::move(with_rows));
  pieces.insert(pieces.end(), std::make_move_iterator(row_pieces.begin()), std::make_move_iterator(row_pieces.end()));
  return pieces;
}

std::vector<ImagePiece> ShardCore::Impl::ExportState(uint32_t partition, uint64_t index,
                                                     std::vector<ImageTable> with_rows, uint64_t job) const {
  ImageSource source;
  source.partition = partition;
  source.partition_count = static_cast<uint32_t>(partitions.size());
  source.index = index;
  source.lsn = lsns[partition];
  source.state = partitions[partition].get();
  source.tables = std::move(with_rows);
  source.job = job;
  for (const auto& [id, session] : sessions) {
    const SeqWindow& window = session.windows[partition];
    if (!window.empty()) source.sessions.push_back({id.high, id.low, &window});
  }
  std::ranges::sort(source.sessions, {}, [](const auto& session) { return std::pair(session.high, session.low); });
  return EncodeImageState(source);
}

Status ShardCore::Impl::Import(const Buffer& piece, TimePoint now) {
  if (coming == nullptr) {
    const auto taker = [this](const ImageTable& table, std::span<const HashedKey> keys, std::span<const float> floats) {
      return TakeImageRows(table, keys, floats);
    };
    coming = std::make_unique<Coming>(Coming{ImageReader(static_cast<uint32_t>(partitions.size()), taker), {}});
  }
  const Status taken = coming->reader.Take(piece);
  if (!taken) {
    coming.reset();
    return taken;
  }
  if (coming->reader.complete()) Install(std::move(coming->reader.image()), now);
  return {};
}

Status ShardCore::Impl::TakeImageRows(const ImageTable& table, std::span<const HashedKey> keys,
                                      std::span<const float> floats) {
  const Table* const known = FindTable(table.id);
  if (known == nullptr && only_known_tables) return {};
  if (known == nullptr || known->rows == nullptr || known->layout.stride != table.width) {
    return Fail(ErrorCode::kDataLoss, "an image of a partition has rows of table ", table.id, ", of ", table.width,
                " floats: no such table is here");
  }
  std::unique_ptr<RowStore>& store = coming->rows[table.id];
  if (store == nullptr) {
    store = std::make_unique<RowStore>(&known->layout, static_cast<uint32_t>(partitions.size()));
    // As it claims, but not more than it has shown to have.
    store->ReserveLoad(std::min<uint64_t>(table.rows, keys.size() * kTrustedAhead));
  }
  store->Load(keys, floats.data());
  return {};
}

void ShardCore::Impl::Install(PartitionImage image, TimePoint now) {
  const uint32_t p = image.partition;
  asleep.erase(p);
  partitions[p] = std::move(image.state);
  lsns[p] = image.lsn;
  for (auto& [key, pass] : passes) partitions[p]->passes[key].clock.SetLanes(pass.roster);
  for (auto& [id, session] : sessions) session.windows[p] = {};
  for (PartitionImage::Session& from : image.sessions) {
    Session& session = sessions[{from.high, from.low}];
    if (session.windows.empty()) session.last = now - kQuietSession;
    session.windows.resize(partitions.size());
    session.windows[p] = std::move(from.window);
  }
  auto rows = std::move(coming->rows);
  coming.reset();
  for (auto& [id, table] : tables) {
    if (table.rows == nullptr) continue;
    const auto found = rows.find(id);
    table.rows->Put(p, found == rows.end() ? nullptr : std::move(found->second));
  }
  ++store_version;
}

// ---- rounds of snapshots

std::optional<RoundBegin> ShardCore::Impl::BeginRound() {
  if (!last_config.has_config() || options.log == nullptr) return std::nullopt;
  RoundBegin round{options.log->next_index(), last_config, {}};
  for (uint32_t p = 0; p < partitions.size(); ++p) {
    if (partitions[p] != nullptr) round.partitions.push_back(p);
  }
  pb::RedoHeader header;
  header.mutable_round()->set_list_budget(options.key_list_budget_bytes);
  log.take(EncodeRedo(header, {}, {}));
  commit_level = std::max(commit_level, Durability::kLog);
  if (!Planted(Bug::kListsNamedAcrossRounds)) log.lists.Begin(options.key_list_budget_bytes);
  return round;
}

bool ShardCore::Impl::BeginSnapshot(PartitionSnapshot& snapshot) {
  const uint32_t p = snapshot.partition;
  if (p >= partitions.size() || partitions[p] == nullptr) return false;
  Stored& stored = partitions[p]->stored;
  if (snapshot.begun && snapshot.store_version == store_version) return true;
  if (snapshot.begun) stored.whole = false;  // marks were taken away from rows that are to be copied again
  snapshot = {};
  snapshot.partition = p;
  snapshot.begun = true;
  snapshot.store_version = store_version;
  snapshot.whole = !stored.whole;
  if (snapshot.whole) {
    ForEachStore(p, [&](Table& table, RowStore& store) {
      if (store.cold() > 0) snapshot.cold_tables.push_back(table.id);
      store.AskErasedAgain();
    });
  }
  std::set<uint32_t> gone = stored.tables;
  ForEachStore(p, [&](Table& table, RowStore& store) {
    if (!snapshot.whole && store.stored()) {
      gone.erase(table.id);
    } else {
      store.MarkAll();
    }
  });
  if (!snapshot.whole) snapshot.gone_tables.assign(gone.begin(), gone.end());
  stored.whole = false;  // until it is finished
  return true;
}

ShardCore::Copied ShardCore::Impl::CopyChanged(PartitionSnapshot& snapshot, size_t max_rows) {
  if (!BeginSnapshot(snapshot)) return Copied::kGone;
  bool more = false;
  ForEachStore(snapshot.partition, [&](Table& table, RowStore& store) {
    if (more || table.id < snapshot.table) return;
    ChangedRows rows{table.id, {}, {}};
    const size_t expected = std::min(max_rows, store.hot());
    rows.keys.reserve(expected);
    rows.rows.reserve(expected * table.layout.stride);
    const HashedKey from = table.id == snapshot.table ? snapshot.key : 0;
    const auto next = store.Copy(RowStore::Which::kMarked, from, max_rows, rows.keys, rows.rows);
    more = next.has_value();
    snapshot.table = more ? table.id : table.id + 1;
    snapshot.key = next.value_or(0);
    if (rows.keys.empty()) return;
    snapshot.bytes += rows.keys.size() * (sizeof(HashedKey) + table.layout.stride * sizeof(float));
    snapshot.rows.push_back(std::move(rows));
  });
  return more ? Copied::kMore : Copied::kAll;
}

ShardCore::Copied ShardCore::Impl::FinishSnapshot(PartitionSnapshot& snapshot, uint64_t index) {
  if (!BeginSnapshot(snapshot)) return Copied::kGone;
  snapshot.table = 0;
  snapshot.key = 0;
  while (CopyChanged(snapshot, kRowsCopiedAtOnce) == Copied::kMore) continue;
  Stored& stored = partitions[snapshot.partition]->stored;
  stored = {true, {}};
  std::vector<ImageTable> with_rows;
  ForEachStore(snapshot.partition, [&](Table& table, RowStore& store) {
    store.set_stored(true);
    stored.tables.insert(table.id);
    with_rows.push_back({table.id, table.layout.stride, store.size()});
  });
  for (auto& [id, table] : tables) {
    RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(snapshot.partition);
    if (store == nullptr || !table.layout.timed) continue;
    if (auto erased = store->TakeErased(); !erased.empty()) snapshot.erased.push_back({id, std::move(erased)});
  }
  snapshot.index = index;
  snapshot.state = ExportState(snapshot.partition, index, std::move(with_rows));
  return Copied::kAll;
}

std::vector<uint32_t> ShardCore::Impl::StoredPartitions() const {
  std::vector<uint32_t> stored;
  for (uint32_t p = 0; p < partitions.size(); ++p) {
    if (partitions[p] != nullptr && partitions[p]->stored.whole) stored.push_back(p);
  }
  return stored;
}

void ShardCore::Impl::SetStored(uint32_t partition, bool stored) {
  if (partition >= partitions.size() || partitions[partition] == nullptr) return;
  partitions[partition]->stored = {stored, {}};
  if (!stored) return;
  ForEachStore(partition, [&](Table& table, RowStore& store) {
    store.set_stored(true);
    partitions[partition]->stored.tables.insert(table.id);
  });
}

}  // namespace sheaf
