// Reads a job's tables from the servers, and writes them as a model file.
#pragma once

#include <functional>
#include <string>

#include "cli/model_file.h"
#include "cli/scheduler_client.h"
#include "common/net/zmq_transport.h"

namespace sheaf::cli {

struct ExportFacts {
  uint64_t rows = 0;
  uint64_t bytes = 0;      // of the file
};

// The job's parameters as they are now. kClosed, kNotFound: its tables are gone.
Result<StoredModel> FetchModel(ZmqContext& context, const std::string& scheduler, const pb::JobBrief& brief, Duration timeout,
                               const std::function<Status()>& interrupted);
Result<ExportFacts> ExportModel(ZmqContext& context, const std::string& scheduler, const pb::JobBrief& brief,
                                const std::string& path, Duration timeout, const std::function<Status()>& interrupted);

// Can a file be written here? Asked before hours of training, not after.
Status CheckOutputPath(const std::string& path);

}  // namespace sheaf::cli
