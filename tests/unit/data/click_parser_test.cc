#include "worker/data/click_parser.h"

#include <gmock/gmock.h>

#include "tests/unit/data/row_test_util.h"
#include "tests/unit/data/temp_files.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<RowParser> ParserFor(const std::string& clicks, const std::string& first_line, uint64_t hash_seed = 0) {
  auto spec = Job("data { format: CLICKS clicks { " + clicks + " } hash_seed: " + std::to_string(hash_seed) + " }");
  auto parser = MakeRowParser(spec);
  EXPECT_TRUE(parser) << parser.error().message;
  auto status = (*parser)->BeginFile(first_line);
  EXPECT_TRUE(status) << status.error().message;
  return std::move(*parser);
}

std::string BeginError(const std::string& clicks, const std::string& first_line) {
  auto parser = MakeRowParser(Job("data { format: CLICKS clicks { " + clicks + " } }"));
  if (!parser) return parser.error().message;
  const auto status = (*parser)->BeginFile(first_line);
  return status ? "no error" : status.error().message;
}

// How many features two rows share.
size_t Shared(const ParsedRow& a, const ParsedRow& b) {
  size_t count = 0;
  for (const auto& [key, value] : a.features) count += b.features.count(key);
  return count;
}

TEST(ClickParser, MakesAFeatureOfEachColumnButTheLabel) {
  auto parser = ParserFor("", "1\ta\tb\tc");
  const auto row = ParseOne(*parser, "1\ta\tb\tc").value();
  EXPECT_EQ(row.label, 1);
  EXPECT_EQ(row.features.size(), 3u);
  EXPECT_EQ(Shared(row, ParseOne(*parser, "0\ta\tx\tc").value()), 2u);
}

TEST(ClickParser, TellsEqualStringsOfDifferentColumnsApart) {
  auto parser = ParserFor("", "1\ta\ta");
  EXPECT_EQ(ParseOne(*parser, "1\ta\ta").value().features.size(), 2u);
  EXPECT_EQ(Shared(ParseOne(*parser, "1\ta\tb").value(), ParseOne(*parser, "1\tb\ta").value()), 0u);
}

TEST(ClickParser, TakesAnEmptyFieldForAFeatureOfItsColumn) {
  auto parser = ParserFor("integer: '3'", "1\t\t\t");
  EXPECT_EQ(ParseOne(*parser, "1\t\t\t").value().features.size(), 3u);
  auto all = ParserFor("", "1\t\t");
  const auto row = ParseOne(*all, "1\t\t").value();
  EXPECT_EQ(row.features.size(), 2u);
  EXPECT_EQ(Shared(row, ParseOne(*all, "1\t\tx").value()), 1u);
}

TEST(ClickParser, FindsColumnsByNameOrIndex) {
  const std::string header = "id,click,site,hour";
  auto by_name = ParserFor("header: true separator: ',' label_column: 'click' ignore: 'id'", header);
  auto by_index = ParserFor("header: true separator: ',' label_column: '1' ignore: '0'", header);
  EXPECT_TRUE(by_name->first_line_is_header());
  const auto row = ParseOne(*by_name, "17,0,abc,5").value();
  EXPECT_EQ(row.label, 0);
  EXPECT_EQ(row.features.size(), 2u);
  EXPECT_EQ(row.features, ParseOne(*by_index, "99,0,abc,5").value().features);
  auto only = ParserFor("header: true separator: ',' label_column: 'click' categorical: 'hour'", header);
  EXPECT_EQ(ParseOne(*only, "17,0,abc,5").value().features.size(), 1u);
}

TEST(ClickParser, PutsIntegersIntoBuckets) {
  EXPECT_NE(IntegerBucket(1), IntegerBucket(2));
  EXPECT_NE(IntegerBucket(2), IntegerBucket(3));       // 3 is in bucket 2, which is not the value 2
  EXPECT_EQ(IntegerBucket(1000), IntegerBucket(1010));
  EXPECT_NE(IntegerBucket(1000), IntegerBucket(1100));
  EXPECT_EQ(IntegerBucket(8) & 0xffff, 9u);            // log2(8)^2
  auto parser = ParserFor("categorical: '1' integer: '2'", "1\t5\t5");
  EXPECT_EQ(Shared(ParseOne(*parser, "1\ta\t1000").value(), ParseOne(*parser, "1\ta\t1010").value()), 2u);
  EXPECT_EQ(Shared(ParseOne(*parser, "1\ta\t-1").value(), ParseOne(*parser, "1\ta\t-2").value()), 1u);
  EXPECT_EQ(Shared(ParseOne(*parser, "1\ta\t0").value(), ParseOne(*parser, "1\ta\t").value()), 1u);
  EXPECT_THAT(ErrorOf(*parser, "1\ta\t1.5"), HasSubstr("no integer"));
  EXPECT_THAT(ErrorOf(*parser, "1\ta\tx"), HasSubstr("column 2 holds 'x'"));
}

TEST(ClickParser, SplitsFieldsOfSeveralValues) {
  auto parser = ParserFor("multi_value_separator: '|'", "1\tAction|Drama\tx");
  const auto row = ParseOne(*parser, "1\tAction|Drama\tx").value();
  EXPECT_EQ(row.features.size(), 3u);
  EXPECT_EQ(ParseOne(*parser, "1\tDrama||Action|Drama\tx").value().features, row.features);
  EXPECT_EQ(Shared(ParseOne(*parser, "1\tDrama\tx").value(), row), 2u);
  EXPECT_EQ(ParseOne(*parser, "1\t|\tx").value().features, ParseOne(*parser, "1\t\tx").value().features);
}

