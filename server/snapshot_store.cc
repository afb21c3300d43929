#include "server/snapshot_store.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kRowsFormat = 2;
constexpr uint32_t kOldestFormat = 1;  // without rows ahead of their image
constexpr std::string_view kRound = "round", kConfig = "config", kImage = "image", kState = "state", kRow = "w",
                           kAhead = "ahead";
constexpr std::string_view kEnd = "\xff";

template <typename Number>
Number Swapped(Number number) {
  if constexpr (sizeof(number) == 8) return __builtin_bswap64(number);
  if constexpr (sizeof(number) == 4) return __builtin_bswap32(number);
}

template <typename Number>
void AddNumber(std::string& key, Number number) {
  const Number big_endian = Swapped(number);
  key.append(reinterpret_cast<const char*>(&big_endian), sizeof(big_endian));
}

template <typename Number>
Number NumberAt(std::string_view bytes, size_t at) {
  Number number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof(number));
  return Swapped(number);
}

std::string KeyOf(std::string_view kind, uint32_t partition) {
  std::string key(kind);
  AddNumber(key, partition);
  return key;
}
// The first key behind all that begin so: these end with a number that is not the greatest.
std::string Behind(std::string prefix) {
  while (static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  ++prefix.back();
  return prefix;
}
std::string KeyOf(std::string_view kind, uint32_t partition, uint32_t table_or_piece) {
  std::string key = KeyOf(kind, partition);
  AddNumber(key, table_or_piece);
  return key;
}
std::string_view BytesOf(const void* data, size_t size) { return {static_cast<const char*>(data), size}; }

void DeleteAll(KvBatch& batch, const std::string& prefix) { batch.DeleteRange(prefix, Behind(prefix)); }

void DeleteAllBut(KvBatch& batch, uint32_t partition, const std::vector<uint32_t>& kept_tables) {
  const std::string all = KeyOf(kRow, partition);
  std::string begin = all;
  for (const uint32_t table : kept_tables) {
    const std::string kept = KeyOf(kRow, partition, table);
    batch.DeleteRange(begin, kept);
    begin = Behind(kept);
  }
  batch.DeleteRange(begin, Behind(all));
}

// A row's floats, and what is behind them.
struct StoredRow {
  std::string_view floats;
  uint64_t index = 0;  // 0: it is as of an image
};
Result<StoredRow> SplitRow(std::string_view value, uint32_t width) {
  const size_t bytes = width * sizeof(float);
  if (value.size() == bytes) return StoredRow{value};
  if (value.size() == bytes + sizeof(uint64_t)) {
    return StoredRow{value.substr(0, bytes), NumberAt<uint64_t>(value, bytes)};
  }
  return Fail(ErrorCode::kDataLoss, "a row has ", value.size(), " bytes, not ", bytes);
}

// Tables of which there are rows ahead of the image, and their widths.
using AheadTables = std::map<uint32_t, uint32_t>;

Result<AheadTables> ReadAhead(KvStore& store, uint32_t partition) {
  AheadTables tables;
  SHEAF_ASSIGN_OR_RETURN(const auto bytes, store.Get(KeyOf(kAhead, partition)));
  if (!bytes) return tables;
  constexpr size_t kEach = 2 * sizeof(uint32_t);
  if (bytes->size() % kEach != 0) return Fail(ErrorCode::kDataLoss, "what is ahead of an image cannot be read");
  for (size_t at = 0; at < bytes->size(); at += kEach) {
    tables[NumberAt<uint32_t>(*bytes, at)] = NumberAt<uint32_t>(*bytes, at + sizeof(uint32_t));
  }
  return tables;
}

// A partition's rows that are read, cut into pieces.
class RowPieces {
 public:
  RowPieces(uint32_t partition, uint64_t index, const std::function<Status(const Buffer&)>& take,
            const AheadTaker& ahead)
      : partition_(partition), index_(index), take_(take), ahead_(ahead) {}

  Status Begin(const pb::ImageTable& table) {
    table_ = table.table();
    width_ = table.width();
    open_ = table.open();
    if (width_ == 0 || width_ > kMaxDim * 8) return Fail(ErrorCode::kDataLoss, "an image of rows of ", width_);
    most_ = ImageRowsIn(kImagePieceBytes, width_);
    return {};
  }
  Status Add(HashedKey key, std::string_view value) {
    SHEAF_ASSIGN_OR_RETURN(const StoredRow row, SplitRow(value, width_));
    if (row.index > index_) SHEAF_RETURN_IF_ERROR(ahead_(table_, key, row.index));
    if (keys_.empty()) {
      keys_.reserve(most_);
      rows_.reserve(most_ * width_);
    }
    keys_.push_back(key);
    rows_.resize(rows_.size() + width_);
    std::memcpy(rows_.data() + rows_.size() - width_, row.floats.data(), row.floats.size());
    return keys_.size() == most_ ? Emit() : Status();
  }
  Status End() {
    if (!keys_.empty()) SHEAF_RETURN_IF_ERROR(Emit());
    return open_ ? Emit() : Status();  // without rows: that was all
  }

 private:
  Status Emit() {
    Buffer keys = Buffer::FromVector(std::exchange(keys_, {}));
    const ImagePiece piece = EncodeImageRows(partition_, index_, table_, width_, std::move(keys),
                                             Buffer::FromVector(std::exchange(rows_, {})));
    return take_(JoinRecord(piece));
  }

  const uint32_t partition_;
  const uint64_t index_;
  const std::function<Status(const Buffer&)>& take_;
  const AheadTaker& ahead_;
  uint32_t table_ = 0, width_ = 0;
  bool open_ = false;
  size_t most_ = 0;
  std::vector<HashedKey> keys_;
  std::vector<float> rows_;
};

}  // namespace

