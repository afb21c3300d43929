#include "common/checkpoint/disk_space.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "common/storage/files.h"

namespace sheaf {
namespace {

// The system begins to write when so much has come: what is left for the sync at the end is little.
constexpr size_t kWriteBehind = size_t{8} << 20;

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    const int error = errno;
    if (fd_ >= 0) close(fd_);
    errno = error;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

class DiskSink final : public FileSink {
 public:
  DiskSink(Fd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Status Append(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_.get(), bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return FileError("cannot write", path_);
      bytes = bytes.subspan(static_cast<size_t>(written));
      behind_ += static_cast<size_t>(written);
    }
    if (behind_ < kWriteBehind) return {};
    // A wish: the sync at the end is what counts.
    sync_file_range(fd_.get(), static_cast<off64_t>(begun_), static_cast<off64_t>(behind_), SYNC_FILE_RANGE_WRITE);
    begun_ += std::exchange(behind_, 0);
    return {};
  }
  Status Finish() override {
    if (fdatasync(fd_.get()) != 0) return FileError("cannot sync", path_);
    return {};
  }

 private:
  const Fd fd_;
  const std::string path_;
  size_t begun_ = 0, behind_ = 0;
};

class DiskSource final : public FileSource {
 public:
  DiskSource(Fd fd, std::string path, uint64_t size) : fd_(std::move(fd)), path_(std::move(path)), size_(size) {}

  uint64_t size() const override { return size_; }
  Result<size_t> Read(std::span<std::byte> into) override {
    size_t got = 0;
    while (got < into.size()) {
      const ssize_t more = read(fd_.get(), into.data() + got, into.size() - got);
      if (more < 0 && errno == EINTR) continue;
      if (more < 0) return FileError("cannot read", path_);
      if (more == 0) break;
      got += static_cast<size_t>(more);
    }
    return got;
  }

 private:
  const Fd fd_;
  const std::string path_;
  const uint64_t size_;
};

Status CheckName(const std::string& name) {
  if (!name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
      name.find('\0') == std::string::npos) {
    return {};
  }
  return Fail(ErrorCode::kInvalidArgument, "\"", name, "\" is no name of a file or folder here");
}

class DiskSpace final : public FileSpace {
 public:
  DiskSpace(Fd root, std::string path) : root_(std::move(root)), path_(std::move(path)) {}

  Status MakeFolder(const std::string& folder) override {
    SHEAF_RETURN_IF_ERROR(CheckName(folder));
    if (mkdirat(root_.get(), folder.c_str(), 0777) == 0) return {};
    if (errno == EEXIST) return Fail(ErrorCode::kAlreadyExists, PathOf(folder, ""), " is there already");
    return FileError("cannot make the folder", PathOf(folder, ""));
  }

