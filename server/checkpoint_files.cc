#include "server/checkpoint_files.h"

#include <utility>

#include "common/base/failpoint.h"
#include "common/checkpoint/catalog.h"

namespace sheaf {
namespace {

constexpr size_t kSyncedTogether = 64;  // files, which are open until then
constexpr size_t kReadAtOnce = size_t{8} << 20;

Failure NoFolder() {
  return Fail(ErrorCode::kInvalidArgument,
              "this server has no --checkpoint_dir: give it the folder that the scheduler has");
}

}  // namespace

PartDone CheckpointFiles::Write(const PartWork& work) {
  PartDone done;
  done.id = work.id;
  if (writing_ != work.id) written_.clear();
  done.status = WritePieces(work, done.parts);
  if (!done.status) {
    writer_.reset();
    written_.clear();
  }
  return done;
}

Status CheckpointFiles::SyncWritten(std::vector<pb::CheckpointPart>& done) {
  Pass("server.file.unsynced");
  for (Written& written : written_) {
    SHEAF_RETURN_IF_ERROR(written.writer->Finish());
    done.push_back(std::move(written.part));
    Pass("server.file.synced");
  }
  written_.clear();
  return {};
}

Status CheckpointFiles::WritePieces(const PartWork& work, std::vector<pb::CheckpointPart>& done) {
  if (space_ == nullptr) return NoFolder();
  const uint32_t partition = work.part.partition();
  if (writer_ == nullptr || writing_ != work.id || partition_ != partition) {
    writer_.reset();
    SHEAF_ASSIGN_OR_RETURN(auto sink, space_->Create(work.folder, PartFileName(partition, work.id)));
    Pass("server.file.created");
    writer_ = std::make_unique<PartFileWriter>(std::move(sink));
    writing_ = work.id;
    partition_ = partition;
    SHEAF_RETURN_IF_ERROR(writer_->Begin());
  }
  for (const ImagePiece& piece : work.pieces) {
    SHEAF_RETURN_IF_ERROR(writer_->Add(piece));
    Pass("server.file.begun");
  }
  if (!work.last) return {};
  Written& written = written_.emplace_back(Written{work.part, std::move(writer_)});
  written.part.set_bytes(written.writer->bytes());
  written.part.set_digest_high(written.writer->digest().high);
  written.part.set_digest_low(written.writer->digest().low);
  return work.end || written_.size() >= kSyncedTogether ? SyncWritten(done) : Status();
}

ReadDone CheckpointFiles::Read(const ReadWork& work) {
  ReadDone done;
  done.partition = work.partition;
  done.status = ReadPieces(work, done.pieces);
  if (!done.status || done.pieces.empty()) chain_.reset();
  return done;
}

Status CheckpointFiles::ReadPieces(const ReadWork& work, std::vector<Buffer>& pieces) {
  if (space_ == nullptr) return NoFolder();
  if (work.first) SHEAF_RETURN_IF_ERROR(OpenChain(work));
  if (chain_ == nullptr) return Fail(ErrorCode::kInternal, "a partition is read on that was not begun");
  for (size_t bytes = 0; bytes < kReadAtOnce;) {
    auto piece = chain_->Next();
    if (!piece) return Wrap(piece.error(), "partition ", work.partition, " of the checkpoint ", work.order.name());
    if (!*piece) return {};
    bytes += (*piece)->size();
    pieces.push_back(std::move(**piece));
  }
  return {};
}

Status CheckpointFiles::OpenChain(const ReadWork& work) {
  const std::string& name = work.order.name();
  const Digest wanted{work.order.digest_high(), work.order.digest_low()};
  if (manifest_ == nullptr || manifest_->digest != wanted) {
    SHEAF_ASSIGN_OR_RETURN(Manifest read, ReadManifest(*space_, name));
    manifest_ = std::make_unique<Manifest>(std::move(read));
    if (manifest_->digest != wanted) {
      manifest_.reset();
      return Fail(ErrorCode::kDataLoss, space_->PathOf(name, kManifestFile),
                  " is not the one that the scheduler has read: is its --checkpoint_dir another folder?");
    }
  }
  if (work.partition >= manifest_->content.partition_count()) {
    return Fail(ErrorCode::kDataLoss, "the checkpoint ", name, " has no partition ", work.partition);
  }
  std::vector<std::unique_ptr<FileSource>> files;
  for (const pb::ManifestFile& file : manifest_->content.partition(static_cast<int>(work.partition)).file()) {
    SHEAF_RETURN_IF_ERROR(VerifyFile(*space_, name, file, [](size_t) { return Status(); }));
    SHEAF_ASSIGN_OR_RETURN(auto source, space_->Open(name, file.name()));
    files.push_back(std::move(source));
  }
  chain_ = std::make_unique<PartChain>(std::move(files));
  return {};
}

}  // namespace sheaf
