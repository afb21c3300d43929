// Files as streams of bytes: plain, gzip (any number of members), zstd or xz.
//
// How a file is packed is read off its first bytes, whatever its name; a name that promises compression must keep it.
// Ownership: a stream owns its file descriptor and buffers. Thread-safety: none.
// Errors: kNotFound, kPermissionDenied, kResourceExhausted, kIo by the system's answer; kInvalidArgument for what is
// not a regular file; kDataLoss, with the offset in the compressed file, for compressed data that is broken or cut off.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace sheaf {

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  // Fills some of `out`, which must not be empty; 0 means the end.
  virtual Result<size_t> Read(std::span<char> out) = 0;
  // Whether Seek() works: plain files only.
  virtual bool seekable() const { return false; }
  // The next Read() begins at this byte.
  virtual Status Seek(uint64_t offset);
};

enum class Compression { kNone, kGzip, kZstd, kXz };

// What the first bytes of a file (6 are enough) say.
Compression CompressionOf(std::string_view first_bytes);

// Which file a path names now, and how long it is on disk.
struct FileState {
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;
  bool SameFile(const FileState& other) const { return device == other.device && inode == other.inode; }
};
// kInvalidArgument for folders, pipes and devices.
Result<FileState> StatFile(const std::string& path);

// Opens a file and, if it is compressed, the decoder over it.
Result<std::unique_ptr<ByteStream>> OpenByteStream(const std::string& path);
// Decodes `source`; `name` stands in errors. kNone hands the source back.
std::unique_ptr<ByteStream> MakeDecoder(Compression compression, std::unique_ptr<ByteStream> source, std::string name);
std::unique_ptr<ByteStream> MakeMemoryStream(std::string bytes);

// Reads a whole plain file into `out`. kInvalidArgument if it has more than `limit` bytes.
Status ReadWholeFile(const std::string& path, size_t limit, std::string& out);

// Turns an errno of an operation on a path into an Error that says what to do about it.
Failure FailErrno(int error, std::string_view act, const std::string& path);

}  // namespace sheaf
