#include "common/storage/file_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY  // XXH3_state_t on the stack
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

#include "common/storage/file_log_disk.h"
#include "common/storage/file_log_segments.h"
#include "common/storage/files.h"

namespace sheaf {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

constexpr std::array<char, 8> kLogMagic{'S', 'H', 'E', 'A', 'F', 'L', 'O', 'G'};
constexpr uint32_t kLogVersion = 1;
constexpr size_t kSegmentHeaderBytes = 40;
constexpr size_t kRecordHeaderBytes = 32;
constexpr size_t kAlignment = 8;
constexpr size_t kMostVectors = 1024;  // of one system call
constexpr uint64_t kWriteBackBytes = 8 << 20;

size_t PaddingOf(size_t size) { return (kAlignment - size % kAlignment) % kAlignment; }

struct RecordHeader {
  uint32_t size = 0;
  uint32_t header_check = 0;
  uint64_t index = 0;
  uint64_t synced = 0;
  uint64_t check = 0;

  uint32_t OwnCheck() const {
    const uint64_t words[] = {size, index, synced, check};
    return static_cast<uint32_t>(XXH3_64bits(words, sizeof(words)));
  }
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes);

struct SegmentHeader {
  std::array<char, 8> magic = kLogMagic;
  uint32_t version = kLogVersion;
  uint32_t zero = 0;
  uint64_t first = 0;
  uint64_t chain = 0;
  uint64_t check = 0;

  uint64_t OwnCheck() const { return XXH3_64bits(this, kSegmentHeaderBytes - sizeof(check)); }
};
static_assert(sizeof(SegmentHeader) == kSegmentHeaderBytes);

uint64_t CheckOf(std::span<const Buffer> pieces, uint64_t index) {
  if (pieces.size() == 1) return XXH3_64bits_withSeed(pieces[0].data(), pieces[0].size(), index);
  XXH3_state_t state;
  XXH3_64bits_reset_withSeed(&state, index);
  for (const Buffer& piece : pieces) XXH3_64bits_update(&state, piece.data(), piece.size());
  return XXH3_64bits_digest(&state);
}

uint64_t Chained(uint64_t chain, uint64_t check) {
  const uint64_t words[] = {chain, check};
  return XXH3_64bits(words, sizeof(words));
}

// A segment in memory.
struct Segment {
  std::string path;
  SegmentHeader header;
  Buffer bytes;
};

// Where a segment's sound records end.
struct SegmentEnd {
  uint64_t next_index = 0;
  uint64_t chain = 0;
  size_t offset = 0;
};

// Of the last segment the header may be torn, if nothing is behind it: then `first` of it is 0.
Result<Segment> ReadSegment(const std::string& path, uint64_t first, bool is_last) {
  Segment segment{path, {}, {}};
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError("cannot read", path);
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    const Failure failure = FileError("cannot read", path);
    close(fd);
    return failure;
  }
  const auto size = static_cast<size_t>(info.st_size);
  const std::shared_ptr<uint64_t[]> words = std::make_shared_for_overwrite<uint64_t[]>(size / sizeof(uint64_t) + 1);
  size_t read_bytes = 0;
  while (read_bytes < size) {
    const ssize_t got = read(fd, reinterpret_cast<char*>(words.get()) + read_bytes, size - read_bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const Failure failure = FileError("cannot read", path);
      close(fd);
      return failure;
    }
    if (got == 0) break;
    read_bytes += static_cast<size_t>(got);
  }
  close(fd);
  segment.bytes = Buffer(words, std::as_bytes(std::span(words.get(), size / sizeof(uint64_t) + 1)).first(read_bytes));
  if (read_bytes < kSegmentHeaderBytes && is_last) return segment;
  if (read_bytes < kSegmentHeaderBytes) return Fail(ErrorCode::kDataLoss, path, " has only ", read_bytes, " bytes");
  std::memcpy(&segment.header, segment.bytes.data(), kSegmentHeaderBytes);
  const bool sound = segment.header.magic == kLogMagic && segment.header.check == segment.header.OwnCheck();
  if (!sound && is_last && read_bytes == kSegmentHeaderBytes) {
    segment.header = {};
    return segment;
  }
  if (!sound) {
    return Fail(ErrorCode::kDataLoss, path, ": its first ", kSegmentHeaderBytes, " bytes are damaged");
  }
  if (segment.header.version != kLogVersion) {
    return Fail(ErrorCode::kVersionMismatch, path, " has format ", segment.header.version, ", this build reads ",
                kLogVersion);
  }
  if (segment.header.first != first) {
    return Fail(ErrorCode::kDataLoss, path, " begins with record ", segment.header.first, ": it was renamed");
  }
  return segment;
}

