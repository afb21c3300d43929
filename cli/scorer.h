// Applies a stored model to data files: the same reading, weighting and scoring as in training.
//
// Ownership: owns model and rows. Thread-safety: none.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cli/model_file.h"
#include "common/base/result.h"
#include "compute/model/model.h"
#include "proto/control.pb.h"

namespace sheaf::cli {

// Scored rows of one file: labels [n], scores [n, output_dim] (logits, or predictions of a regression).
struct ScoredRows {
  std::span<const float> labels;
  std::span<const float> scores;
  int output_dim = 1;
};
using ScoreSink = std::function<Status(const ScoredRows& rows)>;

class Scorer {
 public:
  // kDataLoss if the stored rows do not fit the stored job.
  static Result<Scorer> Make(StoredModel model);

  // Reads the files (relative to the working directory) in order, and hands their rows on in order.
  Status Score(const std::vector<std::string>& files, const ScoreSink& sink);

  // Of all rows scored so far.
  pb::EvalResult Metrics() const;
  const pb::ModelSpec& spec() const { return model_.spec.model(); }
  uint64_t bad_rows() const { return bad_rows_; }

 private:
  Scorer(StoredModel model, std::unique_ptr<Model> compute) : model_(std::move(model)), compute_(std::move(compute)) {}
  Status ScoreBlock(RowBlock& block, const ScoreSink& sink);

  StoredModel model_;
  std::unique_ptr<Model> compute_;
  pb::EvalCounts counts_;
  uint64_t bad_rows_ = 0;
};

}  // namespace sheaf::cli
