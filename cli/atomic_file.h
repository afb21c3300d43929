// A file that is there whole or not at all: written without a name (where the file system can, else beside its place),
// synced, then renamed into its place. A process that is killed leaves nothing.
//
// What exists at `path` already stays as it was until Commit. A device or pipe (/dev/stdout) is written to directly.
// Ownership: the destructor removes what was not committed. Thread-safety: none.
// Errors: kResourceExhausted for a full disk or quota, else kIo, with path and the system's words.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace sheaf::cli {

class AtomicFile {
 public:
  static Result<AtomicFile> Create(const std::string& path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  Status Write(std::span<const std::byte> bytes);
  Status Write(std::string_view text) { return Write(std::as_bytes(std::span(text))); }
  // Synced to disk and in its place, or an error and nothing changed.
  Status Commit();

 private:
  AtomicFile(std::string path, std::string temporary, int fd)
      : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}
  Failure SystemError(const char* what);

  std::string path_;
  std::string temporary_;  // empty: written in place (a device)
  bool nameless_ = false;  // temporary_ is not there yet
  int fd_ = -1;
};

// The whole of a small file at once.
Status WriteFileAtomically(const std::string& path, std::string_view text);

}  // namespace sheaf::cli
