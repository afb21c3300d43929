#include "worker/data/libsvm_parser.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <cstdlib>

#include "common/base/random.h"
#include "tests/unit/data/row_test_util.h"
#include "tests/unit/data/temp_files.h"
#include "worker/data/number_parser.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

LibsvmParser ParserFor(const std::string& model) {
  return LibsvmParser(LabelRule(Job("model { " + model + " }").model()));
}

TEST(NumberParser, AgreesWithStrtod) {
  for (const char* text :
       {"0", "1", "-1", "+3", "0.5", ".5", "5.", "-0.25", "1e3", "1E-3", "-1.5e+2", "123456789012345678",
        "1234567890123456789012", "0.1234567890123456789", "3.4028234e38", "1e-30", "00012.500", "1e-400"}) {
    const auto value = ParseWhole(text);
    ASSERT_TRUE(value.has_value()) << text;
    EXPECT_EQ(static_cast<float>(*value), static_cast<float>(std::strtod(text, nullptr))) << text;
  }
  EXPECT_TRUE(std::isinf(*ParseWhole("1e999")));
  EXPECT_EQ(*ParseWhole("-1e999"), -HUGE_VAL);
  EXPECT_EQ(*ParseWhole("1e-999"), 0);
  const std::string zeros(400, '0');
  EXPECT_EQ(*ParseWhole("0." + zeros + "1"), 0);             // was infinite
  EXPECT_EQ(*ParseWhole("1" + zeros + "e-1"), HUGE_VAL);     // was 0
  EXPECT_EQ(*ParseWhole("1" + zeros + "e-400"), 1);
  EXPECT_EQ(*ParseWhole("1e99999999999999999999"), HUGE_VAL);
  EXPECT_EQ(*ParseWhole("1e-99999999999999999999"), 0);
  for (const char* text : {"", "-", "+", ".", "e5", "+-1", "--1", "1x", "0x10", "1,5", "1e", "one", " 1"}) {
    EXPECT_FALSE(ParseWhole(text).has_value()) << text;
  }
}

TEST(NumberParser, ReadsDigitsEightAtATimeAsOneByOne) {
  Random random(1);
  for (int i = 0; i < 20'000; ++i) {
    const auto count = static_cast<size_t>(random.Below(9));
    std::string text;
    for (size_t j = 0; j < count; ++j) text += static_cast<char>('0' + random.Below(10));
    const std::string digits = text;
    while (text.size() < 8) {
      char other = static_cast<char>(random.Below(256));  // all bytes that are no digit, also above 0x7f
      if (text.size() == count && IsDigit(other)) other = ':';
      text += other;
    }
    const DigitRun run = DigitsAt(text.data());
    ASSERT_EQ(run.count, count) << text;
    if (count > 0) {
      ASSERT_EQ(run.value, std::stoull(digits)) << text;
    }
  }
}

TEST(NumberParser, GivesTheSameBitsInEveryWay) {
  Random random(2);
  size_t taken = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text = random.Below(4) == 0 ? "-" : "";
    for (uint64_t j = random.Below(10); j > 0; --j) text += static_cast<char>('0' + random.Below(10));
    if (random.Below(4) != 0) text += '.';
    for (uint64_t j = random.Below(19); j > 0; --j) text += static_cast<char>('0' + random.Below(10));
    text += std::string(1, " \t:e,"[random.Below(5)]);
    double expected = 0, fast = 0;
    const char* const end = ParseNumber(text.data(), text.data() + text.size() - 1, &expected);
    const std::string padded = text + std::string(kShortNumberReads, '7');
    const char* const fast_end = ParseShortNumber(padded.data(), &fast);
    if (fast_end == nullptr) continue;  // it may always decline
    ++taken;
    ASSERT_NE(end, nullptr) << text;
    ASSERT_EQ(fast_end - padded.data(), end - text.data()) << text;
    ASSERT_EQ(std::bit_cast<uint64_t>(fast), std::bit_cast<uint64_t>(expected)) << text;
  }
  EXPECT_GT(taken, 10'000u);
}

