// PlanData(): patterns to files, files to rows and offsets.
#include <set>
#include <utility>

#include "worker/data/data_source.h"
#include "worker/data/job_data.h"
#include "worker/data/row_file.h"
#include "worker/data/stop_check.h"

namespace sheaf {
namespace {

constexpr uint64_t kRowsToTry = 32;            // parsed while planning, so that gross mistakes show at once
constexpr uint64_t kProgressRows = 1 << 18;
constexpr const char* kSplitNames[] = {"data.train", "data.valid", "data.test"};

class Planner {
 public:
  Planner(const pb::JobSpec& spec, const std::string& data_dir, const PlanProgress& progress, std::stop_token stop)
      : spec_(spec), data_dir_(data_dir), progress_(progress), stop_(std::move(stop)), documents_(spec.data()) {}

  Result<pb::DataPlan> Run() {
    const auto& data = spec_.data();
    SHEAF_RETURN_IF_ERROR(PlanSplit(0, data.train()));
    SHEAF_RETURN_IF_ERROR(PlanSplit(1, data.valid()));
    SHEAF_RETURN_IF_ERROR(PlanSplit(2, data.test()));
    return std::move(plan_);
  }

 private:
  template <typename Patterns>
  Status PlanSplit(uint32_t split, const Patterns& patterns) {
    std::set<std::string> seen;
    for (const std::string& pattern : patterns) {
      auto status = PlanPattern(split, pattern, seen);
      if (!status) return Wrap(status.error(), kSplitNames[split]);
    }
    return {};
  }

  Status PlanPattern(uint32_t split, const std::string& pattern, std::set<std::string>& seen) {
    SHEAF_ASSIGN_OR_RETURN(const std::vector<PathMatch> matches, ResolvePattern(pattern, data_dir_));
    if (spec_.data().format() == pb::DataSpec::TEXT && matches[0].is_folder)
      return PlanDocuments(split, pattern, matches);
    for (const PathMatch& match : matches) {
      std::vector<std::string> files{match.path};
      if (match.is_folder) {
        if (spec_.data().format() == pb::DataSpec::TEXT) return FailMixed(pattern, matches[0], match);
        SHEAF_ASSIGN_OR_RETURN(files, FilesIn(match.path, data_dir_));
      }
      for (const std::string& path : files) {
        if (!seen.insert(path).second) {
          return Fail(ErrorCode::kInvalidArgument, path, " is named twice, the second time by ", pattern,
                      "; its rows would count twice: name it once");
        }
        SHEAF_RETURN_IF_ERROR(PlanRowFile(split, path));
      }
    }
    return {};
  }

  static Failure FailMixed(const std::string& pattern, const PathMatch& a, const PathMatch& b) {
    return Fail(ErrorCode::kInvalidArgument, pattern, " names both files and folders (", a.path, ", ", b.path,
                "); give lines or a folder per label, not both");
  }

  Status PlanRowFile(uint32_t split, const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(const std::string full_path, DataPath(path, data_dir_));
    SHEAF_ASSIGN_OR_RETURN(const std::unique_ptr<RowFile> file, RowFile::Open(spec_, full_path));

    const uint32_t rows_per_range = RowsPerRange(spec_);
    pb::PlanFile& planned = *plan_.add_file();
    planned.set_split(split);
    planned.set_path(path);
    planned.set_bytes(file->state().bytes);
    planned.set_rows_per_range(rows_per_range);

    RowBuilder trial(spec_.data().max_features());
    std::optional<Error> first_error;
    uint64_t rows = 0;
    uint64_t until_offset = 0;
    for (;;) {
      SHEAF_ASSIGN_OR_RETURN(const bool more, file->NextRow());
      if (!more) break;
      if (until_offset-- == 0) {
        planned.add_offset(file->row_offset());
        until_offset = rows_per_range - 1;
      }
      if (rows < kRowsToTry) {
        if (auto status = file->ParseRow(trial); !status && !first_error) first_error = status.error();
        if (first_error && spec_.data().on_bad_row() == pb::DataSpec::FAIL) return Failure{*first_error};
      }
      if (++rows % kProgressRows == 0 && progress_) progress_(path, rows);
      SHEAF_RETURN_IF_ERROR(stop_.AtRow(path));
    }
    if (rows == 0)
      return Fail(ErrorCode::kInvalidArgument, full_path, " has no rows; remove it from the job, or fill it");
    // A few bad rows are skipped, but when all are bad it is the job that is wrong.
    if (trial.row_count() == 0) return Wrap(*first_error, "none of the first rows can be read");
    planned.set_rows(rows);
    if (progress_) progress_(path, rows);
    return CheckLayout(full_path, file->parser().Layout());
  }

  // Columns are hashed by number, so they must mean the same in every file.
  Status CheckLayout(const std::string& path, const std::string& layout) {
    if (layout_path_.empty()) {
      layout_path_ = path;
      layout_ = layout;
    }
    if (layout == layout_) return {};
    return Fail(ErrorCode::kInvalidArgument, path, " has ", layout, ", but ", layout_path_, " has ", layout_,
                "; all files of a job need the same columns");
  }

  Status PlanDocuments(uint32_t split, const std::string& pattern, const std::vector<PathMatch>& matches) {
    for (const PathMatch& match : matches) {
      if (!match.is_folder) return FailMixed(pattern, matches[0], match);
    }
    SHEAF_ASSIGN_OR_RETURN(const DocumentSet set, ListDocuments(pattern, matches, data_dir_, spec_.train().seed()));
    SHEAF_RETURN_IF_ERROR(CheckFolderLabels(spec_.model(), set, pattern));
    if (labels_pattern_.empty()) {
      labels_pattern_ = pattern;
      labels_ = set.labels;
    }
    if (set.labels != labels_) {
      return Fail(ErrorCode::kInvalidArgument, pattern, " has other label folders than ", labels_pattern_,
                  "; classes are numbered by the folders' names, so they must be the same everywhere");
    }
    const uint64_t rows = set.documents.size();
    const uint32_t rows_per_range = RowsPerRange(spec_);
    pb::PlanFile& planned = *plan_.add_file();
    planned.set_split(split);
    planned.set_path(pattern);
    planned.set_bytes(rows);
    planned.set_rows(rows);
    planned.set_rows_per_range(rows_per_range);
    for (uint64_t row = 0; row < rows; row += rows_per_range) planned.add_offset(row);

    RowBuilder trial(spec_.data().max_features());
    for (uint64_t row = 0; row < rows && row < kRowsToTry; ++row) {
      auto status = documents_.ReadDocument(set, set.documents[row], trial);
      const bool skip = !status && status.error().code == ErrorCode::kInvalidArgument &&
                        spec_.data().on_bad_row() == pb::DataSpec::SKIP;
      if (!status && !skip) return status;
    }
    if (progress_) progress_(pattern, rows);
    return {};
  }

  const pb::JobSpec& spec_;
  const std::string& data_dir_;
  const PlanProgress& progress_;
  StopCheck stop_;
  DocumentReader documents_;
  pb::DataPlan plan_;
  std::string layout_path_, layout_;             // of the first row file
  std::string labels_pattern_;                   // of the first folder split
  std::vector<std::string> labels_;
};

}  // namespace

Result<pb::DataPlan> PlanData(const pb::JobSpec& spec, const std::string& data_dir, const PlanProgress& progress,
                              std::stop_token stop) {
  SHEAF_RETURN_IF_ERROR(ValidateJobData(spec));
  return Planner(spec, data_dir, progress, std::move(stop)).Run();
}

}  // namespace sheaf
