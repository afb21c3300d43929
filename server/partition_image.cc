#include "server/partition_image.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/partition.h"
#include "common/base/planted_bug.h"

namespace sheaf {
namespace {

constexpr size_t kStreamBytes = 40;  // about, of a window in order
constexpr uint32_t kMaxImagePasses = 4096;

template <typename... Parts>
Failure Unusable(const Parts&... parts) {
  return Fail(ErrorCode::kDataLoss, "an image of a partition has ", parts...);
}

// Makes the pieces of a state, which are numbered.
class StatePieces {
 public:
  explicit StatePieces(const ImageSource& source) : source_(source) {}

  pb::RedoHeader Begin() {
    pb::RedoHeader header;
    pb::ImageRecord& record = *header.mutable_image();
    record.set_partition(source_.partition);
    record.set_index(source_.index);
    record.set_piece(count_++);
    return header;
  }
  void Add(const pb::RedoHeader& header, std::vector<HashedKey> keys = {}, std::vector<float> values = {}) {
    pieces_.push_back(
        EncodeRedo(header, {Buffer::FromVector(std::move(keys))}, {Buffer::FromVector(std::move(values))}));
  }
  // The first is made last, when it is known how many there are.
  std::vector<ImagePiece> Finish(pb::RedoHeader first) {
    first.mutable_image()->mutable_state()->set_pieces(count_);
    pieces_.insert(pieces_.begin(), EncodeRedo(first, {}, {}));
    return std::move(pieces_);
  }

 private:
  const ImageSource& source_;
  uint32_t count_ = 0;
  std::vector<ImagePiece> pieces_;
};

class StateEncoder {
 public:
  StateEncoder(const ImageSource& source, size_t piece_bytes)
      : source_(source), piece_bytes_(piece_bytes), pieces_(source) {}

  std::vector<ImagePiece> Encode() {
    pb::RedoHeader first = pieces_.Begin();
    pb::ImageState& state = *first.mutable_image()->mutable_state();
    state.set_lsn(source_.lsn.value);
    state.set_partition_count(source_.partition_count);
    if (source_.state->trained_seconds > 0) state.set_trained_seconds(source_.state->trained_seconds);
    for (const ImageTable& table : source_.tables) {
      pb::ImageTable& added = *state.add_table();
      added.set_table(table.id);
      added.set_width(table.width);
      added.set_rows(table.rows);
    }
    for (const auto& [key, examples] : source_.state->ended) {
      if (!Wanted(key)) continue;
      pb::ImageLedger& ledger = *state.add_ended();
      ledger.set_job(key.job);
      ledger.set_pass(key.pass);
      ledger.set_examples(examples);
    }
    for (const auto& [key, pass] : source_.state->passes) {
      if (Wanted(key)) EncodePass(key, pass, *state.add_pass());
    }
    for (const ImageSource::Session& session : source_.sessions) AddStream(nullptr, session);
    EndStreams();
    for (const auto& [table, sightings] : source_.state->sightings) EncodeSightings(table, sightings);
    return pieces_.Finish(std::move(first));
  }

 private:
  bool Wanted(const PassKey& key) const { return source_.job == 0 || key.job == source_.job; }
  void EncodePass(const PassKey& key, const PassState& pass, pb::ImagePass& image) {
    image.set_job(key.job);
    image.set_pass(key.pass);
    image.set_examples(pass.examples);
    pass.clock.Save(image);
    if (pass.undo.valid) image.set_undo_clock(pass.undo.clock);
    std::vector<ImageSource::Session> streams;
    for (const auto& [range, window] : pass.streams) streams.push_back({0, range, &window});
    std::ranges::sort(streams, {}, &ImageSource::Session::low);
    for (const auto& stream : streams) AddStream(&key, stream);
    EndStreams();
    for (const auto& [clock, gradients] : pass.kept) {
      for (const KeptGradient& gradient : gradients) {
        pb::ImageKept& kept = *image.add_kept();
        kept.set_clock(clock);
        kept.set_lane(gradient.lane.value);
        for (size_t part = 0; part < gradient.parts.size(); ++part) {
          EncodeGradient(key, image.kept_size() - 1, part, *gradient.parts[part]);
        }
      }
    }
    for (const auto& [table, rows] : pass.undo.tables) {
      if (rows.keys.empty()) continue;
      const size_t width = rows.weights.size() / rows.keys.size();
      Cut(rows.keys, rows.weights.data(), width, [&](pb::ImageRecord& record) {
        pb::ImageUndo& undo = *record.mutable_undo();
        undo.set_job(key.job);
        undo.set_pass(key.pass);
        undo.set_table(table);
        undo.set_width(static_cast<uint32_t>(width));
      });
    }
  }

