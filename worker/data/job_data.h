// What planning and reading must agree on: checks of a job's data fields, rows of a range, reading a document.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"
#include "proto/job.pb.h"
#include "worker/data/data_paths.h"
#include "worker/data/row_builder.h"
#include "worker/data/text_features.h"

namespace sheaf {

// kInvalidArgument names the field of the job that is wrong.
Status ValidateJobData(const pb::JobSpec& spec);

// Rows between two offsets of a plan: train.batch_size * train.range_batches, after ValidateJobData.
uint32_t RowsPerRange(const pb::JobSpec& spec);

// Whether the loss and the number of label folders fit.
Status CheckFolderLabels(const pb::ModelSpec& model, const DocumentSet& set, const std::string& pattern);

// Reads documents of folder splits; keeps the features' scratch memory between them.
class DocumentReader {
 public:
  explicit DocumentReader(const pb::DataSpec& spec)
      : features_(spec.text(), spec.hash_seed()), max_bytes_(spec.max_line_bytes()) {}
  // kInvalidArgument (too long, binary) leaves `rows` as they were.
  Status ReadDocument(const DocumentSet& set, const DocumentSet::Document& document, RowBuilder& rows);

 private:
  TextFeatures features_;
  uint32_t max_bytes_;
  std::string text_;
};

}  // namespace sheaf