TEST(ClickParser, CrossesTwoColumns) {
  auto parser = ParserFor("header: true cross: 'a*b'", "y\ta\tb\tc");
  const auto row = ParseOne(*parser, "1\tp\tq\tr").value();
  EXPECT_EQ(row.features.size(), 4u);
  EXPECT_EQ(Shared(row, ParseOne(*parser, "1\tp\tz\tr").value()), 2u);
  EXPECT_EQ(Shared(row, ParseOne(*parser, "1\tp\tq\tz").value()), 3u);
  auto other = ParserFor("header: true cross: 'b*c' cross: 'a*b'", "y\ta\tb\tc");
  EXPECT_EQ(Shared(row, ParseOne(*other, "1\tp\tq\tr").value()), 4u);
}

TEST(ClickParser, CrossesEveryPairOfValuesAndIgnoredColumnsToo) {
  auto lists = ParserFor("multi_value_separator: '|' cross: '1*2'", "1\ta|b\tc|d|e");
  EXPECT_EQ(ParseOne(*lists, "1\ta|b\tc|d|e").value().features.size(), 2u + 3u + 6u);
  auto ignored = ParserFor("ignore: '1' ignore: '2' cross: '1*2'", "1\ta\tb\tc");
  EXPECT_EQ(ParseOne(*ignored, "1\ta\tb\tc").value().features.size(), 2u);
  std::string longest = "1\t";
  for (int i = 0; i < 300; ++i) longest += std::to_string(i) + "|";
  const std::string list = longest.substr(2);
  EXPECT_THAT(ErrorOf(*lists, longest + "\t" + list), HasSubstr("65536"));
}

TEST(ClickParser, ReportsRaggedRowsWithBothCounts) {
  auto parser = ParserFor("", "1\ta\tb");
  EXPECT_THAT(ErrorOf(*parser, "1\ta"), HasSubstr("row has 2 columns, 3 expected"));
  EXPECT_THAT(ErrorOf(*parser, "1\ta\tb\tc"), HasSubstr("row has 4 columns, 3 expected"));
}

TEST(ClickParser, SaysWhichColumnOfTheJobIsWrong) {
  EXPECT_THAT(BeginError("header: true label_column: 'clik'", "click\ta"),
              HasSubstr("no column 'clik'; the header has 2 columns 'click' 'a'"));
  EXPECT_THAT(BeginError("label_column: 'click'", "1\ta"), HasSubstr("set data.clicks.header"));
  EXPECT_THAT(BeginError("label_column: '2'", "1\ta"), HasSubstr("0..1"));
  EXPECT_THAT(BeginError("categorical: '1' integer: '1'", "1\ta\tb"), HasSubstr("a role already"));
  EXPECT_THAT(BeginError("categorical: '0'", "1\ta\tb"), HasSubstr("a role already"));
  EXPECT_THAT(BeginError("cross: '1'", "1\ta\tb"), HasSubstr("a*b"));
  EXPECT_THAT(BeginError("cross: '0*1'", "1\ta\tb"), HasSubstr("label"));
  EXPECT_THAT(BeginError("cross: '1*1'", "1\ta\tb"), HasSubstr("itself"));
  EXPECT_THAT(BeginError("cross: '1*9'", "1\ta\tb"), HasSubstr("no column '9'"));
  EXPECT_THAT(BeginError("separator: ','", "1\ta\tb"), HasSubstr("only one column"));
  EXPECT_THAT(BeginError("separator: ''", "1\ta\tb"), HasSubstr("one byte"));
  EXPECT_THAT(BeginError("separator: '::'", "1\ta\tb"), HasSubstr("one byte"));
  EXPECT_THAT(BeginError("separator: '|' multi_value_separator: '|'", "1\ta\tb"), HasSubstr("equals"));
}

TEST(ClickParser, AdvisesOnAHeaderTakenForARow) {
  auto parser = ParserFor("", "label\tuser");
  EXPECT_THAT(ErrorOf(*parser, "label\tuser"), HasSubstr("set data.clicks.header: true"));
}

TEST(ClickParser, ReadsQuotedFields) {
  auto parser = ParserFor("separator: ','", "1,a,b");
  const auto plain = ParseOne(*parser, "1,x y,z").value();
  EXPECT_EQ(ParseOne(*parser, "\"1\",\"x y\",\"z\"").value().features, plain.features);
  EXPECT_EQ(ParseOne(*parser, "1,\"x, \"\"y\"\"\",z").value().features.size(), 2u);
  EXPECT_EQ(Shared(ParseOne(*parser, "1,\"a,b\",z").value(), ParseOne(*parser, "1,\"a,c\",z").value()), 1u);
  EXPECT_THAT(ErrorOf(*parser, "1,\"a,b,c"), HasSubstr("row has 2 columns"));
  EXPECT_EQ(ParseOne(*parser, "1,,\"\"").value().features, ParseOne(*parser, "1,,").value().features);
}

TEST(ClickParser, HashesBySeed) {
  auto a = ParserFor("", "1\ta\tb", 1);
  auto b = ParserFor("", "1\ta\tb", 2);
  EXPECT_EQ(Shared(ParseOne(*a, "1\ta\tb").value(), ParseOne(*b, "1\ta\tb").value()), 0u);
}

TEST(ClickParser, FoldsKeys) {
  auto parser = ParserFor("", "1\ta\tb\tc\td\te");
  const auto row = ParseOne(*parser, "1\ta\tb\tc\td\te", 2).value();
  EXPECT_LE(row.features.size(), 2u);
  for (const auto& [key, value] : row.features) EXPECT_LT(UnmixKey(key), 2u);
}

}  // namespace
}  // namespace sheaf