Status WriteSnapshot(KvStore& store, const PartitionSnapshot& snapshot) {
  const uint32_t partition = snapshot.partition;
  KvBatch batch;
  batch.Reserve(snapshot.bytes + snapshot.bytes / 4 + 4096);
  // One by one: a deleted range would be looked at by every read of a row until it is merged away.
  for (auto piece = static_cast<uint32_t>(snapshot.state.size());; ++piece) {
    const std::string key = KeyOf(kState, partition, piece);
    SHEAF_ASSIGN_OR_RETURN(const auto left, store.Get(key));
    if (!left) break;
    batch.Delete(key);
  }
  SHEAF_ASSIGN_OR_RETURN(const auto ahead, store.Get(KeyOf(kAhead, partition)));
  if (ahead) batch.Delete(KeyOf(kAhead, partition));
  SHEAF_ASSIGN_OR_RETURN(const auto image, store.Get(KeyOf(kImage, partition)));
  if (snapshot.whole && image) DeleteAllBut(batch, partition, snapshot.cold_tables);
  for (const uint32_t table : snapshot.gone_tables) DeleteAll(batch, KeyOf(kRow, partition, table));
  for (const ChangedRows& changed : snapshot.rows) {
    const std::string prefix = KeyOf(kRow, partition, changed.table);
    std::string key = prefix + std::string(sizeof(HashedKey), '\0');
    const size_t width = changed.rows.size() / changed.keys.size();
    for (size_t i = 0; i < changed.keys.size(); ++i) {
      const HashedKey big_endian = Swapped(changed.keys[i]);
      std::memcpy(key.data() + prefix.size(), &big_endian, sizeof(big_endian));
      batch.Put(key, BytesOf(changed.rows.data() + i * width, width * sizeof(float)));
    }
  }
  for (const ErasedRows& erased : snapshot.erased) {
    const std::string prefix = KeyOf(kRow, partition, erased.table);
    for (const HashedKey key : erased.keys) {
      std::string name = prefix;
      AddNumber(name, key);
      batch.Delete(name);
    }
  }
  for (uint32_t piece = 0; piece < snapshot.state.size(); ++piece) {
    batch.Put(KeyOf(kState, partition, piece), JoinRecord(snapshot.state[piece]).text());
  }
  if (snapshot.config.has_config()) batch.Put(kConfig, snapshot.config.SerializeAsString());
  std::string index;
  AddNumber(index, snapshot.index);
  batch.Put(KeyOf(kImage, partition), index);
  return store.Write(batch);
}

namespace {

Result<std::optional<pb::SnapshotRound>> ReadLastRound(KvStore& store) {
  std::optional<pb::SnapshotRound> round;
  SHEAF_ASSIGN_OR_RETURN(const auto bytes, store.Get(kRound));
  if (!bytes) return round;
  if (!round.emplace().ParseFromString(*bytes)) {
    return Fail(ErrorCode::kDataLoss, "the last round of snapshots cannot be read");
  }
  if (round->format() < kOldestFormat || round->format() > kRowsFormat) {
    return Fail(ErrorCode::kVersionMismatch, "the store of snapshots has format ", round->format(),
                ", this build knows ", kOldestFormat, " to ", kRowsFormat);
  }
  return round;
}

}  // namespace

