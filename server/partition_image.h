// The image of a partition: all that a shard has of it, at one index of the shard's log, as a list of pieces.
//
// For whoever is to have the partition without its log: a store of snapshots, a new replica, a checkpoint.
// Piece: a redo record (server/redo_record.h) whose header is a pb::ImageRecord. Pieces of the state come first, in
//   order: LSN, passes with the clocks of their lanes, ledgers; the windows of ranges and sessions; gradients kept for
//   BSP; the rows of before the last clock; sightings of keys without a row. Then rows [weights | optimizer's state],
//   by table and key. The same state gives the same bytes. Nothing depends on epochs, or on where the partition lies.
// Thread-safety: none. What is read is checked as a whole: its sizes, its order, and that nothing is missing.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "server/partition_state.h"
#include "server/redo_record.h"

namespace sheaf {

// The parts of a record: EncodeRedo's. A piece is them, one after the other.
using ImagePiece = std::vector<Buffer>;

inline constexpr size_t kImagePieceBytes = size_t{1} << 20;  // about; one that cannot be cut is larger

struct ImageTable {
  uint32_t id = 0;
  uint32_t width = 0;  // floats a row
  uint64_t rows = 0;
  bool open = false;   // or more
};

// What of a partition the pieces of its state are made from. All is lent.
struct ImageSource {
  struct Session {
    uint64_t high = 0;
    uint64_t low = 0;
    const SeqWindow* window = nullptr;
  };
  uint32_t partition = 0;
  uint32_t partition_count = 0;
  uint64_t index = 0;  // records before it are in
  Lsn lsn;
  const PartitionState* state = nullptr;
  std::vector<Session> sessions;   // ascending
  std::vector<ImageTable> tables;  // ascending, with rows
  uint64_t job = 0;                // whose passes; 0: all
};

// Kept gradients must have been cut by partition.
std::vector<ImagePiece> EncodeImageState(const ImageSource& source, size_t piece_bytes = kImagePieceBytes);
// `rows`: [keys, width] floats.
ImagePiece EncodeImageRows(uint32_t partition, uint64_t index, uint32_t table, uint32_t width, Buffer keys,
                           Buffer rows);
// How many rows a piece of about so many bytes has.
size_t ImageRowsIn(size_t piece_bytes, size_t width);

// An image that is read.
struct PartitionImage {
  struct Session {
    uint64_t high = 0;
    uint64_t low = 0;
    SeqWindow window;
  };
  uint32_t partition = 0;
  uint64_t index = 0;
  Lsn lsn;
  std::unique_ptr<PartitionState> state;
  std::vector<Session> sessions;
  std::vector<ImageTable> tables;
};

// Puts an image together from its pieces, in order.
class ImageReader {
 public:
  // Is told the rows: keys ascending, each once, all of the partition; `rows` is [keys, width]. May refuse them.
  using RowTaker =
      std::function<Status(const ImageTable& table, std::span<const HashedKey> keys, std::span<const float> rows)>;
  ImageReader(uint32_t partition_count, RowTaker take_rows)
      : partition_count_(partition_count), take_rows_(std::move(take_rows)) {}

  // kDataLoss: it is damaged, or not the next. The image is of no use then.
  Status Take(const Buffer& piece);
  // All pieces are here.
  bool complete() const;
  bool begun() const { return image_.state != nullptr; }
  // As far as it is known; of the state's first piece on. Tables are all known then.
  PartitionImage& image() { return image_; }

 private:
  // Of a kept gradient, or of an undo, until all of its pieces are here.
  struct Collected {
    uint32_t width = 0;
    std::vector<HashedKey> keys;
    std::vector<float> values;
  };
  using KeptName = std::pair<PassKey, uint32_t>;         // place in ImagePass.kept
  using PartName = std::pair<uint32_t, uint32_t>;        // part, table

  Status TakeState(const pb::ImageState& state);
  Status TakeWindows(const pb::ImageWindows& windows);
  Status TakeRows(const pb::ImageRows& header, const RedoRecord& record);
  Status Collect(Collected& into, uint32_t width, const RedoRecord& record);
  Status Finish();
  PassState* FindPass(uint64_t job, uint32_t pass);

  const uint32_t partition_count_;
  const RowTaker take_rows_;
  PartitionImage image_;
  uint32_t pieces_ = 0;      // of the state
  uint32_t next_piece_ = 0;
  std::map<PassKey, std::vector<pb::ImageKept>> kept_;
  std::map<KeptName, std::map<PartName, Collected>> gradients_;
  std::map<std::pair<PassKey, uint32_t>, Collected> undo_;  // by table
  size_t table_ = 0;         // whose rows come next
  uint64_t rows_taken_ = 0;  // of it
  HashedKey last_key_ = 0;   // of those
};

}  // namespace sheaf
