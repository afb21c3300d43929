#include "bench/train/reader_suite.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>

#include "bench/train/minimal_reader.h"
#include "bench/train/sample_rows.h"
#include "common/runtime/temp_folder.h"
#include "common/base/strings.h"
#include "compute/batch.h"
#include "worker/data/data_source.h"

namespace sheaf::bench {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double>(SteadyClock::now() - begin).count();
}

// Repeats `act`, which tells how many bytes it read, until the sample's time is over; MB/s.
template <typename Act>
Result<double> MegabytesPerSecond(double seconds, const Act& act) {
  const auto begin = SteadyClock::now();
  uint64_t bytes = 0;
  do {
    SHEAF_ASSIGN_OR_RETURN(const uint64_t read, act());
    bytes += read;
  } while (SecondsSince(begin) < seconds);
  return static_cast<double>(bytes) / SecondsSince(begin) / 1e6;
}

// A planned file and its source; reads range after range, round and round.
class Reader {
 public:
  static Result<std::unique_ptr<Reader>> Open(const pb::JobSpec& spec, const std::string& folder) {
    auto reader = std::unique_ptr<Reader>(new Reader);
    SHEAF_ASSIGN_OR_RETURN(reader->plan_, PlanData(spec, folder, [](const std::string&, uint64_t) {}));
    SHEAF_ASSIGN_OR_RETURN(reader->source_, MakeDataSource(spec, folder));
    return reader;
  }

  // Bytes of the next range.
  Result<uint64_t> ReadNext() {
    const pb::PlanFile& file = plan_.file(0);
    const uint64_t first = static_cast<uint64_t>(next_) * file.rows_per_range();
    pb::RangeSpec range;
    range.set_path(file.path());
    range.set_first_row(first);
    range.set_row_count(static_cast<uint32_t>(std::min<uint64_t>(file.rows_per_range(), file.rows() - first)));
    range.set_byte_offset(file.offset(next_));
    range.set_file_bytes(file.bytes());
    SHEAF_ASSIGN_OR_RETURN(rows_, source_->ReadRange(range));
    const uint64_t begin = file.offset(next_);
    next_ = next_ + 1 < file.offset_size() ? next_ + 1 : 0;
    return (next_ == 0 ? file.bytes() : file.offset(next_)) - begin;
  }
  const RowBlock& rows() const { return rows_; }
  double bytes_a_row() const {
    return static_cast<double>(plan_.file(0).bytes()) / static_cast<double>(plan_.file(0).rows());
  }

 private:
  Reader() = default;
  pb::DataPlan plan_;
  std::unique_ptr<DataSource> source_;
  RowBlock rows_;
  int next_ = 0;
};

// The whole lines of a file, by and by, in a buffer that stays in the cache.
template <typename Visit>
Result<uint64_t> ForEachChunk(const std::string& path, std::vector<char>& buffer, const Visit& visit) {
  std::ifstream file(path, std::ios::binary);
  file.rdbuf()->pubsetbuf(nullptr, 0);  // straight into ours
  size_t kept = 0;
  uint64_t bytes = 0;
  while (file) {
    file.read(buffer.data() + kept, static_cast<std::streamsize>(buffer.size() - kept));
    const std::string_view text(buffer.data(), kept + static_cast<size_t>(file.gcount()));
    const size_t whole = text.rfind('\n') + 1;
    visit(text.substr(0, whole));
    bytes += whole;
    kept = text.size() - whole;
    std::copy(text.begin() + static_cast<ptrdiff_t>(whole), text.end(), buffer.begin());
  }
  if (bytes == 0) return Fail(ErrorCode::kIo, "cannot read ", path);
  return bytes;
}

struct ReaderCase {
  std::string params;
  std::string text;
  pb::JobSpec spec;
  std::function<size_t(std::string_view, MinimalRows&)> minimal;
  Bar bar;
};

pb::JobSpec SpecOf(pb::DataSpec::Format format) {
  pb::JobSpec spec;
  spec.mutable_data()->set_format(format);
  spec.mutable_data()->add_train("rows");
  spec.mutable_train()->set_batch_size(4096);
  spec.mutable_train()->set_range_batches(4);
  return spec;
}