  void EncodeSightings(uint32_t table, const Sightings& sightings) {
    if (source_.job != 0 && std::ranges::find(source_.tables, table, &ImageTable::id) == source_.tables.end()) return;
    pb::RedoHeader header = pieces_.Begin();
    pb::ImageSightings& image = *header.mutable_image()->mutable_sightings();
    image.set_table(table);
    image.set_since_halved(sightings.since_halved());
    pieces_.Add(header, sightings.Save());
  }

  // Decoded: not every codec can be cut by rows, and a sum takes them as floats.
  void EncodeGradient(const PassKey& key, int kept, size_t number, const RequestPart& part) {
    const auto index = part.IndexOf(source_.partition);
    if (!index) return;
    for (const RequestBlock& block : part.blocks) {
      if (block.key_count() == 0 || block.keys(*index).empty()) continue;
      const float* const floats = FloatsOf(block, scratch_);
      Cut(block.keys(*index), floats + size_t{block.begin[*index]} * block.dim, block.dim,
          [&](pb::ImageRecord& record) {
            pb::ImageGradient& gradient = *record.mutable_gradient();
            gradient.set_job(key.job);
            gradient.set_pass(key.pass);
            gradient.set_kept(static_cast<uint32_t>(kept));
            gradient.set_part(static_cast<uint32_t>(number));
            gradient.set_table(block.table);
            gradient.set_width(block.dim);
          });
    }
  }

  template <typename Name>
  void Cut(std::span<const HashedKey> keys, const float* values, size_t width, Name name) {
    const size_t most = ImageRowsIn(piece_bytes_, width);
    for (size_t first = 0; first < keys.size(); first += most) {
      const size_t count = std::min(most, keys.size() - first);
      pb::RedoHeader header = pieces_.Begin();
      name(*header.mutable_image());
      const float* const from = values + first * width;
      const auto some = keys.subspan(first, count);
      pieces_.Add(header, {some.begin(), some.end()}, {from, from + count * width});
    }
  }

  void AddStream(const PassKey* pass, const ImageSource::Session& stream) {
    if (Planted(Bug::kImageWithoutWindows)) return;
    if (!streams_) {
      streams_ = pieces_.Begin();
      pb::ImageWindows& windows = *streams_->mutable_image()->mutable_windows();
      if (pass != nullptr) {
        windows.set_job(pass->job);
        windows.set_pass(pass->pass);
      }
    }
    pb::ImageStream& added = *streams_->mutable_image()->mutable_windows()->add_stream();
    if (pass == nullptr) added.set_high(stream.high);
    added.set_low(stream.low);
    SaveWindow(*stream.window, *added.mutable_window());
    stream_bytes_ += kStreamBytes + static_cast<size_t>(added.window().word_size()) * sizeof(uint64_t);
    if (stream_bytes_ >= piece_bytes_) EndStreams();
  }
  void EndStreams() {
    if (streams_) pieces_.Add(*streams_);
    streams_.reset();
    stream_bytes_ = 0;
  }

