// A file of rows, opened: its lines, its parser, and where it stands. Planning and reading both walk it.
//
// Ownership: owns stream, buffer and parser. Thread-safety: none.
// Errors: those of the stream; kInvalidArgument "file:line: what; what to do" for rows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "proto/job.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/line_reader.h"
#include "worker/data/row_parser.h"

namespace sheaf {

class RowFile {
 public:
  // Opens the file at `path` and gives its first line to the parser; a header is behind us then.
  static Result<std::unique_ptr<RowFile>> Open(const pb::JobSpec& spec, const std::string& path);

  // Steps to the next row; false at the end. The row may be too long: then ParseRow() says so.
  Result<bool> NextRow();
  uint64_t row_offset() const { return reader_.line_offset(); }
  // How many rows NextRow() has given: the index of the next one. After SeekRow() counted from there.
  uint64_t next_row() const { return next_row_; }
  // Adds the current row to `rows`. kInvalidArgument leaves them as they were.
  Status ParseRow(RowBuilder& rows);

  bool seekable() const { return reader_.seekable(); }
  // The next row is `row`, which begins at `offset`. Seekable files only.
  Status SeekRow(uint64_t row, uint64_t offset);

  const FileState& state() const { return state_; }
  const std::string& path() const { return path_; }
  const RowParser& parser() const { return *parser_; }

 private:
  RowFile(std::string path, FileState state, std::unique_ptr<RowParser> parser, std::unique_ptr<ByteStream> stream,
          uint32_t max_line_bytes);

  Status Begin();
  Status CheckLine() const;
  Failure AtLine(const Error& error) const;

  std::string path_;
  FileState state_;
  std::unique_ptr<RowParser> parser_;
  uint32_t max_line_bytes_;
  LineReader reader_;
  LineReader::Event event_ = LineReader::Event::kEnd;   // of the current row
  bool first_row_read_ = false;                         // the first line is a row, and NextRow() has not given it yet
  uint64_t next_row_ = 0;
};

}  // namespace sheaf
