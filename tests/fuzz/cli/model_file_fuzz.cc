// Model files of any bytes: refused, or a model whose every row can be looked up, and that is written and read again
// the same.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "cli/model_file.h"
#include "cli/safetensors.h"
#include "common/base/check.h"

namespace sheaf::cli {
namespace {

void ReadTensors(const std::string& path, size_t file_bytes) {
  auto file = SafetensorsReader::Open(path);
  if (!file) return;
  size_t bytes = 0;
  for (const auto& [name, tensor] : file->tensors()) {
    bytes += tensor.end - tensor.begin;
    const size_t rank = tensor.shape.size();
    const bool wide = tensor.type == TensorType::kU64;
    const bool read = wide ? file->ReadU64(name, rank).has_value() : file->ReadF32(name, rank).has_value();
    SHEAF_CHECK(read, "a tensor that was listed cannot be read");
    SHEAF_CHECK(!(wide ? file->ReadF32(name, rank).has_value() : file->ReadU64(name, rank).has_value()),
                "as another type");
  }
  SHEAF_CHECK(bytes <= file_bytes, "tensors of ", bytes, " bytes in a file of ", file_bytes);
}

void UseModel(const StoredModel& model) {
  for (const StoredRows* rows : {&model.weights, &model.statistics}) {
    if (rows->size() == 0) continue;
    std::vector<float> found(rows->size() * rows->dim());
    rows->Lookup(rows->keys(), found);
    SHEAF_CHECK(std::equal(found.begin(), found.end(), rows->rows().begin(),
                           [](float a, float b) { return a == b || (a != a && b != b); }),
                "a row is not found under its key");
  }
}

}  // namespace
}  // namespace sheaf::cli

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf::cli;
  static const int fd = memfd_create("model", MFD_CLOEXEC);
  SHEAF_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  ReadTensors(path, size);
  if (const auto model = LoadModel(path)) UseModel(*model);
  return 0;
}
