#include "scheduler/checkpoint_work.h"

#include <algorithm>

#include "common/base/failpoint.h"
#include "common/checkpoint/catalog.h"

namespace sheaf {
namespace {

Status Begin(FileSpace& space, const CheckpointWork& work) {
  const auto known = ReadManifest(space, work.name);
  if (known || known.error().code != ErrorCode::kNotFound) {
    return Fail(ErrorCode::kAlreadyExists, "there is a checkpoint ", work.name, " already: take another name");
  }
  // A server that was late may have written into one that was given up while it was removed.
  SHEAF_RETURN_IF_ERROR(SweepCheckpoints(space));
  Pass("folder.unmade");
  SHEAF_RETURN_IF_ERROR(space.MakeFolder(TemporaryFolder(work.id)));
  Pass("folder.made");
  return {};
}

Status Trim(FileSpace& space, const CheckpointWork& work) {
  Pass("folder.trimming");
  SHEAF_ASSIGN_OR_RETURN(const auto entries, ListCheckpoints(space));
  uint32_t kept = 0;
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (!entry->readable || !entry->manifest.periodic() || entry->manifest.job() != work.job) continue;
    if (++kept > work.keep) SHEAF_RETURN_IF_ERROR(RemoveCheckpoint(space, entry->name));
  }
  return {};
}

Status Drop(FileSpace& space, const CheckpointWork& work) {
  Pass("folder.dropping");
  return space.RemoveFolder(TemporaryFolder(work.id));
}

Status Read(FileSpace& space, const CheckpointWork& work, std::optional<Manifest>& manifest) {
  SHEAF_ASSIGN_OR_RETURN(const std::string name, ResolveCheckpoint(space, work.name));
  SHEAF_ASSIGN_OR_RETURN(manifest, ReadManifest(space, name));
  return {};
}

}  // namespace

CheckpointResult CarryOut(FileSpace& space, const CheckpointWork& work) {
  CheckpointResult result;
  result.kind = work.kind;
  result.id = work.id;
  switch (work.kind) {
    case CheckpointWork::Kind::kBegin:
      result.status = Begin(space, work);
      break;
    case CheckpointWork::Kind::kCommit:
      result.status = CommitCheckpoint(space, work.manifest, work.base);
      break;
    case CheckpointWork::Kind::kDrop:
      result.status = Drop(space, work);
      break;
    case CheckpointWork::Kind::kTrim:
      result.status = Trim(space, work);
      break;
    case CheckpointWork::Kind::kRead:
      result.status = Read(space, work, result.manifest);
      break;
  }
  return result;
}

Result<CheckpointsFound> FindCheckpoints(FileSpace& space) {
  SHEAF_RETURN_IF_ERROR(SweepCheckpoints(space));
  CheckpointsFound found;
  found.folder = true;
  SHEAF_ASSIGN_OR_RETURN(const auto entries, ListCheckpoints(space));
  for (const CatalogEntry& entry : entries) found.greatest_id = std::max(found.greatest_id, entry.manifest.id());
  return found;
}

}  // namespace sheaf