  const ImageSource& source_;
  const size_t piece_bytes_;
  StatePieces pieces_;
  std::optional<pb::RedoHeader> streams_;
  size_t stream_bytes_ = 0;
  std::vector<float> scratch_;
};

}  // namespace

size_t ImageRowsIn(size_t piece_bytes, size_t width) {
  return std::max<size_t>(1, piece_bytes / (sizeof(HashedKey) + width * sizeof(float)));
}

std::vector<ImagePiece> EncodeImageState(const ImageSource& source, size_t piece_bytes) {
  return StateEncoder(source, piece_bytes).Encode();
}

ImagePiece EncodeImageRows(uint32_t partition, uint64_t index, uint32_t table, uint32_t width, Buffer keys,
                           Buffer rows) {
  pb::RedoHeader header;
  pb::ImageRecord& record = *header.mutable_image();
  record.set_partition(partition);
  record.set_index(index);
  record.mutable_rows()->set_table(table);
  record.mutable_rows()->set_width(width);
  return EncodeRedo(header, {std::move(keys)}, {std::move(rows)});
}

// ---- reading

bool ImageReader::complete() const {
  return begun() && next_piece_ == pieces_ && table_ == image_.tables.size();
}

Status ImageReader::Take(const Buffer& piece) {
  SHEAF_ASSIGN_OR_RETURN(const RedoRecord record, DecodeRedo(piece));
  if (!record.header.has_image()) return Unusable("a piece that is none");
  const pb::ImageRecord& image = record.header.image();
  if (begun() && (image.partition() != image_.partition || image.index() != image_.index)) {
    return Unusable("a piece of another: partition ", image.partition(), " at ", image.index());
  }
  if (image.has_rows()) {
    if (!begun() || next_piece_ != pieces_) return Unusable("rows before the state's last piece");
    return TakeRows(image.rows(), record);
  }
  if (image.piece() != next_piece_ || image.has_state() != !begun() || (begun() && next_piece_ == pieces_)) {
    return Unusable("piece ", image.piece(), " of its state where piece ", next_piece_, " of ", pieces_, " was due");
  }
  ++next_piece_;
  switch (image.body_case()) {
    case pb::ImageRecord::kState:
      image_.partition = image.partition();
      image_.index = image.index();
      SHEAF_RETURN_IF_ERROR(TakeState(image.state()));
      break;
    case pb::ImageRecord::kWindows:
      SHEAF_RETURN_IF_ERROR(TakeWindows(image.windows()));
      break;
    case pb::ImageRecord::kGradient: {
      const pb::ImageGradient& gradient = image.gradient();
      const PassKey pass{gradient.job(), gradient.pass()};
      const auto kept = kept_.find(pass);
      if (kept == kept_.end() || gradient.kept() >= kept->second.size()) return Unusable("a gradient of no push");
      Collected& into = gradients_[{pass, gradient.kept()}][{gradient.part(), gradient.table()}];
      SHEAF_RETURN_IF_ERROR(Collect(into, gradient.width(), record));
      break;
    }
    case pb::ImageRecord::kUndo: {
      const PassState* const pass = FindPass(image.undo().job(), image.undo().pass());
      if (pass == nullptr || !pass->undo.valid) return Unusable("rows of before a clock that was not applied");
      Collected& into = undo_[{{image.undo().job(), image.undo().pass()}, image.undo().table()}];
      SHEAF_RETURN_IF_ERROR(Collect(into, image.undo().width(), record));
      break;
    }
    case pb::ImageRecord::kSightings: {
      const pb::ImageSightings& from = image.sightings();
      auto sightings = Sightings::Restore(record.keys.As<uint64_t>(), from.since_halved(), partition_count_);
      if (!sightings) return Unusable("no sightings of features of table ", from.table());
      image_.state->sightings.insert_or_assign(from.table(), std::move(*sightings));
      break;
    }
    default:
      return Fail(ErrorCode::kVersionMismatch, "an image has a piece of a kind that this build does not know");
  }
  return next_piece_ == pieces_ ? Finish() : Status();
}

Status ImageReader::TakeState(const pb::ImageState& state) {
  if (state.partition_count() != partition_count_ || image_.partition >= partition_count_) {
    return Unusable("partition ", image_.partition, " of ", state.partition_count(), "; here are ", partition_count_);
  }
  if (state.pieces() == 0 || state.pass_size() > static_cast<int>(kMaxImagePasses)) {
    return Unusable(state.pieces(), " pieces and ", state.pass_size(), " passes");
  }
  image_.state = std::make_unique<PartitionState>();
  image_.state->id = PartitionId(image_.partition);
  image_.lsn = Lsn(state.lsn());
  image_.state->trained_seconds = state.trained_seconds();
  pieces_ = state.pieces();
  for (const pb::ImageTable& table : state.table()) {
    const bool ascending = image_.tables.empty() || image_.tables.back().id < table.table();
    const bool has_rows = table.rows() > 0 || table.open();
    if (!ascending || !has_rows || table.width() == 0) return Unusable("no rows of table ", table.table());
    image_.tables.push_back({table.table(), table.width(), table.rows(), table.open()});
  }
  for (const pb::ImageLedger& ledger : state.ended()) {
    image_.state->ended[{ledger.job(), ledger.pass()}] = ledger.examples();
  }
  for (const pb::ImagePass& from : state.pass()) {
    const PassKey key{from.job(), from.pass()};
    const auto [at, fresh] = image_.state->passes.try_emplace(key);
    PassState& pass = at->second;
    if (!fresh || !pass.clock.Restore(from)) return Unusable("no clocks of pass ", key.pass, " of job ", key.job);
    pass.examples = from.examples();
    pass.undo.valid = from.has_undo_clock();
    pass.undo.clock = from.undo_clock();
    kept_[key].assign(from.kept().begin(), from.kept().end());
  }
  return {};
}

PassState* ImageReader::FindPass(uint64_t job, uint32_t pass) {
  if (!begun()) return nullptr;
  const auto found = image_.state->passes.find({job, pass});
  return found == image_.state->passes.end() ? nullptr : &found->second;
}

Status ImageReader::TakeWindows(const pb::ImageWindows& windows) {
  PassState* const pass = windows.has_job() ? FindPass(windows.job(), windows.pass()) : nullptr;
  if (windows.has_job() && pass == nullptr) return Unusable("ranges of a pass that it does not have");
  for (const pb::ImageStream& stream : windows.stream()) {
    auto window = RestoreWindow(stream.window());
    if (!window) return Unusable("no window of stream ", stream.low());
    if (pass == nullptr) {
      image_.sessions.push_back({stream.high(), stream.low(), std::move(*window)});
    } else if (!pass->streams.try_emplace(stream.low(), std::move(*window)).second) {
      return Unusable("range ", stream.low(), " twice");
    }
  }
  return {};
}

Status ImageReader::Collect(Collected& into, uint32_t width, const RedoRecord& record) {
  const auto keys = record.keys.As<HashedKey>();
  const bool sized = width > 0 && width <= kMaxDim && record.values.size() == keys.size() * width * sizeof(float);
  if (!sized || keys.empty() || (into.width != 0 && into.width != width)) {
    return Unusable(keys.size(), " keys and ", record.values.size(), " bytes of values of ", width, " floats");
  }
  into.width = width;
  for (const HashedKey key : keys) {
    if (PartitionOf(key, partition_count_).value != image_.partition) return Unusable("a key of another partition");
    if (!into.keys.empty() && into.keys.back() >= key) return Unusable("keys out of order");
    into.keys.push_back(key);
  }
  const auto floats = record.values.As<float>();
  into.values.insert(into.values.end(), floats.begin(), floats.end());
  return {};
}

// The state is here: what came in pieces is put together.
Status ImageReader::Finish() {
  for (auto& [key, list] : kept_) {
    PassState& pass = *FindPass(key.job, key.pass);
    for (uint32_t place = 0; place < list.size(); ++place) {
      KeptGradient gradient{LaneId(list[place].lane()), {}};
      uint32_t part_number = 0;
      for (auto& [name, collected] : gradients_[{key, place}]) {
        if (gradient.parts.empty() || part_number != name.first) {
          auto part = std::make_shared<RequestPart>();
          part->partitions = {image_.partition};
          gradient.parts.push_back(std::move(part));
          part_number = name.first;
        }
        RequestBlock& block = gradient.parts.back()->blocks.emplace_back();
        block.table = name.second;
        block.dim = collected.width;
        block.begin = {0, static_cast<uint32_t>(collected.keys.size())};
        block.key_bytes = Buffer::FromVector(std::move(collected.keys));
        block.values = Buffer::FromVector(std::move(collected.values));
      }
      pass.kept[list[place].clock()].push_back(std::move(gradient));
    }
  }
  for (auto& [name, collected] : undo_) {
    Undo::TableRows& rows = FindPass(name.first.job, name.first.pass)->undo.tables[name.second];
    rows.keys = std::move(collected.keys);
    rows.weights = std::move(collected.values);
  }
  kept_.clear();
  gradients_.clear();
  undo_.clear();
  return {};
}

Status ImageReader::TakeRows(const pb::ImageRows& header, const RedoRecord& record) {
  if (table_ == image_.tables.size()) return Unusable("more rows than it says");
  const ImageTable& table = image_.tables[table_];
  const auto keys = record.keys.As<HashedKey>();
  const bool sized = record.values.size() / sizeof(float) / table.width == keys.size() &&
                     record.values.size() == keys.size() * table.width * sizeof(float);
  const uint64_t due = table.rows - std::min(table.rows, rows_taken_);
  const bool as_many = table.open ? !keys.empty() || due == 0 : !keys.empty() && keys.size() <= due;
  if (header.table() != table.id || header.width() != table.width || !sized || !as_many) {
    return Unusable(keys.size(), " rows of table ", header.table(), " where ", due, " of table ",
                    table.id, " were due");
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    if (PartitionOf(keys[i], partition_count_).value != image_.partition) return Unusable("a row of another partition");
    if (rows_taken_ + i > 0 && keys[i] <= last_key_) return Unusable("rows out of order");
    last_key_ = keys[i];
  }
  if (!keys.empty()) SHEAF_RETURN_IF_ERROR(take_rows_(table, keys, record.values.As<float>()));
  rows_taken_ += keys.size();
  if (table.open ? !keys.empty() : rows_taken_ < table.rows) return {};
  ++table_;
  rows_taken_ = 0;
  return {};
}

}  // namespace sheaf
