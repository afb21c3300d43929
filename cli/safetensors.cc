#include "cli/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cli/atomic_file.h"

namespace sheaf::cli {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie in memory");

using Json = nlohmann::json;

constexpr char kMetadata[] = "__metadata__";
constexpr int kMaxDepth = 4;
constexpr size_t kMaxRank = 8;

size_t ElementSize(TensorType type) { return type == TensorType::kU64 ? 8 : 4; }
const char* TypeName(TensorType type) { return type == TensorType::kU64 ? "U64" : "F32"; }

Status ReadFully(int fd, const std::string& path, uint64_t offset, void* out, uint64_t size) {
  auto* bytes = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = pread(fd, bytes, std::min<uint64_t>(size, 1 << 30), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Fail(ErrorCode::kIo, "reading ", path, ": ", std::strerror(errno));
    if (got == 0) return Fail(ErrorCode::kDataLoss, path, " ends at byte ", offset, ", ", size, " bytes are missing");
    bytes += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<uint64_t>(got);
  }
  return {};
}

// Parses JSON, refusing what nlohmann lets pass: deep nesting and names given twice.
Json ParseStrictly(const std::string& text, std::string& problem) {
  std::vector<std::set<std::string>> names;
  const auto check = [&](int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kMaxDepth && problem.empty()) problem = "is nested too deeply";
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end && !names.empty()) names.pop_back();
    if (event == Json::parse_event_t::key && !names.empty() && !names.back().insert(parsed.get<std::string>()).second &&
        problem.empty()) {
      problem = "names \"" + parsed.get<std::string>() + "\" twice";
    }
    return problem.empty();
  };
  Json parsed = Json::parse(text, check, false);
  if (problem.empty() && (parsed.is_discarded() || !parsed.is_object())) problem = "is not a JSON object";
  return parsed;
}

bool IsUint(const Json& value) { return value.is_number_unsigned(); }

// What is wrong with a header entry, or empty.
std::string ParseTensor(const Json& entry, SafetensorsReader::Tensor& tensor) {
  if (!entry.is_object()) return "is no object";
  const auto type = entry.find("dtype");
  const auto shape = entry.find("shape");
  const auto offsets = entry.find("data_offsets");
  if (type == entry.end() || shape == entry.end() || offsets == entry.end())
    return "lacks dtype, shape or data_offsets";
  if (*type == "U64")
    tensor.type = TensorType::kU64;
  else if (*type == "F32")
    tensor.type = TensorType::kF32;
  else
    return "is of a type that is not read here (U64 and F32 are)";
  if (!shape->is_array() || shape->size() > kMaxRank || !std::all_of(shape->begin(), shape->end(), IsUint)) {
    return "has no valid shape";
  }
  if (!offsets->is_array() || offsets->size() != 2 || !std::all_of(offsets->begin(), offsets->end(), IsUint)) {
    return "has no valid data_offsets";
  }
  tensor.begin = (*offsets)[0].get<uint64_t>();
  tensor.end = (*offsets)[1].get<uint64_t>();
  if (tensor.end < tensor.begin) return "ends before it begins";
  unsigned __int128 bytes = ElementSize(tensor.type);
  for (const Json& extent : *shape) {
    tensor.shape.push_back(extent.get<uint64_t>());
    bytes *= tensor.shape.back();
    if (bytes > (static_cast<unsigned __int128>(1) << 62)) return "has a shape that no file can hold";
  }
  if (bytes != tensor.end - tensor.begin) return "has a shape that does not fit its data_offsets";
  return "";
}

}  // namespace

