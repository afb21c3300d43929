// Splits a stream into lines that are rows: at "\n" or "\r\n", without a byte order mark, blank lines and comment
// lines.
//
// Planning and reading both use it, so they count the same rows. Lines are found with memchr and handed out as views.
// Ownership: owns its stream and one buffer of at most max_line_bytes. Thread-safety: none.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "common/base/result.h"
#include "worker/data/byte_stream.h"

namespace sheaf {

class LineReader {
 public:
  struct Options {
    size_t max_line_bytes = 1 << 20;
    char comment = 0;  // lines that begin with it are no rows; 0: there are none
  };
  enum class Event {
    kLine,
    kTooLong,  // a line of more than max_line_bytes; line() is empty, and the next call goes on behind it
    kEnd,
  };

  LineReader(std::unique_ptr<ByteStream> stream, Options options);

  Result<Event> Next();
  // Valid until the next call; never contains '\n', and no '\r' at its end.
  std::string_view line() const { return line_; }
  // Whether the line may hold a zero byte: known of all that is buffered, looked for once a buffer and not once a line.
  bool line_may_hold_zero() const { return buffer_may_hold_zero_; }
  uint64_t line_offset() const { return line_offset_; }  // of its first byte in the uncompressed data
  uint64_t next_offset() const { return buffer_offset_ + begin_; }  // of the first byte not handed out yet
  // 1-based; after a Seek() it is not known and 0.
  uint64_t line_number() const { return line_number_known_ ? line_number_ : 0; }

  bool seekable() const { return stream_->seekable(); }
  // The next line begins at this byte. Cheap within what is buffered.
  Status Seek(uint64_t offset);

 private:
  Result<bool> Fill();                  // false at the end of the stream
  Result<Event> NextPhysicalLine();     // blank lines and comments included
  Event Take(size_t length, size_t skip);
  Result<Event> DiscardLine();

  std::unique_ptr<ByteStream> stream_;
  Options options_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  bool buffer_may_hold_zero_ = false;
  size_t begin_ = 0, end_ = 0;          // of buffer_: read, not handed out yet
  uint64_t buffer_offset_ = 0;          // of buffer_[0] in the uncompressed data
  bool stream_ended_ = false;
  bool line_number_known_ = true;
  uint64_t line_number_ = 0;
  uint64_t line_offset_ = 0;
  std::string_view line_;
};

}  // namespace sheaf
