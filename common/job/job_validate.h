// Is a job well formed? Everything that can be told without looking at the data, found at once.
//
// Depends on the wire contracts and common/base only, so that whoever accepts a job can ask. Pure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf {

struct FieldProblem {
  std::string path;  // "train.batch_size", "data.train[1]"
  std::string text;  // "is 0, must be from 1 to 1048576"
};

// In the order of the fields. Empty: the job is well formed.
std::vector<FieldProblem> FindProblems(const pb::JobSpec& spec);

// Where a field was set ("adult.job.textproto:7:3"), or empty.
using FieldOrigin = std::function<std::string(const std::string& path)>;

// kInvalidArgument: one line for each problem.
Status ValidateJob(const pb::JobSpec& spec, const FieldOrigin& origin = nullptr);

}  // namespace sheaf
