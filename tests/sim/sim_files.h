// A FileSpace in memory: of all processes of a simulated cluster. A file that is not finished may be lost, or be there
// in part; whether all are finished that are to be part of a checkpoint is what the checkers look at.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/checkpoint/file_space.h"

namespace sheaf::sim {

class SimFiles final : public FileSpace {
 public:
  struct File {
    std::vector<std::byte> bytes;
    bool finished = false;
  };

  Status MakeFolder(const std::string& folder) override;
  Result<std::unique_ptr<FileSink>> Create(const std::string& folder, const std::string& file) override;
  Result<std::unique_ptr<FileSource>> Open(const std::string& folder, const std::string& file) override;
  Status Link(const std::string& from_folder, const std::string& to_folder, const std::string& file) override;
  Status RenameFile(const std::string& folder, const std::string& from, const std::string& to) override;
  Status RenameFolder(const std::string& from, const std::string& to) override;
  Status RemoveFolder(const std::string& folder) override;
  Status Sync(const std::string& folder) override;
  Result<std::vector<std::string>> List(const std::string& folder) override;
  std::string PathOf(const std::string& folder, const std::string& file) const override;

  void SetFull(bool full) { full_ = full; }
  bool full() const { return full_; }
  bool AllFinished(const std::string& folder) const;
  // Fails from the n-th call that changes something on, n times later; 0: never.
  void FailFrom(uint64_t calls) { calls_left_ = calls; }

 private:
  using Folder = std::map<std::string, std::shared_ptr<File>>;
  Status Change();
  Result<Folder*> Find(const std::string& folder);

  std::map<std::string, Folder> folders_;
  bool full_ = false;
  uint64_t calls_left_ = 0;
};

}  // namespace sheaf::sim
