// LIBSVM lines of any bytes: an error or a row, never a crash, and never a bad row in the block.
#include <cstdint>
#include <string_view>

#include "tests/fuzz/data/check_rows.h"
#include "worker/data/libsvm_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  sheaf::pb::ModelSpec model;
  model.set_loss(static_cast<sheaf::pb::ModelSpec::Loss>(data[0] % 4));
  sheaf::LibsvmParser parser{sheaf::LabelRule(model)};
  sheaf::RowBuilder rows(data[1]);
  sheaf::ParseLines(parser, {reinterpret_cast<const char*>(data) + 2, size - 2}, rows);
  sheaf::CheckRows(rows.Take());
  return 0;
}
