#include "worker/data/row_file.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace sheaf {
namespace {

// The 1-based number of the line at `offset`, by counting: only for the text of an error. 0 if the file cannot be read.
uint64_t LineNumberAt(const std::string& path, uint64_t offset) {
  auto stream = OpenByteStream(path);
  if (!stream) return 0;
  std::vector<char> buffer(256 << 10);
  uint64_t number = 1;
  while (offset > 0) {
    const auto got = (*stream)->Read({buffer.data(), static_cast<size_t>(std::min<uint64_t>(offset, buffer.size()))});
    if (!got || *got == 0) break;
    number += static_cast<uint64_t>(std::count(buffer.data(), buffer.data() + *got, '\n'));
    offset -= *got;
  }
  return number;
}

}  // namespace

RowFile::RowFile(std::string path, FileState state, std::unique_ptr<RowParser> parser,
                 std::unique_ptr<ByteStream> stream, uint32_t max_line_bytes)
    : path_(std::move(path)),
      state_(state),
      parser_(std::move(parser)),
      max_line_bytes_(max_line_bytes),
      reader_(std::move(stream), {.max_line_bytes = max_line_bytes, .comment = parser_->comment()}) {}

Result<std::unique_ptr<RowFile>> RowFile::Open(const pb::JobSpec& spec, const std::string& path) {
  SHEAF_ASSIGN_OR_RETURN(auto parser, MakeRowParser(spec));
  SHEAF_ASSIGN_OR_RETURN(const FileState state, StatFile(path));
  SHEAF_ASSIGN_OR_RETURN(auto stream, OpenByteStream(path));
  std::unique_ptr<RowFile> file(
      new RowFile(path, state, std::move(parser), std::move(stream), std::max(1u, spec.data().max_line_bytes())));
  SHEAF_RETURN_IF_ERROR(file->Begin());
  return file;
}

Status RowFile::Begin() {
  SHEAF_ASSIGN_OR_RETURN(event_, reader_.Next());
  if (event_ == LineReader::Event::kEnd) return {};
  // A first line that is too long or binary tells nothing of the file; as a row it is reported, or skipped, like
  // others.
  auto status = CheckLine();
  if (status) status = parser_->BeginFile(reader_.line());
  if (!status && (parser_->first_line_is_header() || !parser_->Layout().empty())) return AtLine(status.error());
  first_row_read_ = !parser_->first_line_is_header();
  return {};
}

Result<bool> RowFile::NextRow() {
  if (first_row_read_) {
    first_row_read_ = false;
  } else {
    SHEAF_ASSIGN_OR_RETURN(event_, reader_.Next());
  }
  if (event_ == LineReader::Event::kEnd) return false;
  ++next_row_;
  return true;
}

Status RowFile::CheckLine() const {
  if (event_ == LineReader::Event::kTooLong) {
    return Fail(ErrorCode::kInvalidArgument, "line has more than data.max_line_bytes = ", max_line_bytes_,
                " bytes; raise it, or check that the file is text");
  }
  if (!reader_.line_may_hold_zero()) [[likely]] return {};
  const std::string_view line = reader_.line();
  if (const void* zero = line.empty() ? nullptr : std::memchr(line.data(), 0, line.size())) {
    const auto at = static_cast<const char*>(zero) - line.data();
    return Fail(ErrorCode::kInvalidArgument, "zero byte at column ", at + 1, " of ", Quoted(line),
                "; the file is binary or UTF-16: give text in UTF-8 (iconv -f UTF-16 -t UTF-8)");
  }
  return {};
}

Status RowFile::ParseRow(RowBuilder& rows) {
  auto status = CheckLine();
  if (status) status = parser_->ParseRow(reader_.line(), rows);
  if (!status) [[unlikely]] return AtLine(status.error());
  return {};
}

Failure RowFile::AtLine(const Error& error) const {
  uint64_t number = reader_.line_number();
  if (number == 0) number = LineNumberAt(path_, reader_.line_offset());
  return Fail(error.code, path_, ":", number, ": ", error.message);
}

Status RowFile::SeekRow(uint64_t row, uint64_t offset) {
  // The first row was read ahead of its turn: its bytes count as not handed out.
  if (first_row_read_ && offset == reader_.line_offset()) {
    next_row_ = row;
    return {};
  }
  first_row_read_ = false;
  next_row_ = row;
  return reader_.Seek(offset);
}

}  // namespace sheaf
