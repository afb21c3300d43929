#include "server/data_folder.h"

#include <google/protobuf/text_format.h>

#include <filesystem>
#include <utility>

#include "common/base/random.h"
#include "common/storage/files.h"

namespace sheaf {
namespace {

constexpr uint32_t kFormat = 1;
constexpr size_t kMaxStoreFile = 4096;

bool HasOtherFiles(const std::string& path) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(path, failed)) {
    const std::string name = entry.path().filename();
    if (name != "LOCK" && name != "STORE.tmp" && name != "lost+found") return true;
  }
  return false;
}

Status WriteStore(const std::string& path, const pb::StoreFile& file) {
  std::string bytes;
  google::protobuf::TextFormat::PrintToString(file, &bytes);
  return ReplaceFile(path, bytes);
}

}  // namespace

Result<std::unique_ptr<DataFolder>> DataFolder::Open(const std::string& path, uint32_t shards) {
  SHEAF_RETURN_IF_ERROR(MakeFolders(path));
  SHEAF_ASSIGN_OR_RETURN(auto lock, FolderLock::Take(path, "server"));
  std::unique_ptr<DataFolder> folder(new DataFolder(path, std::move(lock)));
  SHEAF_RETURN_IF_ERROR(folder->OpenStore(shards));
  return folder;
}

Status DataFolder::OpenStore(uint32_t shards) {
  const std::string path = path_ + "/STORE";
  pb::StoreFile file;
  const auto text = ReadSmallFile(path, kMaxStoreFile);
  if (!text && text.error().code != ErrorCode::kNotFound) return Failure{text.error()};
  if (!text) {
    if (HasOtherFiles(path_)) {
      return Fail(ErrorCode::kInvalidArgument, path_,
                  " has files in it, but no STORE: it is not a server's; give an empty folder, or one to be made");
    }
    store_ = EntropySeed() | 1;
    file.set_format(kFormat);
    file.set_store(store_);
    file.set_shards(shards);
    SHEAF_RETURN_IF_ERROR(MakeShards(path, file));
    return CountStart(path, file);
  }
  if (!google::protobuf::TextFormat::ParseFromString(*text, &file) || file.store() == 0) {
    return Fail(ErrorCode::kDataLoss, path, " cannot be read: it says which store this is");
  }
  if (file.format() != kFormat) {
    return Fail(ErrorCode::kVersionMismatch, path, " has format ", file.format(), ", this build knows ", kFormat);
  }
  if (file.shards() != shards) {
    return Fail(ErrorCode::kInvalidArgument, path_, " was made with --shards=", file.shards(), ", not ", shards,
                ": partitions lie in its shards by number");
  }
  store_ = file.store();
  if (!file.complete()) SHEAF_RETURN_IF_ERROR(MakeShards(path, file));
  for (uint32_t i = 0; i < shards; ++i) {
    if (std::filesystem::is_directory(LogOf(i))) continue;
    return Fail(ErrorCode::kDataLoss, LogOf(i),
                " is not there: the store has lost it, and with it what it acknowledged");
  }
  return CountStart(path, file);
}

Status DataFolder::MakeShards(const std::string& path, pb::StoreFile& file) {
  SHEAF_RETURN_IF_ERROR(WriteStore(path, file));
  for (uint32_t i = 0; i < file.shards(); ++i) SHEAF_RETURN_IF_ERROR(MakeFolders(LogOf(i)));
  file.set_complete(true);
  return WriteStore(path, file);
}

Status DataFolder::CountStart(const std::string& path, pb::StoreFile& file) {
  starts_ = file.starts() + 1;
  file.set_starts(starts_);
  return WriteStore(path, file);
}

std::string DataFolder::RowsOf(uint32_t shard) const { return path_ + "/shard-" + std::to_string(shard) + "/rows"; }
std::string DataFolder::LogOf(uint32_t shard) const { return path_ + "/shard-" + std::to_string(shard) + "/log"; }

}  // namespace sheaf
