// The checkpoints of a folder: which there are, whether they are whole, and how one comes and goes.
//
// What the folder says is the truth: a checkpoint exists if its folder has its name and a MANIFEST. Folders whose names
// begin with a dot are being made, or on their way out.
// Thread-safety: functions on a space that is lent.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/checkpoint/file_space.h"
#include "common/checkpoint/manifest.h"

namespace sheaf {

struct CatalogEntry {
  std::string name;
  Status readable;                  // its manifest
  pb::CheckpointManifest manifest;  // without the plan, which may be large
};
// By number, those that cannot be read first.
Result<std::vector<CatalogEntry>> ListCheckpoints(FileSpace& space);
// "latest" is the newest that can be read. kNotFound: there is none.
Result<std::string> ResolveCheckpoint(FileSpace& space, const std::string& name);
// kNotFound: there is none of that name; kDataLoss names the file.
Result<Manifest> ReadManifest(FileSpace& space, const std::string& name);
// The file has the bytes that the manifest says. `progress` may end it.
Status VerifyFile(FileSpace& space, const std::string& folder, const pb::ManifestFile& file,
                  const std::function<Status(size_t bytes)>& progress);
// Every file of a checkpoint has the bytes that were written. kDataLoss names the first that has not.
Status VerifyCheckpoint(FileSpace& space, const std::string& name, const std::function<Status(size_t bytes)>& progress);

// The files that lie in the temporary folder become the checkpoint: all of it or nothing. Files of chains that were
// begun before are taken from `base`.
Status CommitCheckpoint(FileSpace& space, const pb::CheckpointManifest& manifest, const std::string& base);
Status RemoveCheckpoint(FileSpace& space, const std::string& name);
// Removes what is no checkpoint, and was left by processes that have ended. Nobody may be making one.
Status SweepCheckpoints(FileSpace& space);

}  // namespace sheaf
