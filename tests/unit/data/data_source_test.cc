#include "worker/data/data_source.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "common/base/strings.h"
#include "tests/unit/data/row_test_util.h"
#include "tests/unit/data/temp_files.h"

namespace sheaf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

pb::RangeSpec RangeOf(const pb::PlanFile& file, size_t index) {
  pb::RangeSpec range;
  range.set_split(file.split());
  range.set_path(file.path());
  const uint64_t first = index * file.rows_per_range();
  range.set_first_row(first);
  range.set_row_count(static_cast<uint32_t>(std::min<uint64_t>(file.rows_per_range(), file.rows() - first)));
  range.set_byte_offset(file.offset(static_cast<int>(index)));
  range.set_file_bytes(file.bytes());
  return range;
}

pb::DataPlan Plan(const pb::JobSpec& spec, const std::string& dir) {
  auto plan = PlanData(spec, dir, nullptr);
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? *plan : pb::DataPlan();
}

Error PlanError(const pb::JobSpec& spec, const std::string& dir) {
  const auto plan = PlanData(spec, dir, nullptr);
  return plan ? Error{ErrorCode::kInternal, "no error"} : plan.error();
}

// Rows of all ranges of all files, in plan order.
std::vector<ParsedRow> ReadPlan(const pb::JobSpec& spec, const std::string& dir) {
  const auto plan = Plan(spec, dir);
  auto source = MakeDataSource(spec, dir).value();
  std::vector<ParsedRow> rows;
  for (const auto& file : plan.file()) {
    for (int i = 0; i < file.offset_size(); ++i) {
      const auto block = source->ReadRange(RangeOf(file, static_cast<size_t>(i)));
      EXPECT_TRUE(block) << block.error().message;
      if (!block) return rows;
      for (auto& row : RowsOf(*block)) rows.push_back(std::move(row));
    }
  }
  return rows;
}

// Row i has label i % 2 and the one feature i + 1; blank lines, comments and both line ends are in between.
std::string SampleRows(int count) {
  std::string text = "# made for a test\n\n";
  for (int i = 0; i < count; ++i) {
    text += std::to_string(i % 2) + " " + std::to_string(i + 1) + ":1" + (i % 3 == 0 ? "\r\n" : "\n");
    if (i % 7 == 0) text += "\n";
  }
  return text;
}

constexpr const char* kSmallRanges = " train { batch_size: 2 range_batches: 5 }";

TEST(PlanData, NotesRowsAndOffsetsOfEverySplit) {
  const TempFiles files;
  const std::string text = SampleRows(25);
  files.Write("a.svm", text);
  files.Write("b.svm.gz", Gzip("1 1:1\n0 2:1"));
  const auto plan =
      Plan(Job(std::string("data { train: '*.svm' valid: 'b.svm.gz' test: 'a.svm' }") + kSmallRanges), files.root());
  ASSERT_EQ(plan.file_size(), 3);
  const auto& a = plan.file(0);
  EXPECT_EQ(a.split(), 0u);
  EXPECT_EQ(a.path(), "a.svm");
  EXPECT_EQ(a.bytes(), text.size());
  EXPECT_EQ(a.rows(), 25u);
  EXPECT_EQ(a.rows_per_range(), 10u);
  EXPECT_THAT(a.offset(), ElementsAre(text.find("0 1:1"), text.find("0 11:1"), text.find("0 21:1")));
  EXPECT_EQ(plan.file(1).split(), 1u);
  EXPECT_EQ(plan.file(1).rows(), 2u);
  EXPECT_EQ(plan.file(2).split(), 2u);
}

TEST(PlanData, ReportsProgress) {
  const TempFiles files;
  files.Write("a.svm", SampleRows(25));
  uint64_t seen = 0;
  ASSERT_TRUE(
      PlanData(Job("data { train: 'a.svm' }"), files.root(), [&](const std::string&, uint64_t rows) { seen = rows; }));
  EXPECT_EQ(seen, 25u);
}

