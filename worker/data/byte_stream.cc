#include "worker/data/byte_stream.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

namespace sheaf {
namespace {

// A file descriptor that closes itself.
class OwnedFd {
 public:
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

Result<FileState> StateOf(const struct stat& info, const std::string& path) {
  if (S_ISDIR(info.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument, path, " is a folder, not a file; name the files in it, e.g. ", path, "/*");
  }
  if (!S_ISREG(info.st_mode)) {
    return Fail(ErrorCode::kInvalidArgument, path,
                " is not a regular file; data is read several times, so put it into one");
  }
  return FileState{info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size)};
}

struct OpenFile {
  OwnedFd fd;
  FileState state;
};

// O_NONBLOCK: opening a pipe nobody writes to must fail the S_ISREG test, not wait. Regular files ignore it.
Result<OpenFile> OpenForReading(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return FailErrno(errno, "cannot open", path);
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return FailErrno(errno, "cannot look at", path);
  SHEAF_ASSIGN_OR_RETURN(const FileState state, StateOf(info, path));
  return OpenFile{std::move(fd), state};
}

class FileStream final : public ByteStream {
 public:
  FileStream(OwnedFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  Result<size_t> Read(std::span<char> out) override {
    for (;;) {
      const ssize_t got = read(fd_.get(), out.data(), out.size());
      if (got >= 0) return static_cast<size_t>(got);
      if (errno != EINTR) return FailErrno(errno, "cannot read", path_);
    }
  }
  bool seekable() const override { return true; }
  Status Seek(uint64_t offset) override {
    if (offset > INT64_MAX) return Fail(ErrorCode::kInvalidArgument, path_, ": offset ", offset, " is beyond any file");
    if (lseek(fd_.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return FailErrno(errno, "cannot seek in", path_);
    return {};
  }

 private:
  OwnedFd fd_;
  std::string path_;
};

class MemoryStream final : public ByteStream {
 public:
  explicit MemoryStream(std::string bytes) : bytes_(std::move(bytes)) {}

  Result<size_t> Read(std::span<char> out) override {
    const size_t count = std::min(out.size(), bytes_.size() - position_);
    std::memcpy(out.data(), bytes_.data() + position_, count);
    position_ += count;
    return count;
  }
  bool seekable() const override { return true; }
  Status Seek(uint64_t offset) override {
    position_ = static_cast<size_t>(std::min<uint64_t>(offset, bytes_.size()));
    return {};
  }

 private:
  std::string bytes_;
  size_t position_ = 0;
};

}  // namespace

Status ByteStream::Seek(uint64_t offset) {
  return Fail(ErrorCode::kInternal, "seek to ", offset, " in a stream that only goes forward");
}

Failure FailErrno(int error, std::string_view act, const std::string& path) {
  ErrorCode code = ErrorCode::kIo;
  std::string_view advice;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      code = ErrorCode::kNotFound;
      advice = "; check the name, and --data or SHEAF_DATA";
      break;
    case EACCES:
    case EPERM:
      code = ErrorCode::kPermissionDenied;
      advice = "; make it readable for this user";
      break;
    case EMFILE:
    case ENFILE:
      code = ErrorCode::kResourceExhausted;
      advice = "; raise the limit of open files (ulimit -n)";
      break;
    case ENOMEM:
      code = ErrorCode::kResourceExhausted;
      break;
    default:
      break;
  }
  return Fail(code, act, " ", path, ": ", std::generic_category().message(error), advice);
}

Compression CompressionOf(std::string_view first_bytes) {
  if (first_bytes.starts_with("\x1f\x8b")) return Compression::kGzip;
  // zstd: an ordinary frame, or a skippable one (0x184D2A50..5F) as pzstd writes them first.
  if (first_bytes.starts_with("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  if (first_bytes.size() >= 4 && (first_bytes[0] & 0xf0) == 0x50 && first_bytes.substr(1, 3) == "\x2a\x4d\x18") {
    return Compression::kZstd;
  }
  if (first_bytes.starts_with(std::string_view("\xfd\x37\x7a\x58\x5a\x00", 6))) return Compression::kXz;
  return Compression::kNone;
}

Result<FileState> StatFile(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return FailErrno(errno, "cannot look at", path);
  return StateOf(info, path);
}

Result<std::unique_ptr<ByteStream>> OpenByteStream(const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(OpenFile opened, OpenForReading(path));
  char head[6];
  const ssize_t got = pread(opened.fd.get(), head, sizeof head, 0);
  if (got < 0) return FailErrno(errno, "cannot read", path);
  const Compression compression = CompressionOf({head, static_cast<size_t>(got)});
  if (compression == Compression::kNone && got > 0) {
    for (const std::string_view suffix : {".gz", ".zst", ".xz"}) {
      if (!path.ends_with(suffix)) continue;
      return Fail(ErrorCode::kDataLoss, path, " is named ", suffix, " but does not begin like one (offset 0); ",
                  "fetch it again, or rename it if it is not compressed");
    }
  }
  auto file = std::make_unique<FileStream>(std::move(opened.fd), path);
  return MakeDecoder(compression, std::move(file), path);
}

std::unique_ptr<ByteStream> MakeMemoryStream(std::string bytes) {
  return std::make_unique<MemoryStream>(std::move(bytes));
}

Status ReadWholeFile(const std::string& path, size_t limit, std::string& out) {
  SHEAF_ASSIGN_OR_RETURN(const OpenFile opened, OpenForReading(path));
  const uint64_t bytes = opened.state.bytes;
  if (bytes > limit) {
    return Fail(ErrorCode::kInvalidArgument, path, " has ", bytes, " bytes, more than data.max_line_bytes = ", limit,
                "; raise it, or cut the document");
  }
  out.resize(bytes);
  size_t filled = 0;
  while (filled < bytes) {
    const ssize_t got = read(opened.fd.get(), out.data() + filled, bytes - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FailErrno(errno, "cannot read", path);
    if (got == 0) break;  // it shrank meanwhile: what there is
    filled += static_cast<size_t>(got);
  }
  out.resize(filled);
  return {};
}

}  // namespace sheaf