Status WriteLeaving(KvStore& store, const LeavingRows& leaving) {
  SHEAF_ASSIGN_OR_RETURN(AheadTables tables, ReadAhead(store, leaving.partition));
  const size_t tables_before = tables.size();
  KvBatch batch;
  batch.Reserve(leaving.bytes + leaving.bytes / 4 + 4096);
  std::string value;
  for (const auto& [index, changed] : leaving.pieces) {
    const size_t width = changed.rows.size() / changed.keys.size();
    tables[changed.table] = static_cast<uint32_t>(width);
    std::string key = KeyOf(kRow, leaving.partition, changed.table);
    const size_t prefix = key.size();
    for (size_t i = 0; i < changed.keys.size(); ++i) {
      key.resize(prefix);
      AddNumber(key, changed.keys[i]);
      value.assign(BytesOf(changed.rows.data() + i * width, width * sizeof(float)));
      AddNumber(value, index);
      batch.Put(key, value);
    }
  }
  if (tables_before == 0) {
    SHEAF_ASSIGN_OR_RETURN(auto last, ReadLastRound(store));
    if (last && last->format() != kRowsFormat) {  // an older build is to know that it cannot read it
      last->set_format(kRowsFormat);
      batch.Put(kRound, last->SerializeAsString());
    }
  }
  if (tables.size() != tables_before) {
    std::string all;
    for (const auto& [table, width] : tables) {
      AddNumber(all, table);
      AddNumber(all, width);
    }
    batch.Put(KeyOf(kAhead, leaving.partition), all);
  }
  return store.Write(batch);
}

Status WriteRound(KvStore& store, const pb::SnapshotRound& round, const std::vector<uint32_t>& partitions,
                  const pb::ConfigRecord& config) {
  SHEAF_ASSIGN_OR_RETURN(const StoredRound stored, ReadRound(store));
  KvBatch batch;
  for (const auto& [partition, index] : stored.images) {
    if (std::ranges::binary_search(partitions, partition)) continue;
    batch.Delete(KeyOf(kImage, partition));
    batch.Delete(KeyOf(kAhead, partition));
    DeleteAll(batch, KeyOf(kState, partition));
    DeleteAll(batch, KeyOf(kRow, partition));
  }
  pb::SnapshotRound with_format = round;
  with_format.set_format(kRowsFormat);
  batch.Put(kRound, with_format.SerializeAsString());
  if (config.has_config()) batch.Put(kConfig, config.SerializeAsString());
  return store.Write(batch);
}

Status ClearSnapshots(KvStore& store) {
  KvBatch batch;
  batch.DeleteRange("", kEnd);
  SHEAF_RETURN_IF_ERROR(store.Write(batch));
  return store.Flush();
}

Result<StoredRound> ReadRound(KvStore& store) {
  StoredRound stored;
  SHEAF_ASSIGN_OR_RETURN(stored.round, ReadLastRound(store));
  const auto take = [&](std::string_view key, std::string_view value) -> Status {
    if (key.size() != kImage.size() + sizeof(uint32_t) || value.size() != sizeof(uint64_t)) {
      return Fail(ErrorCode::kDataLoss, "the store of snapshots has an image under a key that is none");
    }
    stored.images[NumberAt<uint32_t>(key, kImage.size())] = NumberAt<uint64_t>(value, 0);
    return {};
  };
  SHEAF_RETURN_IF_ERROR(store.Scan(kImage, Behind(std::string(kImage)), take));
  return stored;
}

namespace {

Status CopyRow(std::string_view value, uint32_t width, float* row) {
  SHEAF_ASSIGN_OR_RETURN(const StoredRow stored, SplitRow(value, width));
  std::memcpy(row, stored.floats.data(), stored.floats.size());
  return {};
}

Status ReadTable(KvStore& store, uint32_t partition_count, ColdTable& table) {
  const size_t key_bytes = KeyOf(kRow, 0, 0).size() + sizeof(HashedKey);
  std::string keys;
  keys.reserve(table.keys.size() * key_bytes);
  std::string prefix;
  PartitionId of{};
  for (const HashedKey key : table.keys) {
    if (const PartitionId partition = PartitionOf(key, partition_count); prefix.empty() || partition != of) {
      prefix = KeyOf(kRow, partition.value, table.table);
      of = partition;
    }
    keys += prefix;
    AddNumber(keys, key);
  }
  std::vector<std::string_view> views;
  views.reserve(table.keys.size());
  for (size_t i = 0; i < table.keys.size(); ++i) {
    views.push_back(std::string_view(keys).substr(i * key_bytes, key_bytes));
  }
  table.found.assign(table.keys.size(), 0);
  table.rows.resize(table.keys.size() * table.width);
  return store.MultiGet(views, [&](size_t place, std::string_view value) {
    table.found[place] = 1;
    return CopyRow(value, table.width, table.rows.data() + place * table.width);
  });
}

Status ReadRange(KvStore& store, ColdRange& range) {
  const std::string prefix = KeyOf(kRow, range.partition, range.table);
  std::string begin = prefix;
  AddNumber(begin, range.from);
  range.more = false;
  range.keys.clear();
  range.rows.clear();
  const Status read = store.Scan(begin, Behind(prefix), [&](std::string_view key, std::string_view value) -> Status {
    if (range.keys.size() == range.most) {
      range.more = true;
      return Fail(ErrorCode::kCancelled, "that is enough");
    }
    if (key.size() != prefix.size() + sizeof(HashedKey)) {
      return Fail(ErrorCode::kDataLoss, "a row of table ", range.table, " has a key that is none");
    }
    range.keys.push_back(NumberAt<HashedKey>(key, prefix.size()));
    range.rows.resize(range.rows.size() + range.width);
    return CopyRow(value, range.width, range.rows.data() + range.rows.size() - range.width);
  });
  return range.more ? Status() : read;
}

}  // namespace

