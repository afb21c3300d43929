// Images of partitions: how all of one is told, and taken over.
#include <algorithm>
#include <utility>

#include "server/shard_impl.h"

namespace sheaf {
namespace {

// Room is made for so many times the rows that have come, if so many are to come.
constexpr uint64_t kTrustedAhead = 64;

}  // namespace

std::vector<ImagePiece> ShardCore::Impl::Export(uint32_t partition, uint64_t index) {
  if (partition >= partitions.size() || partitions[partition] == nullptr) return {};
  std::vector<ImageTable> with_rows;
  std::vector<ImagePiece> row_pieces;
  for (auto& [id, table] : tables) {
    RowStore* const store = table.rows == nullptr ? nullptr : table.rows->store(partition);
    if (store == nullptr || store->size() == 0) continue;
    with_rows.push_back({id, table.layout.stride, store->size()});
    const size_t most = ImageRowsIn(kImagePieceBytes, table.layout.stride);
    for (std::optional<HashedKey> from = HashedKey{0}; from;) {
      std::vector<HashedKey> keys;
      std::vector<float> floats;
      from = store->Copy(RowStore::Which::kAll, *from, most, keys, floats);
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
                                                     std::vector<ImageTable> with_rows) const {
  ImageSource source;
  source.partition = partition;
  source.partition_count = static_cast<uint32_t>(partitions.size());
  source.index = index;
  source.lsn = lsns[partition];
  source.state = partitions[partition].get();
  source.tables = std::move(with_rows);
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

}  // namespace sheaf
