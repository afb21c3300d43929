// Job files: text to JobSpec, with errors that name file, line, column, field and the nearest right name.
//
// A value comes from, in this order: --set, the environment (SHEAF_JOB_TRAIN__BATCH_SIZE), the file, the default.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "proto/job.pb.h"

namespace sheaf::cli {

struct JobFile {
  pb::JobSpec spec;
  // Where each field was set, by path ("train.batch_size", "data.train[1]"): "adult.job.textproto:7:3", "--set".
  std::map<std::string, std::string> origins;

  // Of the field, or of the nearest enclosing one that was set.
  std::string OriginOf(const std::string& path) const;
};

// Syntax and names only. `file` names the text in errors.
Result<JobFile> ParseJobText(const std::string& text, const std::string& file);

// Sets one field: path "train.batch_size", value as in a job file, strings with or without quotes; a repeated field is
// replaced by a comma-separated list. `origin` names the setting in errors ("--set", "environment SHEAF_JOB_...").
Status SetField(const std::string& path, const std::string& value, const std::string& origin, JobFile& job);

// One "a.b=value" of --set.
Status ApplySetting(const std::string& setting, JobFile& job);

using Environment = std::vector<std::pair<std::string, std::string>>;
// The variables of this process whose name starts with SHEAF_JOB_, sorted.
Environment JobEnvironment(const char* const* environ);
Status ApplyEnvironment(const Environment& environment, JobFile& job);

// Reads the file, applies environment and settings, names the job after the file if it has no name, and validates it.
// kNotFound, kIo: the file; kInvalidArgument: what is in it.
Result<JobFile> LoadJobFile(const std::string& path, const Environment& environment,
                            const std::vector<std::string>& settings);

}  // namespace sheaf::cli
