// What a shard's checkpoints do with files: write parts of one, read parts of another. All of it blocks.
//
// Thread-safety: none; whoever carries out the shard's work calls it, in order. The space is lent; nullptr: the server
// has no --checkpoint_dir, and all work fails with that.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/checkpoint/file_space.h"
#include "common/checkpoint/manifest.h"
#include "proto/control.pb.h"
#include "server/part_chain.h"
#include "server/part_file.h"
#include "server/partition_image.h"

namespace sheaf {

// The next pieces of a partition's file.
struct PartWork {
  uint64_t id = 0;                      // of the checkpoint
  std::string folder;
  pb::CheckpointPart part;              // but for bytes and digest
  std::vector<ImagePiece> pieces;
  bool last = false;                    // of this partition
  bool end = false;                     // of all partitions
};
struct PartDone {
  uint64_t id = 0;
  Status status;
  std::vector<pb::CheckpointPart> parts;  // that are whole and synced now
};

// The next pieces of a partition's image, as a checkpoint has it.
struct ReadWork {
  pb::RestoreOrder order;
  uint32_t partition = 0;
  bool first = false;
};
struct ReadDone {
  uint32_t partition = 0;
  Status status;
  std::vector<Buffer> pieces;           // some; none: there are no more
};

class CheckpointFiles {
 public:
  explicit CheckpointFiles(FileSpace* space) : space_(space) {}

  PartDone Write(const PartWork& work);
  ReadDone Read(const ReadWork& work);

 private:
  Status WritePieces(const PartWork& work, std::vector<pb::CheckpointPart>& done);
  Status SyncWritten(std::vector<pb::CheckpointPart>& done);
  Status ReadPieces(const ReadWork& work, std::vector<Buffer>& pieces);
  // Checks every file of the partition before the first piece of it is handed out.
  Status OpenChain(const ReadWork& work);

  FileSpace* const space_;
  // Whole, and to be synced together: what the first sync makes the disk write, the others need not wait for again.
  struct Written {
    pb::CheckpointPart part;
    std::unique_ptr<PartFileWriter> writer;
  };
  std::vector<Written> written_;
  std::unique_ptr<PartFileWriter> writer_;  // of the file that is being written
  uint64_t writing_ = 0;                    // the checkpoint, and partition, that it is of
  uint32_t partition_ = 0;
  std::unique_ptr<Manifest> manifest_;      // that was read last
  std::unique_ptr<PartChain> chain_;
};

}  // namespace sheaf
