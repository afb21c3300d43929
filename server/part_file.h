// The file of a partition in a checkpoint: pieces of its image (server/partition_image.h), one after the other.
//
// "SHEAFPRT", u32 version, u32 zero; then for each piece u64 bytes, the piece, zeros up to a multiple of eight. All of
// it is under the digest that the manifest has of the file. State comes first, then rows by table and key.
// Thread-safety: none. Errors: the file's; kDataLoss: it is not one.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "common/base/buffer.h"
#include "common/base/digest.h"
#include "common/base/result.h"
#include "common/checkpoint/file_space.h"
#include "server/partition_image.h"

namespace sheaf {

class PartFileWriter {
 public:
  explicit PartFileWriter(std::unique_ptr<FileSink> sink) : sink_(std::move(sink)) {}

  Status Begin();
  Status Add(const ImagePiece& piece);
  Status Finish() { return sink_->Finish(); }  // it is on the disk
  uint64_t bytes() const { return bytes_; }
  Digest digest() const { return digester_.Result(); }

 private:
  Status Append(std::span<const std::byte> bytes);

  const std::unique_ptr<FileSink> sink_;
  Digester digester_;
  uint64_t bytes_ = 0;
};

class PartFileReader {
 public:
  explicit PartFileReader(std::unique_ptr<FileSource> source) : source_(std::move(source)), left_(source_->size()) {}

  Status Begin();
  // Nothing: it was the last.
  Result<std::optional<Buffer>> Next();

 private:
  Status Read(std::span<std::byte> into);

  const std::unique_ptr<FileSource> source_;
  uint64_t left_;
};

}  // namespace sheaf
