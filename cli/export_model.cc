#include "cli/export_model.h"

#include <unistd.h>

#include <filesystem>

#include "cli/table_client.h"
#include "client/dense.h"
#include "compute/model/model.h"

namespace sheaf::cli {
namespace {

Result<StoredRows> FetchRows(TableClient& tables, TableId table) {
  SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, tables.DimOf(table));
  StoredRows rows(dim, {}, {});
  SHEAF_RETURN_IF_ERROR(tables.ScanAll(table, [&](HashedKey key, std::span<const float> row) -> Status {
    rows.Append(key, row);
    return {};
  }));
  rows.BuildIndex();
  return rows;
}

}  // namespace

Result<StoredModel> FetchModel(ZmqContext& context, const std::string& scheduler, const pb::JobBrief& brief, Duration timeout,
                               const std::function<Status()>& interrupted) {
  SHEAF_ASSIGN_OR_RETURN(const auto client, SchedulerClient::Connect(context, scheduler, timeout));
  client->SetWatch({{}, interrupted});
  SHEAF_ASSIGN_OR_RETURN(const pb::ClusterConfig config, client->GetConfig());
  SHEAF_ASSIGN_OR_RETURN(const auto tables, TableClient::Connect(context, config, timeout, interrupted));
  StoredModel model;
  model.spec = brief.spec();
  SHEAF_ASSIGN_OR_RETURN(model.weights, FetchRows(*tables, TableId(brief.weight_table())));
  if (brief.bias_table() != 0) {
    const TableId table(brief.bias_table());
    SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, tables->DimOf(table));
    const DenseLayout layout(table, dim, dim);  // one chunk, as the workers have it
    SHEAF_ASSIGN_OR_RETURN(const std::vector<float> rows, tables->Pull(table, layout.keys()));
    model.bias.resize(dim);
    layout.ToFlat(rows, model.bias);
  }
  if (brief.statistics_table() != 0) {
    SHEAF_ASSIGN_OR_RETURN(model.statistics, FetchRows(*tables, TableId(brief.statistics_table())));
  }
  return model;
}

Result<ExportFacts> ExportModel(ZmqContext& context, const std::string& scheduler, const pb::JobBrief& brief,
                                const std::string& path, Duration timeout, const std::function<Status()>& interrupted) {
  SHEAF_ASSIGN_OR_RETURN(const StoredModel model, FetchModel(context, scheduler, brief, timeout, interrupted));
  SHEAF_RETURN_IF_ERROR(SaveModel(path, model));
  std::error_code ignored;
  const auto bytes = std::filesystem::is_regular_file(path, ignored) ? std::filesystem::file_size(path, ignored) : 0;
  return ExportFacts{.rows = model.weights.size(), .bytes = ignored ? 0 : bytes};
}

Status CheckOutputPath(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (path.empty() || fs::is_directory(path, ignored)) return Fail(ErrorCode::kInvalidArgument, "cannot write ", path, ": it is a folder");
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  if (!fs::is_directory(folder, ignored)) return Fail(ErrorCode::kNotFound, "cannot write ", path, ": there is no folder ", folder.string());
  if (access(folder.c_str(), W_OK) != 0 && access(path.c_str(), W_OK) != 0) {
    return Fail(ErrorCode::kPermissionDenied, "cannot write ", path, ": no permission to write there");
  }
  return {};
}

}  // namespace sheaf::cli