TEST(DataSource, StopsWithinAThousandRowsOrSo) {
  const TempFiles files;
  files.Write("a.svm", SampleRows(3000));
  const auto spec = Job("data { train: 'a.svm' } train { batch_size: 3000 range_batches: 1 }");
  std::stop_source stop;
  const auto plan = PlanData(spec, files.root(), nullptr, stop.get_token()).value();
  const auto source = MakeDataSource(spec, files.root(), stop.get_token()).value();
  EXPECT_EQ(source->ReadRange(RangeOf(plan.file(0), 0)).value().size(), 3000u);
  stop.request_stop();
  const auto read = source->ReadRange(RangeOf(plan.file(0), 0));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kCancelled);
  const auto planned = PlanData(spec, files.root(), nullptr, stop.get_token());
  ASSERT_FALSE(planned);
  EXPECT_EQ(planned.error().code, ErrorCode::kCancelled);
}

TEST(DataSource, ReadsTheSameRowsInAnyOrderAndPacking) {
  const TempFiles files;
  const std::string text = SampleRows(103);
  files.Write("rows.svm", text);
  files.Write("rows.svm.gz", Gzip(text));
  files.Write("rows.svm.zst", Zstd(text));
  files.Write("rows.svm.xz", Xz(text));
  for (const char* name : {"rows.svm", "rows.svm.gz", "rows.svm.zst", "rows.svm.xz"}) {
    const auto spec = Job(std::string("data { train: '") + name + "' }" + kSmallRanges);
    const auto plan = Plan(spec, files.root());
    ASSERT_EQ(plan.file(0).rows(), 103u);
    auto source = MakeDataSource(spec, files.root()).value();
    for (const size_t index : {0, 1, 2, 10, 3, 3, 0, 9, 10, 5}) {
      const auto block = source->ReadRange(RangeOf(plan.file(0), index));
      ASSERT_TRUE(block) << name << ": " << block.error().message;
      const auto rows = RowsOf(*block);
      ASSERT_EQ(rows.size(), index == 10 ? 3u : 10u);
      for (size_t i = 0; i < rows.size(); ++i) {
        const size_t row = index * 10 + i;
        EXPECT_EQ(rows[i].label, static_cast<float>(row % 2));
        EXPECT_EQ(rows[i].features, (std::map<uint64_t, float>{{MixKey(row + 1), 1.0f}})) << name << " row " << row;
      }
      EXPECT_TRUE(block->values.empty());
    }
  }
}

TEST(DataSource, ReadsManyFilesByTurns) {
  const TempFiles files;
  for (int i = 0; i < 12; ++i)
    files.Write("part" + std::to_string(10 + i), "1 " + std::to_string(i + 1) + ":1\n0 50:1\n");
  const auto spec = Job("data { train: 'part*' } train { batch_size: 1 range_batches: 1 }");
  const auto plan = Plan(spec, files.root());
  auto source = MakeDataSource(spec, files.root()).value();
  for (const size_t range : {0, 1}) {
    for (int i = 0; i < 12; ++i) {
      const auto rows = RowsOf(source->ReadRange(RangeOf(plan.file(i), range)).value());
      EXPECT_EQ(rows.at(0).features.count(MixKey(range == 0 ? static_cast<uint64_t>(i) + 1 : 50)), 1u);
    }
  }
}

