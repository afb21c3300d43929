#include "worker/data/row_parser.h"

#include <cmath>

#include "worker/data/click_parser.h"
#include "worker/data/libsvm_parser.h"
#include "worker/data/number_parser.h"
#include "worker/data/text_features.h"

namespace sheaf {

std::string Quoted(std::string_view bytes) {
  constexpr size_t kMost = 40;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = "'";
  for (const char c : bytes.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      text += c;
    } else {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  if (bytes.size() > kMost) text += "...";
  return text + "'";
}

Result<float> LabelRule::ParseSlowly(std::string_view text) const {
  const auto number = ParseWhole(text);
  if (!number) {
    const std::string_view advice =
        loss_ == pb::ModelSpec::LOGISTIC  ? "write 0 or 1 in its place, e.g. sed 's/^ham/0/; s/^spam/1/'"
        : loss_ == pb::ModelSpec::SOFTMAX ? "number the classes from 0 in its place"
                                          : "put the target there";
    return Fail(ErrorCode::kInvalidArgument, "label ", Quoted(text), " is not a number; ", advice);
  }
  if (!std::isfinite(static_cast<float>(*number))) {
    return Fail(ErrorCode::kInvalidArgument, "label ", Quoted(text),
                " is NaN, infinite or too large for a float; remove the row");
  }
  if (loss_ == pb::ModelSpec::LOGISTIC) {
    if (*number == 0 || *number == 1) return static_cast<float>(*number);
    if (*number == -1) return 0.0f;
    return Fail(ErrorCode::kInvalidArgument, "label ", Quoted(text),
                " does not fit loss LOGISTIC, which takes 0 and 1 (or -1 and +1); for more classes use SOFTMAX");
  }
  if (loss_ == pb::ModelSpec::SOFTMAX && (*number < 0 || *number >= classes_ || *number != std::floor(*number))) {
    return Fail(ErrorCode::kInvalidArgument, "label ", Quoted(text), " is not a class 0..", int64_t{classes_} - 1,
                "; number the classes from 0, or raise model.classes");
  }
  return static_cast<float>(*number);
}

Status RowParser::BeginFile(std::string_view) { return {}; }

Result<std::unique_ptr<RowParser>> MakeRowParser(const pb::JobSpec& spec) {
  const LabelRule labels(spec.model());
  switch (spec.data().format()) {
    case pb::DataSpec::LIBSVM: return std::unique_ptr<RowParser>(std::make_unique<LibsvmParser>(labels));
    case pb::DataSpec::CLICKS: return MakeClickParser(spec.data(), labels);
    case pb::DataSpec::TEXT: return MakeTextLineParser(spec.data(), labels);
  }
  return Fail(ErrorCode::kInvalidArgument, "data.format ", static_cast<int>(spec.data().format()),
              " is not known to this build; use LIBSVM, CLICKS or TEXT");
}

}  // namespace sheaf
