// DataSource over files: keeps a few of them open between ranges, and the order of a folder's documents.
#include "worker/data/data_source.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "worker/data/job_data.h"
#include "worker/data/row_file.h"
#include "worker/data/stop_check.h"

namespace sheaf {
namespace {

constexpr size_t kMostOpenFiles = 8;
constexpr size_t kMostRangeFeatures = size_t{1} << 31;  // RowBlock counts in 32 bits, and a row has less than 2^31

class FileDataSource final : public DataSource {
 public:
  FileDataSource(const pb::JobSpec& spec, const std::string& data_dir, std::stop_token stop)
      : spec_(spec),
        data_dir_(data_dir),
        stop_(std::move(stop)),
        skip_bad_rows_(spec.data().on_bad_row() == pb::DataSpec::SKIP),
        documents_(spec.data()) {}

  Result<RowBlock> ReadRange(const pb::RangeSpec& range) override {
    SHEAF_ASSIGN_OR_RETURN(const std::string path, DataPath(range.path(), data_dir_));
    SHEAF_ASSIGN_OR_RETURN(const DocumentSet* const set, FindDocuments(range));
    RowBuilder rows(spec_.data().max_features());
    rows.Reserve(std::min<size_t>(range.row_count(), 1 << 20), last_features_);
    bad_rows_ = 0;
    SHEAF_RETURN_IF_ERROR(set != nullptr ? ReadDocuments(range, *set, rows) : ReadRows(range, path, rows));
    last_features_ = rows.feature_count() + rows.feature_count() / 16;
    RowBlock block = rows.Take();
    block.bad_rows = bad_rows_;
    return block;
  }

 private:
  // Files that change while a job runs would make its rows differ from pass to pass.
  static Failure FailChanged(const std::string& path, uint64_t now, uint64_t planned, const char* unit) {
    return Fail(ErrorCode::kDataLoss, path, " has ", now, " ", unit, ", but had ", planned,
                " when the job was planned; do not change data while a job runs: put it back, or submit the job again");
  }

  // Counts a bad row, or hands its error on. Only what a row is can be skipped, not a broken file.
  Status Tolerate(const Status& status) {
    if (status) return {};
    if (!skip_bad_rows_ || status.error().code != ErrorCode::kInvalidArgument) return status;
    ++bad_rows_;
    return {};
  }

  static Status CheckSize(const RowBuilder& rows, const std::string& path) {
    if (rows.feature_count() < kMostRangeFeatures) return {};
    return Fail(ErrorCode::kInvalidArgument, path, ": a range has more than ", kMostRangeFeatures,
                " features; lower train.batch_size or train.range_batches");
  }

  Status ReadRows(const pb::RangeSpec& range, const std::string& path, RowBuilder& rows) {
    SHEAF_ASSIGN_OR_RETURN(RowFile* const file, OpenAt(range, path));
    for (uint32_t i = 0; i < range.row_count(); ++i) {
      SHEAF_ASSIGN_OR_RETURN(const bool more, file->NextRow());
      if (!more) {
        return Fail(ErrorCode::kDataLoss, path, " ends at row ", file->next_row(), ", but row ", range.first_row() + i,
                    " was planned; do not change data while a job runs: submit the job again");
      }
      SHEAF_RETURN_IF_ERROR(Tolerate(file->ParseRow(rows)));
      SHEAF_RETURN_IF_ERROR(CheckSize(rows, path));
      SHEAF_RETURN_IF_ERROR(stop_.AtRow(path));
    }
    return {};
  }

