#include "cli/export_model.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <numeric>

#include "client/dense.h"
#include "compute/features/weighting.h"

namespace sheaf::cli {
namespace {

constexpr size_t kScanBytes = 2 << 20;

// Rows that `keep` refuses are left out.
using RowFilter = std::function<bool(HashedKey key, std::span<const float> row)>;

Result<StoredRows> FetchRows(BlockingClient& client, TableId table, const RowFilter& keep) {
  SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, TableDim(client.config(), table));
  StoredRows rows(dim, {}, {});
  // Partitions come in order, and each in key order: so do the rows of the whole table.
  SHEAF_RETURN_IF_ERROR(client.ScanAll(
      table, ScanRows(dim), [&](PartitionId, std::span<const HashedKey> keys, std::span<const float> values) -> Status {
        for (size_t i = 0; i < keys.size(); ++i) {
          const auto row = values.subspan(i * dim, dim);
          if (keep(keys[i], row)) rows.Append(keys[i], row);
        }
        return {};
      }));
  rows.BuildIndex();
  return rows;
}

}  // namespace

Result<uint32_t> TableDim(const pb::ClusterConfig& config, TableId table) {
  for (const pb::TableSpec& spec : config.table()) {
    if (spec.id() == table.value) return spec.dim();
  }
  return Fail(ErrorCode::kNotFound, "table ", table,
              " is not in the cluster any more: only the tables of the latest jobs are kept");
}

uint32_t ScanRows(uint32_t dim) {
  return static_cast<uint32_t>(std::max<size_t>(1, kScanBytes / (sizeof(HashedKey) + dim * sizeof(float))));
}

Result<StoredModel> FetchModel(BlockingClient& client, const pb::JobBrief& brief) {
  if (const auto newest = client.GetConfig(); !newest) return Failure{newest.error()};
  StoredModel model;
  model.spec = brief.spec();
  SHEAF_ASSIGN_OR_RETURN(model.weights, FetchRows(client, TableId(brief.weight_table()),
                                                  [](HashedKey, std::span<const float>) { return true; }));
  if (brief.bias_table() != 0) {
    const TableId table(brief.bias_table());
    SHEAF_ASSIGN_OR_RETURN(const uint32_t dim, TableDim(client.config(), table));
    const DenseLayout layout(table, dim, dim);  // one chunk, as the workers have it
    SHEAF_ASSIGN_OR_RETURN(const Floats rows, client.Pull(table, layout.keys()));
    model.bias.resize(dim);
    layout.ToFlat(rows, model.bias);
  }
  if (brief.statistics_table() != 0) {
    // N-grams that are too rare to be features need no row: an absent count is a count of zero.
    const double least = brief.spec().data().text().min_document_count();
    const auto frequent = [least](HashedKey key, std::span<const float> row) {
      return key == kTotalsKey || std::accumulate(row.begin(), row.end(), 0.0) >= least;
    };
    SHEAF_ASSIGN_OR_RETURN(model.statistics, FetchRows(client, TableId(brief.statistics_table()), frequent));
  }
  return model;
}

Result<ExportFacts> ExportModel(BlockingClient& client, const pb::JobBrief& brief, const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(const StoredModel model, FetchModel(client, brief));
  SHEAF_RETURN_IF_ERROR(SaveModel(path, model));
  std::error_code ignored;
  const bool regular = std::filesystem::is_regular_file(path, ignored);
  return ExportFacts{.rows = model.weights.size(), .bytes = regular ? std::filesystem::file_size(path, ignored) : 0};
}

Status CheckOutputPath(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (path.empty() || fs::is_directory(path, ignored))
    return Fail(ErrorCode::kInvalidArgument, "cannot write ", path, ": it is a folder");
  const fs::path folder = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  if (!fs::is_directory(folder, ignored))
    return Fail(ErrorCode::kNotFound, "cannot write ", path, ": there is no folder ", folder.string());
  if (access(folder.c_str(), W_OK) != 0 && access(path.c_str(), W_OK) != 0) {
    return Fail(ErrorCode::kPermissionDenied, "cannot write ", path, ": no permission to write there");
  }
  return {};
}

}  // namespace sheaf::cli
