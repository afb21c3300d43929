// A redo log in files of a folder of its own, "segments": 00000000000000000042.redo begins with record 42.
//
// Segment:  "SHEAFLOG", u32 version, u32 0, u64 first index, u64 chain before it, u64 XXH3-64 of these 32 bytes.
// Record:   u32 size, u32 check of this header, u64 index, u64 synced, u64 XXH3-64 of the payload (seed: index);
//           payload; zeros up to a multiple of eight. All little-endian. Records below `synced` were on the disk when
//           this one was written.
// Chain:    a hash over the checks of all records so far, so that two logs can be told to be equal by one number.
//
// A record belongs to the log when it is whole. What was not synced may be torn after the loss of power, in any order:
// the log ends before the first record that is not sound, unless a later one says that it was on the disk. That is
// damage: it is refused, and nothing is changed. When it is opened a log is synced, as what it has will count as safe.
// Thread-safety: none. The folder must not be opened twice: its owner holds a lock above it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/storage/redo_log.h"

namespace sheaf {

struct FileLogOptions {
  size_t segment_bytes = size_t{64} << 20;  // a segment that has so many gets no more records
  // What may have happened to the log since it was last written. If the system has been running all the time, it still
  // has all that it was given, and only the end of the last write may be missing: everything else is damage.
  enum class Since { kPowerLoss, kSameBoot };
  Since since = Since::kPowerLoss;
};

class FileLogDisk;

class FileLog final : public RedoLog {
 public:
  // Makes the folder if there is none.
  static Result<std::unique_ptr<FileLog>> Open(const std::string& folder, FileLogOptions options);
  ~FileLog() override;
  FileLog(const FileLog&) = delete;
  FileLog& operator=(const FileLog&) = delete;

  uint64_t Append(std::vector<Buffer> pieces) override;
  Status Commit(Durability level) override;
  std::shared_ptr<RedoLogDisk> disk() override;
  Status Replay(uint64_t from, const Taker& take) override;
  void BeginAnew() override;
  Status TrimTo(uint64_t index) override;
  uint64_t first_index() const override { return segments_.begin()->first; }
  uint64_t next_index() const override { return next_index_; }
  uint64_t bytes() const override { return kept_bytes_ + end_; }

  uint64_t torn_bytes() const { return torn_bytes_; }  // that were cut off when it was opened
  uint64_t chain() const { return chain_; }            // of all that is committed

 private:
  struct Pending {
    std::vector<Buffer> pieces;
    std::vector<std::byte> header;
    size_t padding = 0;
    uint64_t check = 0;
  };

  FileLog(std::string folder, FileLogOptions options);
  Status OpenSegments();
  std::string PathOf(uint64_t first) const;
  Status Begin(uint64_t first);  // a new segment
  Status Write();
  Status RemoveAll();
  Status SyncBehind();
  Status SyncCurrent();
  Failure Broken(const Error& error);
  void Close();

  const std::string folder_;
  const FileLogOptions options_;
  std::map<uint64_t, uint64_t> segments_;  // bytes by first index; of the last see end_
  uint64_t kept_bytes_ = 0;                // of all but the last
  int fd_ = -1;                            // of the last
  int behind_fd_ = -1;                     // of the one before, if it is not known to be on the disk
  uint64_t end_ = 0;                       // of its records
  uint64_t write_back_ = 0;                // what is before it was asked to be written to the disk
  uint64_t next_index_ = 1;
  uint64_t chain_ = 0;
  uint64_t torn_bytes_ = 0;
  std::vector<Pending> pending_;
  bool synced_ = true;
  uint64_t on_disk_ = 1;                   // records below are: they were synced
  bool anew_ = false;                      // all segments go with the next commit
  std::optional<Error> broken_;
  const std::shared_ptr<FileLogDisk> disk_;
};

}  // namespace sheaf
