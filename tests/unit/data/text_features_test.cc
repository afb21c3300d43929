#include "worker/data/text_features.h"

#include <gmock/gmock.h>

#include "tests/unit/data/row_test_util.h"
#include "tests/unit/data/temp_files.h"

namespace sheaf {
namespace {

using ::testing::HasSubstr;

std::map<uint64_t, float> Features(const std::string& text_spec, std::string_view document, uint64_t hash_seed = 0) {
  const auto spec = Job("data { text { " + text_spec + " } }");
  TextFeatures features(spec.data().text(), hash_seed);
  RowBuilder rows(0);
  rows.BeginRow();
  features.AddFeatures(document, rows);
  rows.CommitRow(0);
  return RowsOf(rows.Take()).at(0).features;
}

const std::string kCount = "weighting: COUNT ";

TEST(TextFeatures, CountsWordsAndPunctuation) {
  const auto features = Features(kCount, "The cat, the hat.");
  EXPECT_EQ(features.size(), 5u);   // the cat , hat .
  EXPECT_EQ(features.at(Features(kCount, "the").begin()->first), 2.0f);
  EXPECT_EQ(features.at(Features(kCount, ",").begin()->first), 1.0f);
}

TEST(TextFeatures, KeepsWordsWithApostrophesDigitsAndUtf8Whole) {
  EXPECT_EQ(Features(kCount, "don't").size(), 1u);
  EXPECT_EQ(Features(kCount, "80s").size(), 1u);
  EXPECT_EQ(Features(kCount, "na\xc3\xafve").size(), 1u);
  EXPECT_EQ(Features(kCount, "\xe5\xa5\xbd\xe5\x90\x83").size(), 1u);
  EXPECT_EQ(Features(kCount, "a_b$c").size(), 3u);   // _ and $ part words and are no tokens
  EXPECT_EQ(Features(kCount, "!?.,;:()\"-").size(), 10u);
  EXPECT_EQ(Features(kCount, " \t\r\n*#").size(), 0u);
  EXPECT_EQ(Features(kCount, "").size(), 0u);
}

TEST(TextFeatures, FoldsCaseIfAsked) {
  EXPECT_EQ(Features(kCount, "Good GOOD good").size(), 1u);
  EXPECT_EQ(Features(kCount + "lowercase: false", "Good GOOD good").size(), 3u);
  EXPECT_EQ(Features(kCount + "lowercase: false", "good"), Features(kCount, "GOOD"));
}

TEST(TextFeatures, TakesPresenceWhereTheWeightingIsDefinedOnIt) {
  for (const char* weighting : {"weighting: BINARY", "weighting: NB_LOG_COUNT_RATIO"}) {
    const auto features = Features(weighting, "so so good");
    EXPECT_EQ(features.size(), 2u);
    for (const auto& [key, value] : features) EXPECT_EQ(value, 1.0f);
  }
  EXPECT_EQ(Features("weighting: TF_IDF", "so so").begin()->second, 2.0f);
}

TEST(TextFeatures, AddsNgramsInOrder) {
  EXPECT_EQ(Features(kCount + "ngrams: 2", "a b c").size(), 5u);
  EXPECT_EQ(Features(kCount + "ngrams: 3", "a b c").size(), 6u);
  EXPECT_EQ(Features(kCount + "ngrams: 8", "a b c").size(), 6u);
  const auto forward = Features(kCount + "ngrams: 2", "a b");
  const auto backward = Features(kCount + "ngrams: 2", "b a");
  size_t shared = 0;
  for (const auto& [key, value] : forward) shared += backward.count(key);
  EXPECT_EQ(shared, 2u);
  // The 3-gram of "b c d" is the same wherever it stands, and no n-gram reaches into another document.
  const auto longer = Features(kCount + "ngrams: 3", "x y b c d");
  for (const auto& [key, value] : Features(kCount + "ngrams: 3", "b c d")) EXPECT_EQ(longer.count(key), 1u);
}

TEST(TextFeatures, StripsTagsButNotLessThanSigns) {
  EXPECT_EQ(Features(kCount, "one<br />two"), Features(kCount, "one two"));
  EXPECT_EQ(Features(kCount, "<a href=\"x\">one</a><!-- c -->"), Features(kCount, "one"));
  EXPECT_EQ(Features(kCount, "i <3 you > me"), Features(kCount, "i 3 you me"));
  EXPECT_EQ(Features(kCount, "a < b"), Features(kCount, "a b"));
  EXPECT_EQ(Features(kCount, "a <b"), Features(kCount, "a b"));
  EXPECT_EQ(Features(kCount, "<br <br>x"), Features(kCount, "br x"));
  EXPECT_EQ(Features(kCount, "a<"), Features(kCount, "a"));
  EXPECT_EQ(Features(kCount + "strip_html: false", "<br>x"), Features(kCount, "br x"));
}

TEST(TextFeatures, SkipsHeadersUpToTheFirstEmptyLine) {
  const std::string skip = kCount + "skip_headers: true";
  EXPECT_EQ(Features(skip, "From: me\nSubject: x\n\nbody\n\nmore"), Features(kCount, "body more"));
  EXPECT_EQ(Features(skip, "From: me\r\n\r\nbody"), Features(kCount, "body"));
  EXPECT_EQ(Features(skip, "no headers here"), Features(kCount, "no headers here"));
}

TEST(TextFeatures, HashesBySeed) {
  EXPECT_NE(Features(kCount, "word", 1), Features(kCount, "word", 2));
  EXPECT_EQ(Features(kCount, "word", 3), Features(kCount, "word", 3));
}

TEST(TextFeatures, GivesDistinctKeysToManyNgrams) {
  std::string text;
  for (int i = 0; i < 30'000; ++i) text += "w" + std::to_string(i) + " ";
  EXPECT_EQ(Features(kCount + "ngrams: 2", text).size(), 59'999u);
}

TEST(TextLineParser, ReadsLabelTabText) {
  auto parser = MakeRowParser(Job("data { format: TEXT text { weighting: COUNT } }")).value();
  const auto row = ParseOne(*parser, "1\tgood good\tfilm").value();
  EXPECT_EQ(row.label, 1);
  EXPECT_EQ(row.features, Features(kCount, "good good film"));
  EXPECT_EQ(ParseOne(*parser, "0\t").value().features.size(), 0u);
  EXPECT_THAT(ErrorOf(*parser, "1 good film"), HasSubstr("label<TAB>text"));
  EXPECT_THAT(ErrorOf(*parser, "ham\tgood film"), HasSubstr("write 0 or 1"));
  EXPECT_THAT(ErrorOf(*parser, "\tgood film"), HasSubstr("not a number"));
}

TEST(TextLineParser, ChecksItsSpec) {
  for (const char* ngrams : {"0", "9"}) {
    const auto parser = MakeRowParser(Job(std::string("data { format: TEXT text { ngrams: ") + ngrams + " } }"));
    ASSERT_FALSE(parser);
    EXPECT_THAT(parser.error().message, HasSubstr("data.text.ngrams"));
  }
}

}  // namespace
}  // namespace sheaf