Status ReadRows(KvStore& store, ColdRead& read) {
  for (ColdTable& table : read.tables) SHEAF_RETURN_IF_ERROR(ReadTable(store, read.partition_count, table));
  for (ColdRange& range : read.ranges) SHEAF_RETURN_IF_ERROR(ReadRange(store, range));
  return {};
}

Result<std::optional<pb::ConfigRecord>> ReadLatestConfig(KvStore& store) {
  SHEAF_ASSIGN_OR_RETURN(const auto bytes, store.Get(kConfig));
  if (!bytes) return std::optional<pb::ConfigRecord>();
  pb::ConfigRecord config;
  if (!config.ParseFromString(*bytes)) {
    return Fail(ErrorCode::kDataLoss, "the configuration of the last snapshot cannot be read");
  }
  return std::optional<pb::ConfigRecord>(std::move(config));
}

namespace {

// Of these tables there may be more rows than the image says, or some although it says none.
void OpenTables(const AheadTables& ahead, pb::ImageState& state) {
  AheadTables missing = ahead;
  for (pb::ImageTable& table : *state.mutable_table()) {
    if (missing.erase(table.table()) > 0) table.set_open(true);
  }
  for (const auto& [table, width] : missing) {
    pb::ImageTable& added = *state.add_table();
    added.set_table(table);
    added.set_width(width);
    added.set_rows(0);
    added.set_open(true);
  }
  std::sort(state.mutable_table()->begin(), state.mutable_table()->end(),
            [](const pb::ImageTable& a, const pb::ImageTable& b) { return a.table() < b.table(); });
}

}  // namespace

Status ReadImage(KvStore& store, uint32_t partition, const std::function<Status(const Buffer& piece)>& take,
                 const AheadTaker& ahead) {
  SHEAF_ASSIGN_OR_RETURN(const AheadTables tables_ahead, ReadAhead(store, partition));
  pb::ImageRecord first;
  const std::string states = KeyOf(kState, partition);
  SHEAF_RETURN_IF_ERROR(store.Scan(states, Behind(states), [&](std::string_view, std::string_view value) -> Status {
    const Buffer piece = JoinRecord({Buffer::CopyOf(std::as_bytes(std::span(value)))});
    if (first.has_state()) return take(piece);
    SHEAF_ASSIGN_OR_RETURN(RedoRecord record, DecodeRedo(piece));
    OpenTables(tables_ahead, *record.header.mutable_image()->mutable_state());
    first = record.header.image();
    return take(tables_ahead.empty() ? piece : JoinRecord(EncodeRedo(record.header, {}, {})));
  }));
  if (!first.has_state()) return Fail(ErrorCode::kDataLoss, "the state of partition ", partition, " is not there");
  RowPieces pieces(partition, first.index(), take, ahead);
  for (const pb::ImageTable& table : first.state().table()) {
    SHEAF_RETURN_IF_ERROR(pieces.Begin(table));
    const std::string prefix = KeyOf(kRow, partition, table.table());
    const auto take_row = [&](std::string_view key, std::string_view value) -> Status {
      if (key.size() != prefix.size() + sizeof(HashedKey)) {
        return Fail(ErrorCode::kDataLoss, "a row of table ", table.table(), " has a key that is none");
      }
      return pieces.Add(NumberAt<HashedKey>(key, prefix.size()), value);
    };
    SHEAF_RETURN_IF_ERROR(store.Scan(prefix, Behind(prefix), take_row));
    SHEAF_RETURN_IF_ERROR(pieces.End());
  }
  return {};
}

}  // namespace sheaf
