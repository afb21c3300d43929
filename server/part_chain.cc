#include "server/part_chain.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/ids.h"

namespace sheaf {
namespace {

constexpr uint32_t kMaxWidth = uint32_t{1} << 20;  // floats of a row with its optimizer's state

template <typename... Parts>
Failure UnusablePart(const Parts&... parts) {
  return Fail(ErrorCode::kDataLoss, "the file of a partition has ", parts...);
}

}  // namespace

PartChain::PartChain(std::vector<std::unique_ptr<FileSource>> files) {
  for (auto& file : files) walks_.emplace_back().file = std::make_unique<PartFileReader>(std::move(file));
}

Result<std::optional<Buffer>> PartChain::Next() {
  if (in_state_) {
    SHEAF_ASSIGN_OR_RETURN(auto state, NextState());
    if (state) return state;
    in_state_ = false;
    for (size_t i = 0; i + 1 < walks_.size(); ++i) {
      SHEAF_RETURN_IF_ERROR(walks_[i].file->Begin());
      SHEAF_RETURN_IF_ERROR(Advance(walks_[i]));
    }
  }
  return NextRows();
}

Result<std::optional<Buffer>> PartChain::NextState() {
  Walk& last = walks_.back();
  if (!std::exchange(last.begun, true)) SHEAF_RETURN_IF_ERROR(last.file->Begin());
  SHEAF_ASSIGN_OR_RETURN(auto piece, last.file->Next());
  if (!piece) {
    last.ended = true;
    return std::optional<Buffer>();
  }
  SHEAF_ASSIGN_OR_RETURN(RedoRecord record, DecodeRedo(*piece));
  if (!record.header.has_image()) return UnusablePart("a piece that is none");
  if (!partition_) partition_ = record.header.image().partition();
  if (!record.header.image().has_rows()) return piece;
  SHEAF_RETURN_IF_ERROR(TakePiece(last, std::move(record)));
  if (last.row == last.rows) SHEAF_RETURN_IF_ERROR(Advance(last));
  return std::optional<Buffer>();
}

Status PartChain::TakePiece(Walk& walk, RedoRecord record) {
  const pb::ImageRecord& image = record.header.image();
  if (image.partition() != partition_) return UnusablePart("rows of partition ", image.partition());
  const uint32_t table = image.rows().table(), width = image.rows().width();
  const size_t rows = record.keys.size() / sizeof(HashedKey);
  if (width == 0 || width > kMaxWidth || record.values.size() != rows * width * sizeof(float)) {
    return UnusablePart(rows, " rows of ", width, " floats in ", record.values.size(), " bytes");
  }
  const auto keys = record.keys.As<HashedKey>();
  const bool ascends = std::ranges::adjacent_find(keys, std::greater_equal<>()) == keys.end();
  const bool follows = walk.rows == 0 || table > walk.table ||
                       (table == walk.table && (rows == 0 || keys.front() > walk.record.keys.As<HashedKey>().back()));
  if (!ascends || !follows) return UnusablePart("rows out of order");
  walk.record = std::move(record);
  walk.table = table;
  walk.width = width;
  walk.row = 0;
  walk.rows = rows;
  return {};
}

Status PartChain::Advance(Walk& walk) {
  if (walk.rows > 0 && ++walk.row < walk.rows) return {};
  while (true) {
    SHEAF_ASSIGN_OR_RETURN(const auto piece, walk.file->Next());
    if (!piece) {
      walk.ended = true;
      return {};
    }
    SHEAF_ASSIGN_OR_RETURN(RedoRecord record, DecodeRedo(*piece));
    if (!record.header.has_image()) return UnusablePart("a piece that is none");
    if (!record.header.image().has_rows()) {
      if (walk.rows > 0) return UnusablePart("state behind rows");
      continue;
    }
    SHEAF_RETURN_IF_ERROR(TakePiece(walk, std::move(record)));
    if (walk.rows > 0) return {};
  }
}

Result<std::optional<Buffer>> PartChain::NextRows() {
  std::vector<HashedKey> keys;
  std::vector<float> rows;
  uint32_t table = 0, width = 0;
  size_t most = 0;
  while (true) {
    // Of those that stand at the least row the last file counts.
    const Walk* least = nullptr;
    for (const Walk& walk : walks_) {
      if (walk.ended) continue;
      const bool is_least =
          least == nullptr || std::pair(walk.table, walk.key()) <= std::pair(least->table, least->key());
      if (is_least) least = &walk;
    }
    if (least == nullptr || (!keys.empty() && (least->table != table || keys.size() == most))) break;
    if (keys.empty()) {
      table = least->table;
      width = least->width;
      most = ImageRowsIn(kImagePieceBytes, width);
      keys.reserve(most);
      rows.reserve(most * width);
    }
    if (least->width != width) return UnusablePart("rows of ", least->width, " and of ", width, " floats in one table");
    const HashedKey key = least->key();
    const auto floats = least->record.values.As<float>().subspan(least->row * width, width);
    keys.push_back(key);
    rows.insert(rows.end(), floats.begin(), floats.end());
    for (Walk& walk : walks_) {
      if (!walk.ended && walk.table == table && walk.key() == key) SHEAF_RETURN_IF_ERROR(Advance(walk));
    }
  }
  if (keys.empty()) return std::optional<Buffer>();
  return std::optional<Buffer>(JoinRecord(EncodeImageRows(*partition_, /*index=*/0, table, width,
                                                          Buffer::FromVector(std::move(keys)),
                                                          Buffer::FromVector(std::move(rows)))));
}

}  // namespace sheaf
