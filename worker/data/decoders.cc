// The decoders behind MakeDecoder(): one loop that feeds bytes, and three codecs that know a library each.
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "worker/data/byte_stream.h"

namespace sheaf {
namespace {

constexpr size_t kInputBytes = 128 << 10;
constexpr size_t kStepBytes = 1 << 30;              // zlib counts in 32 bits
constexpr uint64_t kXzMemoryBytes = 512ull << 20;   // xz -9 needs 65 MiB; a bomb asks for more
constexpr int kZstdWindowLog = 27;                  // 128 MiB: what zstd itself accepts without --long

struct Step {
  size_t consumed = 0;
  size_t produced = 0;
  bool complete = false;         // the data may end here
  const char* broken = nullptr;  // what the library says is wrong
};

class Codec {
 public:
  virtual ~Codec() = default;
  // `last`: no input will follow.
  virtual Step Decode(std::span<const char> in, std::span<char> out, bool last) = 0;
  virtual const char* name() const = 0;
};

class GzipCodec final : public Codec {
 public:
  GzipCodec() { ready_ = inflateInit2(&stream_, 15 + 16) == Z_OK; }  // 15 + 16: greatest window, gzip wrapper only
  ~GzipCodec() override { inflateEnd(&stream_); }
  GzipCodec(const GzipCodec&) = delete;
  GzipCodec& operator=(const GzipCodec&) = delete;
  const char* name() const override { return "gzip"; }

  Step Decode(std::span<const char> in, std::span<char> out, bool) override {
    if (!ready_) return {.broken = "out of memory"};
    if (!in_member_) {
      if (in.empty()) return {.complete = members_ > 0};
      if (members_ > 0 && (padded_ || in[0] == 0)) return SkipPadding(in);
      inflateReset(&stream_);
      in_member_ = true;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.data()));
    stream_.avail_in = static_cast<uInt>(std::min(in.size(), kStepBytes));
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(std::min(out.size(), kStepBytes));
    const uInt in_before = stream_.avail_in, out_before = stream_.avail_out;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    Step step{.consumed = in_before - stream_.avail_in, .produced = out_before - stream_.avail_out};
    if (code == Z_STREAM_END) {
      in_member_ = false;
      ++members_;
      step.complete = true;
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      step.broken = stream_.msg != nullptr ? stream_.msg : "broken data";
    }
    return step;
  }

 private:
  // Tapes and block tools pad with zeros behind the last member; anything else there is damage.
  Step SkipPadding(std::span<const char> in) {
    padded_ = true;
    const bool zeros = std::all_of(in.begin(), in.end(), [](char byte) { return byte == 0; });
    return {.consumed = in.size(),
            .complete = true,
            .broken = zeros ? nullptr : "bytes that are not gzip after the last member"};
  }

  z_stream stream_{};
  bool ready_ = false;
  bool in_member_ = false;
  bool padded_ = false;
  uint64_t members_ = 0;
};

class ZstdCodec final : public Codec {
 public:
  ZstdCodec() : stream_(ZSTD_createDStream()) {
    if (stream_ != nullptr) ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLog);
  }
  ~ZstdCodec() override { ZSTD_freeDStream(stream_); }
  ZstdCodec(const ZstdCodec&) = delete;
  ZstdCodec& operator=(const ZstdCodec&) = delete;
  const char* name() const override { return "zstd"; }

  Step Decode(std::span<const char> in, std::span<char> out, bool) override {
    if (stream_ == nullptr) return {.broken = "out of memory"};
    if (in.empty() && frame_complete_) return {.complete = true};
    ZSTD_inBuffer input{in.data(), in.size(), 0};
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    const size_t hint = ZSTD_decompressStream(stream_, &output, &input);
    if (ZSTD_isError(hint)) return {.consumed = input.pos, .produced = output.pos, .broken = ZSTD_getErrorName(hint)};
    frame_complete_ = hint == 0;
    return {.consumed = input.pos, .produced = output.pos, .complete = frame_complete_};
  }

 private:
  ZSTD_DStream* stream_;
  bool frame_complete_ = false;
};