TEST(DataSource, SkipsHeadersAndOrderMarksOfClickLogs) {
  const TempFiles files;
  std::string text = "\xef\xbb\xbf" "click\tsite\r\n";
  for (int i = 0; i < 25; ++i) text += std::to_string(i % 2) + "\ts" + std::to_string(i) + "\r\n";
  files.Write("log.tsv", text);
  files.Write("log.tsv.xz", Xz(text));
  files.Write("bare.tsv", text.substr(text.find("\r\n") + 2));
  const std::string header = "data { format: CLICKS clicks { header: true label_column: 'click' } train: '";
  const auto plain = ReadPlan(Job(header + "log.tsv' }" + kSmallRanges), files.root());
  const auto packed = ReadPlan(Job(header + "log.tsv.xz' }" + kSmallRanges), files.root());
  const auto bare =
      ReadPlan(Job(std::string("data { format: CLICKS train: 'bare.tsv' }") + kSmallRanges), files.root());
  ASSERT_EQ(plain.size(), 25u);
  ASSERT_EQ(packed.size(), 25u);
  ASSERT_EQ(bare.size(), 25u);
  for (size_t i = 0; i < 25; ++i) {
    EXPECT_EQ(plain[i].label, static_cast<float>(i % 2));
    EXPECT_EQ(plain[i].features, packed[i].features);
    EXPECT_EQ(plain[i].features, bare[i].features);
  }
}

TEST(DataSource, ReadsFoldersOfClickLogFiles) {
  const TempFiles files;
  files.Write("logs/b.tsv", "1\tx\n");
  files.Write("logs/a.tsv", "0\ty\n");
  const auto rows = ReadPlan(Job("data { format: CLICKS train: 'logs' }"), files.root());
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].label, 0);
  EXPECT_EQ(rows[1].label, 1);
}

TEST(DataSource, ReadsAFolderPerLabelAsOneFileOfThePlan) {
  const TempFiles files;
  for (int i = 0; i < 30; ++i) {
    files.Write((i % 3 == 0 ? "imdb/pos/" : "imdb/neg/") + std::to_string(i) + ".txt",
                "w" + std::to_string(i) + (i % 3 == 0 ? " good" : " bad"));
  }
  files.Write("imdb/neg/empty.txt", "");
  const auto spec = Job(std::string("data { format: TEXT train: 'imdb/{neg,pos}' }") + kSmallRanges);
  const auto plan = Plan(spec, files.root());
  ASSERT_EQ(plan.file_size(), 1);
  EXPECT_EQ(plan.file(0).path(), "imdb/{neg,pos}");
  EXPECT_EQ(plan.file(0).rows(), 31u);
  EXPECT_EQ(plan.file(0).bytes(), 31u);
  EXPECT_EQ(plan.file(0).offset_size(), 4);
  const auto rows = ReadPlan(spec, files.root());
  ASSERT_EQ(rows.size(), 31u);
  EXPECT_EQ(std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.label == 1; }), 10);
  EXPECT_EQ(std::count_if(rows.begin(), rows.end(), [](const auto& row) { return row.features.empty(); }), 1);
}

TEST(DataSource, SaysWhenFoldersDoNotFitTheJob) {
  const TempFiles files;
  for (const char* name :
       {"three/a/1", "three/b/1", "three/c/1", "two/a/1", "two/b/1", "other/a/1", "other/x/1", "lines.tsv"}) {
    files.Write(name, "0\tword");
  }
  const auto error = [&](const std::string& data, const std::string& model = "") {
    return PlanError(Job("data { format: TEXT " + data + " } model { " + model + " }"), files.root()).message;
  };
  EXPECT_THAT(error("train: 'three'"), HasSubstr("SOFTMAX classes: 3"));
  EXPECT_THAT(error("train: 'three'", "loss: SOFTMAX classes: 4"), HasSubstr("set it to 3"));
  EXPECT_THAT(error("train: 'two'", "loss: SQUARED"), HasSubstr("use LOGISTIC or SOFTMAX"));
  EXPECT_THAT(error("train: 'two' test: 'other'"), HasSubstr("other label folders than two"));
  EXPECT_THAT(error("train: '{two,lines.tsv}'"), HasSubstr("both files and folders"));
  EXPECT_EQ(error("train: 'three'", "loss: SOFTMAX classes: 3"), "no error");
}

