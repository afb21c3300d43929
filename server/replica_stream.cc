#include "server/replica_stream.h"

#include <algorithm>
#include <cstring>

#include "common/storage/redo_log.h"
#include "server/redo_record.h"

namespace sheaf {
namespace {

constexpr size_t kAlignment = sizeof(uint64_t);
constexpr size_t kMaxMessageBytes = size_t{1} << 20;
constexpr Duration kAgainAfter = Milliseconds(300);
constexpr size_t kMaxAgainBytes = size_t{8} << 20;  // at once

}  // namespace

void ReplicaStream::Write(const std::vector<Buffer>& pieces) {
  uint64_t size = 0;
  for (const Buffer& piece : pieces) size += piece.size();
  // Not grown piece by piece; many small ones still by doubling.
  if (const size_t needed = fresh_.size() + sizeof(size) + RoundUpToWords(size); needed > fresh_.capacity()) {
    fresh_.reserve(std::max(needed, 2 * fresh_.capacity()));
  }
  const auto* const head = reinterpret_cast<const std::byte*>(&size);
  fresh_.insert(fresh_.end(), head, head + sizeof(size));
  for (const Buffer& piece : pieces) fresh_.insert(fresh_.end(), piece.bytes().begin(), piece.bytes().end());
  fresh_.resize(fresh_.size() + RoundUpToWords(size) - size);
  written_ += sizeof(size) + RoundUpToWords(size);
}

void ReplicaStream::Send(const Sent& piece, Outbox& out) const {
  Message message;
  message.header.mutable_replicate()->set_stream(name_);
  message.header.mutable_replicate()->set_offset(piece.offset);
  message.header.mutable_replicate()->set_to(to_.value);
  message.values = piece.bytes;
  out.Send(to_, std::move(message));
}

void ReplicaStream::Flush(TimePoint now, Outbox& out) {
  if (!sent_.empty() && now - waiting_since_ >= kAgainAfter) {
    waiting_since_ = now;
    size_t again = 0;
    for (const Sent& piece : sent_) {
      if (again >= kMaxAgainBytes) break;
      again += piece.bytes.size();
      Send(piece, out);
    }
  }
  if (fresh_.empty()) return;
  if (sent_.empty()) waiting_since_ = taken_at_ = now;
  uint64_t offset = written_ - fresh_.size();
  const Buffer all = Buffer::FromVector(std::exchange(fresh_, {}));
  for (size_t begin = 0; begin < all.size(); begin += kMaxMessageBytes) {
    const size_t size = std::min(kMaxMessageBytes, all.size() - begin);
    sent_.push_back({offset, all.Slice(begin, size)});
    Send(sent_.back(), out);
    offset += size;
  }
}

void ReplicaStream::OnReply(const pb::ReplicateReply& reply, TimePoint now) {
  if (reply.taken() <= taken_ || reply.taken() > written_) return;
  taken_ = reply.taken();
  waiting_since_ = taken_at_ = now;
  while (!sent_.empty() && sent_.front().offset + sent_.front().bytes.size() <= taken_) sent_.pop_front();
}

Status ReplicaReader::Read(const pb::Replicate& header, const Buffer& bytes, std::vector<Buffer>& records) {
  if (header.offset() > read_ || header.offset() + bytes.size() <= read_) return {};
  if (header.offset() % kAlignment != 0 || bytes.size() % kAlignment != 0) {
    return Fail(ErrorCode::kInvalidArgument, "a piece of a stream of ", bytes.size(), " bytes at ", header.offset());
  }
  Buffer left = bytes.Slice(read_ - header.offset(), bytes.size() - (read_ - header.offset()));
  read_ = header.offset() + bytes.size();
  while (!left.empty()) {
    uint64_t size = 0;
    if (begun_.empty()) {
      std::memcpy(&size, left.data(), sizeof(size));
    } else {
      std::memcpy(&size, begun_.data(), sizeof(size));
    }
    if (size > RedoLog::kMaxRecordBytes) {
      return Fail(ErrorCode::kInvalidArgument, "a record of ", size, " bytes in a stream");
    }
    const size_t whole = sizeof(size) + RoundUpToWords(size);
    if (begun_.empty() && whole <= left.size()) {
      records.push_back(left.Slice(sizeof(size), size));
      left = left.Slice(whole, left.size() - whole);
      continue;
    }
    const size_t more = std::min(whole - begun_.size(), left.size());
    begun_.insert(begun_.end(), left.data(), left.data() + more);
    left = left.Slice(more, left.size() - more);
    if (begun_.size() < whole) break;
    records.push_back(Buffer::FromVector(std::exchange(begun_, {})).Slice(sizeof(size), size));
  }
  return {};
}

}  // namespace sheaf
