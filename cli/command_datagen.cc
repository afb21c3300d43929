// sheaf datagen: synthetic data of any size.
#include <unistd.h>
#include <zstd.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "cli/atomic_file.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "common/base/strings.h"
#include "worker/data/ctr_generator.h"

namespace sheaf::cli {
namespace {

constexpr int kCompressionLevel = 3;

// A text file, compressed if its name ends in .zst.
class TextOutput {
 public:
  static Result<std::unique_ptr<TextOutput>> Create(const std::string& path) {
    SHEAF_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
    return std::unique_ptr<TextOutput>(new TextOutput(std::move(file), path.ends_with(".zst")));
  }

  Status Write(std::string_view text) { return zstd_ ? Compress(text, ZSTD_e_continue) : file_.Write(text); }
  Status Commit() {
    if (zstd_) SHEAF_RETURN_IF_ERROR(Compress("", ZSTD_e_end));
    return file_.Commit();
  }

 private:
  struct FreeStream {
    void operator()(ZSTD_CCtx* stream) const { ZSTD_freeCCtx(stream); }
  };

  TextOutput(AtomicFile file, bool compressed) : file_(std::move(file)) {
    if (!compressed) return;
    zstd_.reset(ZSTD_createCCtx());
    ZSTD_CCtx_setParameter(zstd_.get(), ZSTD_c_compressionLevel, kCompressionLevel);
    ZSTD_CCtx_setParameter(zstd_.get(), ZSTD_c_checksumFlag, 1);
    buffer_.resize(ZSTD_CStreamOutSize());
  }

  Status Compress(std::string_view text, ZSTD_EndDirective directive) {
    ZSTD_inBuffer in{text.data(), text.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
      const size_t left = ZSTD_compressStream2(zstd_.get(), &out, &in, directive);
      if (ZSTD_isError(left) != 0) return Fail(ErrorCode::kInternal, "zstd: ", ZSTD_getErrorName(left));
      SHEAF_RETURN_IF_ERROR(file_.Write(std::string_view(buffer_.data(), out.pos)));
      if (directive == ZSTD_e_end ? left == 0 : in.pos == in.size) return {};
    }
  }

  AtomicFile file_;
  std::unique_ptr<ZSTD_CCtx, FreeStream> zstd_;
  std::string buffer_;
};

// Deals rows out over files, in order: each gets its share before the next one begins.
class RowFiles {
 public:
  RowFiles(std::vector<std::string> paths, uint64_t rows) : paths_(std::move(paths)), rows_(rows) {}

  Status Write(std::string_view lines) {
    while (!lines.empty()) {
      if (!file_) SHEAF_RETURN_IF_ERROR(Next());
      size_t bytes = 0;
      while (bytes < lines.size() && left_ > 0) {
        bytes = lines.find('\n', bytes) + 1;  // lines are whole
        --left_;
        ++written_;
      }
      SHEAF_RETURN_IF_ERROR(file_->Write(lines.substr(0, bytes)));
      lines.remove_prefix(bytes);
      if (left_ == 0) SHEAF_RETURN_IF_ERROR(Close());
    }
    return {};
  }
  Status Finish() { return file_ ? Close() : Status(); }
  uint64_t written() const { return written_; }

 private:
  Status Next() {
    SHEAF_CHECK(index_ < paths_.size(), "more rows than were asked for");
    SHEAF_ASSIGN_OR_RETURN(file_, TextOutput::Create(paths_[index_]));
    left_ = rows_ * (index_ + 1) / paths_.size() - rows_ * index_ / paths_.size();
    ++index_;
    return {};
  }
  Status Close() {
    const Status closed = file_->Commit();
    file_.reset();
    return closed;
  }

  const std::vector<std::string> paths_;
  const uint64_t rows_;
  size_t index_ = 0;
  uint64_t left_ = 0;  // of the current file
  uint64_t written_ = 0;
  std::unique_ptr<TextOutput> file_;
};

// Rate and ETA on stderr.
class Progress {
 public:
  explicit Progress(uint64_t total) : total_(total), terminal_(isatty(STDERR_FILENO) != 0) {}
  ~Progress() {
    if (terminal_ && shown_) std::fputs("\r\x1b[K", stderr);
  }
  void Show(uint64_t done) {
    const TimePoint now = clock_.Now();
    if (now < next_) return;
    next_ = now + (terminal_ ? Milliseconds(250) : Duration(std::chrono::seconds(10)));
    const double seconds = std::max(1e-3, ToSeconds(now - began_));
    const double rate = static_cast<double>(done) / seconds;
    const auto left_ms = static_cast<int64_t>(static_cast<double>(total_ - done) / std::max(rate, 1.0) * 1000);
    std::fprintf(stderr, "%s%s of %s rows  %.0f %%  %s rows/s  ETA %s%s", terminal_ ? "\r" : "",
                 FormatCount(done).c_str(), FormatCount(total_).c_str(),
                 100.0 * static_cast<double>(done) / static_cast<double>(total_),
                 FormatCount(static_cast<uint64_t>(rate)).c_str(), FormatDuration(Milliseconds(left_ms)).c_str(),
                 terminal_ ? "\x1b[K" : "\n");
    shown_ = true;
  }

