#include "scheduler/scheduler_folder.h"

#include <cstdio>
#include <filesystem>
#include <utility>

#include "common/base/random.h"
#include "common/base/strings.h"
#include "common/storage/files.h"

namespace sheaf {
namespace {

std::string IdText(uint64_t id) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(id));
  return text;
}

// A name in the folder that a scheduler did not make; empty if there is none.
std::string Stranger(const std::string& path) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(path, failed)) {
    const std::string name = entry.path().filename();
    if (name != "LOCK" && name != "CLUSTER" && name != "CLUSTER.tmp" && name != "meta" && name != "lost+found")
      return name;
  }
  return "";
}

}  // namespace

Result<std::unique_ptr<SchedulerFolder>> SchedulerFolder::Open(const std::string& path, uint32_t partition_count) {
  SHEAF_RETURN_IF_ERROR(MakeFolders(path));
  std::unique_ptr<SchedulerFolder> folder(new SchedulerFolder);
  SHEAF_ASSIGN_OR_RETURN(folder->lock_, FolderLock::Take(path, "process"));
  if (const Status opened = folder->OpenStore(path, partition_count); !opened) {
    return Wrap(opened.error(), "--data_dir ", path);
  }
  return folder;
}

Status SchedulerFolder::OpenStore(const std::string& path, uint32_t partition_count) {
  const auto known = ReadSmallFile(path + "/CLUSTER", 64);
  if (!known && known.error().code != ErrorCode::kNotFound) return Failure{known.error()};
  if (const std::string stranger = Stranger(path); !known && !stranger.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "it has ", stranger,
                " in it, but no CLUSTER: it is not a scheduler's; give an empty folder, or one to be made");
  }
  const auto mode = known ? RocksMetaStore::Mode::kMustExist : RocksMetaStore::Mode::kCreate;
  SHEAF_ASSIGN_OR_RETURN(store_, RocksMetaStore::Open(path + "/meta", mode));
  const uint64_t drawn = EntropySeed() | 1;
  SHEAF_ASSIGN_OR_RETURN(saved_, TakeOver(*store_, partition_count, drawn));
  if (!known) return ReplaceFile(path + "/CLUSTER", IdText(saved_.cluster_id) + "\n");
  if (Trim(*known) == IdText(saved_.cluster_id)) return {};
  return Fail(ErrorCode::kDataLoss, "CLUSTER names the cluster ", Trim(*known), ", its store is of ",
              IdText(saved_.cluster_id), ": they do not belong together");
}

}  // namespace sheaf
