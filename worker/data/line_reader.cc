#include "worker/data/line_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sheaf {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

LineReader::LineReader(std::unique_ptr<ByteStream> stream, Options options)
    : stream_(std::move(stream)),
      options_(options),
      buffer_(std::make_unique_for_overwrite<char[]>(kBufferBytes)),
      capacity_(kBufferBytes) {}

Result<LineReader::Event> LineReader::Next() {
  for (;;) {
    auto event = NextPhysicalLine();
    if (!event || *event != Event::kLine) return event;
    if (line_.empty() || (options_.comment != 0 && line_[0] == options_.comment)) continue;
    return event;
  }
}

Result<LineReader::Event> LineReader::NextPhysicalLine() {
  size_t searched = 0;  // bytes from begin_ on that hold no newline
  for (;;) {
    const char* from = buffer_.get() + begin_;
    const size_t length = end_ - begin_;
    if (length > searched) {
      if (const void* found = std::memchr(from + searched, '\n', length - searched)) {
        const size_t line_length = static_cast<size_t>(static_cast<const char*>(found) - from);
        return Take(line_length, line_length + 1);
      }
    }
    searched = length;
    // + 4: a byte order mark and a "\r" do not count.
    if (length > options_.max_line_bytes + 4) return DiscardLine();
    SHEAF_ASSIGN_OR_RETURN(const bool more, Fill());
    if (more) continue;
    if (length == 0) {
      line_ = {};
      return Event::kEnd;
    }
    return Take(length, length);
  }
}

// Hands out `length` bytes and moves on by `skip`.
LineReader::Event LineReader::Take(size_t length, size_t skip) {
  line_offset_ = buffer_offset_ + begin_;
  line_ = {buffer_.get() + begin_, length};
  begin_ += skip;
  ++line_number_;
  if (line_offset_ == 0 && line_.starts_with(kByteOrderMark)) {
    line_.remove_prefix(kByteOrderMark.size());
    line_offset_ = kByteOrderMark.size();
  }
  if (line_.ends_with('\r')) line_.remove_suffix(1);
  if (line_.size() <= options_.max_line_bytes) return Event::kLine;
  line_ = {};
  return Event::kTooLong;
}

Result<LineReader::Event> LineReader::DiscardLine() {
  line_offset_ = buffer_offset_ + begin_;
  line_ = {};
  ++line_number_;
  for (;;) {
    begin_ = end_;
    SHEAF_ASSIGN_OR_RETURN(const bool more, Fill());
    if (!more) return Event::kTooLong;
    if (const void* found = std::memchr(buffer_.get() + begin_, '\n', end_ - begin_)) {
      begin_ = static_cast<size_t>(static_cast<const char*>(found) - buffer_.get()) + 1;
      return Event::kTooLong;
    }
  }
}

// Reads more behind end_. What was handed out makes room first (only a part of a line is left to move), then the buffer
// grows.
Result<bool> LineReader::Fill() {
  if (stream_ended_) return false;
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    buffer_offset_ += begin_;
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == 0) buffer_may_hold_zero_ = false;
  if (end_ == capacity_) {
    auto larger = std::make_unique_for_overwrite<char[]>(capacity_ * 2);
    std::memcpy(larger.get(), buffer_.get(), end_);
    buffer_ = std::move(larger);
    capacity_ *= 2;
  }
  SHEAF_ASSIGN_OR_RETURN(const size_t got, stream_->Read({buffer_.get() + end_, capacity_ - end_}));
  if (got > 0 && std::memchr(buffer_.get() + end_, 0, got) != nullptr) buffer_may_hold_zero_ = true;
  end_ += got;
  stream_ended_ = got == 0;
  return got > 0;
}

Status LineReader::Seek(uint64_t offset) {
  if (offset == next_offset()) return {};
  line_number_known_ = false;
  if (offset >= buffer_offset_ && offset <= buffer_offset_ + end_) {
    begin_ = static_cast<size_t>(offset - buffer_offset_);
    return {};
  }
  SHEAF_RETURN_IF_ERROR(stream_->Seek(offset));
  buffer_offset_ = offset;
  begin_ = end_ = 0;
  stream_ended_ = false;
  return {};
}

}  // namespace sheaf