TEST(DataSource, NamesFileAndLineOfABadRow) {
  const TempFiles files;
  std::string text = SampleRows(100);
  text += "1 5:1 4:1\n";
  const auto line = std::count(text.begin(), text.end(), '\n');
  text += SampleRows(20);
  const std::string place = ":" + std::to_string(line) + ": index 4 comes after 5";
  files.Write("rows.svm", text);
  files.Write("rows.svm.gz", Gzip(text));
  for (const char* name : {"rows.svm", "rows.svm.gz"}) {
    const auto spec = Job(std::string("data { train: '") + name + "' }" + kSmallRanges);
    const auto plan = Plan(spec, files.root());
    auto source = MakeDataSource(spec, files.root()).value();
    const auto bad = source->ReadRange(RangeOf(plan.file(0), 10));   // found by a seek, so the line must be counted
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(bad.error().message, HasSubstr(files.Path(name) + place));
    EXPECT_TRUE(source->ReadRange(RangeOf(plan.file(0), 11))) << "one bad range spoils no other";
  }
}

// Zero bytes are looked for a buffer at a time; what is said of them is still about the one row.
TEST(DataSource, NamesTheRowThatHoldsAZeroByte) {
  std::string text;
  for (int row = 0; row < 60'000; ++row)
    text += StrCat(row % 2, "\tword", row, row == 45'678 ? std::string(1, 0) : "", "\n");
  const TempFiles files;
  files.Write("rows", text);
  const std::string job = "data { format: TEXT train: 'rows' } train { batch_size: 5000 range_batches: 1 }";
  auto plan = Plan(Job(job), files.Path(""));
  auto source = MakeDataSource(Job(job), files.Path("")).value();
  for (size_t i = 0; i < 12; ++i) {
    const auto block = source->ReadRange(RangeOf(plan.file(0), i));
    EXPECT_EQ(block.has_value(), i != 9) << i;
    if (!block) {
      EXPECT_THAT(block.error().message, HasSubstr(":45679: zero byte at column 12"));
    }
  }
}

TEST(DataSource, SkipsAndCountsBadRowsIfAsked) {
  const TempFiles files;
  files.Write("rows.svm", "1 1:1\nspam\n1 0:1\n" + std::string("0 \0:1\n", 6) + "1 2:1\n0 3:" + std::string(100, '1') +
                              "\n0 3:1\n");
  const auto spec = Job("data { train: 'rows.svm' on_bad_row: SKIP max_line_bytes: 50 }");
  const auto plan = Plan(spec, files.root());
  ASSERT_EQ(plan.file(0).rows(), 7u);
  const auto block = MakeDataSource(spec, files.root()).value()->ReadRange(RangeOf(plan.file(0), 0)).value();
  EXPECT_EQ(block.bad_rows, 4u);
  const auto rows = RowsOf(block);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2].features.count(MixKey(3)), 1u);
}

TEST(DataSource, SkipsBadDocumentsIfAsked) {
  const TempFiles files;
  files.Write("train/neg/1", "fine");
  files.Write("train/neg/2", std::string("zero \0 byte", 11));
  files.Write("train/pos/3", std::string(1000, 'x'));
  files.Write("train/pos/4", "fine");
  const std::string data = "data { format: TEXT train: 'train' max_line_bytes: 100 ";
  EXPECT_EQ(ReadPlan(Job(data + "on_bad_row: SKIP }"), files.root()).size(), 2u);
  const Error error = PlanError(Job(data + "}"), files.root());
  EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(error.message, HasSubstr(files.Path("train")));
}

TEST(DataSource, NeverSkipsBrokenCompression) {
  const TempFiles files;
  const std::string packed = Gzip(SampleRows(5000));
  files.Write("rows.gz", packed);
  const auto spec = Job("data { train: 'rows.gz' on_bad_row: SKIP }");
  const auto plan = Plan(spec, files.root());
  std::string broken = packed;
  broken[packed.size() / 2] = static_cast<char>(~broken[packed.size() / 2]);
  broken[packed.size() / 2 + 1] = static_cast<char>(~broken[packed.size() / 2 + 1]);
  files.Write("rows.gz", broken);
  auto source = MakeDataSource(spec, files.root()).value();
  Error last;
  for (int i = 0; i < plan.file(0).offset_size(); ++i) {
    const auto block = source->ReadRange(RangeOf(plan.file(0), static_cast<size_t>(i)));
    if (!block) last = block.error();
  }
  EXPECT_EQ(last.code, ErrorCode::kDataLoss);
  EXPECT_THAT(last.message, HasSubstr(files.Path("rows.gz")));
  EXPECT_EQ(PlanError(spec, files.root()).code, ErrorCode::kDataLoss);
}

