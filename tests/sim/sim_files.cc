#include "tests/sim/sim_files.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sheaf::sim {
namespace {

class Sink final : public FileSink {
 public:
  Sink(std::shared_ptr<SimFiles::File> file, const SimFiles& space) : file_(std::move(file)), space_(space) {}
  Status Append(std::span<const std::byte> bytes) override {
    if (space_.full()) return Fail(ErrorCode::kResourceExhausted, "the folder of checkpoints is full");
    file_->bytes.insert(file_->bytes.end(), bytes.begin(), bytes.end());
    return {};
  }
  Status Finish() override {
    if (space_.full()) return Fail(ErrorCode::kResourceExhausted, "the folder of checkpoints is full");
    file_->finished = true;
    return {};
  }

 private:
  const std::shared_ptr<SimFiles::File> file_;
  const SimFiles& space_;
};

class Source final : public FileSource {
 public:
  explicit Source(std::shared_ptr<const SimFiles::File> file) : file_(std::move(file)) {}
  uint64_t size() const override { return file_->bytes.size(); }
  Result<size_t> Read(std::span<std::byte> into) override {
    const size_t count = std::min(into.size(), file_->bytes.size() - at_);
    std::memcpy(into.data(), file_->bytes.data() + at_, count);
    at_ += count;
    return count;
  }

 private:
  const std::shared_ptr<const SimFiles::File> file_;
  size_t at_ = 0;
};

}  // namespace

Status SimFiles::Change() {
  if (full_) return Fail(ErrorCode::kResourceExhausted, "the folder of checkpoints is full");
  if (calls_left_ > 0 && --calls_left_ == 0) {
    calls_left_ = 1;
    return Fail(ErrorCode::kIo, "the folder of checkpoints fails as it was told to");
  }
  return {};
}

Result<SimFiles::Folder*> SimFiles::Find(const std::string& folder) {
  const auto found = folders_.find(folder);
  if (found == folders_.end()) return Fail(ErrorCode::kNotFound, "no folder ", folder);
  return &found->second;
}

Status SimFiles::MakeFolder(const std::string& folder) {
  SHEAF_RETURN_IF_ERROR(Change());
  if (folders_.contains(folder)) return Fail(ErrorCode::kAlreadyExists, folder, " is there already");
  folders_[folder];
  return {};
}

Result<std::unique_ptr<FileSink>> SimFiles::Create(const std::string& folder, const std::string& file) {
  SHEAF_RETURN_IF_ERROR(Change());
  SHEAF_ASSIGN_OR_RETURN(Folder* const in, Find(folder));
  const auto [made, is_new] = in->try_emplace(file, std::make_shared<File>());
  if (!is_new) return Fail(ErrorCode::kAlreadyExists, PathOf(folder, file), " is there already");
  return std::unique_ptr<FileSink>(std::make_unique<Sink>(made->second, *this));
}

Result<std::unique_ptr<FileSource>> SimFiles::Open(const std::string& folder, const std::string& file) {
  SHEAF_ASSIGN_OR_RETURN(Folder* const in, Find(folder));
  const auto found = in->find(file);
  if (found == in->end()) return Fail(ErrorCode::kNotFound, "no file ", PathOf(folder, file));
  return std::unique_ptr<FileSource>(std::make_unique<Source>(found->second));
}

Status SimFiles::Link(const std::string& from_folder, const std::string& to_folder, const std::string& file) {
  SHEAF_RETURN_IF_ERROR(Change());
  SHEAF_ASSIGN_OR_RETURN(Folder* const from, Find(from_folder));
  SHEAF_ASSIGN_OR_RETURN(Folder* const to, Find(to_folder));
  const auto found = from->find(file);
  if (found == from->end()) return Fail(ErrorCode::kNotFound, "no file ", PathOf(from_folder, file));
  to->emplace(file, found->second);
  return {};
}

Status SimFiles::RenameFile(const std::string& folder, const std::string& from, const std::string& to) {
  SHEAF_RETURN_IF_ERROR(Change());
  SHEAF_ASSIGN_OR_RETURN(Folder* const in, Find(folder));
  auto file = in->extract(from);
  if (!file) return Fail(ErrorCode::kNotFound, "no file ", PathOf(folder, from));
  in->insert_or_assign(to, std::move(file.mapped()));
  return {};
}

Status SimFiles::RenameFolder(const std::string& from, const std::string& to) {
  SHEAF_RETURN_IF_ERROR(Change());
  if (folders_.contains(to)) return Fail(ErrorCode::kAlreadyExists, to, " is there already");
  auto folder = folders_.extract(from);
  if (!folder) return Fail(ErrorCode::kNotFound, "no folder ", from);
  folders_[to] = std::move(folder.mapped());
  return {};
}

Status SimFiles::RemoveFolder(const std::string& folder) {
  folders_.erase(folder);
  return {};
}

Status SimFiles::Sync(const std::string&) { return Change(); }

Result<std::vector<std::string>> SimFiles::List(const std::string& folder) {
  std::vector<std::string> names;
  if (folder.empty()) {
    for (const auto& [name, files] : folders_) names.push_back(name);
    return names;
  }
  SHEAF_ASSIGN_OR_RETURN(Folder* const in, Find(folder));
  for (const auto& [name, file] : *in) names.push_back(name);
  return names;
}

std::string SimFiles::PathOf(const std::string& folder, const std::string& file) const {
  return "sim:" + folder + (file.empty() ? "" : "/" + file);
}

bool SimFiles::AllFinished(const std::string& folder) const {
  const auto found = folders_.find(folder);
  return found != folders_.end() &&
         std::ranges::all_of(found->second, [](const auto& file) { return file.second->finished; });
}

}  // namespace sheaf::sim