class XzCodec final : public Codec {
 public:
  XzCodec() { ready_ = lzma_stream_decoder(&stream_, kXzMemoryBytes, LZMA_CONCATENATED) == LZMA_OK; }
  ~XzCodec() override { lzma_end(&stream_); }
  XzCodec(const XzCodec&) = delete;
  XzCodec& operator=(const XzCodec&) = delete;
  const char* name() const override { return "xz"; }

  Step Decode(std::span<const char> in, std::span<char> out, bool last) override {
    if (!ready_) return {.broken = "out of memory"};
    if (ended_) return {.complete = true};
    stream_.next_in = reinterpret_cast<const uint8_t*>(in.data());
    stream_.avail_in = in.size();
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream_.avail_out = out.size();
    const lzma_ret code = lzma_code(&stream_, last ? LZMA_FINISH : LZMA_RUN);
    Step step{.consumed = in.size() - stream_.avail_in, .produced = out.size() - stream_.avail_out};
    switch (code) {
      case LZMA_OK:
      case LZMA_BUF_ERROR: break;  // no progress: the caller tells a cut file from one with more to come
      case LZMA_STREAM_END: step.complete = ended_ = true; break;
      case LZMA_MEMLIMIT_ERROR: step.broken = "it needs more than 512 MiB to unpack"; break;
      case LZMA_FORMAT_ERROR: step.broken = "not xz data"; break;
      case LZMA_MEM_ERROR: step.broken = "out of memory"; break;
      default: step.broken = "broken data"; break;
    }
    return step;
  }

 private:
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false;
  bool ended_ = false;
};

class DecoderStream final : public ByteStream {
 public:
  DecoderStream(std::unique_ptr<Codec> codec, std::unique_ptr<ByteStream> source, std::string name)
      : codec_(std::move(codec)), source_(std::move(source)), name_(std::move(name)), input_(kInputBytes) {}

  Result<size_t> Read(std::span<char> out) override {
    while (!done_) {
      if (begin_ == end_ && !source_ended_) SHEAF_RETURN_IF_ERROR(Refill());
      const Step step = codec_->Decode({input_.data() + begin_, end_ - begin_}, out, source_ended_);
      begin_ += step.consumed;
      offset_ += step.consumed;
      if (step.broken != nullptr) {
        return Fail(ErrorCode::kDataLoss, name_, ": ", codec_->name(), " data is damaged near offset ", offset_, " (",
                    step.broken, "); make or fetch the file again");
      }
      if (step.produced > 0) return step.produced;
      if (begin_ < end_ ? step.consumed > 0 : !source_ended_) continue;
      if (begin_ < end_)
        return Fail(ErrorCode::kDataLoss, name_, ": ", codec_->name(), " data ends at offset ", offset_,
                    " but the file goes on; make or fetch the file again");
      if (step.complete) {
        done_ = true;
      } else if (step.consumed == 0) {
        return Fail(ErrorCode::kDataLoss, name_, ": ", codec_->name(), " data is cut off at offset ", offset_,
                    "; make or fetch the file again");
      }
    }
    return size_t{0};
  }

 private:
  Status Refill() {
    SHEAF_ASSIGN_OR_RETURN(end_, source_->Read(input_));
    begin_ = 0;
    source_ended_ = end_ == 0;
    return {};
  }

  std::unique_ptr<Codec> codec_;
  std::unique_ptr<ByteStream> source_;
  std::string name_;
  std::vector<char> input_;
  size_t begin_ = 0, end_ = 0;  // of input_: read, not decoded yet
  uint64_t offset_ = 0;         // compressed bytes decoded
  bool source_ended_ = false;
  bool done_ = false;
};

std::unique_ptr<Codec> MakeCodec(Compression compression) {
  switch (compression) {
    case Compression::kGzip: return std::make_unique<GzipCodec>();
    case Compression::kZstd: return std::make_unique<ZstdCodec>();
    case Compression::kXz: return std::make_unique<XzCodec>();
    case Compression::kNone: break;
  }
  return nullptr;
}

}  // namespace

std::unique_ptr<ByteStream> MakeDecoder(Compression compression, std::unique_ptr<ByteStream> source, std::string name) {
  auto codec = MakeCodec(compression);
  if (codec == nullptr) return source;
  return std::make_unique<DecoderStream>(std::move(codec), std::move(source), std::move(name));
}

}  // namespace sheaf