TEST(DataSource, RefusesFilesThatChangedSinceThePlan) {
  const TempFiles files;
  files.Write("rows.svm", SampleRows(25));
  files.Write("docs/a/1", "x");
  files.Write("docs/b/2", "x");
  const auto spec = Job("data { train: 'rows.svm' }");
  const auto text_spec = Job("data { format: TEXT train: 'docs' }");
  const auto plan = Plan(spec, files.root());
  const auto text_plan = Plan(text_spec, files.root());
  auto source = MakeDataSource(spec, files.root()).value();
  ASSERT_TRUE(source->ReadRange(RangeOf(plan.file(0), 0)));
  files.Write("rows.svm", SampleRows(26));
  files.Write("docs/b/3", "x");
  const auto changed = source->ReadRange(RangeOf(plan.file(0), 0));
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code, ErrorCode::kDataLoss);
  EXPECT_THAT(changed.error().message, HasSubstr("do not change data while a job runs"));
  const auto documents = MakeDataSource(text_spec, files.root()).value()->ReadRange(RangeOf(text_plan.file(0), 0));
  ASSERT_FALSE(documents);
  EXPECT_EQ(documents.error().code, ErrorCode::kDataLoss);
}

TEST(DataSource, ReadsAFileThatWasReplacedByAnEqualOne) {
  const TempFiles files;
  files.Write("rows.svm", SampleRows(25));
  const auto spec = Job(std::string("data { train: 'rows.svm' }") + kSmallRanges);
  const auto plan = Plan(spec, files.root());
  auto source = MakeDataSource(spec, files.root()).value();
  ASSERT_TRUE(source->ReadRange(RangeOf(plan.file(0), 0)));
  files.Write("new.svm", SampleRows(25));
  std::filesystem::rename(files.Path("new.svm"), files.Path("rows.svm"));
  EXPECT_EQ(source->ReadRange(RangeOf(plan.file(0), 1)).value().size(), 10u);
}