// The record at `offset`, if it is whole and sound.
std::optional<RecordHeader> SoundRecordAt(const Buffer& bytes, size_t offset) {
  if (bytes.size() - offset < kRecordHeaderBytes) return std::nullopt;
  RecordHeader header;
  std::memcpy(&header, bytes.data() + offset, kRecordHeaderBytes);
  if (header.header_check != header.OwnCheck() || header.size > RedoLog::kMaxRecordBytes) return std::nullopt;
  if (bytes.size() - offset - kRecordHeaderBytes < header.size) return std::nullopt;
  const std::byte* const payload = bytes.data() + offset + kRecordHeaderBytes;
  if (XXH3_64bits_withSeed(payload, header.size, header.index) != header.check) return std::nullopt;
  return header;
}

Failure Damaged(const Segment& segment, size_t offset, uint64_t index, const char* why) {
  return Fail(ErrorCode::kDataLoss, segment.path, ": record ", index, " at byte ", offset, " is damaged: ", why);
}

constexpr const char* kSoundOnesBehind = "it was on the disk, and there are sound ones behind it";
constexpr const char* kNotTorn = "it is all there, and the system has not been started again since it was written";

// The bytes end before the record at `offset` does, which may have been as good as any.
bool IsCutShort(const Segment& segment, size_t offset, uint64_t index) {
  const size_t left = segment.bytes.size() - offset;
  if (left < kRecordHeaderBytes) return true;
  RecordHeader header;
  std::memcpy(&header, segment.bytes.data() + offset, kRecordHeaderBytes);
  return header.header_check == header.OwnCheck() && header.index == index &&
         header.size <= RedoLog::kMaxRecordBytes && left - kRecordHeaderBytes < header.size;
}

// Walks the records of a segment. If it is the log's last, its end may be torn.
Result<SegmentEnd> Walk(const Segment& segment, bool is_last, FileLogOptions::Since since,
                        const RedoLog::Taker& take) {
  SegmentEnd at{segment.header.first, segment.header.chain, kSegmentHeaderBytes};
  const size_t size = segment.bytes.size();
  while (at.offset < size) {
    const auto header = SoundRecordAt(segment.bytes, at.offset);
    if (!header || header->index != at.next_index) {
      for (size_t later = at.offset; is_last && later < size; later += kAlignment) {
        const auto found = SoundRecordAt(segment.bytes, later);
        if (found && found->index > at.next_index && found->synced > at.next_index) {
          return Damaged(segment, at.offset, at.next_index, kSoundOnesBehind);
        }
      }
      if (!is_last) return Damaged(segment, at.offset, at.next_index, kSoundOnesBehind);
      if (since == FileLogOptions::Since::kSameBoot && !IsCutShort(segment, at.offset, at.next_index)) {
        return Damaged(segment, at.offset, at.next_index, kNotTorn);
      }
      return at;
    }
    SHEAF_RETURN_IF_ERROR(
        take(header->index, segment.bytes.Slice(at.offset + kRecordHeaderBytes, header->size)));
    at.chain = Chained(at.chain, header->check);
    ++at.next_index;
    at.offset += kRecordHeaderBytes + header->size + PaddingOf(header->size);  // of the last, zeros may be missing
  }
  return at;
}

Status TakeNothing(uint64_t /*index*/, const Buffer& /*record*/) { return {}; }

}  // namespace

