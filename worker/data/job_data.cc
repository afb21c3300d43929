#include "worker/data/job_data.h"

#include <cstring>

#include "worker/data/byte_stream.h"
#include "worker/data/row_parser.h"

namespace sheaf {
namespace {

constexpr uint32_t kMostRangeBatches = 1024;
constexpr uint64_t kMostRangeRows = 1 << 24;  // a range is in memory as a whole

}  // namespace

Status ValidateJobData(const pb::JobSpec& spec) {
  const ErrorCode code = ErrorCode::kInvalidArgument;
  const auto& data = spec.data();
  const auto& train = spec.train();
  if (data.train().empty()) return Fail(code, "data.train is empty; name the training files, relative to --data");
  if (data.max_line_bytes() == 0 || data.max_line_bytes() > (1u << 30)) {
    return Fail(code, "data.max_line_bytes is ", data.max_line_bytes(), "; use 1..", 1u << 30);
  }
  if (train.batch_size() == 0) return Fail(code, "train.batch_size is 0; use at least 1");
  if (train.range_batches() == 0 || train.range_batches() > kMostRangeBatches) {
    return Fail(code, "train.range_batches is ", train.range_batches(), "; use 1..", kMostRangeBatches);
  }
  const uint64_t range_rows = uint64_t{train.batch_size()} * train.range_batches();
  if (range_rows > kMostRangeRows) {
    return Fail(code, "a range would have train.batch_size * train.range_batches = ", range_rows,
                " rows; it is held in memory: use at most ", kMostRangeRows);
  }
  if (spec.model().loss() == pb::ModelSpec::SOFTMAX && spec.model().classes() < 2) {
    return Fail(code, "model.classes is ", spec.model().classes(), "; SOFTMAX needs at least 2");
  }
  if (auto parser = MakeRowParser(spec); !parser) return Failure{parser.error()};
  return {};
}

uint32_t RowsPerRange(const pb::JobSpec& spec) { return spec.train().batch_size() * spec.train().range_batches(); }

Status CheckFolderLabels(const pb::ModelSpec& model, const DocumentSet& set, const std::string& pattern) {
  const size_t count = set.labels.size();
  std::string names;
  for (size_t i = 0; i < count && i < 8; ++i) names += (i == 0 ? "" : ", ") + set.labels[i];
  if (count > 8) names += ", ...";
  if (model.loss() == pb::ModelSpec::LOGISTIC && count != 2) {
    return Fail(ErrorCode::kInvalidArgument, pattern, " has ", count, " label folders (", names,
                "), and loss LOGISTIC takes 2; use model { loss: SOFTMAX classes: ", count, " }");
  }
  if (model.loss() == pb::ModelSpec::SOFTMAX && count != model.classes()) {
    return Fail(ErrorCode::kInvalidArgument, pattern, " has ", count, " label folders (", names, "), model.classes is ",
                model.classes(), "; set it to ", count);
  }
  if (model.loss() == pb::ModelSpec::SQUARED || model.loss() == pb::ModelSpec::HUBER) {
    return Fail(ErrorCode::kInvalidArgument, pattern, " has folders as labels, and the loss predicts numbers; ",
                "use LOGISTIC or SOFTMAX, or lines \"target<TAB>text\"");
  }
  return {};
}

Status DocumentReader::ReadDocument(const DocumentSet& set, const DocumentSet::Document& document, RowBuilder& rows) {
  const DocumentSet::Folder& folder = set.folders[document.folder];
  const std::string path = folder.path + "/" + document.name;
  SHEAF_RETURN_IF_ERROR(ReadWholeFile(path, max_bytes_, text_));
  if (const void* zero = std::memchr(text_.data(), 0, text_.size())) {
    return Fail(ErrorCode::kInvalidArgument, path, ": zero byte at offset ",
                static_cast<const char*>(zero) - text_.data(),
                "; the document is binary, packed or UTF-16: give plain text in UTF-8");
  }
  rows.BeginRow(TextFeatures::ExpectedFeatures(text_.size()));
  features_.AddFeatures(text_, rows);
  rows.CommitRow(static_cast<float>(folder.label));
  return {};
}

}  // namespace sheaf