TEST(DataSource, RefusesRangesThatNoPlanCanHold) {
  const TempFiles files;
  files.Write("rows.svm", SampleRows(25));
  files.Write("docs/a/1", "x");
  files.Write("docs/b/2", "x");
  const auto spec = Job("data { train: 'rows.svm' }");
  auto source = MakeDataSource(spec, files.root()).value();
  const auto good = RangeOf(Plan(spec, files.root()).file(0), 0);
  auto range = good;
  range.set_row_count(4'000'000'000u);
  EXPECT_EQ(source->ReadRange(range).error().code, ErrorCode::kDataLoss);
  range = good;
  range.set_byte_offset(~uint64_t{0});
  EXPECT_EQ(source->ReadRange(range).error().code, ErrorCode::kDataLoss);
  range = good;
  range.set_path("../rows.svm");
  EXPECT_EQ(source->ReadRange(range).error().code, ErrorCode::kInvalidArgument);
  range.clear_path();
  EXPECT_EQ(source->ReadRange(range).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(source->ReadRange(good));

  const auto text_spec = Job("data { format: TEXT train: 'docs' }");
  auto documents = MakeDataSource(text_spec, files.root()).value();
  range = RangeOf(Plan(text_spec, files.root()).file(0), 0);
  range.set_first_row(~uint64_t{0});
  EXPECT_EQ(documents->ReadRange(range).error().code, ErrorCode::kDataLoss);
}

TEST(PlanData, FindsGrossMistakesEarly) {
  const TempFiles files;
  files.Write("good.svm", "1 1:1\n");
  files.Write("empty.svm", "");
  files.Write("blank.svm", "\n\r\n# nothing\n");
  files.Write("bad.svm", "1 1:1\n\n1 0:1\n");
  files.Write("log.csv", "click,site\n1,a\n");
  files.Write("log2.csv", "1,a\n0,b,c\n");
  files.Write("log3.csv", "1,a,b\n");
  files.Write("other.csv", "site,click\na,1\n");
  files.Write("ham.tsv", "ham\thello\n");
  files.Write("utf16.svm", std::string("\xff\xfe" "1\0 \0" "1\0:\0" "1\0\n\0", 14));
  files.Write("long.svm", "1 1:1" + std::string(100, ' ') + "\n");
  files.MakeFolder("folder");
  const auto error = [&](const std::string& text) { return PlanError(Job(text), files.root()); };
  const auto expect = [&](const std::string& text, ErrorCode code, const std::string& part) {
    const Error found = error(text);
    EXPECT_EQ(found.code, code) << text << ": " << found.message;
    EXPECT_THAT(found.message, HasSubstr(part)) << text;
  };
  const ErrorCode invalid = ErrorCode::kInvalidArgument;
  expect("", invalid, "data.train is empty");
  expect("data { train: 'none*' }", ErrorCode::kNotFound, "data.train: no file matches none* in " + files.root());
  expect("data { train: 'good.svm' test: 'none' }", ErrorCode::kNotFound, "data.test: no file matches none");
  expect("data { train: 'empty.svm' }", invalid, "has no rows");
  expect("data { train: 'blank.svm' }", invalid, "has no rows");
  expect("data { train: 'bad.svm' }", invalid, files.Path("bad.svm") + ":3: index 0");
  expect("data { train: 'good.svm' train: 'g*.svm' }", invalid, "named twice");
  expect("data { train: '../x' }", invalid, "leaves the data folder");
  expect("data { train: 'folder' }", invalid, "without files");
  expect("data { format: TEXT train: 'folder' }", invalid, "without documents");
  expect("data { train: 'utf16.svm' }", invalid, "UTF-16");
  expect("data { train: 'long.svm' max_line_bytes: 50 }", invalid, ":1: line has more than data.max_line_bytes = 50");
  expect("data { train: 'good.svm' max_line_bytes: 0 }", invalid, "data.max_line_bytes");
  expect("data { train: 'ham.tsv' format: TEXT }", invalid, ":1: label 'ham' is not a number; write 0 or 1");
  expect("data { train: 'ham.tsv' on_bad_row: SKIP }", invalid, "none of the first rows can be read");
  expect("data { train: 'log.csv' format: CLICKS }", invalid, "check data.clicks.separator");
  expect("data { train: 'log.csv' format: CLICKS clicks { separator: ',' } }", invalid, "set data.clicks.header: true");
  expect("data { train: 'log2.csv' format: CLICKS clicks { separator: ',' } }", invalid,
         "log2.csv:2: row has 3 columns, 2 expected");
  expect(
      "data { train: 'log.csv' train: 'other.csv' format: CLICKS clicks { separator: ',' header: true label_column: "
      "'click' } }",
      invalid, "all files of a job need the same columns");
  expect("data { train: 'good.svm' } train { batch_size: 0 }", invalid, "train.batch_size");
  expect("data { train: 'good.svm' } train { range_batches: 0 }", invalid, "train.range_batches");
  expect("data { train: 'good.svm' } train { range_batches: 1025 }", invalid, "train.range_batches");
  expect("data { train: 'good.svm' } train { batch_size: 4294967295 range_batches: 1024 }", invalid, "use at most");
  expect("data { train: 'good.svm' } model { loss: SOFTMAX classes: 1 }", invalid, "model.classes");
  expect("data { train: 'good.svm' format: TEXT text { ngrams: 0 } }", invalid, "data.text.ngrams");
}

}  // namespace
}  // namespace sheaf