  Result<std::unique_ptr<FileSink>> Create(const std::string& folder, const std::string& file) override {
    SHEAF_RETURN_IF_ERROR(CheckName(file));
    SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
    Fd fd(openat(in.get(), file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (!fd) return FileError("cannot create", PathOf(folder, file));
    return std::unique_ptr<FileSink>(std::make_unique<DiskSink>(std::move(fd), PathOf(folder, file)));
  }

  Result<std::unique_ptr<FileSource>> Open(const std::string& folder, const std::string& file) override {
    SHEAF_RETURN_IF_ERROR(CheckName(file));
    SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
    // A pipe in its place must not hold us up.
    Fd fd(openat(in.get(), file.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat info {};
    if (!fd || fstat(fd.get(), &info) != 0) return FileError("cannot read", PathOf(folder, file));
    if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kDataLoss, PathOf(folder, file), " is no file");
    return std::unique_ptr<FileSource>(
        std::make_unique<DiskSource>(std::move(fd), PathOf(folder, file), static_cast<uint64_t>(info.st_size)));
  }

  Status Link(const std::string& from_folder, const std::string& to_folder, const std::string& file) override {
    SHEAF_RETURN_IF_ERROR(CheckName(file));
    SHEAF_ASSIGN_OR_RETURN(const Fd from, OpenFolder(from_folder));
    SHEAF_ASSIGN_OR_RETURN(const Fd to, OpenFolder(to_folder));
    if (linkat(from.get(), file.c_str(), to.get(), file.c_str(), 0) == 0) return {};
    return FileError("cannot make a hard link at", PathOf(to_folder, file));
  }

  Status RenameFile(const std::string& folder, const std::string& from, const std::string& to) override {
    SHEAF_RETURN_IF_ERROR(CheckName(from));
    SHEAF_RETURN_IF_ERROR(CheckName(to));
    SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
    if (renameat(in.get(), from.c_str(), in.get(), to.c_str()) == 0) return {};
    return FileError("cannot rename to", PathOf(folder, to));
  }

  Status RenameFolder(const std::string& from, const std::string& to) override {
    SHEAF_RETURN_IF_ERROR(CheckName(from));
    SHEAF_RETURN_IF_ERROR(CheckName(to));
    // An empty folder, which rename would replace, is somebody's too.
    if (faccessat(root_.get(), to.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
      return Fail(ErrorCode::kAlreadyExists, PathOf(to, ""), " is there already");
    }
    if (renameat(root_.get(), from.c_str(), root_.get(), to.c_str()) == 0) return {};
    return FileError("cannot rename to", PathOf(to, ""));
  }

  Status RemoveFolder(const std::string& folder) override {
    const auto files = List(folder);
    if (!files && files.error().code == ErrorCode::kNotFound) return {};
    if (!files) return Failure{files.error()};
    {
      SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
      for (const std::string& file : *files) {
        if (unlinkat(in.get(), file.c_str(), 0) != 0 && errno != ENOENT)
          return FileError("cannot remove", PathOf(folder, file));
      }
    }
    if (unlinkat(root_.get(), folder.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
      return FileError("cannot remove the folder", PathOf(folder, ""));
    return {};
  }

  Status Sync(const std::string& folder) override {
    SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
    if (fsync(in.get()) != 0) return FileError("cannot sync the folder", PathOf(folder, ""));
    return {};
  }

  Result<std::vector<std::string>> List(const std::string& folder) override {
    SHEAF_ASSIGN_OR_RETURN(const Fd in, OpenFolder(folder));
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(fdopendir(dup(in.get())), closedir);
    if (entries == nullptr) return FileError("cannot list", PathOf(folder, ""));
    std::vector<std::string> names;
    while (const dirent* entry = readdir(entries.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      struct stat info {};
      if (fstatat(in.get(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;  // it has just gone
      if (folder.empty() == S_ISDIR(info.st_mode)) names.push_back(name);
    }
    std::ranges::sort(names);
    return names;
  }

  std::string PathOf(const std::string& folder, const std::string& file) const override {
    return path_ + (folder.empty() ? "" : "/" + folder) + (file.empty() ? "" : "/" + file);
  }

 private:
  Result<Fd> OpenFolder(const std::string& folder) const {
    if (!folder.empty()) SHEAF_RETURN_IF_ERROR(CheckName(folder));
    const char* const name = folder.empty() ? "." : folder.c_str();
    Fd fd(openat(root_.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) return FileError("cannot open the folder", PathOf(folder, ""));
    return fd;
  }

  const Fd root_;
  const std::string path_;
};

}  // namespace

Result<std::unique_ptr<FileSpace>> OpenDiskSpace(const std::string& root, IfAbsent if_absent) {
  if (if_absent == IfAbsent::kMake) SHEAF_RETURN_IF_ERROR(MakeFolders(root));
  Fd fd(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return FileError("cannot open the folder", root);
  return std::unique_ptr<FileSpace>(std::make_unique<DiskSpace>(std::move(fd), root));
}

Result<std::string> ReadAll(FileSpace& space, const std::string& folder, const std::string& file, size_t max_bytes) {
  SHEAF_ASSIGN_OR_RETURN(const auto source, space.Open(folder, file));
  if (source->size() > max_bytes) {
    return Fail(ErrorCode::kDataLoss, space.PathOf(folder, file), " has ", source->size(), " bytes, more than ",
                max_bytes);
  }
  std::string bytes(source->size(), '\0');
  SHEAF_ASSIGN_OR_RETURN(const size_t got, source->Read(std::as_writable_bytes(std::span(bytes))));
  bytes.resize(got);
  return bytes;
}

}  // namespace sheaf