Result<std::unique_ptr<FileLog>> FileLog::Open(const std::string& folder, FileLogOptions options) {
  std::unique_ptr<FileLog> log(new FileLog(folder, options));
  SHEAF_RETURN_IF_ERROR(log->OpenSegments());
  return log;
}

FileLog::FileLog(std::string folder, FileLogOptions options)
    : folder_(std::move(folder)), options_(options), disk_(std::make_shared<FileLogDisk>(folder_)) {}

FileLog::~FileLog() { Close(); }

std::shared_ptr<RedoLogDisk> FileLog::disk() { return disk_; }

void FileLog::Close() {
  for (int* const fd : {&fd_, &behind_fd_}) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
  }
}

std::string FileLog::PathOf(uint64_t first) const { return SegmentPath(folder_, first); }

Status FileLog::OpenSegments() {
  SHEAF_RETURN_IF_ERROR(MakeFolders(folder_));
  const std::filesystem::path path_of(folder_);
  SHEAF_RETURN_IF_ERROR(SyncFolder(path_of.parent_path()));
  SHEAF_RETURN_IF_ERROR(SyncFolder(path_of.parent_path().parent_path()));
  SHEAF_ASSIGN_OR_RETURN(segments_, SegmentsIn(folder_));
  if (segments_.empty()) return Begin(next_index_);
  for (const auto& [first, size] : segments_) kept_bytes_ += size;
  const auto last = std::prev(segments_.end());
  const std::string path = PathOf(last->first);
  SHEAF_ASSIGN_OR_RETURN(const Segment segment, ReadSegment(path, last->first, /*is_last=*/true));
  if (segment.header.first == 0) {
    // It was being begun when the process ended, and has no record.
    const uint64_t first = last->first;
    torn_bytes_ += segment.bytes.size();
    if (unlink(path.c_str()) != 0) return FileError("cannot remove", path);
    segments_.erase(first);
    kept_bytes_ = 0;
    if (segments_.empty()) next_index_ = first;
    SHEAF_RETURN_IF_ERROR(OpenSegments());
    if (next_index_ == first) return {};
    return Fail(ErrorCode::kDataLoss, PathOf(segments_.rbegin()->first), " ends before record ", next_index_, ", not ",
                first, ": records are missing");
  }
  kept_bytes_ -= last->second;
  SHEAF_ASSIGN_OR_RETURN(const SegmentEnd end, Walk(segment, /*is_last=*/true, options_.since, TakeNothing));
  fd_ = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd_ < 0) return FileError("cannot write", path);
  if (end.offset != segment.bytes.size()) {
    torn_bytes_ += segment.bytes.size() > end.offset ? segment.bytes.size() - end.offset : 0;
    if (ftruncate(fd_, static_cast<off_t>(end.offset)) != 0) return FileError("cannot cut the torn end of", path);
  }
  next_index_ = end.next_index;
  chain_ = end.chain;
  end_ = write_back_ = end.offset;
  // Whoever reads it takes it for safe, also what a process before had no time to sync.
  if (segments_.size() > 1) {
    behind_fd_ = open(PathOf(std::prev(last)->first).c_str(), O_WRONLY | O_CLOEXEC);
    if (behind_fd_ < 0) return FileError("cannot write", PathOf(std::prev(last)->first));
  }
  synced_ = false;
  SHEAF_RETURN_IF_ERROR(SyncBehind());
  SHEAF_RETURN_IF_ERROR(SyncCurrent());
  disk_->Begin(last->first, next_index_);
  return SyncFolder(folder_);
}