Status WriteSafetensors(const std::string& path, const std::map<std::string, std::string>& metadata,
                        const std::vector<TensorView>& tensors) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  uint64_t offset = 0;
  for (const TensorView& tensor : tensors) {
    header[tensor.name] = {{"dtype", TypeName(tensor.type)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
  if (text.size() > kMaxSafetensorsHeader)
    return Fail(ErrorCode::kInvalidArgument, "the header of ", path, " would be too large");
  const uint64_t length = text.size();

  SHEAF_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  SHEAF_RETURN_IF_ERROR(file.Write(std::as_bytes(std::span(&length, 1))));
  SHEAF_RETURN_IF_ERROR(file.Write(text));
  for (const TensorView& tensor : tensors) SHEAF_RETURN_IF_ERROR(file.Write(tensor.bytes));
  return file.Commit();
}

SafetensorsReader::SafetensorsReader(SafetensorsReader&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      data_begin_(other.data_begin_),
      metadata_(std::move(other.metadata_)),
      tensors_(std::move(other.tensors_)) {}

SafetensorsReader::~SafetensorsReader() {
  if (fd_ >= 0) close(fd_);
}

Result<SafetensorsReader> SafetensorsReader::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return Fail(errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo, "cannot read ", path, ": ",
                std::strerror(errno));
  }
  SafetensorsReader reader(path, fd);
  struct stat info {};
  if (fstat(fd, &info) != 0) return Fail(ErrorCode::kIo, "cannot read ", path, ": ", std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return Fail(ErrorCode::kInvalidArgument, "cannot read ", path, ": it is not a file");
  const auto file_bytes = static_cast<uint64_t>(info.st_size);
  uint64_t length = 0;
  if (file_bytes < sizeof(length)) {
    return Fail(ErrorCode::kDataLoss, path, " is not a safetensors file: it has only ", file_bytes, " bytes");
  }
  SHEAF_RETURN_IF_ERROR(ReadFully(fd, path, 0, &length, sizeof(length)));
  if (length > kMaxSafetensorsHeader || length > file_bytes - sizeof(length)) {
    return Fail(ErrorCode::kDataLoss, path, " is not a safetensors file: its header would have ", length,
                " bytes, the file has ", file_bytes);
  }
  std::string text(length, '\0');
  SHEAF_RETURN_IF_ERROR(ReadFully(fd, path, sizeof(length), text.data(), length));
  reader.data_begin_ = sizeof(length) + length;
  SHEAF_RETURN_IF_ERROR(reader.ParseHeader(text, file_bytes - reader.data_begin_));
  return reader;
}

Status SafetensorsReader::ParseHeader(const std::string& text, uint64_t data_bytes) {
  std::string problem;
  const Json header = ParseStrictly(text, problem);
  if (!problem.empty()) return Fail(ErrorCode::kDataLoss, path_, " is damaged: its header ", problem);
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadata) {
      if (!entry.is_object()) return Fail(ErrorCode::kDataLoss, path_, " is damaged: ", kMetadata, " is no object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string())
          return Fail(ErrorCode::kDataLoss, path_, " is damaged: metadata \"", key, "\" is no text");
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    Tensor tensor;
    problem = ParseTensor(entry, tensor);
    if (problem.empty() && tensor.end > data_bytes) {
      problem = "ends at byte " + std::to_string(tensor.end) + " of " + std::to_string(data_bytes);
    }
    if (!problem.empty()) return Fail(ErrorCode::kDataLoss, path_, " is damaged: tensor \"", name, "\" ", problem);
    pieces.emplace_back(tensor.begin, tensor.end);
    tensors_[name] = std::move(tensor);
  }
  std::sort(pieces.begin(), pieces.end());
  uint64_t covered = 0;
  for (const auto& [begin, end] : pieces) {
    if (begin != covered) {
      return Fail(ErrorCode::kDataLoss, path_, " is damaged: its tensors ", begin < covered ? "overlap" : "leave a gap",
                  " at byte ", begin, " of the data");
    }
    covered = end;
  }
  if (covered != data_bytes) {
    return Fail(ErrorCode::kDataLoss, path_, " is damaged: it holds ", data_bytes,
                " bytes of data, its header tells of ", covered);
  }
  return {};
}

template <typename T>
Result<std::vector<T>> SafetensorsReader::Read(const std::string& name, TensorType type, size_t rank) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return Fail(ErrorCode::kDataLoss, path_, " has no tensor \"", name, "\"");
  const Tensor& tensor = found->second;
  if (tensor.type != type || tensor.shape.size() != rank) {
    return Fail(ErrorCode::kDataLoss, path_, ": tensor \"", name, "\" is ", TypeName(tensor.type), " with ",
                tensor.shape.size(), " dimensions, expected ", TypeName(type), " with ", rank);
  }
  std::vector<T> values((tensor.end - tensor.begin) / sizeof(T));
  SHEAF_RETURN_IF_ERROR(ReadFully(fd_, path_, data_begin_ + tensor.begin, values.data(), tensor.end - tensor.begin));
  return values;
}

Result<std::vector<uint64_t>> SafetensorsReader::ReadU64(const std::string& name, size_t rank) {
  return Read<uint64_t>(name, TensorType::kU64, rank);
}
Result<std::vector<float>> SafetensorsReader::ReadF32(const std::string& name, size_t rank) {
  return Read<float>(name, TensorType::kF32, rank);
}

}  // namespace sheaf::cli