// Features at every distance from the row's end: the last ones are read from a copy with room behind it.
TEST(LibsvmParser, ReadsRowsOfAnyLengthAlike) {
  auto parser = ParserFor("");
  Random random(3);
  for (int i = 0; i < 3000; ++i) {
    std::string line = random.Below(2) == 0 ? "-1" : "1";
    std::map<uint64_t, float> expected;
    uint64_t index = 0;
    for (uint64_t left = random.Below(12); left > 0; --left) {
      index += 1 + random.Below(uint64_t{1} << random.Below(40));
      const char* const values[] = {"1",           "0",  "0.5", "-3",          "12.25", "1e2",
                                    "0.123456789", "7.", ".5",  "00012345678", "+2"};
      const std::string value = values[random.Below(std::size(values))];
      line +=
          std::string(1 + random.Below(8) / 7, random.Below(9) == 0 ? '\t' : ' ') + std::to_string(index) + ":" + value;
      const float number = std::strtof(value.c_str(), nullptr);
      if (number != 0) expected[MixKey(index)] = number;
    }
    if (random.Below(5) == 0) line += " # 1:2";
    // Exactly as long as it is: a read behind it would be found.
    const std::vector<char> exact(line.begin(), line.end());
    const auto row = ParseOne(parser, {exact.data(), exact.size()});
    ASSERT_TRUE(row) << line << ": " << row.error().message;
    ASSERT_EQ(row->features, expected) << line;
  }
}

TEST(LibsvmParser, ReadsIndexesAndValues) {
  auto parser = ParserFor("");
  const auto row = ParseOne(parser, "+1 3:1 11:0.5 4000000000:-2e-1 ").value();
  EXPECT_EQ(row.label, 1);
  EXPECT_EQ(row.features,
            (std::map<uint64_t, float>{{MixKey(3), 1.0f}, {MixKey(11), 0.5f}, {MixKey(4000000000), -0.2f}}));
}

TEST(LibsvmParser, TakesBlanksTabsCommentsAndEmptyRows) {
  auto parser = ParserFor("");
  EXPECT_EQ(ParseOne(parser, "  1\t2:3   4:5\t# 6:7").value().features.size(), 2u);
  EXPECT_EQ(ParseOne(parser, "0").value().features.size(), 0u);
  EXPECT_EQ(ParseOne(parser, "0 ").value().features.size(), 0u);
}

TEST(LibsvmParser, LeavesZeroValuesOut) {
  auto parser = ParserFor("");
  EXPECT_EQ(ParseOne(parser, "1 1:0 2:0.0 3:1").value().features.size(), 1u);
}

TEST(LibsvmParser, KeepsNoValuesWhenAllAreOne) {
  auto parser = ParserFor("");
  RowBuilder rows(0);
  ASSERT_TRUE(parser.ParseRow("1 1:1 2:1", rows));
  ASSERT_TRUE(parser.ParseRow("0 5:1.0", rows));
  EXPECT_TRUE(rows.Take().values.empty());
  RowBuilder mixed(0);
  ASSERT_TRUE(parser.ParseRow("1 1:1 2:1", mixed));
  ASSERT_TRUE(parser.ParseRow("0 5:2 6:1", mixed));
  EXPECT_EQ(mixed.Take().values, (std::vector<float>{1, 1, 2, 1}));
}

TEST(LibsvmParser, AddsValuesThatFoldOntoOneKey) {
  auto parser = ParserFor("");
  const auto row = ParseOne(parser, "1 3:1 13:0.5 14:2", 10).value();
  EXPECT_EQ(row.features, (std::map<uint64_t, float>{{MixKey(3), 1.5f}, {MixKey(4), 2.0f}}));
}

