// What the checkpoints of a cluster do with files on the scheduler's side: make room, commit, clear away, read. All of
// it blocks; what servers write is theirs (server/checkpoint_files.h).
//
// Plain data and a pure function of it and the folder: the shell's thread carries it out (checkpoint_keeper.h), or the
// simulator.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/checkpoint/file_space.h"
#include "common/checkpoint/manifest.h"

namespace sheaf {

struct CheckpointWork {
  enum class Kind {
    kBegin,   // make the temporary folder of `id`; kAlreadyExists: there is a checkpoint `name`
    kCommit,  // it becomes the checkpoint that `manifest` says, upon the files of `base`
    kDrop,    // nothing stays of the temporary folder of `id`
    kTrim,    // of those that `job` made by time or passes, the newest `keep` stay
    kRead,    // the manifest of `name` ("latest": of the newest)
  };
  Kind kind = Kind::kBegin;
  uint64_t id = 0;
  std::string name;
  pb::CheckpointManifest manifest;
  std::string base;
  uint64_t job = 0;
  uint32_t keep = 0;
};
struct CheckpointResult {
  CheckpointWork::Kind kind = CheckpointWork::Kind::kBegin;
  uint64_t id = 0;
  Status status;
  std::optional<Manifest> manifest;  // kRead
};

CheckpointResult CarryOut(FileSpace& space, const CheckpointWork& work);

// What there is when a scheduler starts, and has nobody beside it.
struct CheckpointsFound {
  bool folder = false;         // there is one
  uint64_t greatest_id = 0;    // of those that are committed
};
// Clears away what earlier processes have left half done.
Result<CheckpointsFound> FindCheckpoints(FileSpace& space);

}  // namespace sheaf
