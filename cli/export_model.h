// Reads a job's tables from the servers, and writes them as a model file.
#pragma once

#include <string>

#include "cli/model_file.h"
#include "client/blocking_client.h"

namespace sheaf::cli {

struct ExportFacts {
  uint64_t rows = 0;
  uint64_t bytes = 0;  // of the file
};

// The job's parameters as they are now. kClosed, kNotFound: its tables are gone.
Result<StoredModel> FetchModel(BlockingClient& client, const pb::JobBrief& brief);
Result<ExportFacts> ExportModel(BlockingClient& client, const pb::JobBrief& brief, const std::string& path);

// Floats a row. kNotFound: the cluster has no such table (any more).
Result<uint32_t> TableDim(const pb::ClusterConfig& config, TableId table);
// Rows of a scan's message: as many as fit well.
uint32_t ScanRows(uint32_t dim);

// Can a file be written here? Asked before hours of training, not after.
Status CheckOutputPath(const std::string& path);

}  // namespace sheaf::cli