 private:
  const uint64_t total_;
  const bool terminal_;
  const SystemClock clock_;
  const TimePoint began_ = clock_.Now();
  TimePoint next_ = began_ + Milliseconds(500);
  bool shown_ = false;
};

int Generate(const Args& args) {
  if (args.operands()[0] != "ctr")
    return Complain(kExitUsage, "sheaf datagen: no data set \"" + args.operands()[0] + "\"; one of: ctr");
  const std::vector<std::string> paths = args.List("out");
  if (paths.empty()) return Complain(kExitUsage, "sheaf datagen: --out FILE is missing");
  CtrOptions options;
  options.rows = static_cast<uint64_t>(args.Integer("rows"));
  options.fields = static_cast<uint32_t>(args.Integer("fields"));
  options.factors = static_cast<uint32_t>(args.Integer("factors"));
  options.zipf_exponent = args.Number("zipf");
  options.base_rate = args.Number("base_rate");
  options.label_noise = args.Number("label_noise");
  options.seed = static_cast<uint64_t>(args.Integer("seed"));
  options.stream = static_cast<uint64_t>(args.Integer("stream"));
  const auto cardinality = args.Integer("cardinality");
  if (cardinality > 0) options.cardinality.assign(options.fields, static_cast<uint32_t>(cardinality));
  if (options.rows < paths.size()) return Complain(kExitUsage, "sheaf datagen: more files than rows");

  RowFiles files(paths, options.rows);
  const auto summary = [&] {
    Progress progress(options.rows);
    return GenerateCtr(options, [&](std::string_view lines) {
      progress.Show(files.written());
      return files.Write(lines);
    });
  }();
  if (!summary)
    return Complain(summary.error().code == ErrorCode::kInvalidArgument ? kExitUsage : ExitCodeOf(summary.error().code),
                    summary.error().message);
  if (const Status finished = files.Finish(); !finished) return Complain(finished.error());
  std::printf("%s rows, %s clicks; the best that any model can reach: AUC %.4f, logloss %.4f\n",
              FormatCount(summary->rows).c_str(), FormatCount(summary->clicks).c_str(), summary->best_auc,
              summary->best_logloss);
  return kExitOk;
}

}  // namespace

Command DatagenCommand() {
  CommandLine line{.name = "sheaf datagen",
                   .operands = "ctr",
                   .summary = "writes synthetic click logs of any size",
                   .least_operands = 1,
                   .most_operands = 1};
  const auto whole = [](std::string name, std::string fallback, std::string help, double least, double most) {
    return Option{.name = std::move(name),
                  .kind = Option::kInteger,
                  .value_name = "N",
                  .fallback = std::move(fallback),
                  .help = std::move(help),
                  .least = least,
                  .most = most};
  };
  const auto number = [](std::string name, std::string fallback, std::string help, double least, double most) {
    return Option{.name = std::move(name),
                  .kind = Option::kNumber,
                  .value_name = "X",
                  .fallback = std::move(fallback),
                  .help = std::move(help),
                  .least = least,
                  .most = most};
  };
  line.options = {
      whole("rows", "1000000", "rows to write", 1, 1e15),
      {.name = "out",
       .kind = Option::kList,
       .value_name = "FILE",
       .help = "where to; several share the rows; .zst is compressed",
       .greedy = true},
      whole("fields", "10", "columns", 1, 256),
      whole("cardinality", "0", "values of each column; 0: from 100 to 5000", 0, 1e9),
      whole("factors", "4", "of the planted factorization machine", 1, 64),
      number("zipf", "1.1", "skew of the values", 0, 10),
      number("base_rate", "0.25", "share of clicks", 0.0001, 0.9999),
      number("label_noise", "0", "share of labels flipped", 0, 0.5),
      whole("seed", "1", "of the planted model and the rows", 0, 1e18),
      whole("stream", "0", "other rows of the same model: 0 train, 1 valid, 2 test", 0, 1e18),
  };
  line.notes =
      "Lines are label<TAB>value<TAB>value...; the label is 1 for a click. The same options give the same bytes.\n";
  return {std::move(line), Generate};
}

}  // namespace sheaf::cli
