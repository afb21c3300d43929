// Where checkpoints lie: a folder with folders of files in it, which all servers and the scheduler reach.
//
// What a whole checkpoint needs of a file system and nothing more, so that the simulator has one in memory
// (tests/sim/sim_files.h). `folder` is a folder below the root, or empty: the root. Nothing leads out of it: names with
// a slash are refused, symbolic links are not followed.
// Thread-safety: all functions from any thread. Every call may block.
// Errors: kNotFound, kAlreadyExists, kResourceExhausted (full), kPermissionDenied, kIo, each with the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf {

// A new file. One that is not finished has no promised content.
class FileSink {
 public:
  virtual ~FileSink() = default;
  virtual Status Append(std::span<const std::byte> bytes) = 0;
  // All of it is on the disk; its name is when the folder is synced.
  virtual Status Finish() = 0;
};

class FileSource {
 public:
  virtual ~FileSource() = default;
  virtual uint64_t size() const = 0;
  // The next bytes; fewer than asked for at the end only.
  virtual Result<size_t> Read(std::span<std::byte> into) = 0;
};

class FileSpace {
 public:
  virtual ~FileSpace() = default;
  virtual Status MakeFolder(const std::string& folder) = 0;
  virtual Result<std::unique_ptr<FileSink>> Create(const std::string& folder, const std::string& file) = 0;
  virtual Result<std::unique_ptr<FileSource>> Open(const std::string& folder, const std::string& file) = 0;
  // Another name for the same file.
  virtual Status Link(const std::string& from_folder, const std::string& to_folder, const std::string& file) = 0;
  virtual Status RenameFile(const std::string& folder, const std::string& from, const std::string& to) = 0;
  // kAlreadyExists: there is a folder of that name.
  virtual Status RenameFolder(const std::string& from, const std::string& to) = 0;
  // With the files in it. It need not be there.
  virtual Status RemoveFolder(const std::string& folder) = 0;
  virtual Status Sync(const std::string& folder) = 0;
  // Names of folders in the root, or of files in a folder; ascending.
  virtual Result<std::vector<std::string>> List(const std::string& folder) = 0;
  // For people.
  virtual std::string PathOf(const std::string& folder, const std::string& file) const = 0;
};

// All of a file that has at most so many bytes (kDataLoss: it has more).
Result<std::string> ReadAll(FileSpace& space, const std::string& folder, const std::string& file, size_t max_bytes);

}  // namespace sheaf
