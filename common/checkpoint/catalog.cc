#include "common/checkpoint/catalog.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/digest.h"
#include "common/base/failpoint.h"

namespace sheaf {
namespace {

constexpr size_t kReadBytes = size_t{1} << 20;
constexpr const char* kManifestBeforeName = "MANIFEST.tmp";

Failure Changed(FileSpace& space, const std::string& folder, const std::string& file, const std::string& how) {
  return Fail(ErrorCode::kDataLoss, space.PathOf(folder, file), " ", how, ": the checkpoint ", folder,
              " is damaged; restore another one (sheaf checkpoint ls)");
}

}  // namespace

Result<Manifest> ReadManifest(FileSpace& space, const std::string& name) {
  SHEAF_RETURN_IF_ERROR(CheckCheckpointName(name));
  const auto bytes = ReadAll(space, name, kManifestFile, kMaxManifestBytes);
  if (!bytes && bytes.error().code == ErrorCode::kNotFound) {
    return Fail(ErrorCode::kNotFound, "there is no checkpoint ", name, " in ", space.PathOf("", ""));
  }
  if (!bytes) return Failure{bytes.error()};
  auto manifest = DecodeManifest(*bytes);
  if (!manifest) return Wrap(manifest.error(), space.PathOf(name, kManifestFile));
  if (manifest->content.name() != name) {
    return Changed(space, name, kManifestFile, "is of another checkpoint, " + manifest->content.name());
  }
  return manifest;
}

Result<std::vector<CatalogEntry>> ListCheckpoints(FileSpace& space) {
  SHEAF_ASSIGN_OR_RETURN(const auto folders, space.List(""));
  std::vector<CatalogEntry> entries;
  for (const std::string& folder : folders) {
    if (!CheckCheckpointName(folder)) continue;
    auto manifest = ReadManifest(space, folder);
    if (!manifest && manifest.error().code == ErrorCode::kNotFound) continue;  // somebody's folder
    CatalogEntry& entry = entries.emplace_back();
    entry.name = folder;
    if (!manifest) {
      entry.readable = Failure{manifest.error()};
      continue;
    }
    entry.manifest = std::move(manifest->content);
    entry.manifest.clear_plan();
    entry.manifest.clear_ranges();
  }
  std::ranges::stable_sort(entries, {}, [](const CatalogEntry& entry) { return entry.manifest.id(); });
  return entries;
}

Result<std::string> ResolveCheckpoint(FileSpace& space, const std::string& name) {
  if (name != "latest") {
    SHEAF_RETURN_IF_ERROR(CheckCheckpointName(name));
    return name;
  }
  SHEAF_ASSIGN_OR_RETURN(const auto entries, ListCheckpoints(space));
  if (entries.empty() || !entries.back().readable) {
    return Fail(ErrorCode::kNotFound, "there is no checkpoint in ", space.PathOf("", ""),
                entries.empty() ? "" : " that can be read");
  }
  return entries.back().name;
}

Status VerifyFile(FileSpace& space, const std::string& folder, const pb::ManifestFile& file,
                  const std::function<Status(size_t bytes)>& progress) {
  const auto source = space.Open(folder, file.name());
  if (!source && source.error().code == ErrorCode::kNotFound) {
    return Changed(space, folder, file.name(), "is not there");
  }
  if (!source) return Failure{source.error()};
  if ((*source)->size() != file.bytes()) {
    return Changed(space, folder, file.name(), "has not the size that the manifest says");
  }
  Digester digester;
  std::vector<std::byte> buffer(std::min<uint64_t>(kReadBytes, std::max<uint64_t>(1, file.bytes())));
  for (uint64_t left = file.bytes(); left > 0;) {
    const auto some = std::span(buffer).first(std::min<uint64_t>(buffer.size(), left));
    SHEAF_ASSIGN_OR_RETURN(const size_t got, (*source)->Read(some));
    if (got == 0) return Changed(space, folder, file.name(), "ends early");
    digester.Add(some.first(got));
    left -= got;
    SHEAF_RETURN_IF_ERROR(progress(got));
  }
  if (digester.Result() == Digest{file.digest_high(), file.digest_low()}) return {};
  return Changed(space, folder, file.name(), "has other bytes than were written");
}

Status VerifyCheckpoint(FileSpace& space, const std::string& name,
                        const std::function<Status(size_t bytes)>& progress) {
  SHEAF_ASSIGN_OR_RETURN(const Manifest manifest, ReadManifest(space, name));
  for (const pb::ManifestPartition& partition : manifest.content.partition()) {
    for (const pb::ManifestFile& file : partition.file()) {
      SHEAF_RETURN_IF_ERROR(VerifyFile(space, name, file, progress));
    }
  }
  return {};
}

Status CommitCheckpoint(FileSpace& space, const pb::CheckpointManifest& manifest, const std::string& base) {
  const std::string folder = TemporaryFolder(manifest.id());
  for (const pb::ManifestPartition& partition : manifest.partition()) {
    for (int i = 0; i + 1 < partition.file_size(); ++i) {
      SHEAF_RETURN_IF_ERROR(space.Link(base, folder, partition.file(i).name()));
      Pass("folder.linked");
    }
  }
  {
    SHEAF_ASSIGN_OR_RETURN(const auto sink, space.Create(folder, kManifestBeforeName));
    const std::string bytes = EncodeManifest(manifest);
    SHEAF_RETURN_IF_ERROR(sink->Append(std::as_bytes(std::span(bytes))));
    SHEAF_RETURN_IF_ERROR(sink->Finish());
  }
  Pass("folder.manifest_unnamed");
  SHEAF_RETURN_IF_ERROR(space.RenameFile(folder, kManifestBeforeName, kManifestFile));
  Pass("folder.manifest_named");
  SHEAF_RETURN_IF_ERROR(space.Sync(folder));
  Pass("folder.unnamed");
  SHEAF_RETURN_IF_ERROR(space.RenameFolder(folder, manifest.name()));  // from here on it is there
  Pass("folder.named");
  SHEAF_RETURN_IF_ERROR(space.Sync(""));
  Pass("folder.committed");
  return {};
}

Status RemoveCheckpoint(FileSpace& space, const std::string& name) {
  SHEAF_RETURN_IF_ERROR(CheckCheckpointName(name));
  const std::string gone = ".gone-" + name;
  SHEAF_RETURN_IF_ERROR(space.RemoveFolder(gone));
  SHEAF_RETURN_IF_ERROR(space.RenameFolder(name, gone));  // it is none any more, also if what follows is cut short
  Pass("folder.removing");
  SHEAF_RETURN_IF_ERROR(space.Sync(""));
  return space.RemoveFolder(gone);
}

Status SweepCheckpoints(FileSpace& space) {
  SHEAF_ASSIGN_OR_RETURN(const auto folders, space.List(""));
  for (const std::string& folder : folders) {
    if (folder.starts_with(".making-") || folder.starts_with(".gone-")) {
      SHEAF_RETURN_IF_ERROR(space.RemoveFolder(folder));
    }
  }
  return {};
}

}  // namespace sheaf
