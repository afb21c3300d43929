// The image of a partition from a chain of files, of which each has what has changed since the one before: the state is
// the last one's, and of a row what the last file that has it says.
//
// Files are walked side by side, in order of table and key, so that only a piece of each is in memory.
// Thread-safety: none. Errors: those of the files; kDataLoss: one is not what it should be.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "server/part_file.h"
#include "server/redo_record.h"

namespace sheaf {

class PartChain {
 public:
  // The oldest first; at least one.
  explicit PartChain(std::vector<std::unique_ptr<FileSource>> files);

  // The next piece of the image; nothing: it was the last.
  Result<std::optional<Buffer>> Next();

 private:
  // Where the walk through a file's rows has come to.
  struct Walk {
    std::unique_ptr<PartFileReader> file;
    bool begun = false;
    RedoRecord record;  // of rows
    uint32_t table = 0, width = 0;
    size_t row = 0, rows = 0;  // of the record
    bool ended = false;

    HashedKey key() const { return record.keys.As<HashedKey>()[row]; }
  };
  // At the next row; pieces of state are left out.
  Status Advance(Walk& walk);
  Status TakePiece(Walk& walk, RedoRecord record);
  Result<std::optional<Buffer>> NextState();
  Result<std::optional<Buffer>> NextRows();

  std::vector<Walk> walks_;
  bool in_state_ = true;
  std::optional<uint32_t> partition_;
};

}  // namespace sheaf
