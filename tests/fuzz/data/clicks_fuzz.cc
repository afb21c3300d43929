// Click logs of any bytes, under settings drawn from the input: columns, lists, crosses, quotes, headers.
#include <cstdint>
#include <string_view>

#include "tests/fuzz/data/check_rows.h"
#include "worker/data/click_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  sheaf::pb::DataSpec spec;
  auto& clicks = *spec.mutable_clicks();
  clicks.set_separator(data[0] & 1 ? "," : "\t");
  clicks.set_header(data[0] & 2);
  if (data[0] & 4) clicks.set_multi_value_separator("|");
  if (data[0] & 8) clicks.add_cross("1*2");
  if (data[0] & 16) clicks.add_integer("2");
  if (data[0] & 32) clicks.add_ignore("1");
  auto parser = sheaf::MakeClickParser(spec, sheaf::LabelRule(sheaf::pb::ModelSpec()));
  if (!parser) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (!(*parser)->BeginFile(text.substr(0, text.find('\n')))) return 0;
  sheaf::RowBuilder rows(data[1]);
  sheaf::ParseLines(**parser, text, rows);
  sheaf::CheckRows(rows.Take());
  return 0;
}