Status FileLog::Begin(uint64_t first) {
  const std::string path = PathOf(first);
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return FileError("cannot create", path);
  SegmentHeader header;
  header.first = first;
  header.chain = chain_;
  header.check = header.OwnCheck();
  const ssize_t written = pwrite(fd, &header, sizeof(header), 0);
  if (written != static_cast<ssize_t>(sizeof(header)) || fsync(fd) != 0) {
    if (written >= 0 && written < static_cast<ssize_t>(sizeof(header))) errno = ENOSPC;
    const Failure failure = FileError("cannot write", path);
    close(fd);
    unlink(path.c_str());
    return failure;
  }
  if (const Status synced = SyncFolder(folder_); !synced) {
    close(fd);
    return synced;
  }
  if (!segments_.empty()) {
    segments_.rbegin()->second = end_;
    kept_bytes_ += end_;
  }
  // Not synced now, when it would hold up whoever pushes: the next one will find it on the disk.
  if (fd_ >= 0 && !synced_) {
    behind_fd_ = fd_;
  } else if (fd_ >= 0) {
    close(fd_);
  }
  fd_ = fd;
  disk_->Begin(first, first);
  end_ = write_back_ = sizeof(header);
  segments_[first] = end_;
  synced_ = true;
  return {};
}

void FileLog::BeginAnew() {
  next_index_ -= pending_.size();
  pending_.clear();
  anew_ = true;
}

// Whole segments, the oldest first: what is left after a crash has no gap.
Status FileLog::TrimTo(uint64_t index) {
  while (!anew_ && segments_.size() > 1 && std::next(segments_.begin())->first <= index) {
    const auto oldest = segments_.begin();
    SHEAF_RETURN_IF_ERROR(RemoveSegment(folder_, oldest->first));
    kept_bytes_ -= oldest->second;
    segments_.erase(oldest);
    if (segments_.size() > 1 || behind_fd_ < 0) continue;
    close(behind_fd_);  // it is gone: nothing is left to sync
    behind_fd_ = -1;
  }
  return {};
}

// The newest first: what is left after a crash is what the log was once, or nothing.
Status FileLog::RemoveAll() {
  Close();
  disk_->RemoveAll();
  while (!segments_.empty()) {
    SHEAF_RETURN_IF_ERROR(RemoveSegment(folder_, segments_.rbegin()->first));
    segments_.erase(std::prev(segments_.end()));
  }
  kept_bytes_ = 0;
  synced_ = true;
  return SyncFolder(folder_);
}

uint64_t FileLog::Append(std::vector<Buffer> pieces) {
  Pending record{std::move(pieces), std::vector<std::byte>(kRecordHeaderBytes), 0, 0};
  size_t size = 0;
  for (const Buffer& piece : record.pieces) size += piece.size();
  SHEAF_CHECK(size <= kMaxRecordBytes, "a record of ", size, " bytes");
  RecordHeader header;
  header.size = static_cast<uint32_t>(size);
  header.index = next_index_++;
  header.synced = on_disk_;
  header.check = CheckOf(record.pieces, header.index);
  header.header_check = header.OwnCheck();
  std::memcpy(record.header.data(), &header, sizeof(header));
  record.padding = PaddingOf(size);
  record.check = header.check;
  pending_.push_back(std::move(record));
  return header.index;
}

Failure FileLog::Broken(const Error& error) {
  if (error.code != ErrorCode::kResourceExhausted) {
    broken_ = error;
    disk_->Break(error);
  }
  return Failure{error};
}

// All of pending_, or nothing.
Status FileLog::Write() {
  static constexpr std::array<std::byte, kAlignment> kZeros{};
  std::vector<iovec> vectors;
  uint64_t size = 0;
  const auto add = [&](std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    vectors.push_back({const_cast<std::byte*>(bytes.data()), bytes.size()});  // only read from
    size += bytes.size();
  };
  for (const Pending& record : pending_) {
    add(record.header);
    for (const Buffer& piece : record.pieces) add(piece.bytes());
    add(std::span(kZeros).first(record.padding));
  }
  auto at = static_cast<off_t>(end_);
  for (size_t first = 0; first < vectors.size();) {
    const size_t count = std::min(vectors.size() - first, kMostVectors);
    ssize_t written = pwritev(fd_, vectors.data() + first, static_cast<int>(count), at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const Failure failure = FileError("cannot write", PathOf(segments_.rbegin()->first));
      if (ftruncate(fd_, static_cast<off_t>(end_)) == 0) return failure;
      return Fail(ErrorCode::kIo, FileError("cannot undo a write to", PathOf(segments_.rbegin()->first)).error.message);
    }
    at += written;
    for (; written > 0 && first < vectors.size(); ++first) {
      iovec& vector = vectors[first];
      const size_t taken = std::min(vector.iov_len, static_cast<size_t>(written));
      written -= static_cast<ssize_t>(taken);
      if (taken < vector.iov_len) {
        vector.iov_base = static_cast<std::byte*>(vector.iov_base) + taken;
        vector.iov_len -= taken;
        break;
      }
    }
  }
  end_ += size;
  // What will be synced when the segment is full is on its way to the disk by then. Only a hint.
  if (end_ - write_back_ >= kWriteBackBytes) {
    (void)sync_file_range(fd_, static_cast<off_t>(write_back_), static_cast<off_t>(end_ - write_back_),
                          SYNC_FILE_RANGE_WRITE);
    write_back_ = end_;
  }
  return {};
}

