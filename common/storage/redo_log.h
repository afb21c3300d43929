// The redo log of one shard: what it has accepted, in order, so that a process that starts anew can do it again.
//
// An interface: FileLog keeps records in files, the simulator's disk loses what was not synced. Both pass
// tests/contract/redo_log. Thread-safety: none; it belongs to the shard's thread, whom Commit may hold up.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"

namespace sheaf {

// What something survives once it is told to be done.
enum class Durability {
  kMemory,  // nothing: it is as safe as the process
  kLog,     // the end of every process: the system has it
  kFsync,   // the loss of power: the disk has it
};

// What a log's thread should not have to wait for. It may outlive the log.
// Thread-safety: for one thread at a time, any.
class RedoLogDisk {
 public:
  virtual ~RedoLogDisk() = default;
  // Blocks until committed records before `index` survive as with kFsync. After an error the log is broken.
  virtual Status SyncTo(uint64_t index) = 0;
  // Removes what the log's TrimTo would, so that there is nothing left to do for that: it is still to be called. What
  // cannot be removed is left to it.
  virtual void TrimTo(uint64_t index) = 0;
};

class RedoLog {
 public:
  static constexpr size_t kMaxRecordBytes = size_t{64} << 20;

  virtual ~RedoLog() = default;

  // Puts a record, the pieces one after the other, behind the last, and answers its index: 1 more than that of the
  // record before. The pieces are kept by reference until they are committed.
  virtual uint64_t Append(std::vector<Buffer> pieces) = 0;
  // All that was appended survives what `level` says. kResourceExhausted: the disk is full; nothing is lost, the same
  // call may be made again. After any other error the log is broken and says so for ever: what was appended since the
  // last success may be there or not when it is opened anew.
  virtual Status Commit(Durability level) = 0;
  virtual std::shared_ptr<RedoLogDisk> disk() = 0;
  // Hands over the committed records from `from` on, in order, until one is refused. They begin at multiples of eight
  // bytes in memory. kDataLoss: one is damaged, and it is not the last, which may be torn.
  using Taker = std::function<Status(uint64_t index, Buffer record)>;
  virtual Status Replay(uint64_t from, const Taker& take) = 0;
  // Nothing of what was appended until now, committed or not, is needed any more: it goes with the next Commit, which
  // finds room for what is appended after this even if the log has filled the disk. Indexes go on.
  virtual void BeginAnew() = 0;

  // Records before `index`, which are committed, are not needed any more. Some of them may stay for a while. What
  // cannot be removed is tried again by the next call.
  virtual Status TrimTo(uint64_t index) = 0;

  virtual uint64_t first_index() const = 0;  // of the oldest that is still there, or would be
  virtual uint64_t next_index() const = 0;   // of the next to be appended
  virtual uint64_t bytes() const = 0;        // that are kept
};

}  // namespace sheaf
