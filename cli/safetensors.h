// The safetensors file format: named tensors, raw little-endian, behind a JSON header.
//
//   8 bytes    length N of the header, little-endian
//   N bytes    JSON: {"__metadata__": {text: text}, "name": {"dtype", "shape", "data_offsets": [begin, end]}, ...}
//   the rest   the tensors' bytes; offsets count from here and cover it without gap or overlap
//
// The reader trusts nothing: every length and offset is checked against the file before anything is allocated.
// Format: https://github.com/huggingface/safetensors (version 0.x; only U64 and F32 here).
// Thread-safety: none.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace sheaf::cli {

inline constexpr size_t kMaxSafetensorsHeader = 16 << 20;

enum class TensorType { kU64, kF32 };

// A tensor to write; the bytes are the caller's.
struct TensorView {
  std::string name;
  TensorType type = TensorType::kF32;
  std::vector<uint64_t> shape;
  std::span<const std::byte> bytes;
};

// Same input, same bytes. Tensors lie in the order given: put those of 8-byte values first to keep all aligned.
Status WriteSafetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                        const std::vector<TensorView>& tensors);

class SafetensorsReader {
 public:
  struct Tensor {
    TensorType type = TensorType::kF32;
    std::vector<uint64_t> shape;
    uint64_t begin = 0;  // in the data
    uint64_t end = 0;
  };

  // kNotFound, kIo: the file; kDataLoss: it is no safetensors file, or a damaged one.
  static Result<SafetensorsReader> Open(const std::string& path);
  SafetensorsReader(SafetensorsReader&& other) noexcept;
  SafetensorsReader& operator=(SafetensorsReader&&) = delete;
  ~SafetensorsReader();

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  // Reads a tensor of that many dimensions. kDataLoss if it is absent or of another type or rank.
  Result<std::vector<uint64_t>> ReadU64(const std::string& name, size_t rank);
  Result<std::vector<float>> ReadF32(const std::string& name, size_t rank);

 private:
  explicit SafetensorsReader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  Status ParseHeader(const std::string& json, uint64_t data_bytes);
  template <typename T>
  Result<std::vector<T>> Read(const std::string& name, TensorType type, size_t rank);

  std::string path_;
  int fd_ = -1;
  uint64_t data_begin_ = 0;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace sheaf::cli
