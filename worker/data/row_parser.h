// One row of text to one row of a block: what LIBSVM, click log and text parsers have in common.
//
// Pure functions of the line (and, for click logs, of the file's first line); scratch memory is kept between rows.
// Errors are kInvalidArgument and say what is wrong and what to do; the caller puts "file:line: " in front.
// Thread-safety: none.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "proto/job.pb.h"
#include "worker/data/row_builder.h"

namespace sheaf {

// Which labels a loss accepts.
class LabelRule {
 public:
  explicit LabelRule(const pb::ModelSpec& model) : loss_(model.loss()), classes_(model.classes()) {}

  // LOGISTIC: 0, 1, -1 (read as 0); SOFTMAX: 0..K-1; otherwise any finite number.
  Result<float> Parse(std::string_view text) const {
    if (text.size() == 2 && text[1] == '1' && loss_ == pb::ModelSpec::LOGISTIC) {
      if (text[0] == '+') return 1.0f;
      if (text[0] == '-') return 0.0f;
    }
    if (text.size() == 1 && static_cast<unsigned char>(text[0] - '0') < 2) return static_cast<float>(text[0] - '0');
    return ParseSlowly(text);
  }
  pb::ModelSpec::Loss loss() const { return loss_; }
  uint32_t classes() const { return classes_; }

 private:
  Result<float> ParseSlowly(std::string_view text) const;

  pb::ModelSpec::Loss loss_;
  uint32_t classes_;
};

class RowParser {
 public:
  virtual ~RowParser() = default;
  // Told the first line of every file before its rows.
  virtual Status BeginFile(std::string_view first_line);
  // Whether that line names the columns, and is no row.
  virtual bool first_line_is_header() const { return false; }
  // What files of one job must agree in (column names or their number); empty if nothing.
  virtual std::string Layout() const { return {}; }
  // Adds the row to `rows`, or leaves them as they are.
  virtual Status ParseRow(std::string_view line, RowBuilder& rows) = 0;
  // Lines that begin with it are no rows; 0: there are none.
  virtual char comment() const { return 0; }
};

// kInvalidArgument names the field of the job that is wrong.
Result<std::unique_ptr<RowParser>> MakeRowParser(const pb::JobSpec& spec);

// At most 40 bytes of a file, made fit to print: 'abc\x00...'.
std::string Quoted(std::string_view bytes);

}  // namespace sheaf