Status RunCase(const ReaderOptions& options, ReaderCase& reader_case, Suite& suite) {
  if (!suite.Wanted("read", reader_case.params)) return {};
  const TempFolder folder;
  {
    std::ofstream file(folder.path() + "/rows", std::ios::binary);
    file << reader_case.text;
    if (!file.flush()) return Fail(ErrorCode::kIo, "cannot write into ", folder.path());
  }
  SHEAF_ASSIGN_OR_RETURN(const auto reader, Reader::Open(reader_case.spec, folder.path()));
  std::vector<char> buffer(256 << 10);
  MinimalRows minimal(buffer.size());
  uint64_t features = 0;
  return suite.Run({
      .name = "read",
      .params = reader_case.params,
      .unit = "MB/s",
      .ours = [&] { return MegabytesPerSecond(options.seconds, [&] { return reader->ReadNext(); }); },
      .limit_name = "a byte loop without checks",
      .limit =
          [&] {
            return MegabytesPerSecond(options.seconds, [&] {
              return ForEachChunk(folder.path() + "/rows", buffer,
                                  [&](std::string_view lines) { features += reader_case.minimal(lines, minimal); });
            });
          },
      .bar = reader_case.bar,
      .remark =
          [&] {
            const auto rows = static_cast<double>(reader->rows().size());
            return StrCat(FormatFixed(reader->bytes_a_row(), 0), " bytes, ",
                          FormatFixed(static_cast<double>(reader->rows().keys.size()) / rows, 1), " features a row");
          },
  });
}

Status RunMakeBatch(const ReaderOptions& options, const std::string& text, Suite& suite) {
  if (!suite.Wanted("read and batch", "LIBSVM")) return {};
  const TempFolder folder;
  {
    std::ofstream file(folder.path() + "/rows", std::ios::binary);
    file << text;
    if (!file.flush()) return Fail(ErrorCode::kIo, "cannot write into ", folder.path());
  }
  SHEAF_ASSIGN_OR_RETURN(const auto reader, Reader::Open(SpecOf(pb::DataSpec::LIBSVM), folder.path()));
  Case both;
  both.name = "read and batch";
  both.params = "LIBSVM, batches of 4,096";
  both.unit = "MB/s";
  both.ours = [&] {
    return MegabytesPerSecond(options.seconds, [&]() -> Result<uint64_t> {
      SHEAF_ASSIGN_OR_RETURN(const uint64_t bytes, reader->ReadNext());
      const RowBlock& rows = reader->rows();
      for (size_t first = 0; first < rows.size(); first += 4096) {
        (void)MakeBatch(rows, first, std::min<size_t>(4096, rows.size() - first), {});
      }
      return bytes;
    });
  };
  return suite.Run(both);
}

}  // namespace

Status RunReaders(const ReaderOptions& options, Suite& suite) {
  std::vector<ReaderCase> cases;
  for (const auto values : {LibsvmValues::kOnes, LibsvmValues::kSixDigits}) {
    const bool ones = values == LibsvmValues::kOnes;
    cases.push_back({ones ? "LIBSVM, ones" : "LIBSVM, six digits", LibsvmRows(ones ? 150'000 : 80'000, values, 1),
                     SpecOf(pb::DataSpec::LIBSVM), ReadLibsvm, Bar::AtLeast(0.6)});
  }
  for (const char separator : {'\t', ','}) {
    pb::JobSpec spec = SpecOf(pb::DataSpec::CLICKS);
    spec.mutable_data()->mutable_clicks()->set_separator(std::string(1, separator));
    for (int column = 1; column <= 13; ++column) spec.mutable_data()->mutable_clicks()->add_integer(StrCat(column));
    cases.push_back(
        {separator == ',' ? "CSV, 39 columns" : "TSV, 39 columns", ClickRows(150'000, separator, 1), std::move(spec),
         [separator](std::string_view lines, MinimalRows& out) { return ReadClicks(lines, separator, out); }, Bar{}});
  }
  pb::JobSpec text = SpecOf(pb::DataSpec::TEXT);
  text.mutable_data()->mutable_text()->set_ngrams(2);
  text.mutable_train()->set_batch_size(256);
  cases.push_back({"text, words and pairs", TextRows(20'000, 1), std::move(text), ReadText, Bar{}});
  for (ReaderCase& reader_case : cases) SHEAF_RETURN_IF_ERROR(RunCase(options, reader_case, suite));
  return RunMakeBatch(options, cases.front().text, suite);
}

}  // namespace sheaf::bench
