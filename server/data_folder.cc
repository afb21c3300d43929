#include "server/data_folder.h"

#include <glog/logging.h>
#include <google/protobuf/text_format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/runtime/host_id.h"
#include "common/storage/files.h"

namespace sheaf {
namespace {

constexpr uint32_t kFormat = 1;
constexpr size_t kMaxStoreFile = 4096;
constexpr const char* kAside = "damaged-";

bool HasOtherFiles(const std::string& path) {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(path, failed)) {
    const std::string name = entry.path().filename();
    if (name != "LOCK" && !name.starts_with("STORE.") && name != "lost+found" && !name.starts_with(kAside)) return true;
  }
  return false;
}

uint64_t CheckOf(pb::StoreFile file) {
  file.clear_check();
  std::string bytes;
  file.SerializeToString(&bytes);
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string CopyOf(const std::string& path) { return path + ".copy"; }

// Twice: without the name a store is of no use, and one flipped bit in it would make it another's.
Status WriteStore(const std::string& path, pb::StoreFile& file) {
  file.set_check(CheckOf(file));
  std::string bytes;
  google::protobuf::TextFormat::PrintToString(file, &bytes);
  SHEAF_RETURN_IF_ERROR(ReplaceFile(CopyOf(path), bytes));
  return ReplaceFile(path, bytes);
}

Result<pb::StoreFile> ReadStore(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxStoreFile));
  pb::StoreFile file;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(text, &file);
  if (!parsed || file.store() == 0 || (file.has_check() && file.check() != CheckOf(file))) {
    return Fail(ErrorCode::kDataLoss, path, " cannot be read: it says which store this is");
  }
  return file;
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
  auto read = ReadStore(path);
  if (!read) {
    if (auto copy = ReadStore(CopyOf(path))) {
      LOG(WARNING) << path << " is damaged, or lost: its copy is good, and is used";
      read = std::move(copy);
    } else if (copy.error().code != ErrorCode::kNotFound) {
      return Failure{read.error().code == ErrorCode::kNotFound ? copy.error() : read.error()};
    }
  }
  if (!read && read.error().code != ErrorCode::kNotFound) return Failure{read.error()};
  pb::StoreFile file = read ? *read : pb::StoreFile();
  if (!read) {
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
  const uint64_t boot = BootId();
  same_boot_ = boot != 0 && file.boot() == boot;
  file.set_boot(boot);
  return WriteStore(path, file);
}

Result<std::string> DataFolder::SetAside(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const auto lock, FolderLock::Take(path, "server"));
  std::error_code failed;
  std::string aside;
  for (uint32_t n = 1; aside.empty() || std::filesystem::exists(aside, failed); ++n) {
    aside = path + "/" + kAside + std::to_string(n);
  }
  SHEAF_RETURN_IF_ERROR(MakeFolders(aside));
  std::vector<std::filesystem::path> moved;
  for (const auto& entry : std::filesystem::directory_iterator(path, failed)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("STORE") || name.starts_with("shard-")) moved.push_back(entry.path());
  }
  // The name last: a store without its shards is refused, one without a name would be taken for somebody else's files.
  std::ranges::sort(moved, std::greater<>());
  for (const auto& from : moved) {
    std::error_code no_reserve;
    std::filesystem::remove(from / "reserve", no_reserve);
    if (!failed) std::filesystem::rename(from, std::filesystem::path(aside) / from.filename(), failed);
  }
  if (failed) return Fail(ErrorCode::kIo, "putting aside what is in ", path, ": ", failed.message());
  return aside;
}

std::string DataFolder::ReserveOf(uint32_t shard) const {
  return path_ + "/shard-" + std::to_string(shard) + "/reserve";
}
std::string DataFolder::RowsOf(uint32_t shard) const { return path_ + "/shard-" + std::to_string(shard) + "/rows"; }
std::string DataFolder::LogOf(uint32_t shard) const { return path_ + "/shard-" + std::to_string(shard) + "/log"; }

}  // namespace sheaf