  // The file, so that NextRow() gives the range's first row.
  Result<RowFile*> OpenAt(const pb::RangeSpec& range, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(const FileState now, StatFile(path));
    if (now.bytes != range.file_bytes()) return FailChanged(path, now.bytes, range.file_bytes(), "bytes");
    const auto fits = [&](const auto& file) {
      return file->path() == path && file->state().SameFile(now) &&
             (file->seekable() || file->next_row() <= range.first_row());
    };
    auto found = std::find_if(open_.begin(), open_.end(), fits);
    if (found == open_.end()) {
      std::erase_if(open_, [&](const auto& file) { return file->path() == path; });
      if (open_.size() == kMostOpenFiles) open_.erase(open_.begin());
      SHEAF_ASSIGN_OR_RETURN(auto file, RowFile::Open(spec_, path));
      open_.push_back(std::move(file));
    } else {
      std::rotate(found, found + 1, open_.end());  // the one used last is closed last
    }
    RowFile* const file = open_.back().get();
    if (file->seekable()) {
      if (range.byte_offset() > now.bytes) return FailChanged(path, now.bytes, range.byte_offset(), "bytes");
      SHEAF_RETURN_IF_ERROR(file->SeekRow(range.first_row(), range.byte_offset()));
      return file;
    }
    while (file->next_row() < range.first_row()) {
      SHEAF_ASSIGN_OR_RETURN(const bool more, file->NextRow());
      if (!more) return FailChanged(path, file->next_row(), range.first_row(), "rows");
      SHEAF_RETURN_IF_ERROR(stop_.AtRow(path));
    }
    return file;
  }

  // The documents of a folder split; null if the range is of a file of rows.
  Result<const DocumentSet*> FindDocuments(const pb::RangeSpec& range) {
    if (spec_.data().format() != pb::DataSpec::TEXT) return static_cast<const DocumentSet*>(nullptr);
    if (const auto known = sets_.find(range.path()); known != sets_.end()) return &known->second;
    SHEAF_ASSIGN_OR_RETURN(const std::vector<PathMatch> matches, ResolvePattern(range.path(), data_dir_));
    if (!matches[0].is_folder) return static_cast<const DocumentSet*>(nullptr);
    SHEAF_ASSIGN_OR_RETURN(DocumentSet set, ListDocuments(range.path(), matches, data_dir_, spec_.train().seed()));
    SHEAF_RETURN_IF_ERROR(CheckFolderLabels(spec_.model(), set, range.path()));
    if (set.documents.size() != range.file_bytes()) {
      return FailChanged(range.path(), set.documents.size(), range.file_bytes(), "documents");
    }
    return &sets_.emplace(range.path(), std::move(set)).first->second;
  }

  Status ReadDocuments(const pb::RangeSpec& range, const DocumentSet& set, RowBuilder& rows) {
    const uint64_t count = set.documents.size();
    if (count != range.file_bytes()) return FailChanged(range.path(), count, range.file_bytes(), "documents");
    if (range.first_row() > count || range.row_count() > count - range.first_row()) {
      return FailChanged(range.path(), count, range.first_row() + range.row_count(), "documents");
    }
    for (uint32_t i = 0; i < range.row_count(); ++i) {
      const auto& document = set.documents[static_cast<size_t>(range.first_row() + i)];
      SHEAF_RETURN_IF_ERROR(Tolerate(documents_.ReadDocument(set, document, rows)));
      SHEAF_RETURN_IF_ERROR(CheckSize(rows, range.path()));
      SHEAF_RETURN_IF_ERROR(stop_.AtRow(range.path()));
    }
    return {};
  }

  const pb::JobSpec spec_;
  const std::string data_dir_;
  StopCheck stop_;
  const bool skip_bad_rows_;
  DocumentReader documents_;
  std::vector<std::unique_ptr<RowFile>> open_;       // the one used last at the end
  std::map<std::string, DocumentSet> sets_;          // by pattern
  size_t last_features_ = 0;                         // of the last range: what to reserve
  uint64_t bad_rows_ = 0;                            // of the current range
};

}  // namespace

Result<std::unique_ptr<DataSource>> MakeDataSource(const pb::JobSpec& spec, const std::string& data_dir,
                                                   std::stop_token stop) {
  SHEAF_RETURN_IF_ERROR(ValidateJobData(spec));
  return std::unique_ptr<DataSource>(std::make_unique<FileDataSource>(spec, data_dir, std::move(stop)));
}

}  // namespace sheaf
