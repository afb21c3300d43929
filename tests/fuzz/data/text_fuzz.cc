// Text of any bytes, as labelled lines and as a document.
#include <cstdint>
#include <string_view>

#include "tests/fuzz/data/check_rows.h"
#include "worker/data/text_features.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  sheaf::pb::DataSpec spec;
  auto& text = *spec.mutable_text();
  text.set_ngrams(1 + data[0] % 8);
  text.set_strip_html(data[0] & 8);
  text.set_lowercase(data[0] & 16);
  text.set_skip_headers(data[0] & 32);
  text.set_weighting(static_cast<sheaf::pb::TextSpec::Weighting>(data[0] >> 6));
  const std::string_view document(reinterpret_cast<const char*>(data) + 2, size - 2);

  sheaf::RowBuilder rows(data[1]);
  auto parser = sheaf::MakeTextLineParser(spec, sheaf::LabelRule(sheaf::pb::ModelSpec()));
  if (parser) sheaf::ParseLines(**parser, document, rows);
  sheaf::TextFeatures features(text, data[1]);
  rows.BeginRow();
  features.AddFeatures(document, rows);
  rows.CommitRow(1);
  sheaf::CheckRows(rows.Take());
  return 0;
}