Status FileLog::Commit(Durability level) {
  if (!broken_) broken_ = disk_->failure();
  if (broken_) return Failure{*broken_};
  if (anew_) {
    if (const Status removed = RemoveAll(); !removed) return Broken(removed.error());
    if (const Status begun = Begin(next_index_ - pending_.size()); !begun) return Broken(begun.error());
    anew_ = false;
  }
  if (!pending_.empty()) {
    if (end_ >= options_.segment_bytes) {
      SHEAF_RETURN_IF_ERROR(SyncBehind());
      if (const Status begun = Begin(next_index_ - pending_.size()); !begun) return Broken(begun.error());
    }
    if (const Status written = Write(); !written) return Broken(written.error());
    for (const Pending& record : pending_) chain_ = Chained(chain_, record.check);
    pending_.clear();
    synced_ = false;
    disk_->Committed(next_index_);
  }
  if (level != Durability::kFsync) return {};
  SHEAF_RETURN_IF_ERROR(SyncBehind());
  return SyncCurrent();
}

// A page that could not be written may be marked clean: a second try would succeed and mean nothing.
Status FileLog::SyncBehind() {
  if (behind_fd_ < 0) return {};
  if (fdatasync(behind_fd_) != 0) return Broken({ErrorCode::kIo, FileError("cannot sync", folder_).error.message});
  close(behind_fd_);
  behind_fd_ = -1;
  if (!segments_.empty()) on_disk_ = std::max(on_disk_, segments_.rbegin()->first);
  return {};
}

Status FileLog::SyncCurrent() {
  if (synced_) return {};
  if (fdatasync(fd_) != 0) return Broken({ErrorCode::kIo, FileError("cannot sync", folder_).error.message});
  synced_ = true;
  on_disk_ = next_index_ - pending_.size();
  return {};
}

Status FileLog::Replay(uint64_t from, const Taker& take) {
  if (anew_) return {};
  const uint64_t committed = next_index_ - pending_.size();
  const auto take_wanted = [&](uint64_t index, Buffer record) {
    return index < from ? Status() : take(index, std::move(record));
  };
  std::optional<uint64_t> chain;  // at the end of the segment before
  for (auto at = segments_.begin(); at != segments_.end(); ++at) {
    const auto next = std::next(at);
    const bool is_last = next == segments_.end();
    if (!is_last && next->first <= from) continue;
    SHEAF_ASSIGN_OR_RETURN(const Segment segment, ReadSegment(PathOf(at->first), at->first, /*is_last=*/false));
    if (chain && *chain != segment.header.chain) {
      return Fail(ErrorCode::kDataLoss, segment.path, " does not follow the segment before it: it is of another log");
    }
    SHEAF_ASSIGN_OR_RETURN(const SegmentEnd end,
                           Walk(segment, is_last, FileLogOptions::Since::kPowerLoss, take_wanted));
    chain = end.chain;
    const uint64_t expected = is_last ? committed : next->first;
    if (end.next_index != expected) {
      return Fail(ErrorCode::kDataLoss, PathOf(at->first), " ends before record ", end.next_index, ", not ", expected,
                  ": records are missing");
    }
  }
  return {};
}

}  // namespace sheaf
