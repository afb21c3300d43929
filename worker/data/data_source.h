// A job's data as workers see it: a plan of row ranges, and the rows of any one range.
//
// Files are streamed, never loaded whole; a range is the most that is in memory at once. Ranges of a compressed file
// that are asked for in ascending order are read in one walk over the stream; going back opens it again.
// Thread-safety: none; a DataSource belongs to one (reader) thread. It touches only files below `data_dir` or absolute
// paths. Both look at their stop token every thousand rows or so, and end with kCancelled when a stop is asked for.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "common/base/result.h"
#include "compute/batch.h"
#include "proto/control.pb.h"
#include "proto/job.pb.h"

namespace sheaf {

// Called now and then while planning: rows seen so far, of this file.
using PlanProgress = std::function<void(const std::string& path, uint64_t rows)>;

// Resolves the patterns of every split, walks every file once, and notes where its rows begin.
// Errors name the file, the line and what is wrong: kNotFound (no such file, or a pattern without match),
// kInvalidArgument (empty, ragged, binary, a label that does not fit), kIo, kDataLoss (broken compression).
Result<pb::DataPlan> PlanData(const pb::JobSpec& spec, const std::string& data_dir, const PlanProgress& progress,
                              std::stop_token stop = {});

class DataSource {
 public:
  virtual ~DataSource() = default;
  // The rows of a planned range, parsed and hashed, in file order. A row of the file is a row of the block, except
  // rows skipped as bad (counted). kDataLoss if the file's size is no longer the planned one.
  virtual Result<RowBlock> ReadRange(const pb::RangeSpec& range) = 0;
};

Result<std::unique_ptr<DataSource>> MakeDataSource(const pb::JobSpec& spec, const std::string& data_dir,
                                                   std::stop_token stop = {});

}  // namespace sheaf