TEST(LibsvmParser, RefusesBadFeaturesAndSaysWhatToDo) {
  auto parser = ParserFor("");
  EXPECT_THAT(ErrorOf(parser, "1 0:1"), HasSubstr("indexes count from 1"));
  EXPECT_THAT(ErrorOf(parser, "1 1:1 3:1 2:1"), HasSubstr("index 2 comes after 3; sort"));
  EXPECT_THAT(ErrorOf(parser, "1 1:1 3:1 3:1"), HasSubstr("index 3 is there twice"));
  EXPECT_THAT(ErrorOf(parser, "1 1:nan"), HasSubstr("NaN"));
  EXPECT_THAT(ErrorOf(parser, "1 1:inf"), HasSubstr("infinite"));
  EXPECT_THAT(ErrorOf(parser, "1 1:-Infinity"), HasSubstr("infinite"));
  EXPECT_THAT(ErrorOf(parser, "1 1:1e39"), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(parser, "1 1:1e999"), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(parser, "1 1:"), HasSubstr("not a number"));
  EXPECT_THAT(ErrorOf(parser, "1 1:abc"), HasSubstr("not a number"));
  EXPECT_THAT(ErrorOf(parser, "1 1:1x"), HasSubstr("not a number"));
  EXPECT_THAT(ErrorOf(parser, "1 1: 2"), HasSubstr("not a number"));
  EXPECT_THAT(ErrorOf(parser, "1 -1:1"), HasSubstr("index:value"));
  EXPECT_THAT(ErrorOf(parser, "1 1.5:1"), HasSubstr("not a whole number"));
  EXPECT_THAT(ErrorOf(parser, "1 :1"), HasSubstr("index:value"));
  EXPECT_THAT(ErrorOf(parser, "1 5"), HasSubstr("index:value"));
  EXPECT_THAT(ErrorOf(parser, "1 a:1"), HasSubstr("index:value"));
  EXPECT_THAT(ErrorOf(parser, "1 99999999999999999999:1"), HasSubstr("18 digits"));
  EXPECT_THAT(ErrorOf(parser, "1 qid:3 1:1"), HasSubstr("qid"));
  EXPECT_THAT(ErrorOf(parser, "   "), HasSubstr("no label"));
  EXPECT_THAT(ErrorOf(parser, "1 \x01\x02:1"), HasSubstr("\\x01\\x02"));
}

TEST(LabelRule, AcceptsWhatTheLossTakes) {
  auto logistic = ParserFor("");
  EXPECT_EQ(ParseOne(logistic, "-1").value().label, 0);
  EXPECT_EQ(ParseOne(logistic, "+1").value().label, 1);
  EXPECT_EQ(ParseOne(logistic, "1.0").value().label, 1);
  EXPECT_THAT(ErrorOf(logistic, "2 1:1"), HasSubstr("LOGISTIC"));
  EXPECT_THAT(ErrorOf(logistic, "0.5 1:1"), HasSubstr("LOGISTIC"));
  EXPECT_THAT(ErrorOf(logistic, "spam 1:1"), HasSubstr("write 0 or 1"));
  EXPECT_THAT(ErrorOf(logistic, "nan"), HasSubstr("is NaN, infinite or too large for a float"));

  auto softmax = ParserFor("loss: SOFTMAX classes: 3");
  EXPECT_EQ(ParseOne(softmax, "2 1:1").value().label, 2);
  EXPECT_THAT(ErrorOf(softmax, "3 1:1"), HasSubstr("class 0..2"));
  EXPECT_THAT(ErrorOf(softmax, "-1 1:1"), HasSubstr("class 0..2"));
  EXPECT_THAT(ErrorOf(softmax, "1.5 1:1"), HasSubstr("class 0..2"));
  EXPECT_THAT(ErrorOf(softmax, "cat 1:1"), HasSubstr("number the classes"));

  auto squared = ParserFor("loss: SQUARED");
  EXPECT_EQ(ParseOne(squared, "-12.5 1:1").value().label, -12.5f);
  EXPECT_EQ(ParseOne(squared, "1 1:1").value().label, 1);
  EXPECT_THAT(ErrorOf(squared, "inf 1:1"), HasSubstr("is NaN, infinite or too large for a float"));
  EXPECT_THAT(ErrorOf(squared, "1e40 1:1"), HasSubstr("is NaN, infinite or too large for a float"));
}

TEST(RowBuilder, GoesOnAfterAbandonedAndVeryLongRows) {
  RowBuilder rows(0);
  for (int row = 0; row < 3; ++row) {
    rows.BeginRow();
    for (uint64_t i = 0; i < 5000; ++i) rows.AddSum(i % 4000, 1.0f);
    if (row == 1) {
      rows.AbandonRow();
    } else {
      rows.CommitRow(1);
    }
    rows.BeginRow();
    rows.AddOnce(std::vector<uint64_t>{1, 1});
    rows.CommitRow(0);
  }
  const auto parsed = RowsOf(rows.Take());
  ASSERT_EQ(parsed.size(), 5u);
  EXPECT_EQ(parsed[0].features.size(), 4000u);
  EXPECT_EQ(parsed[0].features.at(MixKey(999)), 2.0f);
  EXPECT_EQ(parsed[0].features.at(MixKey(3999)), 1.0f);
  EXPECT_EQ(parsed[1].features, (std::map<uint64_t, float>{{MixKey(1), 1.0f}}));
  EXPECT_EQ(parsed[3].features.size(), 4000u);
}

}  // namespace
}  // namespace sheaf
