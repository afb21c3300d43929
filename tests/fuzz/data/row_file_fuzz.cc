// Files of rows of any bytes, of every format, walked from the start and from the middle: the same rows, or errors that
// name the line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "tests/fuzz/data/check_rows.h"
#include "worker/data/row_file.h"

namespace sheaf {
namespace {

pb::JobSpec SpecOf(uint8_t choice) {
  pb::JobSpec spec;
  pb::DataSpec& data = *spec.mutable_data();
  data.set_format(static_cast<pb::DataSpec::Format>(choice % 3));
  data.set_max_line_bytes(choice & 4 ? 24 : 4096);
  if (choice & 8) data.mutable_clicks()->set_header(true);
  if (choice & 16) data.mutable_clicks()->set_separator(",");
  if (choice & 32) data.mutable_text()->set_ngrams(2);
  if (choice & 64) spec.mutable_model()->set_loss(pb::ModelSpec::SQUARED);
  return spec;
}

// Rows and their offsets; bad ones have none.
void Walk(RowFile& file, std::vector<uint64_t>& offsets, RowBuilder& rows) {
  while (true) {
    const auto more = file.NextRow();
    if (!more || !*more) return;
    offsets.push_back(file.row_offset());
    const size_t before = rows.row_count();
    const Status parsed = file.ParseRow(rows);
    SHEAF_CHECK(rows.row_count() == before + (parsed ? 1 : 0), "a bad row left something behind");
    SHEAF_CHECK(parsed || parsed.error().message.find(':') != std::string::npos, "an error without its line");
  }
}

}  // namespace
}  // namespace sheaf

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sheaf;
  if (size < 1) return 0;
  static const int fd = memfd_create("rows", MFD_CLOEXEC);
  SHEAF_CHECK(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, data + 1, size - 1, 0) == static_cast<ssize_t>(size - 1));
  const pb::JobSpec spec = SpecOf(data[0]);
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  auto file = RowFile::Open(spec, path);
  if (!file) return 0;
  std::vector<uint64_t> offsets;
  RowBuilder rows(64);
  Walk(**file, offsets, rows);
  CheckRows(rows.Take());
  if (offsets.empty() || !(*file)->seekable()) return 0;

  const size_t middle = offsets.size() / 2;
  SHEAF_CHECK((*file)->SeekRow(middle, offsets[middle]).has_value(), "cannot seek to a row");
  std::vector<uint64_t> second;
  RowBuilder rows_again(64);
  Walk(**file, second, rows_again);
  SHEAF_CHECK(second == std::vector<uint64_t>(offsets.begin() + static_cast<ptrdiff_t>(middle), offsets.end()),
              "another walk finds other rows");
  return 0;
}
